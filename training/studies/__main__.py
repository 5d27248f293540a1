"""The paper's claims and open questions, a command each: `python -m training.studies depth`.

At the desk each arm is made from the embedded Maya's language model and a new connector, on photographs (where there are
folders of them) and drawings, in ten languages, three times by the paper's two stages; minutes a run on two cores. What was
run is kept in `training/studies/results`, so that a study goes on where it was stopped; `report` writes RESULTS.md from it.
With `--scale published` the commands that do the same with the 8B are printed instead, with the memory and the GPU hours
that they take.
"""

import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

import tyro

from maya_core.assets import asset_path
from maya_core.errors import MayaError
from maya_core.weights.checkpoint import fingerprint_of
from training.command import ended
from training.origin import commit, hardware
from training.studies import adapters, bengali_urdu, connector, depth, languages, tower, translation, unfreeze
from training.studies.journal import RESULTS, Entry, Journal, as_long, chosen
from training.studies.making import make
from training.studies.published import taken
from training.studies.report import HEAD, as_markdown, conclusions, draw
from training.studies.study import Plan, Study
from training.studies.world import World

STUDIES: Mapping[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (languages, bengali_urdu, translation, tower, unfreeze, connector, depth, adapters)
}
REPORT, ALL = "report", "all"


@dataclass(frozen=True, kw_only=True)
class StudiesOptions:
    """Ask one of the paper's questions."""

    study: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(help=f"{', '.join(STUDIES)}; `{ALL}`; or `{REPORT}` for what was run")
    ]
    scale: Literal["desk", "published"] = "desk"
    seeds: tuple[int, ...] = (0, 1, 2)
    caltech: Annotated[Path | None, tyro.conf.arg(help="folder of Caltech-101; drawings alone if not given")] = None
    coco: Annotated[Path | None, tyro.conf.arg(help="folder of COCO: `images` and YOLO `labels`")] = None
    model: Annotated[Path | None, tyro.conf.arg(help="whose language model is kept; assets/maya-tiny if not given")] = (
        None
    )
    scenes: Annotated[int, tyro.conf.arg(help="that are learnt from")] = 1000
    held: Annotated[int, tyro.conf.arg(help="scenes that are asked about")] = 100
    steps: Annotated[int | None, tyro.conf.arg(help="of each stage, to try a study out; not for the report")] = None
    run: Annotated[Path, tyro.conf.arg(help="folder for what the tower has seen")] = Path("runs/studies")
    results: Annotated[Path, tyro.conf.arg(help="folder of the journals")] = RESULTS


def main() -> None:
    """Raises MayaError where there is no such study."""
    logging.basicConfig(level=logging.WARNING)
    options = tyro.cli(StudiesOptions, description=__doc__)
    if options.study == REPORT:
        write_report(options.results)
        return
    if options.study not in (ALL, *STUDIES):
        raise MayaError(f"There is no study {options.study}; there are {', '.join(STUDIES)}, {ALL} and {REPORT}.")
    for study in STUDIES.values():
        if options.study not in (ALL, study.name):
            continue
        if options.scale == "published":
            for command in study.published:
                print(command)
                if (cost := taken(command)) is not None:
                    print(f"# {cost}")
        else:
            run(study, options)


def run(study: Study, options: StudiesOptions) -> None:
    """Every arm and seed that the journal does not have yet."""
    base = options.model or asset_path("maya-tiny")
    world = World.of(base, options.run, options.caltech, options.coco, scenes=options.scenes, held=options.held)
    made = partial(_once, study, base=base, world=world, results=options.results)
    for arm, plans in study.arms.items():
        if options.steps is not None:
            plans = [plan.shortened(options.steps) for plan in plans]
        first, *others = options.seeds
        tried = [made(arm, plan, first).outcome.answer_loss for plan in plans]
        for seed in others:
            made(arm, plans[tried.index(min(tried))], seed)
    if options.steps is None:
        for arm, plan in as_long(study, chosen(study, Journal.of(study.name, options.results).read())).items():
            for seed in options.seeds:
                made(arm, plan, seed)


def _once(study: Study, arm: str, plan: Plan, seed: int, *, base: Path, world: World, results: Path) -> Entry:
    """Of the journal, or of another study's, or made now."""
    journal, base_mark = Journal.of(study.name, results), fingerprint_of(base)[:12]
    for entry in journal.read():
        if (entry.arm, entry.seed, entry.plan, *entry.made_of) == (arm, seed, plan.mark, world.name, base_mark):
            return entry
    alike = (seed, plan.mark, world.name, base_mark)
    for other in STUDIES:
        for entry in Journal.of(other, results).read():
            if (entry.seed, entry.plan, *entry.made_of) == alike:
                taken = replace(entry, arm=arm, outcome=replace(entry.outcome, seconds=0.0))  # which count once
                journal.write(taken)
                return taken
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        outcome = (study.make or make)(plan, seed, base, world, Path(folder))
    entry = Entry(
        arm=arm,
        seed=seed,
        plan=plan.mark,
        world=world.name,
        base=base_mark,
        hardware=hardware(),
        commit=commit(),
        outcome=outcome,
    )
    journal.write(entry)
    right = sum(figures.count("1") for figures in outcome.right.values())
    asked = sum(map(len, outcome.right.values()))
    lost = f"loss {fmean(map(fmean, outcome.lost.values())):.3f}, " if outcome.lost else ""
    print(f"{study.name}: {arm}, seed {seed}: {right} of {asked} right, {lost}{outcome.seconds:.0f} s", flush=True)
    return entry


def write_report(results: Path) -> None:
    """RESULTS.md beside the journals' folder, with a plot for each study that was run."""
    sections, judgements = [HEAD], []
    for name, study in STUDIES.items():
        entries = chosen(study, Journal.of(name, results).read())
        if entries:
            draw(study, entries, results / f"{name}.png")
        sections.append(as_markdown(study, entries, f"{results.name}/{name}.png"))
        judgements += [(study, claim, entries) for claim in study.claims if claim.paper]
    sections.append(conclusions(judgements))
    (results.parent / "RESULTS.md").write_text("\n".join(sections), "utf-8")


if __name__ == "__main__":
    sys.exit(ended(main))
