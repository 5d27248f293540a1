"""Draw a run: `python -m training.plot RUN` writes RUN/plot.png with loss per language, answers to what is held out,
learning rate and throughput."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from maya_core.errors import MayaError
from maya_core.languages import CODES, get_language
from maya_core.learning.data_languages import UNKNOWN
from maya_core.learning.metrics import ALL, METRICS, read_records
from maya_core.weights.durable import file_written
from training.command import STOPPED, check_pictures, ended

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_BY_LANGUAGE = ("loss_by_language", "held_out", "exact_match")  # fields of a record that are drawn
_HELD_OUT = {"ls": "--", "marker": "o"}  # how it is drawn


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Draw a run: loss per language, answers to what is held out, learning rate and throughput."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the run, which holds metrics.jsonl")]
    out: Annotated[Path | None, tyro.conf.arg(help="the picture to write; RUN/plot.png if not given")] = None


def plot(records: Sequence[dict[str, Any]], out: Path, title: str) -> None:
    """Panels over the steps of a run: loss, answers where they were measured, rate, speed. Dashed is what is held out; where
    its loss was lowest, the result's weights are from."""
    import matplotlib.pyplot as plt

    has_answers = any(record.get("exact_match") for record in records)
    heights = (3, 2, 1, 1) if has_answers else (3, 1, 1)
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(10, 3 + 1.4 * sum(heights)), sharex=True, height_ratios=heights, layout="constrained"
    )
    loss, *more, rate, speed = axes
    _plot_losses(loss, records)
    for answers in more:
        _plot_answers(answers, records)
    steps = [record["step"] for record in records]
    rate.plot(steps, [record["learning_rate"] for record in records], color="black")
    rate.set_ylabel("learning rate,\nshare of the peak")
    speed.plot(steps, [record["tokens_per_second"] for record in records], color="black")
    speed.set_ylabel("tokens a second")
    speed.set_ylim(bottom=0)
    speed.set_xlabel("step")
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.legend(handles=list(_of_languages(axes, records)), loc="outside right upper", fontsize=8)
    figure.suptitle(title)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _plot_losses(axis: "Axes", records: Sequence[dict[str, Any]]) -> None:
    measured = [(record["held_out"][ALL], record["step"]) for record in records if record.get("held_out")]
    _plot_languages(axis, records, "loss_by_language", lw=1, alpha=0.4 if measured else 1)
    _plot_languages(axis, records, "held_out", **_HELD_OUT, lw=1, ms=2)
    learnt = [(record["step"], record["loss"]) for record in records if record["loss"] is not None]
    if learnt:
        axis.plot(*zip(*learnt, strict=True), color="black", lw=2, label="all, learnt from")
    _plot_measured(axis, records, "held_out", ALL, **_HELD_OUT, color="black", lw=2, ms=3, label="all, held out")
    if measured:
        lowest, step = min(measured)
        axis.axvline(step, color="black", lw=1, ls=":", label=f"lowest, {lowest:.3f} at step {step:,}")
    axis.set_ylabel("loss, nats per supervised token")
    if learnt or measured:
        axis.legend(fontsize=8, loc="upper right", framealpha=1)


def _plot_languages(axis: "Axes", records: Sequence[dict[str, Any]], field: str, **style: Any) -> None:
    """A line for each language that a field of the records has, in its own colour."""
    for language, colour in _colours(records).items():
        _plot_measured(axis, records, field, language, color=colour, gid=language, **style)


def _colours(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of Maya's languages, the same in every plot, and of the others that are in the records."""
    import matplotlib.pyplot as plt

    ours, others = (plt.get_cmap(name).colors for name in ("tab10", "Dark2"))  # type: ignore[attr-defined]
    there = {code for record in records for field in _BY_LANGUAGE for code in record.get(field) or {}}
    return dict(zip(CODES, ours, strict=True)) | dict(zip(sorted(there - {*CODES, ALL, UNKNOWN}), cycle(others)))


def _of_languages(axes: Iterable["Axes"], records: Sequence[dict[str, Any]]) -> "Iterator[Line2D]":
    """What a legend says of the languages that are drawn."""
    from matplotlib.lines import Line2D

    drawn = {line.get_gid() for axis in axes for line in axis.lines}
    for language, colour in _colours(records).items():
        if language in drawn:
            yield Line2D([], [], color=colour, label=f"{language} {_name(language)}".strip())


def _name(language: str) -> str:
    """In English; nothing where the language has no code, but a name alone."""
    from babel import Locale

    return get_language(language).english_name if language in CODES else Locale("en").languages.get(language, "")


def _plot_measured(axis: "Axes", records: Sequence[dict[str, Any]], field: str, name: str, **style: Any) -> None:
    seen = [(record["step"], record.get(field, {}).get(name)) for record in records]
    points = [(step, value) for step, value in seen if value is not None]
    if points:
        axis.plot(*zip(*points, strict=True), **style)


def _plot_answers(axis: "Axes", records: Sequence[dict[str, Any]]) -> None:
    _plot_languages(axis, records, "exact_match", **_HELD_OUT, lw=1, ms=2)
    _plot_measured(axis, records, "exact_match", ALL, **_HELD_OUT, color="black", lw=2, ms=3, label="all, right")
    _plot_measured(axis, records, "chrf", ALL, color="black", lw=1, ls=":", label="all, chrF")
    axis.set_ylabel("held-out answers, %")
    axis.set_ylim(-3, 103)
    axis.legend(fontsize=8, loc="lower right")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def run() -> None:
        print(draw(tyro.cli(PlotOptions, args=arguments, prog="python -m training.plot")))

    return ended(run, STOPPED)


def draw(options: PlotOptions) -> Path:
    """The picture, written. Raises MayaError where there is no run, or the picture cannot be written."""
    check_pictures(options.out)
    records = read_records(options.run / METRICS)
    if not records:
        raise MayaError(f"There is no metrics.jsonl with records in {options.run}; give the folder of a run.")
    out = options.out or options.run / "plot.png"
    with file_written(out) as fresh:
        plot(records, fresh, options.run.name)
    return out


if __name__ == "__main__":
    sys.exit(main())
