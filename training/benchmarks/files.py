"""Benchmarks' files, read with one sentence for whatever is wrong."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maya_core.errors import DataError


def read_json(file: Path) -> Any:
    """What a JSON file holds. Raises DataError."""
    try:
        return json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file.name} is not valid JSON (line {error.lineno}); get a whole copy.") from None


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file. Raises DataError, which names the line."""
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            raise DataError(f"{file.name}:{number} is not a JSON object; get a whole copy.")
        yield record


def field(record: Mapping[str, Any], name: str, file: Path) -> Any:
    """A field that must be there. Raises DataError."""
    if not isinstance(record, Mapping) or name not in record:
        raise DataError(f"A record of {file.name} has no {name!r}; this is not the benchmark's original file.")
    return record[name]


def one_of(folder: Path, *patterns: str) -> Path:
    """The first file of a folder that is called so. Raises DataError."""
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise DataError(f"There is no {' or '.join(patterns)} in {folder.name or folder}; check --data.")


def picture_in(folder: Path, name: str, *parts: str) -> Path:
    """A picture's place, below the first of these folders that is there; a name that leads out of it is refused."""
    within = next((folder / part for part in parts if (folder / part).is_dir()), folder)
    place = within / name
    if not place.resolve().is_relative_to(within.resolve()):
        raise DataError(f"A picture's name leads out of {within.name}; this is not the benchmark's original file.")
    return place


def decoded(text: str, place: str) -> bytes:
    """The bytes of a picture that stands in a file as base64. Raises DataError."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise DataError(f"The picture of {place} is not base64; get a whole copy.") from None


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no {file.name} in {file.parent.name}; check --data.") from None
    except UnicodeDecodeError:
        raise DataError(f"{file.name} is not UTF-8; get a whole copy.") from None
