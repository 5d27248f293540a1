"""MMBench: options that are rotated. Layout: a TSV (index, question, hint, A to D, answer, category, image as base64).

A row whose index is 1,000,000 or more is a rotation of the row with the remainder; where a file has none, they are made.
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from maya_core.errors import DataError
from training.benchmarks.base import ALL, LETTER, Answered, Benchmark, Counts, Figures, Item, Sums, groups_of
from training.benchmarks.files import decoded, field, one_of
from training.benchmarks.marking import LETTERS, chosen_option, lettered

ROTATED = 1_000_000
NOTHING = ("", "nan", "None")

Row = Mapping[str, str]


class MmBench(Benchmark):
    """CircularEval, in percent: a question is right where it is in every rotation. `plain`: of single rows."""

    name = "mmbench"

    def items(self, folder: Path) -> list[Item]:
        file = one_of(folder, "*.tsv")
        csv.field_size_limit(sys.maxsize)
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows: list[Row] = list(csv.DictReader(opened, delimiter="\t"))
        for row in rows:
            for name in ("index", "question", "answer", "image", "A", "B"):
                field(row, name, file)
        if all(int(row["index"]) < ROTATED for row in rows):
            rows = [rotated for row in rows for rotated in _rotations(row)]
        pictures = {row["index"]: row["image"] for row in rows}
        return [_item(row, pictures, file) for row in rows]

    def counts(self, rows: Sequence[Answered]) -> Counts:
        right = [chosen_option(row.answer, row.item.reference[1]) == row.item.reference[0] for row in rows]
        counts: dict[tuple[str, str], float] = {}
        for group in (ALL, *rows[0].item.groups):
            counts |= {(group, "right"): all(right), (group, "asked"): 1}
        return counts | {("plain", "right rows"): sum(right), ("plain", "rows"): len(right)}

    def figures(self, sums: Sums) -> Figures:
        circular = {group: 100 * sums[group, "right"] / sums[group, "asked"] for group in groups_of(sums, "asked")}
        return {**circular, "plain": 100 * sums["plain", "right rows"] / sums["plain", "rows"]}


def _options(row: Row) -> list[str]:
    return [row[letter] for letter in LETTERS[:4] if row.get(letter) and row[letter] not in NOTHING]


def _rotations(row: Row) -> Iterator[Row]:
    """A row and its rotations: each option moves one place on."""
    options = _options(row)
    for turn in range(len(options)):
        moved = options[-turn:] + options[:-turn] if turn else options
        answer = LETTERS[(LETTERS.index(row["answer"]) + turn) % len(options)]
        letters = dict(zip(LETTERS, moved, strict=False))
        yield {**row, **letters, "answer": answer, "index": str(int(row["index"]) + turn * ROTATED)}


def _item(row: Row, pictures: Mapping[str, str], file: Path) -> Item:
    options = _options(row)
    if row["answer"] not in LETTERS[: len(options)]:
        raise DataError(f"Row {row['index']} of {file.name} has no option {row['answer']!r}; use a split with answers.")
    image = pictures.get(row["image"], row["image"])  # a rotation may name the row that has the picture
    hint = "" if row.get("hint", "") in NOTHING else f"{row['hint']}\n"
    category = row.get("category", "")
    return Item(
        id=row["index"],
        language="en",
        prompt=f"{hint}{row['question']}\n{lettered(options)}",
        request=LETTER,
        picture=decoded(image, f"row {row['index']}"),
        reference=(row["answer"], tuple(options)),
        groups=(category,) if category else (),
        unit=str(int(row["index"]) % ROTATED),
    )
