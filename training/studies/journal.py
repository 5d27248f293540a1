"""What was run: `results/STUDY.jsonl`, a line for each arm and seed, so that a study goes on where it was stopped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from training.studies.making import Outcome
from training.studies.study import Plan, Study

RESULTS = Path(__file__).parent / "results"
ALIKE = 0.1  # of the steps: within this, two arms take as long as each other


@dataclass(frozen=True, kw_only=True)
class Entry:
    """plan: its mark; an arm that has changed is run anew. world: what the scenes show. base: the mark of the model whose
    language model is kept. hardware, commit: of the run."""

    arm: str
    seed: int
    plan: str
    world: str
    base: str
    hardware: str
    commit: str
    outcome: Outcome

    @property
    def made_of(self) -> tuple[str, str]:
        """Figures of different worlds or bases do not stand beside each other."""
        return self.world, self.base


@dataclass(frozen=True)
class Journal:
    """Of one study."""

    file: Path

    @classmethod
    def of(cls, study: str, folder: Path = RESULTS) -> "Journal":
        return cls(folder / f"{study}.jsonl")

    def read(self) -> Sequence[Entry]:
        """Each arm, plan and seed once; a last line that was cut is left out."""
        entries: dict[tuple[Any, ...], Entry] = {}
        lines = self.file.read_text("utf-8").splitlines(keepends=True) if self.file.exists() else []
        for line in lines:
            if line.endswith("\n"):
                fields = json.loads(line)
                entry = Entry(**(fields | {"outcome": Outcome(**fields["outcome"])}))
                entries[entry.arm, entry.plan, entry.seed, entry.made_of] = entry
        return list(entries.values())

    def write(self, entry: Entry) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def chosen(study: Study, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Of each arm the plan whose answers came lowest on the first seed, with every seed it was run on; what is no plan of
    the study any more is left out, and what was made of another world or base than the last."""
    last = entries[-1].made_of if entries else None
    entries = [entry for entry in entries if entry.made_of == last]
    kept: list[Entry] = []
    for arm, plans in study.arms.items():
        kept += _best(arm, plans, entries)
    for arm, plan in as_long(study, kept).items():
        kept += _best(arm, [plan], entries)
    return kept


def _best(arm: str, plans: Sequence[Plan], entries: Sequence[Entry]) -> Sequence[Entry]:
    marks = {plan.mark for plan in plans}
    of = [entry for entry in entries if entry.arm == arm and entry.plan in marks]
    first = [entry for entry in of if entry.seed == min(other.seed for other in of)]
    if not first:
        return []
    best = min(first, key=lambda entry: entry.outcome.answer_loss).plan
    return [entry for entry in of if entry.plan == best]


def as_long(study: Study, kept: Sequence[Entry]) -> Mapping[str, Plan]:
    """Arms with as many steps as fit into the time of the study's first one, by what a step of each took on the first seed:
    of those that the study names, where that is clearly more or fewer. kept: of the arms themselves."""
    first_of = {arm: next((entry for entry in kept if entry.arm == arm), None) for arm in study.arms}
    first = first_of[next(iter(study.arms))]
    plans: dict[str, Plan] = {}
    for arm in study.timed:
        entry = first_of[arm]
        if first is None or entry is None:
            continue
        plan = next(plan for plan in study.arms[arm] if plan.mark == entry.plan)
        captions = plan.caption_steps * first.outcome.caption_step / entry.outcome.caption_step
        answers = plan.tuning_steps * first.outcome.answer_step / entry.outcome.answer_step
        if abs(captions + answers - plan.caption_steps - plan.tuning_steps) > ALIKE * (captions + answers):
            steps = {"caption_steps": max(1, round(captions)), "tuning_steps": max(1, round(answers))}
            plans[f"{arm}, as long"] = replace(plan, **steps)
    return plans
