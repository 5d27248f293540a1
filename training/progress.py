"""One live line about a run: where it is, its loss, its speed, and when it will be done."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from maya_core.learning.metrics import ALL, StepRecord

OnRecord = Callable[[StepRecord], None]


@contextmanager
def live(console: Console, total: int, share_of_peak: Callable[[StepRecord], float | None]) -> Iterator[OnRecord]:
    """What to call with each record. Where there is no terminal, each record is a line of its own.

    share_of_peak: what a record's steps came to, of the speed of a plain matrix product here.
    """
    if not console.is_terminal:
        yield lambda record: console.print(
            f"step {record.step} of {total}: {told(record, total, share_of_peak(record))}", soft_wrap=True
        )
        return
    columns = TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=None), TextColumn("{task.fields[told]}")
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total, told="")
        yield lambda record: progress.update(
            task, completed=record.step, told=told(record, total, share_of_peak(record))
        )


def told(record: StepRecord, total: int, share_of_peak: float | None) -> str:
    """Loss, tokens a second, share of the peak, and the time left at the speed of the last steps."""
    parts = [
        "nothing learnt" if math.isnan(record.loss) else f"loss {record.loss:.3f}",
        f"{record.tokens_per_second:,.0f} tokens/s",
    ]
    if record.held_out:
        parts.append(f"held out {record.held_out[ALL]:.3f}")
    if record.exact_match:
        chrf = f", chrF {record.chrf[ALL]:.0f}" if record.chrf else ""
        parts.append(f"right {record.exact_match[ALL]:.0f} %{chrf}")
    if share_of_peak is not None:
        parts.append(f"{share_of_peak:.0%} of peak")
    parts.append(f"{duration(record.seconds_per_step * (total - record.step))} left")
    if record.skipped or record.refused:
        parts.append(f"{record.skipped} steps skipped, {record.refused} samples left out")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def printer(stage: str, every: int = 50) -> OnRecord:
    """What prints a line about one of several stages now and then."""

    def show(record: StepRecord) -> None:
        if record.step % every == 0:
            print(
                f"{stage} step {record.step} loss {record.loss:.4f} grad {record.grad_norm:.2f} "
                f"{record.seconds / record.step:.2f} s/step",
                flush=True,
            )

    return show
