"""One run: a model's answers to a benchmark, judged where they must be, counted; and the JSON that is kept of it."""

import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from maya_core.languages import CODES
from training.benchmarks.asking import (
    Asker,
    EvaluationError,
    Reply,
    ReplyStore,
    Request,
    key_of,
    replies,
    request_digest,
    sha256_of,
)
from training.benchmarks.base import Answered, Benchmark, Figures, Item, Sums, Tally, added
from training.benchmarks.bootstrap import Figure, FiguresOf, figures_of
from training.benchmarks.fidelity import fidelity_counts, fidelity_figures
from training.progress import duration

FORMAT = 1
LONGEST_JUDGEMENT = 1024  # tokens

OnReply = Callable[[str, int, int], None]  # what is done, how many more, of how many


@dataclass(frozen=True, kw_only=True)
class LanguageResult:
    """Of one language. counts: items that were asked, that the model failed on, whose judgement failed or cannot be read.
    prompts: a hash of all that was asked."""

    figures: Mapping[str, Figure]
    counts: Mapping[str, int]
    prompts: str
    tally: Tally


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is kept of a run. model, judge: fingerprints with a name; a judge's also has the hash of its prompts."""

    benchmark: str
    model: Mapping[str, Any]
    judge: Mapping[str, Any] | None
    seed: int
    languages: Mapping[str, LanguageResult]
    requests: bool = True  # for the form of the answer, as published
    limit: int | None = None
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    answers: Sequence[Mapping[str, Any]] = ()


def evaluate(
    benchmark: Benchmark,
    folder: Path,
    model: Asker,
    store: ReplyStore,
    *,
    judge: Asker | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    requested: bool = True,
    seed: int = 0,
    on_reply: OnReply = lambda what, more, total: None,
) -> Run:
    """Ask, judge and count.

    languages: codes; those of the ten that the folder has where None. limit: units a language, drawn by the seed.
    requested: whether the model is asked for the form of the answer. Raises DataError for the folder, EvaluationError where
    there is no judge or nothing to ask.
    """
    require_judge(benchmark, judge)
    items = chosen(benchmark.read(folder), languages, limit, seed)
    requests = [_request(benchmark, item, requested) for item in items]
    given = replies(model, requests, store, lambda more: on_reply("answers", more, len(requests)))
    verdicts = _verdicts(benchmark, items, given, judge, store, on_reply)
    rows = [
        Answered(item=item, answer=reply.text, verdicts=tuple(told.text or None for told in of))
        for item, reply, of in zip(items, given, verdicts, strict=True)
    ]
    by_language: dict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        by_language[item.language].append(number)
    return Run(
        benchmark=benchmark.name,
        model={"name": model.name, **model.fingerprint},
        judge=_judge_of(benchmark, judge),
        seed=seed,
        requests=requested,
        limit=limit,
        languages={
            language: result(
                benchmark,
                [rows[number] for number in numbers],
                seed=seed,
                unanswered=sum(bool(given[number].failure) for number in numbers),
                prompts=sha256_of(sorted(_asked(items[number], requests[number]) for number in numbers)),
            )
            for language, numbers in sorted(by_language.items(), key=lambda pair: _order(pair[0]))
        },
        answers=[_answer(row, reply, of) for row, reply, of in zip(rows, given, verdicts, strict=True)],
    )


def require_judge(benchmark: Benchmark, judge: object) -> None:
    """Raise EvaluationError where a benchmark needs a judge and there is none."""
    if benchmark.is_judged and not judge:
        raise EvaluationError(f"{benchmark.name} needs a judge; give --judge, and --judge-endpoint where it is at one.")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take. known: answers that are there already; seconds: for the rest, at the speed of those that were
    asked for the estimate; characters: of all that the judge would read, at their answers' length."""

    questions: int
    known: int
    seconds: float
    judgements: int
    characters: int

    def __str__(self) -> str:
        told = (
            f"{self.questions:,} questions, {self.known:,} of them answered; the rest takes {duration(self.seconds)}."
        )
        if self.judgements:
            told += f" The judge is asked {self.judgements:,} times and reads about {self.characters:,} characters."
        return told


def estimate(
    benchmark: Benchmark,
    folder: Path,
    model: Asker,
    store: ReplyStore,
    *,
    sample: int,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    requested: bool = True,
    seed: int = 0,
) -> Estimate:
    """Ask `sample` questions, whose answers are kept, and say what all would take; the judge is not asked."""
    items = chosen(benchmark.read(folder), languages, limit, seed)
    requests = [_request(benchmark, item, requested) for item in items]
    keys = [key_of(model, request) for request in requests]
    known = store.get(keys)
    missing = [number for number, key in enumerate(keys) if key not in known]
    asked = random.Random(seed).sample(missing, min(sample, len(missing)))
    start = time.perf_counter()
    given = replies(model, [requests[number] for number in asked], store)
    seconds = time.perf_counter() - start
    prompts = [
        prompt
        for number, reply in zip(asked, given, strict=True)
        for prompt in benchmark.judging(items[number], reply.text)
    ]
    judgements = len(benchmark.judging(items[0], "")) * len(items)
    return Estimate(
        questions=len(items),
        known=len(items) - len(missing) + len(asked),
        seconds=seconds / len(asked) * (len(missing) - len(asked)) if asked else 0.0,
        judgements=judgements,
        characters=round(fmean(map(len, prompts)) * judgements) if prompts else 0,
    )


def result(
    benchmark: Benchmark, rows: Sequence[Answered], *, seed: int, unanswered: int = 0, prompts: str = ""
) -> LanguageResult:
    """What the answers in one language come to."""
    tally = benchmark.tally(rows)
    if benchmark.answers_as_asked:
        by_unit: dict[str, list[Answered]] = defaultdict(list)
        for row in rows:
            by_unit[row.item.unit or row.item.id].append(row)
        tally = {unit: added((counts, fidelity_counts(by_unit[unit]))) for unit, counts in tally.items()}
    unjudged = sum(counts.get(("", "unjudged"), 0) for counts in tally.values())
    return LanguageResult(
        figures=figures_of(tally, all_figures(benchmark), seed=seed),
        counts={"asked": len(rows), "unanswered": unanswered, "unjudged": int(unjudged)},
        prompts=prompts,
        tally=tally,
    )


def all_figures(benchmark: Benchmark) -> FiguresOf:
    """The benchmark's figures, and language fidelity where that was counted."""

    def compute(sums: Sums) -> Figures:
        return benchmark.figures(sums) | fidelity_figures(sums)

    return compute


def chosen(items: Sequence[Item], languages: Sequence[str] | None, limit: int | None, seed: int) -> list[Item]:
    """The items of these languages, of at most `limit` units each. Raises EvaluationError where none are left, or two
    items of a language have one id."""
    wanted = languages if languages is not None else CODES
    left = [item for item in items if item.language in wanted]
    if not left:
        there = ", ".join(sorted({item.language for item in items}))
        raise EvaluationError(f"There is nothing in {', '.join(wanted)}; the data is in {there}.")
    identities = [(item.language, item.id) for item in left]
    if len(set(identities)) < len(identities):
        raise EvaluationError(
            f"{len(identities) - len(set(identities))} ids are there twice; `python -m training.benchmarks validate` shows "
            "them."
        )
    if limit is None:
        return left
    units = {(item.language, item.unit or item.id) for item in left}
    drawn: set[tuple[str, str]] = set()
    for language in {language for language, _ in units}:
        own = sorted((pair for pair in units if pair[0] == language), key=lambda pair: sha256_of([seed, *pair]))
        drawn.update(own[:limit])
    return [item for item in left if (item.language, item.unit or item.id) in drawn]


def _verdicts(
    benchmark: Benchmark,
    items: Sequence[Item],
    given: Sequence[Reply],
    judge: Asker | None,
    store: ReplyStore,
    on_reply: OnReply,
) -> list[list[Reply]]:
    """What the judge says of each answer."""
    asked = [benchmark.judging(item, reply.text) for item, reply in zip(items, given, strict=True)]
    requests = [Request(prompt=prompt, longest=LONGEST_JUDGEMENT) for prompts in asked for prompt in prompts]
    if judge is None or not requests:
        return [[] for _ in items]
    told = iter(replies(judge, requests, store, lambda more: on_reply("judgements", more, len(requests))))
    return [[next(told) for _ in prompts] for prompts in asked]


def _judge_of(benchmark: Benchmark, judge: Asker | None) -> Mapping[str, Any] | None:
    if not benchmark.is_judged or judge is None:
        return None
    blank = Item(id="", language="en", prompt="", reference={"answer": "", "context": ""})
    return {"name": judge.name, **judge.fingerprint, "prompts": sha256_of(benchmark.judging(blank, ""))}


def _request(benchmark: Benchmark, item: Item, requested: bool) -> Request:
    prompt = f"{item.prompt}\n{item.request}" if item.request and requested else item.prompt
    return Request(prompt=prompt, picture=item.picture, longest=benchmark.longest_answer)


def _asked(item: Item, request: Request) -> str:
    return sha256_of([item.id, item.reference, request_digest(request)])


def _answer(row: Answered, reply: Reply, verdicts: Sequence[Reply]) -> Mapping[str, Any]:
    told: dict[str, Any] = {"language": row.item.language, "id": row.item.id, "answer": row.answer}
    if reply.failure:
        told["failure"] = reply.failure
    if verdicts:
        told["verdicts"] = [verdict.text or verdict.failure for verdict in verdicts]
    return told


def _order(language: str) -> tuple[int, str]:
    return (CODES.index(language) if language in CODES else len(CODES), language)


# --- the file ---


def write_run(run: Run, file: Path) -> None:
    """As JSON; complete or not at all."""
    content = {"format": FORMAT, **{name: value for name, value in vars(run).items() if name != "languages"}}
    content["languages"] = {
        language: {
            "figures": {name: asdict(figure) for name, figure in one.figures.items()},
            "counts": dict(one.counts),
            "prompts": one.prompts,
            "units": {
                unit: [[group, what, count] for (group, what), count in counts.items()]
                for unit, counts in one.tally.items()
            },
        }
        for language, one in run.languages.items()
    }
    content["answers"] = content.pop("answers")
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(json.dumps(content, ensure_ascii=False, indent=1, default=dict) + "\n", "utf-8")
    fresh.replace(file)


def read_run(file: Path) -> Run:
    """Raises EvaluationError where the file is not one that `write_run` wrote."""
    try:
        content = json.loads(file.read_text("utf-8"))
        if content.pop("format") != FORMAT:
            raise EvaluationError(f"{file.name} is of another version of Maya; evaluate again.")
        languages = {language: _result(one) for language, one in content.pop("languages").items()}
        return Run(**content, languages=languages)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise EvaluationError(f"{file.name} is not the file of a run; give what `training.evaluate` wrote.") from None


def _result(one: Mapping[str, Any]) -> LanguageResult:
    return LanguageResult(
        figures={name: Figure(**figure) for name, figure in one["figures"].items()},
        counts=one["counts"],
        prompts=one["prompts"],
        tally={unit: {(group, what): count for group, what, count in rows} for unit, rows in one["units"].items()},
    )
