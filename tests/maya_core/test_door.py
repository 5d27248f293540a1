"""What `maya_core` names, that it is loaded late, and that transformers knows Maya from then on."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import maya_core

ROOT = Path(__file__).parents[2]
STUB = ROOT / "maya_core" / "__init__.pyi"
HEAVY = ("torch", "transformers", "gradio", "accelerate", "bitsandbytes", "peft", "py3langid", "numpy", "PIL")
SECONDS = 0.1  # of the processor's time, that importing the door may take

AUTO = "from transformers import AutoConfig, AutoProcessor, AutoModelForImageTextToText"
TOLD = """
print([type(auto.from_pretrained("assets/maya-tiny")).__name__
       for auto in (AutoConfig, AutoProcessor, AutoModelForImageTextToText)])
"""


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.strip()


def named() -> dict[str, str]:
    """name -> module, as editors read it."""
    lines = [node for node in ast.parse(STUB.read_text("utf-8")).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname: f"maya_core.{line.module}" for line in lines for alias in line.names if alias.asname}


def test_every_name_is_there_and_what_it_says():
    assert set(named()) == set(maya_core.__all__)
    for name, module in named().items():
        assert getattr(maya_core, name) is getattr(import_module(module), name)
        assert (maya_core.__dict__[name].__doc__ or "").strip()
    with pytest.raises(AttributeError):
        maya_core.load_worst  # noqa: B018
    assert (ROOT / "maya_core" / "py.typed").is_file()


def test_importing_it_takes_a_moment_and_loads_nothing_heavy():
    code = f"""
import sys, time
before = time.process_time()
import maya_core
print(time.process_time() - before, [name for name in {HEAVY!r} if name in sys.modules])
"""
    told = [run(code).split(" ", 1) for _ in range(5)]
    assert {loaded for _, loaded in told} == {"[]"}
    assert min(float(seconds) for seconds, _ in told) < SECONDS


@pytest.mark.parametrize(
    "lines",
    [
        ["import maya_core", AUTO],
        [AUTO, "import maya_core"],
        ["from transformers import AutoConfig", "import maya_core", AUTO],
        ["import maya_core", "from maya_core import MayaConfig", AUTO],
        ["from maya_core import load_best", AUTO],
        ["import maya_core.model.processor", AUTO],
    ],
    ids=["before", "after", "between", "with the configuration", "with a session", "by a file"],
)
def test_transformers_knows_maya_in_whichever_order_they_are_imported(lines):
    told = run("\n".join([*lines, TOLD]))
    assert told.splitlines()[-1] == "['MayaConfig', 'MayaProcessor', 'MayaForConditionalGeneration']"
