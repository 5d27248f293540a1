"""Evaluate a model: `python -m training.evaluate --benchmark pope --data DIR --model MODEL`; on `--benchmark all` of those
whose folders lie in DIR.

Writes one JSON a run into --out; what a model or a judge replied is kept beside it, so that a run which was cut off goes on
where it stopped, and nothing is paid for twice.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maya_core.assets import EMBEDDED, asset_path
from maya_core.errors import DataError
from training.benchmarks.registry import NAMES, BenchmarkName
from training.command import ended

if TYPE_CHECKING:
    from training.benchmarks.asking import Asker, ReplyStore
    from training.benchmarks.base import Benchmark

REPLIES = "replies.sqlite"
OnReply = Callable[[str, int, int], None]  # what is done, how many more, of how many


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Ask a model a benchmark's questions, have a judge judge the answers where that is how they are scored, and write the
    figures with their intervals. Exit status 2 where that cannot be done."""

    benchmark: Annotated[BenchmarkName | Literal["all"], tyro.conf.arg(help="which benchmark")]
    data: Annotated[
        Path,
        tyro.conf.arg(help="its folder, in its original layout; of all benchmarks one that holds a folder of each"),
    ]
    model: Annotated[
        str | None,
        tyro.conf.arg(help="folder or repository, or the name at --endpoint; the embedded Maya if not given"),
    ] = None
    endpoint: Annotated[str | None, tyro.conf.arg(help="OpenAI-compatible, such as http://127.0.0.1:8000/v1")] = None
    judge: Annotated[str | None, tyro.conf.arg(help="folder or repository, or the name at --judge-endpoint")] = None
    judge_endpoint: Annotated[str | None, tyro.conf.arg(help="OpenAI-compatible, of the judge")] = None
    judge_prompt: Annotated[
        Path | None,
        tyro.conf.arg(help="what PALO's judge is asked, with {context}, {question}, {first} and {second}"),
    ] = None
    key_variable: Annotated[
        str | None, tyro.conf.arg(help="environment variable with the key for --endpoint; none is sent if not given")
    ] = None
    judge_key_variable: Annotated[str, tyro.conf.arg(help="environment variable with the key for --judge-endpoint")] = (
        "OPENAI_API_KEY"
    )
    languages: Annotated[
        tuple[str, ...] | None, tyro.conf.arg(help="codes; those of the ten that are there if not given")
    ] = None
    limit: Annotated[int | None, tyro.conf.arg(help="most questions a language, drawn by the seed")] = None
    request: Annotated[
        bool,
        tyro.conf.arg(
            help="ask for the form of the answer as published; --no-request for a model that learnt no such words"
        ),
    ] = True
    estimate: Annotated[
        int | None, tyro.conf.arg(help="ask so many questions only, and say how long all would take; nothing is judged")
    ] = None
    out: Annotated[Path, tyro.conf.arg(help="folder for runs and replies")] = Path("evaluation")
    batch: Annotated[int, tyro.conf.arg(help="questions that a model here is asked at once")] = 16
    concurrency: Annotated[int, tyro.conf.arg(help="questions that an endpoint is asked at once")] = 8
    seed: Annotated[int, tyro.conf.arg(help="of draws; greedy answers do not depend on it")] = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def run() -> None:
        options = tyro.cli(EvaluateOptions, args=arguments, prog="python -m training.evaluate")
        console = Console(width=int(os.environ["COLUMNS"]) if "COLUMNS" in os.environ else None)
        for told in evaluate(options, console):
            print(told, flush=True)

    return ended(run, "Stopped; what was replied is kept, and the same command goes on.", extra="evaluate")


def evaluate(options: EvaluateOptions, console: Console) -> Iterator[str]:
    """The file of each run, which is complete; or what it would take. Of all benchmarks, one that cannot be run is told and
    the others go on; EvaluationError at the end."""
    from training.benchmarks.asking import EvaluationError, open_store
    from training.benchmarks.registry import get_benchmark
    from training.benchmarks.tasks.palo import Palo

    for name in ("limit", "estimate", "batch", "concurrency"):
        number = getattr(options, name)
        if number is not None and number < 1:
            raise EvaluationError(f"--{name} is {number}; give at least 1.")
    comparing = None
    if options.judge_prompt is not None:
        if options.benchmark not in (Palo.name, "all"):
            raise EvaluationError(f"--judge-prompt is for {Palo.name}; {options.benchmark} has no such prompt.")
        comparing = _read_prompt(options.judge_prompt)
    folders = _folders(options)
    if options.benchmark == "all" and options.judge is None and options.estimate is None:
        judged = [name for name in folders if get_benchmark(name).is_judged]
        if judged:
            print(f"Left out for want of a judge: {', '.join(judged)}; --judge names one.", file=sys.stderr)
        folders = {name: folder for name, folder in folders.items() if name not in judged}
    failed = []
    with open_store(options.out / REPLIES) as store:
        examine = _Examination(options, store, console)
        for name, folder in folders.items():
            benchmark = Palo(comparing) if name == Palo.name and comparing else get_benchmark(name)
            try:
                yield examine(benchmark, folder)
            except (DataError, EvaluationError) as error:
                if len(folders) == 1:
                    raise
                failed.append(name)
                print(f"{name}: {error}", file=sys.stderr)
    if failed:
        raise EvaluationError(f"{len(failed)} of {len(folders)} benchmarks could not be run: {', '.join(failed)}.")


def _folders(options: EvaluateOptions) -> Mapping[BenchmarkName, Path]:
    """Where each benchmark that is asked for lies. Raises EvaluationError."""
    from training.benchmarks.asking import EvaluationError

    if not options.data.is_dir():
        raise EvaluationError(f"There is no folder {options.data}; check --data.")
    if options.benchmark != "all":
        return {options.benchmark: options.data}
    found = {name: options.data / name for name in NAMES if (options.data / name).is_dir()}
    if not found:
        raise EvaluationError(
            f"{options.data.resolve().name} holds no benchmark's folder, which would be called {NAMES[1]}, {NAMES[2]}, ...; "
            "check --data."
        )
    return found


class _Examination:
    """Of one model by one judge, each opened when it is needed, and once."""

    def __init__(self, options: EvaluateOptions, store: "ReplyStore", console: Console) -> None:
        self.options, self.store, self.console = options, store, console

    def __call__(self, benchmark: "Benchmark", folder: Path) -> str:
        """The file of a run, or what it would take. Raises DataError, EvaluationError, and what the models do."""
        from training.benchmarks.asking import EvaluationError
        from training.benchmarks.report import markdown
        from training.benchmarks.run import estimate, evaluate, require_judge, write_run

        options = self.options
        which: dict[str, Any] = {
            "languages": options.languages,
            "limit": options.limit,
            "requested": options.request,
            "seed": options.seed,
        }
        if options.estimate is not None:
            told = estimate(benchmark, folder, self.model, self.store, sample=options.estimate, **which)
            return f"{benchmark.name}: {told}"
        require_judge(benchmark, options.judge)
        judge = self.judge if benchmark.is_judged else None
        model = self.model
        with _progress(self.console) as on_reply:
            done = evaluate(benchmark, folder, model, self.store, judge=judge, on_reply=on_reply, **which)
        file = options.out / f"{benchmark.name}-{_file_name(model.name)}.json"
        write_run(done, file)
        counts = [one.counts for one in done.languages.values()]
        if judge and all(one["unjudged"] == one["asked"] for one in counts):
            raise EvaluationError(
                f"None of what {judge.name} wrote about {sum(one['asked'] for one in counts)} answers can be read as a "
                f"judgement; it is in {file}. Take another judge."
            )
        self.console.print(markdown([done]), markup=False, highlight=False, soft_wrap=True)
        return str(file)

    @cached_property
    def judge(self) -> "Asker":
        options = self.options
        return _asker(options, options.judge, options.judge_endpoint, options.judge_key_variable)

    @cached_property
    def model(self) -> "Asker":
        return _asker(self.options, self.options.model, self.options.endpoint, self.options.key_variable)


def _asker(options: EvaluateOptions, name: str | None, endpoint: str | None, key_variable: str | None) -> "Asker":
    """The model of a name: at an endpoint, or here."""
    from training.benchmarks.asking import EvaluationError

    if endpoint is not None:
        from training.benchmarks.remote import RemoteModel

        if name is None:
            raise EvaluationError("An endpoint serves models by name; give --model, or --judge for a judge's.")
        return RemoteModel(
            endpoint,
            name,
            seed=options.seed,
            concurrency=options.concurrency,
            key_variable=key_variable,
        )
    from training.benchmarks.local import open_local

    return open_local(name or asset_path(EMBEDDED), batch=options.batch)


def _read_prompt(file: Path) -> str:
    """A judge's prompt. Raises EvaluationError where its fields are not those that are filled in."""
    from training.benchmarks.asking import EvaluationError

    fields = dict.fromkeys(("context", "question", "first", "second"), "")
    try:
        text = file.read_text("utf-8")
        is_good = all(f"{{{name}}}" in text for name in fields)
        text.format(**fields)
    except OSError:
        raise EvaluationError(f"There is no file {file.name} with a judge's prompt.") from None
    except (ValueError, LookupError):
        is_good = False
    if not is_good:
        raise EvaluationError(f"{file.name} must have the fields {{context}}, {{question}}, {{first}} and {{second}}.")
    return text


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in name)


@contextmanager
def _progress(console: Console) -> Iterator[OnReply]:
    """Called with what is done, how many more, and of how many."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def on_reply(what: str, more: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.advance(tasks[what], more)

        yield on_reply


if __name__ == "__main__":
    sys.exit(main())
