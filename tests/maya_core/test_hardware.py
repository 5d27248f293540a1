"""What this machine has, and what goes back to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maya_core.hardware import inspect_machine

KEPT = """
import torch
from maya_core.hardware import give_back_memory

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024

many = [torch.ones(25_000) for _ in range(2000)]  # 100 kB each, 200 MB
above = torch.ones(25_000)  # keeps the top of the heap taken
before = anonymous()
del many
freed = anonymous()
give_back_memory()
print(before, freed, anonymous())
"""


def test_main_memory_is_known_where_there_is_no_sysconf(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delattr(os, "sysconf", raising=False)  # as on Windows
    monkeypatch.delattr(os, "sysconf_names", raising=False)
    memory = inspect_machine().memory
    assert memory > 2**30
    if Path("/proc/meminfo").exists():
        assert memory == int(Path("/proc/meminfo").read_text().split()[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_that_is_free_goes_back():
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, timeout=120, check=True)
    before, freed, back = map(int, done.stdout.split())
    assert freed > before - 20_000_000, "nothing was kept: this shows nothing"
    assert back < before - 180_000_000
