"""RESULTS.md and its plots, written from the journals alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from maya_core.languages import CODES
from training.studies.figures import Interval, difference, rights, share
from training.studies.journal import Entry
from training.studies.study import Claim, Study

ADVICE = "# What became of the paper's questions at the desk\n\nWritten by `python -m training.studies report`.\n"


def as_markdown(study: Study, entries: Sequence[Entry], plot: str) -> str:
    """A study's section: its table, what follows of each claim, and how it was run."""
    arms = [arm for arm in study.arms if any(entry.arm == arm for entry in entries)]
    if not arms:
        return f"## `{study.name}`\n\n{study.question}\n\nNot run yet: `python -m training.studies {study.name}`.\n"
    by_arm = {arm: [entry for entry in entries if entry.arm == arm] for arm in arms}
    seconds = sum(entry.outcome.seconds for entry in entries)
    seeds = {arm: len(of) for arm, of in by_arm.items()}
    lines = [
        f"## `{study.name}`",
        "",
        study.question,
        "",
        *_table(arms, by_arm),
        "",
        f"![{study.question}]({plot})",
        "",
        *(f"- {claim.text} {verdict(claim, entries)}" for claim in study.claims),
        "",
        *([study.beside(), ""] if study.beside else []),
        f"Seeds an arm: {min(seeds.values())} to {max(seeds.values())}. World: {_all(entry.world for entry in entries)}. "
        f"{seconds / 60:.0f} minutes on {_all(entry.hardware for entry in entries)}, "
        f"commit {_all(entry.commit for entry in entries)}.{f' {study.remark}' if study.remark else ''}",
        "",
    ]
    return "\n".join(lines)


def _all(values: object) -> str:
    return ", ".join(sorted(set(values)))  # type: ignore[call-overload]


def _table(arms: Sequence[str], by_arm: Mapping[str, Sequence[Entry]]) -> list[str]:
    heads = ["arm", "connector", "trained", "s/step", "right, %", "less the first, points", *CODES]
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    everything = [entry for of in by_arm.values() for entry in of]
    all_rights = rights(everything)
    for arm in arms:
        of = by_arm[arm]
        first = all_rights[arms[0]]
        less = "" if arm == arms[0] else _points(difference(all_rights[arm], first))
        by_language = [f"{100 * rights(of, [code])[arm].mean():.1f}" for code in CODES]
        rows.append(
            [
                arm,
                f"{of[0].outcome.connector:,}",
                f"{of[0].outcome.trained:,}",
                f"{fmean(entry.outcome.seconds_per_step for entry in of):.2f}",
                _percent(share(all_rights[arm])),
                less,
                *by_language,
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def _percent(figure: Interval) -> str:
    return f"{figure.value:.1f} ({figure.low:.1f} to {figure.high:.1f})"


def _points(figure: Interval) -> str:
    return f"{figure.value:+.1f} ({figure.low:+.1f} to {figure.high:+.1f})"


def verdict(claim: Claim, entries: Sequence[Entry]) -> str:
    """What follows, and how sure it is; no more than the interval allows."""
    of = rights(entries, claim.languages)
    if claim.better not in of or claim.worse not in of:
        return "**Not run yet.**"
    found = difference(of[claim.better], of[claim.worse])
    said = f"{_points(found)} points"
    if min(len(of[claim.better]), len(of[claim.worse])) < 3:
        return f"**Cannot be told yet**: fewer than three seeds ({said})."
    if not found.is_clear:
        return f"**Cannot be told here** ({said})."
    return f"**Holds here** ({said})." if found.value > 0 else f"**Does not hold here**: the reverse does ({said})."


def draw(study: Study, entries: Sequence[Entry], out: Path) -> None:
    """Each arm's share with its interval, each seed as a dot."""
    import matplotlib.pyplot as plt

    of = rights(entries)
    arms = [arm for arm in study.arms if arm in of]
    figure, axis = plt.subplots(figsize=(8, 0.6 * len(arms) + 1.4), layout="constrained")
    for row, arm in enumerate(arms):
        found = share(of[arm])
        axis.plot([found.low, found.high], [row, row], color="#2b6cb0", lw=2)
        axis.plot(100 * of[arm].mean(1), [row] * len(of[arm]), "o", color="#2b6cb0", alpha=0.5, ms=5)
        axis.plot([found.value], [row], "|", color="black", ms=14)
    axis.set_yticks(range(len(arms)), arms)
    axis.invert_yaxis()
    axis.set_xlabel("questions answered, %: mean, seeds, 95 % interval")
    axis.set_title(study.question, fontsize=10)
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(out, dpi=110)
    plt.close(figure)
