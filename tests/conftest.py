"""How the tests run: a worker for each core, one thread in each, what takes long begun first."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Read when torch is imported, here and in the processes that tests start. Tiny models are slower on many threads than on
# one, and the cores are taken by the other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MEMORY = 3 * 1024**3  # that a worker and the processes of its tests may take, bytes
MOST_WORKERS = 8  # the longest test takes as long as an eighth of them all


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
    workers = min(cores, free_memory() // MEMORY, MOST_WORKERS)
    return workers if workers > 1 else 0


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
