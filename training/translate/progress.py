"""A live line a language: texts done, rejected, a second, and the time left."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from maya_core.languages import get_language
from training.translate.bulk import OnState
from training.translate.journal import State

EVERY = 1000  # texts of a language between two lines where there is no terminal


@contextmanager
def live(console: Console, counts: Mapping[str, Mapping[State, int]]) -> Iterator[OnState]:
    """What to call with each text that comes to a state. counts: of each language at the beginning."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    rejected = {language: count["rejected"] for language, count in counts.items()}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {
            language: progress.add_task(
                get_language(language).native_name,
                total=sum(count.values()),
                completed=count["done"] + count["rejected"],
                told=_told(rejected[language]),
            )
            for language, count in counts.items()
        }

        def note(language: str, state: State, _reason: str) -> None:
            if state == "pending":
                return
            rejected[language] += state == "rejected"
            task = tasks[language]
            progress.update(task, advance=1, told=_told(rejected[language]))
            now = progress.tasks[task]
            is_last = now.completed == now.total
            if not console.is_terminal and (is_last or now.completed % EVERY == 0):
                console.print(
                    f"{language}: {now.completed:,.0f} of {now.total:,.0f} texts, {_told(rejected[language])}"
                )

        yield note


def _told(rejected: int) -> str:
    return f"{rejected:,} rejected"
