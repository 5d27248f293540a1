"""Old judgements read in: LLaVA-Bench reviews as upstream's scripts wrote them, and MM-Vet's grades."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maya_core.errors import DataError
from training.benchmarks.base import ALL, Counts, Tally
from training.benchmarks.bootstrap import figures_of
from training.benchmarks.files import field, read_json, read_lines
from training.benchmarks.run import LanguageResult, Run
from training.benchmarks.tasks.mm_vet import MmVet
from training.benchmarks.tasks.palo import Palo, rated, read_ratings

PREFIX = "llava_bench_"  # of categories in old files


def import_reviews(files: Mapping[str, Path], *, model: str, judge: str, seed: int = 0) -> Run:
    """A run of PALO's benchmark from review files by language: JSON Lines of question_id, category, content or tuple, in
    which the reference was rated first. Raises DataError where an id is there twice."""
    languages = {}
    for language, file in files.items():
        tally: dict[str, Counts] = {}
        for record in read_lines(file):
            unit = str(field(record, "question_id", file))
            if unit in tally:
                raise DataError(f"{file.name} has two judgements of question {unit}; keep the one that counts.")
            ratings, upstream = _ratings(record, file), record.get("tuple")
            category = field(record, "category", file).removeprefix(PREFIX)
            tally[unit] = rated((category,), [ratings] if ratings else [], upstream=upstream or ratings)
        languages[language] = _result(tally, Palo(), seed)
    return Run(
        benchmark=Palo.name,
        model={"name": model},
        judge={"name": judge, "prompts": "unknown", "orders": "reference first"},
        seed=seed,
        languages=languages,
    )


def import_grades(file: Path, folder: Path, *, model: str, judge: str, seed: int = 0) -> Run:
    """A run of MM-Vet from its evaluator's file ({id: {score: [...]}}), several gradings averaged. Raises DataError where
    an id is not in the benchmark's folder."""
    items = {item.id: item for item in MmVet().read(folder)}
    tally: dict[str, Counts] = {}
    for identity, record in read_json(file).items():
        if identity not in items:
            raise DataError(f"{file.name} grades {identity}, which is not in {folder.name}; take the same version.")
        scores = field(record, "score", file)
        grade = sum(scores) / len(scores) if scores else None
        groups = (ALL, *items[identity].groups)
        tally[identity] = (
            {("", "unjudged"): 1}
            if grade is None
            else {(group, "right"): grade for group in groups} | {(group, "asked"): 1 for group in groups}
        )
    return Run(
        benchmark=MmVet.name,
        model={"name": model},
        judge={"name": judge, "prompts": "unknown"},
        seed=seed,
        languages={"en": _result(tally, MmVet(), seed)},
    )


def _ratings(record: Mapping[str, Any], file: Path) -> tuple[float, float] | None:
    """From the text where it is there, else from the numbers that upstream read in it."""
    if isinstance(record.get("content"), str):
        return read_ratings(record["content"])
    numbers = field(record, "tuple", file)
    return read_ratings(" ".join(map(str, numbers))) if len(numbers) == 2 else None


def _result(tally: Tally, benchmark: Palo | MmVet, seed: int) -> LanguageResult:
    unjudged = sum(counts.get(("", "unjudged"), 0) for counts in tally.values())
    return LanguageResult(
        figures=figures_of(tally, benchmark.figures, seed=seed),
        counts={"asked": len(tally), "unanswered": 0, "unjudged": int(unjudged)},
        prompts="",
        tally=tally,
    )
