"""Benchmarks from the command line: `python -m training.benchmarks COMMAND`: examples, validate, report, compare,
published, reviews, grades."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from maya_core.errors import MayaError
from training.benchmarks.registry import NAMES, BenchmarkName
from training.command import ended

app = tyro.extras.SubcommandApp()

Folder = Annotated[Path, tyro.conf.arg(help="the benchmark's folder, in its original layout")]


@app.command
def examples(out: tyro.conf.Positional[Path], benchmark: BenchmarkName | None = None) -> None:
    """Write a small set in a benchmark's format, made of the project's own drawings.

    Args:
        out: the folder to write; in it a folder for each benchmark
        benchmark: all of them if not given
    """
    from training.benchmarks.examples import write_examples

    for name in [benchmark] if benchmark else NAMES:
        write_examples(out / name, name)
        print(out / name)


@app.command
def validate(
    benchmark: tyro.conf.Positional[BenchmarkName],
    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the benchmark's folder, in its original layout")],
    json_out: Annotated[Path | None, tyro.conf.arg(name="json", help="file for the findings")] = None,
) -> int:
    """List what is wrong with a benchmark's folder. Exit status 1 where a run would not measure what it should."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress
    from rich.table import Table

    from training.benchmarks.check import can_run, check
    from training.benchmarks.registry import get_benchmark

    console = Console(width=int(os.environ["COLUMNS"]) if "COLUMNS" in os.environ else None)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("checking", total=None)
        items, kinds = check(
            get_benchmark(benchmark), data, lambda done, total: progress.update(task, completed=done, total=total)
        )
    table = Table("defect", "count", "first")
    for kind, found in sorted(kinds.items()):
        table.add_row(kind, str(found.count), escape("\n".join(found.first)))
    if kinds:
        console.print(table)
    is_good = can_run(kinds)
    print(f"{items:,} items; " + ("they can be run on." if is_good else "mend them, then check again."))
    if json_out:
        findings = {"items": items, "kinds": {kind: vars(found) for kind, found in kinds.items()}}
        json_out.write_text(json.dumps(findings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0 if is_good else 1


@app.command
def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path | None = None,
    figure: str | None = None,
) -> None:
    """Show runs beside what has been reported, as Markdown; with --out also as a file, and as bars.

    Args:
        runs: files that training.evaluate wrote, or folders of them; those on one benchmark stand together
        out: a file NAME.md to write; the bars go to NAME.png, of several benchmarks to NAME-BENCHMARK.png
        figure: of the benchmark; those that have been reported if not given
    """
    from training.benchmarks.registry import get_benchmark
    from training.benchmarks.report import draw_bars, markdown, series_of
    from training.benchmarks.run import Run, read_run

    by_name: dict[str, list[Run]] = {}
    for file in (file for place in runs for file in (sorted(place.glob("*.json")) if place.is_dir() else [place])):
        run = read_run(file)
        by_name.setdefault(run.benchmark, []).append(run)
    if not by_name:
        raise MayaError("No run is named; give the files that training.evaluate wrote.")
    if figure and len(by_name) > 1:
        raise MayaError(f"The runs are on {', '.join(by_name)}; --figure names a figure of one benchmark.")
    parts = []
    for name in sorted(by_name, key=lambda name: NAMES.index(name)):
        part = markdown(by_name[name], figure)
        if out:
            shown = figure or get_benchmark(name).headline  # type: ignore[arg-type]
            bars = out.with_suffix(".png") if len(by_name) == 1 else out.with_name(f"{out.stem}-{name}.png")
            draw_bars(series_of(by_name[name], shown), f"{name}: {shown}", bars)
            part += f"\n![{shown}]({bars.name})\n"
        parts.append(part)
    text = "\n".join(parts)
    print(text)
    if out:
        out.write_text(text, "utf-8")


@app.command
def published(model: str = "Maya 8B") -> None:
    """Show what is published of a model, and what comes out where the counts behind a figure are published too.

    Args:
        model: as published.toml calls it
    """
    from training.benchmarks.published import as_markdown

    print(as_markdown(model))


@app.command
def compare(
    one: tyro.conf.Positional[Path], other: tyro.conf.Positional[Path], figure: str | None = None, seed: int = 0
) -> None:
    """Show by how much two runs differ, with paired bootstrap.

    Args:
        one: file of a run
        other: file of a run on the same questions
        figure: of the benchmark; its headline if not given
        seed: of the draws
    """
    from rich.console import Console

    from training.benchmarks.compare import as_table
    from training.benchmarks.registry import get_benchmark
    from training.benchmarks.run import read_run

    first, second = read_run(one), read_run(other)
    shown = figure or get_benchmark(first.benchmark).headline  # type: ignore[arg-type]
    Console(width=int(os.environ.get("COLUMNS", "110"))).print(as_table(first, second, shown, seed=seed))


@app.command
def reviews(
    files: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    model: str,
    judge: str,
) -> None:
    """Read in old judgements of LLaVA-Bench: review files in JSON Lines, one a language, named LANGUAGE*.jsonl.

    Args:
        files: such as en.jsonl or hi-maya.jsonl
        out: the file of the run to write
        model: whose answers were judged
        judge: who judged
    """
    from maya_core.languages import get_language
    from training.benchmarks.reviews import import_reviews
    from training.benchmarks.run import write_run

    try:
        by_language = {get_language(file.stem).code: file for file in files}
    except ValueError as error:
        raise MayaError(f"{error} A review file's name begins with its language's code.") from None
    write_run(import_reviews(by_language, model=model, judge=judge), out)
    print(out)


@app.command
def grades(file: tyro.conf.Positional[Path], data: Folder, out: Path, model: str, judge: str) -> None:
    """Read in the grades that MM-Vet's evaluator wrote.

    Args:
        file: JSON, {id: {score: [...]}}
        out: the file of the run to write
        model: whose answers were graded
        judge: who graded
    """
    from training.benchmarks.reviews import import_grades
    from training.benchmarks.run import write_run

    write_run(import_grades(file, data, model=model, judge=judge), out)
    print(out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    return ended(
        lambda: app.cli(prog="python -m training.benchmarks", description=__doc__, args=arguments), extra="evaluate"
    )


if __name__ == "__main__":
    sys.exit(main())
