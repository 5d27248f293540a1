"""What a run did, step by step: where it is, and a record of the steps since the last one."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from maya_core.learning.data import StepData
from maya_core.learning.losses import LANGUAGES, LossSum
from maya_core.learning.metrics import METRICS, Measured, MetricsLog, StepRecord


@dataclass
class RunState:
    """Where a run is: the next step; steps skipped for not being finite (in all, in a row); samples refused; the lowest loss
    on what is held out, and measurements since then; whether the run ended before its last step."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    refused: int = 0
    lowest: float | None = None
    since_lowest: int = 0
    ended: bool = False


class Recorder:
    """Sums what steps did and writes a record after `every` of them, and after the last."""

    def __init__(
        self,
        accelerator: Accelerator,
        run_dir: Path,
        state: RunState,
        on_record: Callable[[StepRecord], None],
        *,
        total: int,
        every: int,
        trackers: Sequence[str],
        languages: Sequence[str],
    ) -> None:
        """languages: of losses, in their order."""
        self.accelerator, self.on_record = accelerator, on_record
        self.total, self.every, self.is_tracked = total, every, bool(trackers)
        self.languages = languages
        self.metrics = MetricsLog(run_dir / METRICS, resumed_at=state.step) if accelerator.is_main_process else None
        if trackers:
            accelerator.init_trackers("run")
        self.started = self.last = time.monotonic()
        self.tokens = self.steps = 0
        self.sums = self._empty()

    def _empty(self) -> Tensor:
        """loss, count, then sums and counts by language"""
        return torch.zeros(2 + 2 * (LANGUAGES + 1), dtype=torch.float64, device=self.accelerator.device)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile does not count in the speed of the steps."""
        started = time.monotonic()
        yield
        self.last += time.monotonic() - started

    def add(
        self,
        state: RunState,
        data: StepData,
        loss: LossSum,
        grad_norm: float,
        share: float,
        measured: Measured,
    ) -> None:
        """measured: what was measured at this step, if anything was."""
        self.tokens += data.tokens
        self.steps += 1
        if math.isfinite(grad_norm):
            self.sums[0] += loss.total
            self.sums[1] += loss.count
            if loss.by_language is not None:
                self.sums[2:] += loss.by_language.flatten()
        if state.step % self.every and state.step != self.total and not measured:
            return
        sums = self.accelerator.reduce(self.sums).tolist()
        if self.metrics is not None:
            self._write(self.metrics, state, sums, grad_norm, share, measured)
        self.tokens, self.steps, self.sums, self.last = 0, 0, self._empty(), time.monotonic()

    def _write(
        self,
        metrics: MetricsLog,
        state: RunState,
        sums: list[float],
        grad_norm: float,
        share: float,
        measured: Measured,
    ) -> None:
        now = time.monotonic()
        by_language = zip(self.languages, sums[2:], sums[2 + LANGUAGES + 1 :], strict=False)
        record = StepRecord(
            step=state.step,
            loss=sums[0] / sums[1] if sums[1] else math.nan,
            loss_by_language={code: total / count for code, total, count in by_language if count},
            learning_rate=share,
            grad_norm=grad_norm,
            supervised=int(sums[1]),
            tokens=self.tokens,
            seconds=metrics.seconds_before + now - self.started,
            tokens_per_second=self.tokens / max(1e-9, now - self.last),
            seconds_per_step=(now - self.last) / self.steps,
            skipped=state.skipped,
            refused=state.refused,
            **measured,
        )
        metrics.write(record)
        if self.is_tracked:
            shown = asdict(record)
            for field in ("loss_by_language", "held_out", "exact_match", "chrf"):
                name = field.removesuffix("_by_language")
                shown |= {f"{name}/{code}": value for code, value in shown.pop(field).items()}
            self.accelerator.log(shown, step=state.step)
        self.on_record(record)
