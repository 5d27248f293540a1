"""How far something is, told beside a command's output."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from maya_core.progress import OnProgress

SILENT_SECONDS = 1.2  # where lines are written, a command says nothing for no longer, after half a second to start
LONG = 60.0  # seconds that something takes, from which on they are told before


class Tell(Protocol):
    """What is being done now, and the share of it that is done, where that is known."""

    def __call__(self, doing: str, share: float | None = None) -> None: ...


def long_in_words(seconds: float) -> str:
    """About how many minutes something takes; nothing where it is not long."""
    if seconds <= LONG:
        return ""
    return f"about {seconds / 60:.0f} minutes" if seconds >= 90 else "about a minute"


@contextmanager
def starting() -> Iterator[None]:
    """Tell that libraries are being loaded, which takes seconds."""
    with telling() as tell:
        tell("Starting")
        yield


@contextmanager
def telling_of_writing(reading: str = "Reading the model") -> Iterator[OnProgress]:
    """Tell how far a model is that is read, and then written. reading: what is done with it meanwhile; what is given is to
    be told the share of that."""
    with telling() as tell:
        tell("Starting")

        def report(share: float) -> None:
            if share < 1:
                tell(reading, share)
            else:
                tell("Writing the model")

        yield report


@contextmanager
def telling() -> Iterator[Tell]:
    """Tell on the error stream what a command is doing: by a bar in a terminal, which is gone afterwards, else by a line
    every SILENT_SECONDS."""
    with _bar_of_shares() if sys.stderr.isatty() else _lines() as tell:
        yield tell


@contextmanager
def _bar_of_shares() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    # what is printed meanwhile stays in its own stream
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=None)
        now = ""

        def tell(doing: str, share: float | None = None) -> None:
            nonlocal now
            if doing != now:  # its time begins anew
                progress.reset(task, total=None, description=doing)
                now = doing
            if share is not None:
                progress.update(task, completed=share, total=1.0)

        yield tell


class _Clock:
    """When lines began to be told, and the last was; what a command tells next, moments later, goes on with it."""

    began = told = 0.0

    def start(self) -> None:
        now = time.monotonic()
        if now > self.told + SILENT_SECONDS:
            self.began = self.told = now

    def left(self) -> float:
        """Seconds until something is to be told."""
        return max(0.0, self.told + SILENT_SECONDS - time.monotonic())

    def passed(self) -> float:
        """Seconds since the beginning, as a line is told."""
        self.told = time.monotonic()
        return self.told - self.began


_CLOCK = _Clock()


@contextmanager
def _lines() -> Iterator[Tell]:
    now = ""
    ended = threading.Event()
    _CLOCK.start()

    def tell(doing: str, share: float | None = None) -> None:
        nonlocal now
        now = doing if share is None else f"{doing}: {share:.0%}"

    def write() -> None:
        while not ended.wait(_CLOCK.left()):
            passed = _CLOCK.passed()
            if now:
                sys.stderr.write(f"{now} ({passed:.0f} s)\n")  # whole
                sys.stderr.flush()

    writer = threading.Thread(target=write, name="maya-progress", daemon=True)
    writer.start()
    try:
        yield tell
    finally:
        ended.set()
        writer.join()


@contextmanager
def bar_of_bytes() -> Iterator[Callable[[int, int], None]]:
    """A bar beside the output, from the first time on that it is told how many bytes are here, and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=None)
    with ExitStack() as shown:

        def report(done: int, size: int) -> None:
            if not progress.live.is_started:
                shown.enter_context(progress)
            progress.update(task, completed=done, total=size)

        yield report
