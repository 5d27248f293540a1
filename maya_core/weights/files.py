"""What lies in a model's folder, read with one sentence for whatever is wrong: JSON, and tensors of safetensors files."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maya_core.assets import LANGUAGE_MODEL
from maya_core.errors import CheckpointMismatch, CheckpointNotFound, CheckpointUnsafe
from maya_core.weights.destination import no_model_in
from maya_core.weights.gguf_file import language_tensors, stored_in

Tensors = Iterator[tuple[str, Tensor]]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROJECTOR = "mm_projector.bin"  # the one pickle that is read
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_POINTER = b"version https://git-lfs"

# tensors that older files carry and that are computed, not learnt
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json. Raises CheckpointNotFound where there is none, CheckpointMismatch where it is no object."""
    file = folder / "config.json"
    if not file.is_file():
        raise no_model_in(folder)
    return read_json(file)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises CheckpointMismatch."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise CheckpointMismatch(f"{file.name} is not valid JSON; get a whole copy.") from None
    if not isinstance(content, dict):
        raise CheckpointMismatch(f"{file.name} should hold a JSON object; get a whole copy.")
    return content


@contextmanager
def sound_values(folder: Path) -> Iterator[None]:
    """What a model cannot be built by in a folder's config.json, as CheckpointMismatch."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        StrictDataclassError,
    ) as error:
        reason = " ".join(str(error).split())
        raise CheckpointMismatch(
            f"config.json in {folder.name} has a value that no model can have ({type(error).__name__}: {reason}); "
            "get a whole copy."
        ) from error


def first_existing(*files: Path) -> Path | None:
    """The first of these files that is there."""
    return next((file for file in files if file.is_file()), None)


def is_gguf(folder: Path) -> bool:
    """Whether a folder's language model is a GGUF file, with the tower and the connector beside it."""
    return (folder / LANGUAGE_MODEL).is_file()


class Header(NamedTuple):
    """What a file says of a tensor. dtype: in safetensors' words."""

    shape: tuple[int, ...]
    dtype: str


Reader = Callable[[Path], Iterator[tuple[str, Any]]]  # `tensors_in`, or `headers_in`


def tensors_in(folder: Path) -> Tensors:
    """Every tensor of a folder, by its name there, read one at a time; those of a language model in GGUF by our names."""
    yield from tensors_beside(folder)
    if is_gguf(folder):
        yield from language_tensors(folder / LANGUAGE_MODEL)


def tensors_beside(folder: Path) -> Tensors:
    """As `tensors_in`, without a language model in GGUF."""
    for file in weight_files(folder):
        with _opened(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118  (a safe_open handle is no mapping)
                yield name, tensors.get_tensor(name)


def headers_in(folder: Path) -> Iterator[tuple[str, Header]]:
    """What the files of a folder say of their tensors; no weights are read.

    Raises CheckpointNotFound, CheckpointUnsafe or CheckpointMismatch where a file is missing, cut off, or without what the
    index says of it.
    """
    files = weight_files(folder)
    found = {file.name: header_of(file) for file in files}
    if (folder / INDEX).is_file():
        for file in files:
            named = {name for name, place in _places(folder).items() if place == file.name}
            if lacking := sorted(named - found[file.name].keys()):
                raise CheckpointMismatch(
                    f"{file.name} has other content than {INDEX} says, without {some_of(lacking, 2)}; get both again."
                )
    for tensors in found.values():
        yield from tensors.items()
    if is_gguf(folder):
        for stored in stored_in(folder / LANGUAGE_MODEL):
            yield stored.name, Header(stored.shape, stored.type.name)


def header_of(file: Path) -> dict[str, Header]:
    """What a file says of its tensors. Raises CheckpointMismatch where it is not as long as it should be."""
    with _opened(file) as tensors:
        parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
        return {name: Header(tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()}


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        with file.open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                raise CheckpointMismatch(
                    f"{file.name} is what git keeps in the place of a large file; `git lfs pull` fetches it."
                ) from None
        raise CheckpointMismatch(f"{file.name} is damaged or cut off ({error}); get it again.") from None
    except OSError as error:
        raise CheckpointMismatch(f"{file.name} cannot be read ({error.strerror or error}); get it again.") from None


def learnt_tensors_in(folder: Path, read: Reader = tensors_in) -> Iterator[tuple[str, Any]]:
    """As `read` gives them, but for what older files carry although it is computed."""
    return ((name, tensor) for name, tensor in read(folder) if not _COMPUTED.search(name))


def tensor_names(folder: Path) -> list[str]:
    """The names of a folder's tensors; no tensor is read."""
    if (folder / INDEX).is_file():
        return list(_places(folder))
    return [name for file in weight_files(folder) for name in header_of(file)]


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights. Raises CheckpointNotFound where one is missing, CheckpointUnsafe where there are
    only pickles."""
    names = sorted(set(_places(folder).values())) if (folder / INDEX).is_file() else [WEIGHTS]
    absent = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if absent or not names:
        refuse_pickles(folder)
        raise CheckpointNotFound(
            f"{some_of(absent) or 'every weight file'} is missing from {folder.name}; get a whole copy."
        )
    return [folder / name for name in names]


def refuse_pickles(folder: Path) -> None:
    """Raise CheckpointUnsafe where a folder's weights are there, but not as safetensors."""
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES and file.name != PROJECTOR)
    if pickles and not any(folder.glob("*.safetensors")):
        raise CheckpointUnsafe(
            f"The weights in {folder.name} are pickles ({some_of(pickles, 2)}), which can run code and are not read; "
            "get them as safetensors."
        )


def _places(folder: Path) -> dict[str, str]:
    """The file of each tensor, as the index says."""
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointMismatch(f"{INDEX} does not say which tensor is in which file; get it again.")
    return places


def some_of(names: list[str], most: int = 8) -> str:
    """The first names of many, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
