"""What people say of translations: plain files, which those who prepare a reference set write and the review page fills.

A folder holds `items.jsonl`, and `reviews/NAME.jsonl` of each reviewer, to which a line is added with each verdict; the last
line about an item counts. So several people review at once, on one machine or on many whose files are put together after.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from maya_core.errors import DataError
from maya_core.languages import CODES

Verdict = Literal["accept", "edit", "reject"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ITEMS, REVIEWS = "items.jsonl", "reviews"
_NAME = re.compile(r"\w[\w .-]{0,39}")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Item:
    """A translation to be looked at. id: of the source, the same in all languages. similarity: chrF of source and
    back-translation, 0 to 100."""

    id: str
    language: str
    source: str
    translation: str
    back_translation: str
    similarity: float

    def __post_init__(self) -> None:
        if self.language not in CODES:
            raise ValueError(f"language is {self.language}; it must be one of {', '.join(CODES)}.")


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a person says of an item. text: the translation as it should be, where it is edited. moment: seconds since
    1970."""

    item: str
    language: str
    reviewer: str
    verdict: Verdict
    text: str = ""
    moment: float

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict is {self.verdict}; it must be one of {', '.join(VERDICTS)}.")
        if self.verdict == "edit" and not self.text.strip():
            raise ValueError("An edit needs its text.")


def checked_name(reviewer: str) -> str:
    """A reviewer's name, which names a file; DataError where it cannot."""
    name = " ".join(reviewer.split())
    if not _NAME.fullmatch(name):
        raise DataError(
            "A reviewer's name has up to 40 letters, digits, spaces, dots and hyphens, and begins with a letter."
        )
    return name


def write_items(folder: Path, items: Iterable[Item]) -> None:
    """Write the items; what people have said of them stays."""
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".{ITEMS}.new"
    with fresh.open("w", encoding="utf-8") as opened:
        opened.writelines(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(fresh, folder / ITEMS)


def load_items(folder: Path) -> list[Item]:
    """All items, in their order. Raises DataError where there are none, or one cannot be read."""
    file = folder / ITEMS
    if not file.is_file():
        raise DataError(f"There is no {ITEMS} in {folder.name}; `python -m training.translate reference` makes one.")
    items, torn = _read(file, Item)
    if torn:
        raise DataError(f"{torn} lines of {ITEMS} cannot be read; make it anew.")
    return items


def add_review(folder: Path, review: Review) -> None:
    """Add a review to its reviewer's file, on the disk when this returns. Raises DataError for a name that cannot be."""
    file = folder / REVIEWS / f"{checked_name(review.reviewer)}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(review), ensure_ascii=False) + "\n"
    with file.open("ab+") as opened:
        if opened.tell():
            opened.seek(-1, os.SEEK_END)
            if opened.read(1) != b"\n":  # cut off by a crash; what was said before stays
                line = "\n" + line
        opened.write(line.encode())
        opened.flush()
        os.fsync(opened.fileno())


def load_reviews(folder: Path) -> list[Review]:
    """The last review of each reviewer of each item. A line that cannot be read, as a crash leaves it, counts as none."""
    last: dict[tuple[str, str, str], Review] = {}
    for file in sorted((folder / REVIEWS).glob("*.jsonl")):
        for review in _read(file, Review)[0]:
            last[review.reviewer, review.language, review.item] = review
    return list(last.values())


def _read(file: Path, kind: type[T]) -> tuple[list[T], int]:
    """What stands in the lines of a file, and how many of them cannot be read."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # both are dataclasses
    found, torn = [], 0
    for line in file.read_bytes().splitlines():
        try:
            content: dict[str, Any] = json.loads(line)
            found.append(kind(**{name: value for name, value in content.items() if name in names}))
        except (ValueError, TypeError, AttributeError):
            torn += bool(line.strip())
    return found, torn
