"""Where a command reads and writes: streams that are closed, that have few letters, or that nobody reads any more; and how
it ends."""

import atexit
import gc
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


def prepare_streams() -> None:
    """Those that were closed lead nowhere; letters that a terminal does not have, and bytes that are none, stop nothing."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the process lives
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def end_quickly() -> None:
    """As the process ends, the collector does not look through all libraries' objects once more, which takes a second."""
    atexit.register(gc.freeze)


@contextmanager
def until_nobody_reads() -> Iterator[None]:
    """Who reads may leave meanwhile, as `head` does; that ends what is done, and nothing is said of it. Another pipe that
    broke is an error."""
    try:
        yield
        sys.stdout.flush()
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # rich has noticed it
            return
        with until_nobody_reads():  # of what is still in a buffer
            pass
        raise
    except BrokenPipeError:
        if not _silenced():
            raise


def tell(sentence: object) -> None:
    """Why a command ends; who reads may have left."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except BrokenPipeError:
        write_no_more(sys.stderr)


def write_no_more(stream: TextIO) -> None:
    """What is left in a buffer would fail once more as the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _silenced() -> bool:
    """Whether a stream has no reader any more; what is left for it, and whatever comes, then leads nowhere."""
    left = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
    for stream in left:
        write_no_more(stream)
    return bool(left)


def _has_no_reader(stream: TextIO) -> bool:
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:  # in the place of a stream
        return False
    if not hasattr(select, "poll"):
        return True  # of a pipe that broke it can only be guessed
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
