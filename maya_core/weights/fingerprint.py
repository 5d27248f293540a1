"""Which model is it? A short text that two folders share where they hold the same weights, whatever they are called."""

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO

from maya_core.assets import LANGUAGE_MODEL
from maya_core.weights.destination import CONFIGS
from maya_core.weights.files import PROJECTOR, header_of, is_gguf, read_json, weight_files
from maya_core.weights.gguf_file import stored_in

SEEN = 4096  # bytes of each tensor that are read: training moves all of it
# In a configuration, what says nothing of the weights.
_OF_NO_WEIGHT = (
    "transformers_version",
    "_name_or_path",
    "architectures",
    "peft_version",
    "base_model_name_or_path",
    "revision",
)
ADAPTER = "adapter_model.safetensors"


def fingerprint(folder: Path) -> str:
    """Of the model or adapter in a folder, by its configuration and the start of every tensor; a model of 16 GB takes
    milliseconds. Raises what `files.header_of` does."""
    seen = hashlib.sha256()
    for config in map(folder.joinpath, CONFIGS):
        if config.is_file():
            fields = {key: value for key, value in read_json(config).items() if key not in _OF_NO_WEIGHT}
            seen.update(json.dumps(fields, sort_keys=True).encode())
    files = [folder / ADAPTER] if (folder / ADAPTER).is_file() else weight_files(folder)
    for file in files:
        header_of(file)  # refuses what is cut off
        with file.open("rb") as opened:
            _see(opened, seen)
    if is_gguf(folder):
        with (folder / LANGUAGE_MODEL).open("rb") as opened:
            for tensor in stored_in(folder / LANGUAGE_MODEL):
                opened.seek(tensor.offset)
                seen.update(f"{tensor.name} {tensor.type.name} {tensor.shape}".encode())
                seen.update(opened.read(min(SEEN, tensor.nbytes)))
    if (folder / PROJECTOR).is_file():
        seen.update((folder / PROJECTOR).read_bytes())
    return seen.hexdigest()


def mark_of(file: Path) -> str:
    """As `fingerprint`, of one file of weights."""
    seen = hashlib.sha256()
    header_of(file)
    with file.open("rb") as opened:
        _see(opened, seen)
    return seen.hexdigest()


def _see(opened: BinaryIO, seen: Any) -> None:
    """Take in a safetensors file: names, types and shapes, and the start of each tensor."""
    length = int.from_bytes(opened.read(8), "little")
    tensors = {name: fields for name, fields in json.loads(opened.read(length)).items() if name != "__metadata__"}
    for name, fields in sorted(tensors.items()):
        first, last = fields["data_offsets"]
        opened.seek(8 + length + first)
        seen.update(f"{name} {fields['dtype']} {fields['shape']}".encode())
        seen.update(opened.read(min(SEEN, last - first)))
