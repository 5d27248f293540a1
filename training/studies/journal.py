"""What was run: `results/STUDY.jsonl`, a line for each arm and seed, so that a study goes on where it was stopped."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.studies.making import Outcome
from training.studies.study import Study

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """world: what the scenes show. hardware, commit: of the run."""

    arm: str
    seed: int
    plan: str  # its mark: an arm that has changed is run anew
    world: str
    hardware: str
    commit: str
    outcome: Outcome


@dataclass(frozen=True)
class Journal:
    """Of one study."""

    file: Path

    @classmethod
    def of(cls, study: str, folder: Path = RESULTS) -> "Journal":
        return cls(folder / f"{study}.jsonl")

    def read(self) -> Sequence[Entry]:
        """Each arm, plan and seed once; a last line that was cut is left out."""
        entries: dict[tuple[str, str, int, str], Entry] = {}
        lines = self.file.read_text("utf-8").splitlines(keepends=True) if self.file.exists() else []
        for line in lines:
            if line.endswith("\n"):
                fields = json.loads(line)
                entry = Entry(**(fields | {"outcome": Outcome(**fields["outcome"])}))
                entries[entry.arm, entry.plan, entry.seed, entry.world] = entry
        return list(entries.values())

    def write(self, entry: Entry) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


def chosen(study: Study, entries: Sequence[Entry]) -> Sequence[Entry]:
    """Of each arm the plan whose answers came lowest on the first seed, with every seed it was run on; what is no plan of
    the study any more is left out."""
    kept: list[Entry] = []
    for arm, plans in study.arms.items():
        marks = {plan.mark for plan in plans}
        of = [entry for entry in entries if entry.arm == arm and entry.plan in marks]
        first = [entry for entry in of if entry.seed == min(other.seed for other in of)]
        if first:
            best = min(first, key=lambda entry: entry.outcome.answer_loss).plan
            kept += [entry for entry in of if entry.plan == best]
    return kept
