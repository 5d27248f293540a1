"""A model or an adapter of one's own, sent to the Hugging Face hub with a card: what goes there is known before it goes."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from maya_core.errors import (
    CheckpointNotFound,
    DestinationError,
    DownloadInterrupted,
    HubBusy,
    HubUnreachable,
    SignInNeeded,
)
from maya_core.weights.adapters import ADAPTER_CONFIG, is_adapter
from maya_core.weights.card import Base, card, licence_of
from maya_core.weights.checkpoint import load_config, require_whole
from maya_core.weights.destination import CONFIGS, RECIPE
from maya_core.weights.files import read_json
from maya_core.weights.hub_errors import SIGN_IN, licence_page, told
from maya_core.weights.runs import CHECKPOINTS, is_run

CARD = "README.md"
SENT = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "*.jinja",
)
WEIGHTS = SENT[:2]
# of recipe.json: what says nothing of files here
_OF_RECIPE = ("recipe", "train", "lora", "prompt_format", "image_aspect_ratio", "max_length", "captions", "last_layers",
              "four_bit", "frozen", "figures")  # fmt: skip
_PATHS = ("_name_or_path", "name_or_path")  # of configurations: where a file lay here
_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_BASE = re.compile(rf"(?P<repository>{_NAME.pattern})(@(?P<commit>[0-9a-f]{{40}}))?")


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What is sent, and nothing else. files: by their names in the repository, a path or the bytes themselves."""

    repository: str
    public: bool
    files: Mapping[str, Path | bytes]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        return {
            name: len(file) if isinstance(file, bytes) else file.stat().st_size for name, file in self.files.items()
        }

    @property
    def card(self) -> str:
        """The text that the repository's page will show."""
        file = self.files[CARD]
        return (file if isinstance(file, bytes) else file.read_bytes()).decode()


def pack(
    folder: Path, repository: str, *, public: bool = False, licence: str | None = None, base: str | None = None
) -> Parcel:
    """What would be sent of a model's folder; asks nobody. A README.md that is there is the card, or else one is written.

    licence: by the hub's name; that of the model's parts where none is given. base: repository of the model that an adapter
    belongs to, where its own configuration names a folder here.
    Raises CheckpointError for what is no whole model, DestinationError for a name that cannot be, or an adapter whose base
    nobody else would find.
    """
    if not _NAME.fullmatch(repository):
        raise DestinationError(f"{repository!r} is no name on the hub; give owner/name.")
    if is_run(folder) or (folder / CHECKPOINTS).is_dir():
        raise CheckpointNotFound(f"{folder.name} is a run and not its result; finish it, and give the result's folder.")
    if not any((folder / name).is_file() for name in CONFIGS):
        raise CheckpointNotFound(f"{folder.name} holds no model; give the folder of one.")
    require_whole(folder)
    config, recipe, found = load_config(folder), _recipe(folder), _base(folder, base)
    files: dict[str, Path | bytes] = {
        file.name: _without_paths(file)
        for file in sorted(folder.iterdir())
        if file.is_file() and any(fnmatch(file.name, pattern) for pattern in SENT)
    }
    if found is not None:
        own = read_json(folder / ADAPTER_CONFIG)
        files[ADAPTER_CONFIG] = _as_json(own | {"base_model_name_or_path": found.repository, "revision": found.commit})
    if recipe:
        files[RECIPE] = _as_json(recipe)
    written = card(
        repository,
        config,
        recipe=recipe,
        licence=licence or licence_of(config),
        is_adapter=is_adapter(folder),
        base=found,
    )
    files[CARD] = folder / CARD if (folder / CARD).is_file() else written.encode()
    return Parcel(repository=repository, public=public, files=files)


def send(parcel: Parcel) -> str:
    """Send it in one commit, and remove weights that were there before; returns the address of its page.

    Raises SignInNeeded where nobody is signed in or the token may not write, DestinationError where the repository is
    there and public and was to be private, or the reverse, and the other DownloadErrors.
    """
    if not get_token():
        raise SignInNeeded(f"Nobody is signed in; {SIGN_IN}, with a token that may write, and try again.")
    api, repository = HfApi(), parcel.repository
    with _told(repository):
        stale = _stale(api, parcel)
        operations = [CommitOperationAdd(name, file) for name, file in parcel.files.items()]
        removed = [CommitOperationDelete(name) for name in stale]
        api.create_commit(repository, [*operations, *removed], commit_message="Weights and card")
    return licence_page(repository)


def _stale(api: HfApi, parcel: Parcel) -> list[str]:
    """Weights that would be left from another model in the repository, which is made where there is none."""
    try:
        there = api.model_info(parcel.repository)
    except RepositoryNotFoundError:
        api.create_repo(parcel.repository, private=not parcel.public)
        return []
    if there.private == parcel.public:
        is_public, way = ("private", "leave --public out") if parcel.public else ("public", "give --public")
        raise DestinationError(f"{parcel.repository} is there already, and {is_public}; {way}, or another name.")
    names = {one.rfilename for one in there.siblings or ()}
    return sorted(
        name for name in names - parcel.files.keys() if any(fnmatch(name, pattern) for pattern in (*WEIGHTS, *CONFIGS))
    )


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """What goes wrong as something is sent, as one of our errors."""
    try:
        with told(repository):
            try:
                yield
            except OfflineModeIsEnabled:
                raise HubUnreachable("Maya was told to stay offline; unset HF_HUB_OFFLINE, and try again.") from None
            except HfHubHTTPError as error:
                if error.response.status_code != 403:
                    raise
                raise SignInNeeded(
                    f"Your token may not write to {repository}; check the name, or {SIGN_IN} with a token that may."
                ) from None
    except (HubBusy, DownloadInterrupted) as error:
        raise type(error)(f"Sending {repository} stopped; the same command sends what is not there yet.") from error


def _base(folder: Path, given: str | None) -> Base | None:
    """The model that an adapter belongs to, as others find it; None for a model of its own."""
    if not is_adapter(folder):
        if given is not None:
            raise DestinationError("--base is of an adapter, and this is a model of its own; leave it out.")
        return None
    if given is not None:
        match = _BASE.fullmatch(given)
        if not match:
            raise DestinationError(f"{given!r} is no repository; give --base as owner/name or owner/name@commit.")
        return Base(match["repository"], match["commit"])
    config = read_json(folder / ADAPTER_CONFIG)
    name, commit = str(config["base_model_name_or_path"]), config.get("revision")
    if commit is None or not _NAME.fullmatch(name):
        raise DestinationError(
            f"{folder.name} belongs to a model in a folder here; say where others find that with --base owner/name, or "
            "send what `maya merge` makes."
        )
    return Base(name, commit)


def _recipe(folder: Path) -> dict[str, Any]:
    """What a training stage wrote down, without what it says of files here."""
    if not (folder / RECIPE).is_file():
        return {}
    return {name: value for name, value in read_json(folder / RECIPE).items() if name in _OF_RECIPE}


def _without_paths(file: Path) -> Path | bytes:
    """The file, or what it holds without where something lay here."""
    if not file.name.endswith("config.json"):
        return file
    content = read_json(file)
    kept = {name: value for name, value in content.items() if name not in _PATHS}
    return file if kept == content else _as_json(kept)


def _as_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
