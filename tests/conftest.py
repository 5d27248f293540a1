"""How the tests run: three workers for two cores, one thread in each, what takes long begun first."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# Read when torch is imported, here and in the processes that tests start. Tiny models are slower on many threads than on
# one, and the cores are taken by the other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

A_CORE = 1.5  # workers: what drives a browser mostly waits for it
MEMORY = 3 * 1024**3  # that a worker and the processes of its tests may take, bytes
MOST_WORKERS = 8  # the longest test takes as long as an eighth of them all
# A worker takes these files whole: what their tests share takes long to make, or there is one GPU.
WHOLE = ("tests/training/embedded/test_model.py", "tests/maya_core/learning/test_processes.py",
         "tests/gpu/test_inference.py")  # fmt: skip


@pytest.fixture(autouse=True)
def without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine what a command is doing would be told among what a test expects."""
    monkeypatch.setattr("maya_core.commands.progress.SILENT_SECONDS", 1e6)


@pytest.fixture(autouse=True)
def interrupts_heard() -> None:
    """A command that a test has run in this process, or a shell that began it behind, may have left them unheard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_memory() -> int:
    import psutil

    return psutil.virtual_memory().available


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> Iterator[None]:
    """How many workers `-n auto` means, which pyproject.toml says: none for files and tests that are named, and where the
    output is wanted (`-s`)."""
    cores = yield
    is_named = any(not Path(argument).is_dir() for argument in config.args)
    if is_named or config.getoption("capture") == "no":
        return 0
    workers = min(int(A_CORE * cores), free_memory() // MEMORY, MOST_WORKERS)
    return workers if workers > 1 else 0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling":
    """A test at a time, except for whole files. (xdist 3.8 does not find its own groups in pytest 9.2.)"""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file if file in WHOLE else nodeid

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that no worker begins one when the others are done; the browser's last: there are many short
    ones, and while Chromium is driven no other event loop can run."""

    def turn(item: pytest.Item) -> float:
        long = item.get_closest_marker("long")
        return -long.args[0] if long else float(item.get_closest_marker("browser") is not None)

    items.sort(key=turn)


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector need not look through it in every test that measures memory."""
    gc.collect()
    gc.freeze()
