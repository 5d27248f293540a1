"""MM-Vet: free answers, graded by a judge. Layout: mm-vet.json ({id: {imagename, question, answer, capability}}), images."""

import re
from collections.abc import Sequence
from pathlib import Path

from training.benchmarks.base import ALL, Answered, Benchmark, Counts, Figures, Item, Sums, groups_of
from training.benchmarks.files import field, one_of, picture_in, read_json
from training.benchmarks.marking import first_line

GRADING = """\
Grade an answer to a question about a picture by comparing it with what is right.
Where the right answer has parts joined by <AND>, all of them must be said; where it has parts joined by <OR>, one is enough.

Question: {question}
Right answer: {reference}
Answer to grade: {answer}

Write nothing but the grade: a number from 0.0 (wrong) to 1.0 (wholly right), with one decimal."""
_GRADE = re.compile(r"\s*(?:grade:?\s*)?([01](?:\.\d+)?)\s*\.?\s*", re.IGNORECASE)


class MmVet(Benchmark):
    """Mean grade in percent, of all and of each capability; ungraded answers are left out and counted."""

    name = "mm-vet"
    longest_answer = 1024
    is_judged = True

    def items(self, folder: Path) -> list[Item]:
        file = one_of(folder, "mm-vet.json")
        return [
            Item(
                id=identity,
                language="en",
                prompt=field(record, "question", file),
                picture=picture_in(folder, field(record, "imagename", file), "images"),
                reference=field(record, "answer", file),
                groups=tuple(field(record, "capability", file)),
            )
            for identity, record in read_json(file).items()
        ]

    def judging(self, item: Item, answer: str) -> tuple[str, ...]:
        return (GRADING.format(question=item.prompt, reference=item.reference, answer=answer),)

    def counts(self, rows: Sequence[Answered]) -> Counts:
        [row] = rows
        grade = read_grade(row.verdicts[0])
        if grade is None:
            return {("", "unjudged"): 1}
        groups = (ALL, *row.item.groups)
        return {(group, "right"): grade for group in groups} | {(group, "asked"): 1 for group in groups}

    def figures(self, sums: Sums) -> Figures:
        return {group: 100 * sums[group, "right"] / sums[group, "asked"] for group in groups_of(sums, "asked")}


def read_grade(verdict: str | None) -> float | None:
    """The grade that a judge wrote; None where it is none from 0 to 1."""
    found = _GRADE.fullmatch(first_line(verdict))
    grade = float(found[1]) if found else None
    return grade if grade is not None and grade <= 1 else None
