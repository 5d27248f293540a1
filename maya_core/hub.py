"""Fetching a model from the Hugging Face hub: at a pinned commit, safetensors only, continued where it stopped.

A commit is pinned the first time a repository is used (or given as `owner/name@commit`), so what was tried once is what
is loaded ever after.
"""

import json
import re
from pathlib import Path

import httpx
import platformdirs
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from maya_core.errors import CheckpointNotFound, CheckpointUnsafe, DownloadInterrupted, RepositoryGated

# weights as safetensors, configuration and tokenizer as JSON or text; never code, never a pickle
ALLOWED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "README.md")
_REPO = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<commit>[0-9a-f]{40}))?")


def fetch(source: str, *, pins: Path | None = None) -> Path:
    """The local folder of the repository `owner/name` or `owner/name@commit`, downloaded where it is not there yet.

    pins: the file that remembers commits; by default in the platform's folder for user data.
    Raises CheckpointNotFound, RepositoryGated, DownloadInterrupted or CheckpointUnsafe.
    """
    match = _REPO.fullmatch(source)
    if not match:
        raise CheckpointNotFound(
            f"{source!r} is neither a folder nor a repository named owner/name or owner/name@commit."
        )
    repo = match["repo"]
    pins = pins or Path(platformdirs.user_data_dir("maya")) / "pins.json"
    try:
        commit = match["commit"] or _pinned(repo, pins)
        folder = Path(snapshot_download(repo, revision=commit, allow_patterns=list(ALLOWED)))
    except GatedRepoError:
        raise RepositoryGated(
            f"{repo} is gated: accept its licence on its page at huggingface.co/{repo}, run `hf auth login`, and try again."
        ) from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise DownloadInterrupted(
            f"{repo} is not on this computer and the hub cannot be reached; connect to the network and try again."
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError):
        raise CheckpointNotFound(f"There is no repository {repo} at that commit on the hub; check the name.") from None
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        raise DownloadInterrupted(
            f"Fetching {repo} stopped ({type(error).__name__}); what has come is kept, the same command continues."
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise CheckpointUnsafe(f"{repo} has no safetensors weights; other formats can run code and are not loaded.")
    return folder


def _pinned(repo: str, pins: Path) -> str:
    """The commit remembered for `repo`; the hub's current one is asked for, and remembered, the first time."""
    known: dict[str, str] = json.loads(pins.read_text()) if pins.exists() else {}
    if repo not in known:
        sha = HfApi().model_info(repo).sha
        assert sha is not None
        known[repo] = sha
        pins.parent.mkdir(parents=True, exist_ok=True)
        pins.write_text(json.dumps(known, indent=2) + "\n")
    return known[repo]
