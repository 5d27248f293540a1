"""GQA, and xGQA, which asks its questions in other languages and is answered in English."""

from pathlib import Path

from training.benchmarks.base import SHORT, Answered, Benchmark, Item
from training.benchmarks.files import field, one_of, picture_in, read_json
from training.benchmarks.marking import plain


class Gqa(Benchmark):
    """Right in percent: the same but for case and a full stop. Layout: testdev_balanced_questions.json, images."""

    name = "gqa"

    def items(self, folder: Path) -> list[Item]:
        return _items(one_of(folder, "testdev_balanced_questions.json", "*_questions.json"), folder, "en")

    def credit(self, answered: Answered) -> float:
        return float(plain(answered.answer) == plain(answered.item.reference))


class XGqa(Gqa):
    """Layout: testdev_balanced_questions_LANGUAGE.json, images."""

    name = "xgqa"

    def items(self, folder: Path) -> list[Item]:
        one_of(folder, "testdev_balanced_questions_*.json")
        files = sorted(folder.glob("testdev_balanced_questions_*.json"))
        return [item for file in files for item in _items(file, folder, file.stem.rsplit("_", 1)[1])]


def _items(file: Path, folder: Path, language: str) -> list[Item]:
    items = []
    for identity, record in read_json(file).items():
        kind = record.get("types", {}).get("structural", "")
        items.append(
            Item(
                id=identity,
                language=language,
                prompt=field(record, "question", file),
                request=SHORT,
                picture=picture_in(folder, f"{field(record, 'imageId', file)}.jpg", "images"),
                reference=field(record, "answer", file),
                groups=(kind,) if kind else (),
            )
        )
    return items
