"""Exact match, after both answers are written the same way: each language has its own marks that do not count; and how many
are right, by language and kind of question."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
Kind = TypeVar("Kind", bound=str)  # of question

_ARTICLES: Mapping[str, str] = {
    "en": r"(a|an|the)",
    "fr": r"(un|une|des|le|la|les|l['’])",
    "es": r"(un|una|unos|unas|el|la|los|las)",
}
_LEADING_ARTICLE = {code: re.compile(rf"^{words}(?<=['’])|^{words}\s+") for code, words in _ARTICLES.items()}
# Letters that one language writes in two ways.
_SAME: Mapping[str, Mapping[int, str]] = {
    "ru": {ord("ё"): "е"},
    "ar": {ord("أ"): "ا", ord("إ"): "ا", ord("آ"): "ا", ord("ى"): "ي", ord("ٱ"): "ا"},
    "ur": {ord("ي"): "ی", ord("ى"): "ی", ord("ك"): "ک", ord("ه"): "ہ", ord("ۀ"): "ہ"},
}


def normalise(answer: str, language: str) -> str:
    """An answer without case, punctuation, spacing, vowel marks of Arabic script, and leading article; ASCII digits."""
    text = unicodedata.normalize("NFKC", answer).casefold().strip()
    if language in _LEADING_ARTICLE:
        text = _LEADING_ARTICLE[language].sub("", text)
    text = text.translate(_SAME.get(language, {}))
    return "".join(_kept(letter) for letter in text)


def _kept(letter: str) -> str:
    category = unicodedata.category(letter)
    if category == "Nd":
        return str(unicodedata.digit(letter))
    if category[0] in "PZC" or letter == "ـ" or 0x064B <= ord(letter) <= 0x0652:
        return ""
    return letter


def exact_match(given: str, wanted: str, language: str) -> bool:
    """Whether two answers say the same; both in `language`."""
    return normalise(given, language) == normalise(wanted, language)


def without_doubt(given: str, said: Sequence[str] | None) -> str:
    """What an answer says with doubt, or the answer. said: how its language doubts, as a model's config has it."""
    begins, _, ends = (said or [""])[0].partition("{}")
    is_doubted = bool(said) and given.startswith(begins) and given.endswith(ends)
    return given[len(begins) : len(given) - len(ends)] if is_doubted else given


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter."""
    while batch := list(islice(items, size)):
        yield batch


@dataclass(kw_only=True)
class Counted(Generic[Kind]):
    """Right answers and questions by language and kind."""

    right: dict[tuple[str, Kind], int] = field(default_factory=lambda: defaultdict(int))
    asked: dict[tuple[str, Kind], int] = field(default_factory=lambda: defaultdict(int))

    def count(self, language: str, kind: Kind, is_right: bool) -> None:
        self.asked[language, kind] += 1
        self.right[language, kind] += is_right

    @property
    def questions(self) -> int:
        return sum(self.asked.values())

    def share_of(self, cells: Iterable[tuple[str, Kind]]) -> float | None:
        """Of the questions of several cells together; None where there are none."""
        known = [cell for cell in cells if cell in self.asked]
        asked = sum(self.asked[cell] for cell in known)
        return sum(self.right[cell] for cell in known) / asked if asked else None


def mean(shares: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [share for share in shares if share is not None]
    return fmean(known) if known else None


def shares_by_language(
    languages: Sequence[str], kinds: Sequence[Kind], share: Callable[[str | None, Kind | None], float | None]
) -> dict[str, dict[str, float | None]]:
    """By language and kind, `mean` for all languages, `all` for all kinds. share: of a cell, None for all of one side."""
    return {
        language or "mean": {kind or "all": share(language, kind) for kind in (*kinds, None)}
        for language in (*languages, None)
    }


def table_of(title: str, kinds: Sequence[str], shares: Mapping[str, Mapping[str, float | None]]) -> "Table":
    """Percent, a row for each language and their mean. shares: as `shares_by_language` gives them."""
    from rich.table import Table

    table = Table(title=title)
    for heading in ("", *kinds, "all"):
        table.add_column(heading, justify="right")
    for language, row in shares.items():
        if language == "mean":
            table.add_section()
        table.add_row(language, *("-" if share is None else f"{100 * share:.1f}" for share in row.values()))
    return table
