"""Models from the Hugging Face hub: at a pinned commit, safetensors only, checked byte by byte, with their tokenizer.

A commit is pinned the first time a repository is used (or given as `owner/name@commit`), so what was tried once is what
is loaded ever after. Files lie in the hub's own cache, where other programs find them.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata
from huggingface_hub.errors import GatedRepoError
from huggingface_hub.file_download import repo_folder_name

from maya_core.assets import LANGUAGE_MODEL, PUBLISHED, PUBLISHED_TOKENIZER, typed_path
from maya_core.errors import CheckpointNotFound, CheckpointUnsafe, HubUnreachable, TokenizerMissing
from maya_core.weights.hub_errors import is_passing, not_the_hub, refused, told
from maya_core.weights.hub_memory import HubMemory
from maya_core.weights.transfer import RemoteFile, Report, bring, wait_after

# weights as safetensors and GGUF, configuration and tokenizer as JSON or text; never code, never a pickle
ALLOWED = ("*.safetensors", LANGUAGE_MODEL, "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*", "README.md")
QUESTIONS = 3  # how often the hub is asked what a repository holds, before it is taken not to answer
CONFIG, TOKENIZER, ADAPTER = "config.json", "tokenizer.json", "adapter_config.json"
_PUBLISHED_VOCABULARY = 256_000  # of language models that have the published model's tokenizer
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
_REPO = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<commit>[0-9a-f]{40}))?")
_Answer = TypeVar("_Answer")


def local_folder(path_or_repo: str | Path, *, report: Report | None = None) -> Path:
    """The folder that holds the checkpoint, fetched from the hub where it is not here; of its GGUF file too."""
    folder = typed_path(path_or_repo)
    if os.path.isdir(folder):  # a name that no file can have is none
        return folder
    if folder.suffix == ".gguf" and os.path.isfile(folder):
        return _around(folder)
    if isinstance(path_or_repo, Path) or path_or_repo.startswith((".", "/", "~")) or path_or_repo.count("/") != 1:
        raise CheckpointNotFound(
            f"There is no folder {path_or_repo}; give a model's folder or a repository owner/name."
        )
    try:
        return fetch(path_or_repo, report=report)
    except (HubUnreachable, CheckpointNotFound) as error:  # who mistypes a folder's name did not mean the hub
        raise type(error)(f"There is no folder {path_or_repo} here, and as a repository: {error}") from error


def _around(file: Path) -> Path:
    """The folder of the model whose language model this file is."""
    if file.name != LANGUAGE_MODEL or not (file.parent / CONFIG).is_file():
        raise CheckpointNotFound(
            f"{file.name} has no eyes: Maya opens the {LANGUAGE_MODEL} that `maya export --format gguf` writes, with the "
            "files beside it."
        )
    return file.parent


def fetch(source: str, *, memory: HubMemory | None = None, report: Report | None = None) -> Path:
    """The local folder of the repository `owner/name` or `owner/name@commit`. What is not there yet is fetched, what has
    changed since it was last checked is checked anew; a Maya without a tokenizer gets that of its language model.

    memory: of commits and checks. report: is told how many bytes are here, and of how many.
    Raises CheckpointNotFound, CheckpointUnsafe, TokenizerMissing or DownloadError.
    """
    repo, commit = _named(source)
    memory, report = memory or HubMemory(), report or (lambda done, size: None)
    commit = commit or memory.commit(repo)
    if commit:
        place = _Place(repo, commit)
        kept = memory.files(repo, commit)
        if kept and all(place.holds(file, memory) for file in kept):
            return place.folder
    with told(repo):
        model = _look(repo, commit)
        if commit is None:
            memory.pin(repo, model.commit)
        return _bring_model(model, memory, report)


def downloaded(source: str, *, memory: HubMemory | None = None) -> bool:
    """Whether a model is on this computer with all its files; asks nobody, and reads none of them."""
    memory = memory or HubMemory()
    match = _REPO.fullmatch(source)
    commit = match and (match["commit"] or memory.commit(match["repo"]))
    if not match or not commit:
        return False
    folder, kept = _Place(match["repo"], commit).folder, memory.files(match["repo"], commit)
    return bool(kept) and all(
        (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size for file in kept
    )


def pinned(source: str, folder: Path) -> str:
    """The name `owner/name@commit` of a repository that was fetched into `folder`."""
    return f"{source.partition('@')[0]}@{folder.name}"


def forget(source: str) -> None:
    """Remove a repository's files from this computer, what has partly come among them."""
    repo, _ = _named(source)
    shutil.rmtree(_Place(repo, "").storage, ignore_errors=True)


def _named(source: str) -> tuple[str, str | None]:
    match = _REPO.fullmatch(source)
    if not match:
        raise CheckpointNotFound(
            f"{source!r} is neither a folder nor a repository named owner/name or owner/name@commit."
        )
    return match["repo"], match["commit"]


# --- what the hub has ---


@dataclass(frozen=True, kw_only=True)
class _Repository:
    repo: str
    commit: str
    files: tuple[RemoteFile, ...]

    def file(self, name: str) -> RemoteFile | None:
        return next((file for file in self.files if file.name == name), None)


def _look(repo: str, commit: str | None) -> _Repository:
    """What a repository holds at a commit, or now."""
    try:
        found = _patiently(
            lambda: HfApi().model_info(
                repo, revision=commit, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
        )
    except (KeyError, TypeError, AttributeError) as error:  # JSON, but not the hub's
        raise not_the_hub() from error
    sizes = {one.rfilename: (one.size, one.lfs.sha256 if one.lfs else one.blob_id) for one in found.siblings or ()}
    files = []
    for name, (size, digest) in sizes.items():
        if not any(fnmatch(name, pattern) for pattern in ALLOWED):
            continue
        if found.sha is None or size is None or not _DIGEST.fullmatch(digest or ""):
            raise not_the_hub()
        if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in name.split("/")):
            raise CheckpointUnsafe(
                f"{repo} has a file that would lie outside its folder ({name!r}); nothing was fetched."
            )
        files.append(RemoteFile(repo=repo, commit=found.sha, name=name, size=size, digest=digest or ""))
    return _Repository(repo=repo, commit=found.sha or "", files=tuple(files))


def _require_access(*samples: RemoteFile) -> None:
    """Raise unless the hub gives these files, one of each repository; RepositoryGated names all whose licence is missing."""
    gated = []
    for file in samples:
        try:
            _patiently(partial(get_hf_file_metadata, file.url, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT))
        except GatedRepoError:
            gated.append(file.repo)
    if gated:
        raise refused(*gated)


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """The answer to a short question, asked again where the hub is busy; a hub that cannot be reached is told at once."""
    for tries in range(1, QUESTIONS + 1):
        try:
            return ask()
        except httpx2.ConnectError:
            raise
        except httpx2.HTTPError as error:
            if tries == QUESTIONS or not is_passing(error):
                raise
            time.sleep(wait_after(error, tries))
    raise AssertionError


# --- bringing it here ---


class _Place:
    """Where the hub's cache keeps a repository at a commit: blobs by digest, and links to them by name."""

    def __init__(self, repo: str, commit: str) -> None:
        self.storage = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
        self.blobs, self.folder = self.storage / "blobs", self.storage / "snapshots" / commit

    def holds(self, file: RemoteFile, memory: HubMemory) -> bool:
        """Whether a file is here with the bytes that it should have; one with others is removed."""
        named = self.folder / file.name
        if memory.is_checked(file, named):
            return True
        if named.exists():
            named.resolve().unlink()
        return False

    def adopt(self, file: RemoteFile, memory: HubMemory) -> bool:
        """Whether the file is here now: by its name, or at least its bytes, which then get the name."""
        if self.holds(file, memory):
            return True
        blob = self.blobs / file.digest
        if not memory.is_checked(file, blob):
            blob.unlink(missing_ok=True)
            return False
        self.name(file, blob)
        return True

    def name(self, file: RemoteFile, blob: Path) -> None:
        """Give bytes that are here a file's name."""
        named = self.folder / file.name
        named.parent.mkdir(parents=True, exist_ok=True)
        named.unlink(missing_ok=True)  # a link to nothing
        for link in (_link, os.link, shutil.copyfile):  # not every system and disk has each
            with suppress(OSError):
                link(blob, named)
                return
        raise OSError(f"{named.name} could not be put into the cache")


def _link(blob: Path, named: Path) -> None:
    named.symlink_to(os.path.relpath(blob, named.parent))


def _bring_model(model: _Repository, memory: HubMemory, report: Report) -> Path:
    """All of a model's files; what it cannot do without is looked for before any weights are fetched."""
    weights = next((file for file in model.files if file.name.endswith(".safetensors")), None)
    if weights is None:
        raise CheckpointUnsafe(
            f"{model.repo} has no safetensors weights; other formats can run code and are not loaded."
        )
    place, files = _Place(model.repo, model.commit), list(model.files)
    config, lacks_tokenizer = model.file(CONFIG), not model.file(TOKENIZER) and not model.file(ADAPTER)
    if model.repo == PUBLISHED and lacks_tokenizer:  # both licences are asked for at once
        files.append(_published_tokenizer(memory))
        _require_access(weights, files[-1])
    else:
        _require_access(weights)
        if config and lacks_tokenizer:
            _bring([config], place, memory, lambda done, size: None)
            if _takes_published_tokenizer(place.folder / CONFIG, model.repo):
                files.append(_published_tokenizer(memory))
                _require_access(files[-1])
    _bring(files, place, memory, report)
    memory.keep(model.repo, model.commit, files)
    return place.folder


def _published_tokenizer(memory: HubMemory) -> RemoteFile:
    """That of the published model's language model, in the language model's own repository."""
    commit = memory.commit(PUBLISHED_TOKENIZER)
    with told(PUBLISHED_TOKENIZER):
        found = _look(PUBLISHED_TOKENIZER, commit)
    if commit is None:
        memory.pin(PUBLISHED_TOKENIZER, found.commit)
    tokenizer = found.file(TOKENIZER)
    if tokenizer is None:
        raise TokenizerMissing(f"{PUBLISHED_TOKENIZER} has no {TOKENIZER} at its pinned commit; nothing was fetched.")
    return tokenizer


def _takes_published_tokenizer(config: Path, repo: str) -> bool:
    """Whether a model that came without a tokenizer has the published one's; TokenizerMissing for another Maya."""
    try:
        fields = json.loads(config.read_text("utf-8"))
    except ValueError:
        return False  # who loads it will be told
    kind = fields.get("model_type") if isinstance(fields, dict) else None
    if kind == "llava_cohere" and fields.get("vocab_size") == _PUBLISHED_VOCABULARY:
        return True
    if kind in ("maya", "llava_cohere"):
        raise TokenizerMissing(
            f"{repo} has no {TOKENIZER}, without which it can neither read nor write; its weights were not fetched."
        )
    return False


def _bring(files: Sequence[RemoteFile], place: _Place, memory: HubMemory, report: Report) -> None:
    missing = [file for file in files if not place.adopt(file, memory)]
    present = sum(file.size for file in files) - sum(file.size for file in missing)
    if missing:
        once = list({file.digest: file for file in missing}.values())
        bring(once, place.blobs, report, memory.check, present=present)
    for file in missing:
        place.name(file, place.blobs / file.digest)
