"""What lies in a model's folder, read with one sentence for whatever is wrong: JSON, and tensors of safetensors files."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from maya_core.errors import CheckpointMismatch, CheckpointNotFound

Tensors = Iterator[tuple[str, Tensor]]

# tensors that older files carry and that are computed, not learnt
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json. Raises CheckpointNotFound where there is none, CheckpointMismatch where it is no object."""
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointNotFound(f"There is no config.json in {folder.name}; it is not a model's folder.")
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


def first_existing(*files: Path) -> Path | None:
    """The first of these files that is there."""
    return next((file for file in files if file.is_file()), None)


def tensors_in(folder: Path) -> Tensors:
    """Every tensor of a folder, by its name there, read one at a time."""
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (a safe_open handle is no mapping)
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointMismatch(f"{file.name} is damaged or cut off ({error}); get it again.") from None


def learnt_tensors_in(folder: Path) -> Tensors:
    """As `tensors_in`, but for what older files carry although it is computed."""
    return ((name, tensor) for name, tensor in tensors_in(folder) if not _COMPUTED.search(name))


def tensor_names(folder: Path) -> list[str]:
    """The names of a folder's tensors; no tensor is read."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return list(read_json(index).get("weight_map", {}))
    names: list[str] = []
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            names += tensors.keys()
    return names


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights. Raises CheckpointNotFound where one is missing."""
    index = folder / "model.safetensors.index.json"
    names = sorted(set(read_json(index).get("weight_map", {}).values())) if index.is_file() else ["model.safetensors"]
    absent = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if absent or not names:
        raise CheckpointNotFound(
            f"{some_of(absent) or 'every weight file'} is missing from {folder.name}; get a whole copy."
        )
    return [folder / name for name in names]


def some_of(names: list[str], most: int = 8) -> str:
    """The first names of many, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
