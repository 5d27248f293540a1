"""Records of a run: one JSON line a logged step, in `metrics.jsonl`."""

import json
import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"  # in a run's folder
ALL = "all"  # beside the codes of languages
Measured = dict[str, dict[str, float]]  # fields of a `StepRecord`


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """What the steps since the last record did.

    step: 1-based. loss: mean over supervised tokens; NaN where all the steps were skipped. loss_by_language: the same for
    each language that was among them. learning_rate: share of the peak. grad_norm: of the last step, before clipping.
    supervised: tokens that were learnt. tokens: that were read. seconds: wall clock of the run so far, over all its starts.
    tokens_per_second, seconds_per_step: of these steps. skipped: steps left out so far because their gradient was not
    finite. refused: samples that could not be used so far. held_out: the loss, as above, on what is not learnt from, by
    language and of all together, where it was measured at this step. exact_match, chrf: of some short answers to that, in
    percent, likewise.
    """

    step: int
    loss: float
    loss_by_language: dict[str, float] = field(default_factory=dict)
    learning_rate: float
    grad_norm: float
    supervised: int
    tokens: int
    seconds: float
    tokens_per_second: float
    seconds_per_step: float = 0.0
    skipped: int = 0
    refused: int = 0
    held_out: dict[str, float] = field(default_factory=dict)
    exact_match: dict[str, float] = field(default_factory=dict)
    chrf: dict[str, float] = field(default_factory=dict)


class MetricsLog:
    """Appends records to a file; on resume, records after the checkpoint's step are dropped, so none stands twice."""

    def __init__(self, path: Path, *, resumed_at: int) -> None:
        self.path = path
        kept = [record for record in read_records(path) if record["step"] <= resumed_at]
        fresh = path.with_suffix(".new")
        fresh.write_text("".join(json.dumps(record) + "\n" for record in kept))
        os.replace(fresh, path)  # a run that is killed here keeps its history
        self.seconds_before = float(kept[-1]["seconds"]) if kept else 0.0

    def write(self, record: StepRecord) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(_with_null(asdict(record))) + "\n")


def _with_null(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in fields.items()
    }


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first, None for what was not finite; a last line that was cut off by a kill is left
    out."""
    lines = path.read_text().splitlines() if path.exists() else []
    records = []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
