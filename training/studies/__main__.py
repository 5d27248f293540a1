"""The paper's claims and open questions, a command each: `python -m training.studies depth`.

At the desk each arm is made from the embedded Maya's language model and a new connector, on photographs (where there are
folders of them) and drawings, in ten languages, three times by the paper's two stages; minutes a run on two cores. What was
run is kept in `training/studies/results`, so that a study goes on where it was stopped; `report` writes RESULTS.md from it.
With `--scale published` the commands that do the same with the 8B are printed instead.
"""

import logging
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maya_core.assets import asset_path
from training.origin import commit, hardware
from training.studies import adapters, bengali_urdu, connector, depth, languages, translation, unfreeze
from training.studies.journal import RESULTS, Entry, Journal, chosen
from training.studies.making import Outcome, make
from training.studies.report import ADVICE, as_markdown, draw
from training.studies.study import Plan, Study
from training.studies.world import World

STUDIES: Mapping[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (languages, depth, adapters, connector, unfreeze, bengali_urdu, translation)
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
    scenes: Annotated[int, tyro.conf.arg(help="that are learnt from")] = 1500
    held: Annotated[int, tyro.conf.arg(help="scenes that are asked about")] = 150
    steps: Annotated[int | None, tyro.conf.arg(help="of each stage, to try a study out; not for the report")] = None
    run: Annotated[Path, tyro.conf.arg(help="folder for what the tower has seen")] = Path("runs/studies")
    results: Annotated[Path, tyro.conf.arg(help="folder of the journals")] = RESULTS


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    options = tyro.cli(StudiesOptions, description=__doc__)
    if options.study == REPORT:
        write_report(options.results)
        return
    if options.study not in (ALL, *STUDIES):
        sys.exit(f"There is no study {options.study}; there are {', '.join(STUDIES)}, {ALL} and {REPORT}.")
    for study in STUDIES.values():
        if options.study not in (ALL, study.name):
            continue
        if options.scale == "published":
            print("\n".join(study.published))
        else:
            run(study, options)


def run(study: Study, options: StudiesOptions) -> None:
    """Every arm and seed that the journal does not have yet."""
    base = options.model or asset_path("maya-tiny")
    journal = Journal.of(study.name, options.results)
    world = World.of(base, options.run, options.caltech, options.coco, scenes=options.scenes, held=options.held)
    for arm, plans in study.arms.items():
        if options.steps is not None:
            plans = [replace(plan, caption_steps=options.steps, tuning_steps=options.steps) for plan in plans]
        best = plans[0]
        for seed in options.seeds:
            tries = plans if seed == options.seeds[0] else [best]
            made = [_once(journal, arm, plan, seed, base, world) for plan in tries]
            best = min(zip(tries, made, strict=True), key=lambda one: one[1].answer_loss)[0]


def _once(journal: Journal, arm: str, plan: Plan, seed: int, base: Path, world: World) -> Outcome:
    """Of the journal, or made now."""
    for entry in journal.read():
        if (entry.arm, entry.seed, entry.plan, entry.world) == (arm, seed, plan.mark, world.name):
            return entry.outcome
    with tempfile.TemporaryDirectory(prefix="study-") as folder:
        outcome = make(plan, seed, base, world, Path(folder))
    journal.write(
        Entry(
            arm=arm,
            seed=seed,
            plan=plan.mark,
            world=world.name,
            hardware=hardware(),
            commit=commit(),
            outcome=outcome,
        )
    )
    right = sum(figures.count("1") for figures in outcome.right.values())
    asked = sum(map(len, outcome.right.values()))
    print(f"{arm}, seed {seed}: {right} of {asked} right, {outcome.seconds:.0f} s", flush=True)
    return outcome


def write_report(results: Path) -> None:
    """RESULTS.md beside the journals' folder, with a plot for each study that was run."""
    sections = [ADVICE]
    for name, study in STUDIES.items():
        entries = chosen(study, Journal.of(name, results).read())
        if entries:
            draw(study, entries, results / f"{name}.png")
        sections.append(as_markdown(study, entries, f"{results.name}/{name}.png"))
    (results.parent / "RESULTS.md").write_text("\n".join(sections), "utf-8")


if __name__ == "__main__":
    main()
