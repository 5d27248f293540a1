"""RESULTS.md and its plots, written from the journals alone."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from maya_core.languages import CODES, get_language
from maya_core.model.images import open_image
from training.sheets import font_for
from training.studies.figures import Interval, difference, losses, mean, rights, transfers
from training.studies.journal import Entry
from training.studies.study import Claim, Study

if TYPE_CHECKING:
    from PIL import Image

HEAD = """# What became of the paper's questions at the desk

Written by `python -m training.studies report`. An arm is a Maya that was made by the paper's two stages, small: a new
connector on a language model that answers already, captions for the connector alone, then questions for both. A question
counts as right where the model would write exactly the answer that is taught; the loss is that of the right answers to the
same questions, in nats a token, and tells arms apart that answer as much. In brackets, where 95 % of 2,000 draws lie, of
scenes and of seeds, the same for both arms of a difference, as wide as Student's t asks of so few seeds. "Holds here" and
"does not hold here" are said only where that interval leaves zero out, of the questions that are right, and of at least
three seeds; of every twenty differences that are none, one is still called one. What holds for the desk's 18.8 million
parameters need not hold for eight billion.
"""
LEAST_SEEDS = 3


def as_markdown(study: Study, entries: Sequence[Entry], plot: str) -> str:
    """A study's section: its table, what follows of each claim, and how it was run."""
    arms = _arms(entries)
    if not arms:
        return f"## `{study.name}`\n\n{study.question}\n\nNot run yet: `python -m training.studies {study.name}`.\n"
    by_arm = {arm: [entry for entry in entries if entry.arm == arm] for arm in arms}
    seconds = sum(entry.outcome.seconds for entry in entries)
    seeds = [len(of) for of in by_arm.values()]
    unfinished = [arm for arm in study.arms if len(by_arm.get(arm, ())) < LEAST_SEEDS]
    lines = [
        f"## `{study.name}`",
        "",
        study.question,
        "",
        *_table(by_arm),
        "",
        f"![{study.question}]({plot})",
        "",
        *(f"- {claim.text} {verdict(claim, entries)}" for claim in study.claims),
        "",
        *([f"Not finished: {', '.join(unfinished)}.", ""] if unfinished else []),
        *_rates(study, by_arm),
        *_captions(by_arm),
        *_named(study, entries),
        *([study.beside(), ""] if study.beside else []),
        f"Seeds an arm: {min(seeds)} to {max(seeds)}. World: {_all(entry.world for entry in entries)}. "
        f"{seconds / 60:.0f} minutes on {_all(entry.hardware for entry in entries)}, "
        f"commit {_all(entry.commit for entry in entries)}, base {_all(entry.base for entry in entries)}."
        f"{f' {study.remark}' if study.remark else ''}",
        "",
    ]
    return "\n".join(lines)


def _rates(study: Study, by_arm: Mapping[str, Sequence[Entry]]) -> Sequence[str]:
    """Of arms that tried several rates, the one that is kept, and whether one on either side of it was worse."""
    told = []
    for arm, plans in study.arms.items():
        marks = [plan.mark for plan in plans]
        kept = next((marks.index(entry.plan) for entry in by_arm.get(arm, ()) if entry.plan in marks), None)
        if len(plans) == 1 or kept is None:
            continue
        part = next(part for part in plans[0].rates if len({plan.rates[part] for plan in plans}) > 1)
        tried = [f"{plan.rates[part]:g}" for plan in plans]
        edge = "" if 0 < kept < len(plans) - 1 else ", at the edge of what was tried"
        told.append(f"{arm} {tried[kept]} of {', '.join(tried)}{edge}")
    return [f"Rates that were kept (of A, where there are adapters): {'; '.join(told)}.", ""] if told else []


def _arms(entries: Sequence[Entry]) -> Sequence[str]:
    """In the order of the study: that of what was chosen."""
    return list(dict.fromkeys(entry.arm for entry in entries))


def _all(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values)))


def _table(by_arm: Mapping[str, Sequence[Entry]]) -> list[str]:
    heads = ["arm", "connector", "trained", "s/step", "right, %", "less the first, points", "loss", "less the first"]
    rows = [[*heads, *CODES], ["---", *["---:"] * (len(heads) + len(CODES) - 1)]]
    everything = [entry for of in by_arm.values() for entry in of]
    right, lost = rights(everything), losses(everything)  # the latter of no arm, where a study has none
    first = next(iter(by_arm))
    for arm, of in by_arm.items():
        is_first = arm == first
        outcome = of[0].outcome
        rows.append(
            [
                arm,
                f"{outcome.connector:,}",
                f"{outcome.trained:,}",
                f"{fmean(entry.outcome.answer_step or entry.outcome.caption_step for entry in of):.2f}",
                _percent(mean(right[arm])),
                "" if is_first else points(difference(right[arm], right[first])),
                f"{lost[arm].mean():.3f}" if lost else "",
                "" if is_first or not lost else nats(difference(lost[arm], lost[first])),
                *(f"{100 * rights(of, [code])[arm].mean():.1f}" for code in CODES),
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def _captions(by_arm: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Loss of captions by language, where arms differ in whose they see: whether one of them is left behind."""
    told = {
        arm: {
            code: fmean(entry.outcome.captions[code] for entry in of)
            for code in CODES
            if code in of[0].outcome.captions
        }
        for arm, of in by_arm.items()
    }
    if len({tuple(of) for of in told.values()}) == 1:
        return []
    lines = []
    for arm, of in told.items():
        if of:
            apart = f"{max(of.values()) - min(of.values()):.2f} apart"
            lines.append(f"{arm}: {', '.join(f'{code} {loss:.2f}' for code, loss in of.items())} ({apart})")
    return [f"Loss of captions at the end of stage 1, nats a token. {'; '.join(lines)}.", ""]


def _named(study: Study, entries: Sequence[Entry]) -> list[str]:
    """Of languages that are in no stage, where the study asks about them."""
    codes = [code for claim in study.claims if claim.of == "transfer" for code in claim.languages]
    lines = []
    for code in dict.fromkeys(codes):
        of = transfers(entries, [code])
        shares = ", ".join(f"{arm} {_percent(mean(figures))} %" for arm, figures in of.items())
        lines += [
            f"Names in `{code}` that are likelier with what they name than with another drawing; half is chance: {shares}.",
            "",
        ]
    return lines


def _percent(figure: Interval) -> str:
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"


def points(figure: Interval) -> str:
    return f"{100 * figure.value:+.1f} ({100 * figure.low:+.1f} to {100 * figure.high:+.1f})"


def nats(figure: Interval) -> str:
    return f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f})"


# --- what follows ---

NOT_RUN, TOO_FEW, UNCLEAR, HOLDS, REVERSED = "not run yet", "too few seeds", "cannot be told", "holds", "does not hold"
_SAID = {
    TOO_FEW: "Cannot be told yet**: fewer than three seeds",
    UNCLEAR: "Cannot be told here**",
    HOLDS: "Holds here**",
    REVERSED: "Does not hold here**: the reverse does",
}


def judged(claim: Claim, entries: Sequence[Entry]) -> tuple[str, Interval | None]:
    """One of the five, and by how much the better arm is ahead, as a share of the questions."""
    of = transfers(entries, claim.languages) if claim.of == "transfer" else rights(entries, claim.languages)
    if claim.better not in of or claim.worse not in of:
        return NOT_RUN, None
    found = difference(of[claim.better], of[claim.worse])
    if min(len(of[claim.better]), len(of[claim.worse])) < LEAST_SEEDS:
        return TOO_FEW, found
    if not found.is_clear:
        return UNCLEAR, found
    return (HOLDS if found.value > 0 else REVERSED), found


def verdict(claim: Claim, entries: Sequence[Entry]) -> str:
    """What follows, and how sure it is; no more than the interval allows."""
    found, by = judged(claim, entries)
    if by is None:
        return "**Not run yet.**"
    said = f"**{_SAID[found]} ({points(by)} points"
    lost = losses(entries, claim.languages) if claim.of == "right" else {}
    if not lost:
        return f"{said})."
    return f"{said}; loss {nats(difference(lost[claim.better], lost[claim.worse]))})."


def conclusions(judgements: Sequence[tuple[Study, Claim, Sequence[Entry]]]) -> str:
    """What the paper says, each with what became of it."""
    rows = ["| the paper says | here | points | study |", "|---|---|---:|---|"]
    for study, claim, entries in judgements:
        found, by = judged(claim, entries)
        rows.append(f"| {claim.paper} | {found} | {points(by) if by else ''} | `{study.name}` |")
    return "\n".join(["## What the paper says, and what became of it here", "", *rows, ""])


# --- plots ---

WIDTH, DOTS = 12.0, 100  # inches, and dots an inch
STRIP, NAME = 44, 19  # px: height of the languages' names below a plot, and of their letters; Nastaliq is tall


def draw(study: Study, entries: Sequence[Entry], out: Path) -> None:
    """Each arm's share with its interval, each seed as a dot; beside it, each language, as it is named below."""
    import matplotlib.pyplot as plt
    from PIL import Image

    of, arms = rights(entries), _arms(entries)
    figure, (whole, languages) = plt.subplots(
        1, 2, figsize=(WIDTH, 0.45 * len(arms) + 1.6), layout="constrained", sharey=True, width_ratios=(1, 1.4)
    )
    for row, arm in enumerate(arms):
        found = mean(of[arm])
        whole.plot([100 * found.low, 100 * found.high], [row, row], color="black", lw=1.5)
        whole.plot(100 * of[arm].mean(1), [row] * len(of[arm]), "o", color="grey", alpha=0.6, ms=6)
        whole.plot([100 * found.value], [row], "|", color="black", ms=16, mew=2)
    for number, (code, colour) in enumerate(_colours().items()):
        of_code = rights(entries, [code])
        rows = [row + 0.07 * (number - (len(CODES) - 1) / 2) for row in range(len(arms))]
        languages.plot([100 * of_code[arm].mean() for arm in arms], rows, "o", color=colour, ms=6)
    whole.set_yticks(range(len(arms)), arms)
    whole.set_ylim(len(arms) - 0.5, -0.5)
    whole.set_xlabel("right, %: seeds, mean, 95 % interval")
    languages.set_xlabel("right in each language, %")
    for axis in (whole, languages):
        axis.grid(axis="x", alpha=0.3)
    figure.suptitle(study.question, fontsize=11)
    figure.savefig(out, dpi=DOTS)
    plt.close(figure)
    plotted = open_image(out)
    sheet = Image.new("RGB", (plotted.width, plotted.height + STRIP), "white")
    sheet.paste(plotted)
    _write_names(sheet, top=plotted.height)
    sheet.save(out, optimize=True)


def _colours() -> Mapping[str, str]:
    from matplotlib import colormaps, colors

    return {code: colors.to_hex(colormaps["tab10"](number)) for number, code in enumerate(CODES)}


def _write_names(sheet: "Image.Image", *, top: int) -> None:
    """Each language's name for itself behind a dot of its colour. By Pillow, which joins letters and reads our fonts."""
    from PIL import ImageDraw

    pen, room, middle = ImageDraw.Draw(sheet), sheet.width / len(CODES), top + STRIP // 2 - 4
    for number, (code, colour) in enumerate(_colours().items()):
        language, left = get_language(code), round((number + 0.15) * room)
        pen.ellipse((left, middle - 6, left + 12, middle + 6), fill=colour)
        font, way = font_for(code, NAME), language.direction
        pen.text((left + 20, middle), language.native_name, "black", font, "lm", direction=way, language=code)
