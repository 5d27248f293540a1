"""MME: two questions a picture, one to be affirmed and one to be denied. Layout: a folder a task, with PICTURE.txt
(question, tab, Yes or No) beside PICTURE.jpg, or in questions_answers_YN beside images."""

from collections.abc import Sequence
from pathlib import Path

from maya_core.errors import DataError
from training.benchmarks.base import SHORT, Answered, Benchmark, Counts, Figures, Item, Sums, groups_of
from training.benchmarks.marking import yes_or_no

PERCEPTION = ("existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR")
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
PICTURES = (".jpg", ".png", ".jpeg")


class Mme(Benchmark):
    """Of each task the share of right answers and that of pictures with both right, in percent, added; perception and
    cognition are sums over their tasks."""

    name = "mme"
    headline = "perception"

    def items(self, folder: Path) -> list[Item]:
        items = []
        for task in (*PERCEPTION, *COGNITION):
            for file in sorted((folder / task).rglob("*.txt")):
                items += _asked(task, file)
        if not items:
            raise DataError(f"There is no task's folder, such as {PERCEPTION[0]}, in {folder.name}; check --data.")
        return items

    def counts(self, rows: Sequence[Answered]) -> Counts:
        [task] = rows[0].item.groups
        right = [yes_or_no(row.answer) == row.item.reference for row in rows]
        return {
            (task, "right"): sum(right),
            (task, "asked"): len(right),
            (task, "both"): all(right),
            (task, "pictures"): 1,
        }

    def figures(self, sums: Sums) -> Figures:
        tasks = {
            task: 100 * (sums[task, "right"] / sums[task, "asked"] + sums[task, "both"] / sums[task, "pictures"])
            for task in groups_of(sums, "asked")
        }
        parts = {"perception": PERCEPTION, "cognition": COGNITION}
        totals = {part: [tasks[task] for task in of if task in tasks] for part, of in parts.items()}
        return {part: sum(scores[1:], start=scores[0]) for part, scores in totals.items() if scores} | tasks


def _asked(task: str, file: Path) -> list[Item]:
    within = file.parent.parent / "images" if file.parent.name == "questions_answers_YN" else file.parent
    places = [within / f"{file.stem}{suffix}" for suffix in PICTURES]
    picture = next((place for place in places if place.is_file()), places[0])
    items = []
    for number, line in enumerate(filter(None, file.read_text("utf-8").splitlines())):
        question, tab, label = line.partition("\t")
        if not tab or label.strip().lower() not in ("yes", "no"):
            raise DataError(f"{task}/{file.name}:{number + 1} is not a question, a tab, and Yes or No.")
        items.append(
            Item(
                id=f"{task}/{file.stem}/{number}",
                language="en",
                prompt=question,
                request=SHORT,
                picture=picture,
                reference=label.strip().lower(),
                groups=(task,),
                unit=f"{task}/{file.stem}",
            )
        )
    return items
