"""Draw a run: `python -m training.plot RUN` writes RUN/plot.png with loss per language, answers to what is held out,
learning rate and throughput."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from maya_core.errors import MayaError
from maya_core.languages import LANGUAGES
from maya_core.learning.metrics import ALL, METRICS, read_records
from maya_core.weights.durable import file_written
from training.command import STOPPED, ended

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Draw a run: loss per language, answers to what is held out, learning rate and throughput."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the run, which holds metrics.jsonl")]
    out: Annotated[Path | None, tyro.conf.arg(help="the picture to write; RUN/plot.png if not given")] = None


def plot(records: Sequence[dict[str, Any]], out: Path, title: str) -> None:
    """Panels over the steps of a run: loss, answers where they were measured, rate, speed."""
    import matplotlib.pyplot as plt

    has_answers = any(record.get("exact_match") for record in records)
    heights = (3, 2, 1, 1) if has_answers else (3, 1, 1)
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(9, 3 + 1.4 * sum(heights)), sharex=True, height_ratios=heights, layout="constrained"
    )
    loss, *more, rate, speed = axes
    for answers in more:
        _plot_answers(answers, records)
    steps = [record["step"] for record in records]
    _plot_languages(loss, records, "loss_by_language", lw=1)
    learnt = [(record["step"], record["loss"]) for record in records if record["loss"] is not None]
    if learnt:
        loss.plot(*zip(*learnt, strict=True), color="black", lw=2, label="all")
    _plot_measured(loss, records, "held_out", ALL, color="black", lw=2, ls="--", marker="o", ms=3, label="held out")
    loss.set_ylabel("loss, nats per supervised token")
    loss.legend(ncols=2, fontsize=8)
    rate.plot(steps, [record["learning_rate"] for record in records], color="black")
    rate.set_ylabel("learning rate,\nshare of the peak")
    speed.plot(steps, [record["tokens_per_second"] for record in records], color="black")
    speed.set_ylabel("tokens a second")
    speed.set_ylim(bottom=0)
    speed.set_xlabel("step")
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(out, dpi=120)
    plt.close(figure)


def _plot_languages(axis: "Axes", records: Sequence[dict[str, Any]], field: str, **style: Any) -> None:
    """A line for each language that a field of the records has, in its own colour."""
    import matplotlib.pyplot as plt

    colours = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    for language, colour in zip(LANGUAGES, colours, strict=True):
        label = f"{language.code} {language.english_name}"
        _plot_measured(axis, records, field, language.code, color=colour, label=label, **style)


def _plot_measured(axis: "Axes", records: Sequence[dict[str, Any]], field: str, name: str, **style: Any) -> None:
    seen = [(record["step"], record.get(field, {}).get(name)) for record in records]
    points = [(step, value) for step, value in seen if value is not None]
    if points:
        axis.plot(*zip(*points, strict=True), **style)


def _plot_answers(axis: "Axes", records: Sequence[dict[str, Any]]) -> None:
    _plot_languages(axis, records, "exact_match", lw=1, marker="o", ms=2)
    all_of_them = {"color": "black", "lw": 2, "marker": "o", "ms": 3}
    _plot_measured(axis, records, "exact_match", ALL, label="all", **all_of_them)
    _plot_measured(axis, records, "chrf", ALL, label="chrF, all", ls="--", **all_of_them)
    axis.set_ylabel("held-out answers\nthat are right, %")
    axis.set_ylim(-3, 103)
    axis.legend(ncols=2, fontsize=8)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = tyro.cli(PlotOptions, args=arguments, prog="python -m training.plot")
    return ended(lambda: print(draw(options)), STOPPED)


def draw(options: PlotOptions) -> Path:
    """The picture, written. Raises MayaError where there is no run, or the picture cannot be written."""
    records = read_records(options.run / METRICS)
    if not records:
        raise MayaError(f"There is no metrics.jsonl with records in {options.run}; give the folder of a run.")
    out = options.out or options.run / "plot.png"
    with file_written(out) as fresh:
        plot(records, fresh, options.run.name)
    return out


if __name__ == "__main__":
    sys.exit(main())
