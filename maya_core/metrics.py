"""Records of a run: one JSON line a logged step, in `metrics.jsonl`."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """step: 1-based. loss: mean over supervised tokens since the last record. learning_rate: share of the peak.
    grad_norm: before clipping. tokens: supervised, since the last record. seconds: wall clock since the run started.
    skipped: steps left out so far because their loss or gradient was not finite.
    """

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float
    skipped: int


class MetricsLog:
    """Appends records to a file; on resume, records after the checkpoint's step are dropped, so none stands twice."""

    def __init__(self, path: Path, *, resumed_at: int) -> None:
        self.path = path
        kept = (
            [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= resumed_at]
            if path.exists()
            else []
        )
        path.write_text("".join(f"{line}\n" for line in kept))
        self.seconds_before = float(json.loads(kept[-1])["seconds"]) if kept else 0.0

    def write(self, record: StepRecord) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")
