"""What runs came to, beside what others have reported: a table in Markdown, and bars a language."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from PIL import Image, ImageDraw

from maya_core.languages import CODES, get_language
from training.benchmarks.asking import EvaluationError
from training.benchmarks.bootstrap import Figure
from training.benchmarks.published import reported
from training.benchmarks.registry import get_benchmark
from training.benchmarks.run import Run
from training.sheets import INK, PAPER, font_for

NOT_COMPARABLE = "Figures of different judges must not be compared."
# Told apart by those who see colours differently (Okabe and Ito); ours first.
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
RULE, PALE = (170, 170, 170), (225, 225, 225)
WIDTH, NAMES, FIGURES, MARGIN = 1400, 260, 150, 30  # px: of the picture, of its columns
BAR, GAP, ROOM = 22, 5, 26  # px: a bar, between two, between two languages


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a report. judge: None where there is none. mean: over languages, as a cell shows it."""

    model: str
    judge: str | None
    source: str
    values: dict[str, Figure]
    mean: str = "-"


def series_of(runs: Sequence[Run], figure: str) -> list[Series]:
    """Runs on one benchmark, then what is reported of it under that figure's name. Raises EvaluationError where the runs
    are on several benchmarks or none has the figure."""
    names = {run.benchmark for run in runs}
    if len(names) != 1:
        raise EvaluationError(f"The runs are on {', '.join(sorted(names))}; report on one benchmark at a time.")
    own = [
        Series(
            model=run.model["name"],
            judge=_judge(run),
            source=f"this, {run.date[:10]}{'' if run.requests else ', no form requested'}",
            values={code: one.figures[figure] for code, one in run.languages.items() if figure in one.figures},
            mean=_mean([one.figures[figure].value for one in run.languages.values() if figure in one.figures]),
        )
        for run in runs
    ]
    if not any(series.values for series in own):
        known = sorted({name for run in runs for one in run.languages.values() for name in one.figures})
        raise EvaluationError(f"No run has the figure {figure!r}; they have {', '.join(known)}.")
    others = [
        Series(
            model=one.model,
            judge=one.judge,
            source=one.source,
            values={code: Figure(value=value, low=None, high=None) for code, value in one.values.items()},
            mean=_written(one.mean) if one.mean is not None else _mean(list(one.values.values())),
        )
        for one in reported()
        if one.benchmark == runs[0].benchmark and one.figure == figure
    ]
    return own + others


def markdown(runs: Sequence[Run], figure: str | None = None) -> str:
    """A table of each figure that has a published one, or of `figure`; and what failed."""
    benchmark = get_benchmark(runs[0].benchmark)  # type: ignore[arg-type]
    known = {one.figure for one in reported() if one.benchmark == benchmark.name}
    there = {name for run in runs for one in run.languages.values() for name in one.figures}
    figures = [figure] if figure else [benchmark.headline, *sorted((known & there) - {benchmark.headline})]
    if not figure and "language fidelity" in there:
        figures.append("language fidelity")
    parts = [f"# {benchmark.name}", *(part for one in figures for part in _table(series_of(runs, one), one))]
    return "\n\n".join([*parts, *_counts(runs)]) + "\n"


def mixed_judges(series: Sequence[Series]) -> bool:
    """Whether more than one judge speaks."""
    return len({one.judge for one in series}) > 1


def _table(series: Sequence[Series], figure: str) -> Iterator[str]:
    codes = _codes(series)
    yield f"## {figure}"
    if mixed_judges(series):
        yield f"**{NOT_COMPARABLE}**"
    heads = ["model", "judge", *(_name(code) for code in codes), "mean", "source"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for one in series:
        cells = [_cell(one.values.get(code)) for code in codes]
        lines.append(f"| {' | '.join([one.model, one.judge or '-', *cells, one.mean, one.source])} |")
    yield "\n".join(lines)


def _counts(runs: Sequence[Run]) -> Iterator[str]:
    lines = ["| model | | asked | unanswered | unjudged |", "|---|---|---|---|---|"]
    for run in runs:
        for code, one in run.languages.items():
            numbers = [str(one.counts[what]) for what in ("asked", "unanswered", "unjudged")]
            lines.append(f"| {' | '.join([run.model['name'], _name(code), *numbers])} |")
    yield "## What was asked"
    yield "\n".join(lines)


def _cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    interval = f" ({_written(figure.low)} to {_written(figure.high)})" if figure.low is not None else ""
    return f"{_written(figure.value)}{interval}"


def _mean(values: Sequence[float | None]) -> str:
    """Over languages, and how many they are; nothing for a single one."""
    known = [value for value in values if value is not None]
    return f"{_written(fmean(known))} (of {len(known)})" if len(known) > 1 else "-"


def _written(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 2 and value % 1 else f"{value:.1f}"


def _codes(series: Sequence[Series]) -> list[str]:
    there = {code for one in series for code in one.values}
    return [code for code in CODES if code in there] + sorted(there - set(CODES))


def _name(code: str) -> str:
    return get_language(code).native_name if code in CODES else code


def _judge(run: Run) -> str | None:
    return f"{run.judge['name']}, prompts {run.judge['prompts'][:8]}" if run.judge else None


# --- the picture ---


def draw_bars(series: Sequence[Series], title: str, out: Path) -> None:
    """A bar for each model in each language, with its interval; names of languages as they write themselves."""
    series = [one for one in series if one.values]
    codes = _codes(series)
    most = max((one.high or one.value or 0 for line in series for one in line.values.values()), default=1) or 1
    shown = {code: [number for number, one in enumerate(series) if code in one.values] for code in codes}
    legend = MARGIN + 70 + 30 * (len(series) + mixed_judges(series))
    height = legend + sum(len(numbers) * (BAR + GAP) + ROOM for numbers in shown.values()) + MARGIN
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_legend(draw, series, title)
    left, reach = MARGIN + NAMES, WIDTH - 2 * MARGIN - NAMES - FIGURES
    top = legend
    for code in codes:
        tall = len(shown[code]) * (BAR + GAP)
        draw.line((MARGIN, top - ROOM // 2, WIDTH - MARGIN, top - ROOM // 2), PALE)
        _draw_name(draw, code, left - 20, top + tall // 2)
        for number in shown[code]:
            _draw_bar(draw, series[number].values[code], left, top, reach / most, COLOURS[number % len(COLOURS)])
            top += BAR + GAP
        top += ROOM
    draw.line((left, legend - GAP, left, top - ROOM), RULE, 2)
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(out, optimize=True)


def _draw_legend(draw: ImageDraw.ImageDraw, series: Sequence[Series], title: str) -> None:
    draw.text((MARGIN, MARGIN), title, INK, font_for("en", 30))
    font, top = font_for("en", 20), MARGIN + 46
    for number, one in enumerate(series):
        draw.rectangle((MARGIN, top + 4, MARGIN + 20, top + 22), COLOURS[number % len(COLOURS)])
        judge = f", judged by {one.judge}" if one.judge else ""
        draw.text((MARGIN + 32, top), f"{one.model}{judge} ({one.source})", INK, font)
        top += 30
    if mixed_judges(series):
        draw.text((MARGIN, top), NOT_COMPARABLE, COLOURS[5], font)


def _draw_name(draw: ImageDraw.ImageDraw, code: str, right: int, middle: int) -> None:
    if code not in CODES:
        draw.text((right, middle), code, INK, font_for("en", 24), "rm")
        return
    language = get_language(code)
    font = font_for(code, 24)
    draw.text((right, middle), language.native_name, INK, font, "rm", direction=language.direction, language=code)


def _draw_bar(
    draw: ImageDraw.ImageDraw, figure: Figure, left: int, top: int, scale: float, colour: tuple[int, int, int]
) -> None:
    if figure.value is None:
        return
    end = left + figure.value * scale
    draw.rectangle((left, top, max(left, end), top + BAR), colour)
    beyond = end
    if figure.low is not None and figure.high is not None:
        middle = top + BAR // 2
        low, beyond = (left + value * scale for value in (figure.low, max(figure.value, figure.high)))
        draw.line((low, middle, left + figure.high * scale, middle), INK, 2)
        for place in (low, left + figure.high * scale):
            draw.line((place, middle - 5, place, middle + 5), INK, 2)
    draw.text((beyond + 10, top + BAR // 2), _written(figure.value), INK, font_for("en", 18), "lm")
