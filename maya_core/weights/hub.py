"""Fetching a model from the Hugging Face hub: at a pinned commit, safetensors only, continued where it stopped.

A commit is pinned the first time a repository is used (or given as `owner/name@commit`), so what was tried once is what
is loaded ever after.
"""

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import platformdirs
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from maya_core.errors import CheckpointNotFound, CheckpointUnsafe, DiskFull, DownloadInterrupted, RepositoryGated
from maya_core.weights.durable import digest

Report = Callable[[int, int], None]

# weights as safetensors, configuration and tokenizer as JSON or text; never code, never a pickle
ALLOWED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "README.md")
_SHA256 = re.compile("[0-9a-f]{64}")
_REPO = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<commit>[0-9a-f]{40}))?")


def local_folder(path_or_repo: str | Path) -> Path:
    """The folder that holds the checkpoint, fetched from the hub where it is not a folder here."""
    folder = Path(path_or_repo).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(path_or_repo, Path) or path_or_repo.startswith((".", "/", "~")) or path_or_repo.count("/") != 1:
        raise CheckpointNotFound(
            f"There is no folder {path_or_repo}; give a model's folder or a repository owner/name."
        )
    return fetch(path_or_repo)


def fetch(source: str, *, pins: Path | None = None, report: Report | None = None) -> Path:
    """The local folder of the repository `owner/name` or `owner/name@commit`, downloaded where it is not there yet, and
    checked against the hashes of its files.

    pins: the file that remembers commits; by default in the platform's folder for user data. report: is told how many
    bytes have come, and of how many.
    Raises CheckpointNotFound, RepositoryGated, DownloadInterrupted, DiskFull or CheckpointUnsafe.
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
        if report:
            _check_space(repo, commit)
        bar: dict[str, Any] = {"tqdm_class": _reporting(report)} if report else {}
        found = snapshot_download(repo, revision=commit, allow_patterns=list(ALLOWED), **bar)
        assert isinstance(found, str)
        folder = Path(found)
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
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"The disk filled up as {repo} was fetched; make room, and the same command continues where it stopped."
            ) from None
        raise DownloadInterrupted(
            f"Fetching {repo} stopped ({type(error).__name__}); what has come is kept, the same command continues."
        ) from error
    if report:
        verify(folder)
    if not any(folder.glob("*.safetensors")):
        raise CheckpointUnsafe(f"{repo} has no safetensors weights; other formats can run code and are not loaded.")
    return folder


def downloaded(source: str, *, pins: Path | None = None) -> bool:
    """Whether all of a repository's files are on this computer; asks nobody."""
    match = _REPO.fullmatch(source)
    pins = pins or Path(platformdirs.user_data_dir("maya")) / "pins.json"
    known: dict[str, str] = json.loads(pins.read_text()) if pins.exists() else {}
    if not match or not (commit := match["commit"] or known.get(match["repo"])):
        return False
    try:
        snapshot_download(match["repo"], revision=commit, allow_patterns=list(ALLOWED), local_files_only=True)
    except (LocalEntryNotFoundError, OSError):
        return False
    return True


def verify(folder: Path) -> None:
    """Compare the large files of a downloaded repository with their hashes, which are their names in the cache; one that
    differs is removed, so that the next download brings it again. Raises DownloadInterrupted."""
    for file in sorted(folder.rglob("*")):
        blob = file.resolve()
        if file.is_symlink() and _SHA256.fullmatch(blob.name) and digest(blob) != blob.name:
            blob.unlink()
            raise DownloadInterrupted(f"{file.name} came damaged and was removed; the same command brings it again.")


def _check_space(repo: str, commit: str) -> None:
    files = snapshot_download(repo, revision=commit, allow_patterns=list(ALLOWED), dry_run=True)
    assert not isinstance(files, str)
    missing = sum(file.file_size or 0 for file in files if file.will_download)
    Path(HF_HUB_CACHE).mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(HF_HUB_CACHE).free
    if missing > free:
        raise DiskFull(
            f"{repo} needs {missing / 1e9:.1f} GB more and the disk has {free / 1e9:.1f} GB free; make room and try again."
        )


def _reporting(report: Report) -> type[tqdm]:
    class Reporting(tqdm):
        """A progress bar that is told instead of drawn."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **(options | {"file": io.StringIO(), "disable": False}))

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            if self.unit == "B":
                report(int(self.n), int(self.total or 0))
            return shown

    return Reporting


def _pinned(repo: str, pins: Path) -> str:
    """The commit remembered for `repo`; the hub's current one is asked for, and remembered, the first time."""
    known: dict[str, str] = json.loads(pins.read_text()) if pins.exists() else {}
    if repo not in known:
        sha = HfApi().model_info(repo).sha
        assert sha is not None
        known[repo] = sha
        pins.parent.mkdir(parents=True, exist_ok=True)
        fresh = pins.with_name(f"{pins.name}.{os.getpid()}.new")
        fresh.write_text(json.dumps(known, indent=2) + "\n")
        os.replace(fresh, pins)
    return known[repo]
