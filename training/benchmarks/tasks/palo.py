"""PALO's multilingual LLaVA-Bench (in the wild). Layout: images, and a folder a language with questions (question(s).jsonl),
reference answers (answers*.jsonl), and descriptions of the pictures (context*.jsonl); some have a folder `corrected`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maya_core.errors import DataError
from training.benchmarks.base import ALL, Answered, Benchmark, Counts, Figures, Item, Sums, groups_of
from training.benchmarks.files import field, one_of, picture_in, read_lines
from training.benchmarks.marking import first_line

FOLDERS = {
    "english": "en", "chinese": "zh", "french": "fr", "spanish": "es", "russian": "ru", "hindi": "hi", "japanese": "ja",
    "arabic": "ar", "bengali": "bn", "urdu": "ur",
}  # fmt: skip
FILES = {
    "questions": ("questions.jsonl", "question.jsonl"),
    "answers": ("answers_gpt4.jsonl", "answers.jsonl"),
    "contexts": ("context.jsonl", "context_*.jsonl"),
}
QUESTIONS = {"complex": 28, "conv": 17, "detail": 15}  # of each language
UNPARSED = -1.0  # what upstream counts in the place of a rating that it cannot read
UPSTREAM = "upstream's formula"

COMPARING = """\
You are given a description of a picture, which you do not see, a question about it, and two answers.

[Description]
{context}

[Question]
{question}

[Answer 1]
{first}

[Answer 2]
{second}

Rate each answer with a number from 1 to 10: how helpful, how relevant, how accurate and how detailed is it? Which of them
comes first says nothing about it. Write the two numbers on the first line, that of answer 1 before that of answer 2, with a
space between and nothing else. From the second line on, explain your ratings."""
_RATINGS = re.compile(r"(10(?:\.0+)?|[1-9](?:\.\d+)?)[\s,]+(10(?:\.0+)?|[1-9](?:\.\d+)?)")


class Palo(Benchmark):
    """100 x the candidate's mean rating / the reference's, of all and of each category.

    Each pair is judged in both orders and counts where both judgements can be read. `upstream's formula`: the reference
    first only, and what cannot be read as a rating of -1.
    """

    name = "palo"
    longest_answer = 1024
    is_judged = True
    answers_as_asked = True

    def __init__(self, comparing: str = COMPARING) -> None:
        """comparing: what the judge is asked, with {context}, {question}, {first} and {second}."""
        self.comparing = comparing

    def items(self, folder: Path) -> list[Item]:
        items = [
            item for name, code in FOLDERS.items() if (folder / name).is_dir() for item in _items(folder, name, code)
        ]
        if not items:
            raise DataError(f"There is no language's folder, such as english, in {folder.name}; check --data.")
        return items

    def remarks(self, folder: Path) -> Iterator[tuple[str, str]]:
        languages = [name for name in FOLDERS if (folder / name).is_dir()]
        for part in FILES:
            files = {name: _file(folder / name, part) for name in languages}
            [(usual, _)] = Counter(file.name for file in files.values()).most_common(1)
            for file in files.values():
                place = file.relative_to(folder)
                if file.name != usual:
                    yield "name-differs", f"{place}, where others have {usual}"
                if file.parent.name == "corrected":
                    yield "corrected-beside-first", f"{place} is used"
        for name in languages:
            yield from _miscounted(name, read_lines(_file(folder / name, "questions")))

    def judging(self, item: Item, answer: str) -> tuple[str, ...]:
        reference, context = item.reference["answer"], item.reference["context"]
        orders = ((reference, answer), (answer, reference))
        return tuple(
            self.comparing.format(context=context, question=item.prompt, first=first, second=second)
            for first, second in orders
        )

    def counts(self, rows: Sequence[Answered]) -> Counts:
        [row] = rows
        reference_first, candidate_first = (read_ratings(verdict) for verdict in row.verdicts)
        ratings = (
            [reference_first, candidate_first[::-1]] if reference_first and candidate_first else []
        )  # of the reference, and of the candidate
        return rated(row.item.groups, ratings, upstream=reference_first)

    def figures(self, sums: Sums) -> Figures:
        figures = {
            group: 100 * sums[group, "candidate"] / sums[group, "reference"] for group in groups_of(sums, "reference")
        }
        return figures | {
            UPSTREAM: 100 * sums[UPSTREAM, "upstream candidate"] / sums[UPSTREAM, "upstream reference"],
        }


def rated(
    groups: Iterable[str], ratings: Sequence[tuple[float, float]], *, upstream: tuple[float, float] | None
) -> Counts:
    """Counts of an item whose reference and candidate were rated so, once or in two orders. upstream: by whose formula the
    reference comes first; None where that cannot be read."""
    reference, candidate = upstream or (UNPARSED, UNPARSED)
    counts = {(UPSTREAM, "upstream reference"): reference, (UPSTREAM, "upstream candidate"): candidate}
    if not ratings:
        return counts | {("", "unjudged"): 1.0}
    for group in (ALL, *groups):
        counts[group, "reference"] = sum(one for one, _ in ratings) / len(ratings)
        counts[group, "candidate"] = sum(one for _, one in ratings) / len(ratings)
    return counts


def read_ratings(verdict: str | None) -> tuple[float, float] | None:
    """The two numbers on a judgement's first line; None where they are not two from 1 to 10."""
    found = _RATINGS.fullmatch(first_line(verdict))
    return (float(found[1]), float(found[2])) if found else None


def _file(folder: Path, part: str) -> Path:
    """A language's file of a part; the corrected one where there is one."""
    for place in (folder / "corrected", folder):
        if any(list(place.glob(pattern)) for pattern in FILES[part]):
            return one_of(place, *FILES[part])
    return one_of(folder, *FILES[part])


def _items(folder: Path, name: str, code: str) -> Iterator[Item]:
    """Joined by id and by picture, never by the order of lines."""
    questions, answers, contexts = (_file(folder / name, part) for part in FILES)
    known = _by(answers, "question_id", "text")
    described = _by(contexts, "image", "caption")
    for record in read_lines(questions):
        identity, image = field(record, "question_id", questions), field(record, "image", questions)
        for have, key, file in ((known, identity, answers), (described, image, contexts)):
            if key not in have:
                raise DataError(f"{name}/{file.name} has nothing for question {identity}; get a whole copy.")
        caption = described[image]
        yield Item(
            id=str(identity),
            language=code,
            prompt=field(record, "text", questions),
            picture=picture_in(folder, image, "images"),
            reference={
                "answer": known[identity],
                "context": "\n".join(caption) if isinstance(caption, list) else caption,
            },
            groups=(field(record, "category", questions),),
        )


def _by(file: Path, key: str, value: str) -> Mapping[Any, Any]:
    return {field(record, key, file): field(record, value, file) for record in read_lines(file)}


def _miscounted(name: str, records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    categories = [record.get("category") for record in records]
    for category, number in QUESTIONS.items():
        if categories.count(category) != number:
            yield "miscounted", f"{name}: {categories.count(category)} questions of {category}, not {number}"
