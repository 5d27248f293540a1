"""POPE: is a thing in the picture? Layout: coco_pope_{random,popular,adversarial}.json, and COCO's val2014 pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maya_core.errors import DataError
from training.benchmarks.base import ALL, SHORT, Answered, Array, Benchmark, Counts, Figures, Item, Sums, groups_of
from training.benchmarks.files import field, picture_in, read_lines
from training.benchmarks.marking import says_yes

SPLITS = ("random", "popular", "adversarial")


class Pope(Benchmark):
    """F1 of "yes" in each split, from 0 to 1; of all, their mean. Accuracy and the share of "yes" in percent."""

    name = "pope"

    def items(self, folder: Path) -> list[Item]:
        items = []
        for split in SPLITS:
            for file in sorted(folder.glob(f"*{split}.json*")):
                items += [
                    Item(
                        id=f"{split}/{field(record, 'question_id', file)}",
                        language="en",
                        prompt=field(record, "text", file),
                        request=SHORT,
                        picture=picture_in(folder, field(record, "image", file), "val2014", "images"),
                        reference=field(record, "label", file) == "yes",
                        groups=(split,),
                    )
                    for record in read_lines(file)
                ]
        if not items:
            raise DataError(f"There is no coco_pope_random.json or its like in {folder.name}; check --data.")
        return items

    def counts(self, rows: Sequence[Answered]) -> Counts:
        [row] = rows
        [split] = row.item.groups
        says, is_there = says_yes(row.answer), row.item.reference
        return {
            (split, "tp"): says and is_there,
            (split, "fp"): says and not is_there,
            (split, "tn"): not says and not is_there,
            (split, "fn"): not says and is_there,
        }

    def figures(self, sums: Sums) -> Figures:
        figures: Figures = {}
        for split in groups_of(sums, "tp"):
            tp, fp, tn, fn = (sums[split, what] for what in ("tp", "fp", "tn", "fn"))
            figures[split] = _f1(tp, fp, fn)
            figures[f"{split} accuracy"] = 100 * (tp + tn) / (tp + fp + tn + fn)
            figures[f"{split} yes"] = 100 * (tp + fp) / (tp + fp + tn + fn)
        splits = [figures[split] for split in groups_of(sums, "tp")]
        return {ALL: np.mean(splits, axis=0), **figures}


def _f1(tp: Array, fp: Array, fn: Array) -> Array:
    return 2 * tp / (2 * tp + fp + fn)
