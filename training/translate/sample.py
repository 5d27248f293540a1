"""A sample of English texts for a reference set, spread evenly over lengths and readability.

Flesch's formulas count an English text's syllables, and mean nothing in another language; nothing else is sampled by them.
Syllables are counted as places where pyphen would break a word, which finds a few less than are spoken.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maya_core.errors import DataError
from maya_core.learning.record_index import RecordFile
from training.translate.journal import Incoming
from training.translate.source import OnRecord, incoming
from training.translate.texts import digest

if TYPE_CHECKING:
    from pyphen import Pyphen

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_END = re.compile(r"[.!?]+(?:\s|$)")
PARTS = ("low", "middle", "high")  # thirds of each measure


class Readability(NamedTuple):
    """Words of a text, its Flesch reading ease (100 is easy, 0 is hard), its Flesch-Kincaid grade (years of school)."""

    words: int
    ease: float
    grade: float


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """stratum: thirds by words, ease and grade."""

    id: str
    text: str
    words: int
    ease: float
    grade: float
    stratum: str


def readability(text: str) -> Readability:
    """Of an English text with a word at least."""
    words = _WORD.findall(text)
    sentences = max(1, len(_END.findall(text)))
    syllables = sum(_syllables(word.lower()) for word in words)
    length, weight = len(words) / sentences, syllables / len(words)
    return Readability(
        len(words), round(206.835 - 1.015 * length - 84.6 * weight, 1), round(0.39 * length + 11.8 * weight - 15.59, 1)
    )


def sample(file: RecordFile, count: int, *, seed: int = 0, on_record: OnRecord = lambda _: None) -> list[Sampled]:
    """So many different texts of a source, the same for one seed: as many from each stratum, as far as they go.

    Raises DataError where the source has fewer.
    """
    places, measures = [], []
    seen: set[bytes] = set()
    for record in incoming(file, on_record):
        for place, text in _new(record, seen):
            places.append((record.number, place))
            measures.append(readability(text))
    if len(places) < count:
        raise DataError(f"{file.path.name} has {len(places)} different texts; ask for no more than these.")
    strata = _strata(np.array(measures, dtype=np.float64))
    chosen = _drawn(strata, count, np.random.default_rng(seed))
    wanted = {places[index][0] for index in chosen}
    texts = {record.number: record.texts for record in incoming(file) if record.number in wanted}
    return [
        Sampled(
            id=f"s{number:03}",
            text=texts[places[index][0]][places[index][1]],
            **measures[index]._asdict(),
            stratum=strata[index],
        )
        for number, index in enumerate(chosen, start=1)
    ]


def write_sample(file: Path, sampled: Sequence[Sampled]) -> None:
    file.write_text("".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in sampled), "utf-8")


def load_sample(file: Path) -> dict[str, str]:
    """Texts by id. Raises DataError."""
    try:
        lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        return {str(line["id"]): str(line["text"]) for line in lines}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{file.name} cannot be read; `python -m training.translate sample` writes such a file."
        ) from None


def _new(record: Incoming, seen: set[bytes]) -> Iterator[tuple[int, str]]:
    """The texts of a record that no record before it has, with their places."""
    for place, text in enumerate(record.texts):
        key = digest(text)
        if key not in seen and _WORD.search(text):
            seen.add(key)
            yield place, text


def _strata(measures: np.ndarray) -> list[str]:
    """The stratum of each text by its row of measures."""
    cuts = np.quantile(measures, (1 / 3, 2 / 3), axis=0)
    thirds = (measures[:, :, None] > cuts.T[None]).sum(-1)
    return ["/".join(PARTS[third] for third in row) for row in thirds]


def _drawn(strata: Sequence[str], count: int, generator: np.random.Generator) -> list[int]:
    """Indices drawn in turn from each stratum."""
    members: dict[str, list[int]] = {}
    for index in generator.permutation(len(strata)).tolist():
        members.setdefault(strata[index], []).append(index)
    chosen: list[int] = []
    while len(chosen) < count:
        for stratum in sorted(members):
            if members[stratum] and len(chosen) < count:
                chosen.append(members[stratum].pop())
    return chosen


def _syllables(word: str) -> int:
    return len(_dictionary().positions(word)) + 1


@cache
def _dictionary() -> "Pyphen":
    from pyphen import Pyphen

    return Pyphen(lang="en_US")
