"""Draw a run: `python -m training.plot RUN` writes RUN/plot.png with loss per language, learning rate and throughput."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from maya_core.languages import LANGUAGES
from maya_core.learning.metrics import METRICS, read_records


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Draw loss per language, learning rate and throughput of a run."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the run, which holds metrics.jsonl")]
    out: Annotated[Path | None, tyro.conf.arg(help="the picture to write; RUN/plot.png if not given")] = None


def plot(records: Sequence[dict[str, Any]], out: Path, title: str) -> None:
    """Three panels over the steps of a run."""
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    figure, axes = plt.subplots(3, 1, figsize=(9, 10), sharex=True, height_ratios=(3, 1, 1), layout="constrained")
    loss, rate, speed = axes
    assert isinstance(loss, Axes)
    steps = [record["step"] for record in records]
    colours = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    for language, colour in zip(LANGUAGES, colours, strict=True):
        seen = [(record["step"], record["loss_by_language"].get(language.code)) for record in records]
        points = [(step, value) for step, value in seen if value is not None]
        if points:
            loss.plot(*zip(*points, strict=True), color=colour, lw=1, label=f"{language.code} {language.english_name}")
    learnt = [(record["step"], record["loss"]) for record in records if record["loss"] is not None]
    if learnt:
        loss.plot(*zip(*learnt, strict=True), color="black", lw=2, label="all")
    held_out = [(record["step"], record["held_out"]["all"]) for record in records if record.get("held_out")]
    if held_out:
        loss.plot(*zip(*held_out, strict=True), color="black", lw=2, ls="--", marker="o", ms=3, label="held out")
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = tyro.cli(PlotOptions, args=arguments, prog="python -m training.plot")
    records = read_records(options.run / METRICS)
    if not records:
        print(f"There is no metrics.jsonl with records in {options.run}; give the folder of a run.", file=sys.stderr)
        return 1
    out = options.out or options.run / "plot.png"
    plot(records, out, options.run.name)
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
