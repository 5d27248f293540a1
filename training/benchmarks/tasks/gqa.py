"""GQA, and xGQA, which asks its questions in other languages and is answered in English."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from training.benchmarks.base import SHORT, Answered, Benchmark, Counts, Item
from training.benchmarks.files import field, one_of, picture_in, read_json
from training.benchmarks.marking import plain, vqa_normal

NORMALISED = "normalised"
# As PangeaBench (arXiv 2410.16153) asks; without the last words models answer in the question's language, which is wrong.
SHORT_IN_ENGLISH = f"{SHORT.removesuffix('.')} in English."


class Gqa(Benchmark):
    """Right in percent: the same but for case and a full stop. Layout: testdev_balanced_questions.json, images."""

    name = "gqa"

    def items(self, folder: Path) -> list[Item]:
        return _items(one_of(folder, "testdev_balanced_questions.json", "*_questions.json"), folder, "en")

    def credit(self, answered: Answered) -> float:
        return float(plain(answered.answer) == plain(answered.item.reference))


class XGqa(Gqa):
    """Right in percent: the same but for case and punctuation. `normalised`: the same after VQA's normaliser, for which an
    article is nothing, as mBLIP was measured. Layout: testdev_balanced_questions_LANGUAGE.json, images."""

    name = "xgqa"

    def items(self, folder: Path) -> list[Item]:
        one_of(folder, "testdev_balanced_questions_*.json")
        files = sorted(folder.glob("testdev_balanced_questions_*.json"))
        return [item for file in files for item in _items(file, folder, file.stem.rsplit("_", 1)[1], SHORT_IN_ENGLISH)]

    def credit(self, answered: Answered) -> float:
        return float(_words(answered.answer) == _words(answered.item.reference))

    def counts(self, rows: Sequence[Answered]) -> Counts:
        [row] = rows
        is_right = vqa_normal(row.answer) == vqa_normal(row.item.reference)
        return {**super().counts(rows), (NORMALISED, "right"): is_right, (NORMALISED, "asked"): 1}


def _words(answer: str) -> list[str]:
    """In lower case, without punctuation."""
    kept = (letter for letter in answer.casefold() if unicodedata.category(letter)[0] not in "PS")
    return "".join(kept).split()


def _items(file: Path, folder: Path, language: str, request: str = SHORT) -> list[Item]:
    items = []
    for identity, record in read_json(file).items():
        kind = record.get("types", {}).get("structural", "")
        items.append(
            Item(
                id=identity,
                language=language,
                prompt=field(record, "question", file),
                request=request,
                picture=picture_in(folder, f"{field(record, 'imageId', file)}.jpg", "images"),
                reference=field(record, "answer", file),
                groups=(kind,) if kind else (),
            )
        )
    return items
