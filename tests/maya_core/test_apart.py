"""Processes beside this one run nothing of the folder that it was started in, and others may print into what they tell."""

import subprocess
import sys
import venv

import pytest

from maya_core.apart import ROOT

PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from app.models import Models
from maya_core.model.images import open_image_apart
print(open_image_apart({str(ROOT / "assets" / "examples" / "2.png")!r}, longest_side=64).size)
models = Models(lambda model: None)
models.fetch("no repository")
while models.download.state == "running":
    time.sleep(0.01)
print(type(models.download.trouble).__name__)
"""


@pytest.fixture
def chatty(tmp_path):
    """A Python whose installation prints as it starts and as it ends."""
    venv.create(tmp_path / "venv", symlinks=True)
    [place] = (tmp_path / "venv").rglob("site-packages")
    (place / "sitecustomize.py").write_text(
        "import atexit\nprint('hello', flush=True)\natexit.register(print, 'bye', flush=True)\n"
    )
    (place / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with files that have modules' names."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name in ("PIL", "struct", "json", "huggingface_hub"):
        (folder / f"{name}.py").write_text(f"open({str(folder / 'run')!r}, 'w')\n")
    return folder


def test_what_an_installation_prints_and_what_lies_in_the_folder_change_nothing(chatty, elsewhere):
    command = [chatty, "-P", "-c", PROGRAM]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == ["hello", "(64, 64)", "CheckpointNotFound", "bye"]
    assert not (elsewhere / "run").exists()
