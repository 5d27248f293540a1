"""What photographs show: several hundred things, and their names and the forms that sentences need in ten languages.

`things.tsv` says of each what kind of thing it is, what it is a sort of, and by which classes of ImageNet, COCO, Caltech-101
and which drawing of EmojiVQA it is known. `names/*.tsv`, one file a language, has its words, written as its speakers use
them.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent

KINDS = ("person", "animal", "bird", "insect", "fish", "plant", "food", "drink", "vehicle", "building", "place", "weather",
         "clothing", "furniture", "tool", "device", "instrument", "play", "object")  # fmt: skip
# The forms of a name, by language; `also` are further names. en has `the` besides, which is made.
FORMS: Mapping[str, tuple[str, ...]] = {
    "en": ("name", "a", "plural"),
    "zh": ("name", "measure"),
    "fr": ("name", "un", "le", "plural", "de"),
    "es": ("name", "un", "el", "plural", "gender"),
    "ru": ("name", "gen", "acc", "nom_pl", "gen_pl", "gender"),
    "hi": ("name", "obl", "plural", "obl_plural", "gender", "latin"),
    "ja": ("name", "counter"),
    "ar": ("name", "def", "plural", "dual", "gender"),
    "bn": ("name", "def", "classifier"),
    "ur": ("name", "obl", "plural", "obl_plural", "gender", "latin"),
}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """parent: the thing that it is a sort of, empty where there is none. imagenet: numbers of classes; coco: a class's name,
    empty where there is none; caltech: names of classes; emoji: ids in EmojiVQA's vocabulary."""

    id: str
    kind: str
    parent: str
    imagenet: tuple[int, ...]
    coco: str
    caltech: tuple[str, ...]
    emoji: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Name:
    """A thing's words in one language. forms: by the names in FORMS; also: what else people call it."""

    forms: Mapping[str, str]
    also: tuple[str, ...]

    def __getitem__(self, form: str) -> str:
        return self.forms[form]

    @property
    def said(self) -> tuple[str, ...]:
        """Everything that it is called, the usual name first."""
        return (self.forms["name"], *self.also)


@cache
def load_things() -> Mapping[str, Thing]:
    """Every thing by its id."""
    return {
        row["id"]: Thing(
            id=row["id"],
            kind=row["kind"],
            parent=row["parent"],
            imagenet=tuple(_numbers(row["imagenet"])),
            coco=row["coco"],
            caltech=tuple(row["caltech"].split()),
            emoji=tuple(row["emoji"].split()),
        )
        for row in _rows(HERE / "things.tsv")
    }


@cache
def by_emoji() -> Mapping[str, str]:
    """The thing that each drawing of EmojiVQA's vocabulary shows."""
    return {name: thing.id for thing in load_things().values() for name in thing.emoji}


@cache
def load_names(language: str) -> Mapping[str, Name]:
    """The words for every thing, by its id."""
    names = {}
    for row in _rows(HERE / "names" / f"{language}.tsv"):
        forms = {form: row[form] for form in FORMS[language]}
        if language == "en":
            forms["the"] = f"the {row['name']}"
        also = tuple(name for name in (row["also"] or "").split(" / ") if name)
        names[row["id"]] = Name(forms=forms, also=also)
    return names


def _rows(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _numbers(text: str) -> Iterator[int]:
    """`3 7-9` -> 3, 7, 8, 9"""
    for part in text.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
