"""What a benchmark is: questions read from its own files, and figures made of counts.

Whatever is measured is a function of sums over units (a question, a picture with its two questions, a question in all its
rotations), so that one bootstrap over units serves every benchmark.
"""

import csv
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from maya_core.errors import DataError

ALL = "all"  # the group of every item
SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."

Array = np.ndarray[Any, np.dtype[np.float64]]
_OTHERWISE = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, csv.Error)  # of files of another shape

Counts = Mapping[tuple[str, str], float]  # (group, what is counted) -> how many
Tally = Mapping[str, Counts]  # by unit
Sums = Mapping[tuple[str, str], Array]  # of counts over units; (R,), one for each resample
Figures = dict[str, Array]  # by name; (R,)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question. id: among those of its language; language: a code; prompt: what is asked. request: what asks for the
    form of the answer, on a line of its own, in the words that models learnt; a model that learnt none goes without.

    picture: its file, or the file's bytes. reference: what the benchmark scores with. groups: whose figures it counts in,
    beside those of all. unit: what it is resampled with; alone if not given.
    """

    id: str
    language: str
    prompt: str
    request: str = ""
    picture: Path | bytes | None = None
    reference: Any = None
    groups: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An item with what the model said: nothing where it failed. verdicts: what the judge replied; None where it failed."""

    item: Item
    answer: str
    verdicts: tuple[str | None, ...] = ()


class Benchmark(ABC):
    """One benchmark. headline: the figure that stands for it; longest_answer: tokens; is_judged: a judge is needed;
    answers_as_asked: answers are whole sentences in the question's language."""

    name: ClassVar[str]
    headline: ClassVar[str] = ALL
    longest_answer: ClassVar[int] = 128
    is_judged: ClassVar[bool] = False
    answers_as_asked: ClassVar[bool] = False

    @abstractmethod
    def items(self, folder: Path) -> list[Item]:
        """The questions of a folder in the benchmark's original layout. Raises DataError, which names file and line, and
        whatever Python raises on files that are quite different; `read` is what others call."""

    def read(self, folder: Path) -> list[Item]:
        """The questions of a folder. Raises DataError."""
        try:
            return self.items(folder)
        except _OTHERWISE as error:
            raise DataError(
                f"A file in {folder.name or folder} is not as the makers of {self.name} write it ({type(error).__name__}); "
                "get the original."
            ) from error

    def remarks(self, folder: Path) -> Iterable[tuple[str, str]]:
        """(kind, place) of what is odd in the folder beyond its items."""
        return ()

    def judging(self, item: Item, answer: str) -> tuple[str, ...]:
        """What the judge is asked about an answer."""
        return ()

    def credit(self, answered: Answered) -> float:
        """How right an answer is, from 0 to 1."""
        raise NotImplementedError(f"{self.name} counts in another way")

    def counts(self, rows: Sequence[Answered]) -> Counts:
        """Of the items of one unit."""
        counts: dict[tuple[str, str], float] = defaultdict(float)
        for row in rows:
            credit = self.credit(row)
            for group in (ALL, *row.item.groups):
                counts[group, "right"] += credit
                counts[group, "asked"] += 1
        return counts

    def tally(self, rows: Iterable[Answered]) -> Tally:
        """Of all items of one language."""
        units: dict[str, list[Answered]] = defaultdict(list)
        for row in rows:
            units[row.item.unit or row.item.id].append(row)
        return {unit: self.counts(members) for unit, members in units.items()}

    def figures(self, sums: Sums) -> Figures:
        """By name; NaN where there is nothing to divide by. In percent of those asked, for each group."""
        return {group: 100 * sums[group, "right"] / sums[group, "asked"] for group in groups_of(sums, "asked")}


def groups_of(sums: Sums, counted: str) -> list[str]:
    """The groups in which something is counted, all first."""
    groups = [group for group, what in sums if what == counted]
    return sorted(groups, key=lambda group: (group != ALL, group))


def added(parts: Iterable[Counts]) -> Counts:
    """Sums of counts."""
    total: dict[tuple[str, str], float] = defaultdict(float)
    for part in parts:
        for key, count in part.items():
            total[key] += count
    return total
