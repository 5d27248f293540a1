"""What training/README.md tells someone to do, done as it stands there."""

import re
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from maya_core import cli
from maya_core.weights.checkpoint import save_model
from tests.tiny import tiny_session, write_records

GUIDE = Path(__file__).parents[2] / "training" / "README.md"
OTHERS = "\n## The paper's data"  # and what follows: tests/training/translate and tests/training/benchmarks
ELSEWHERE = ("accelerate launch",)  # tests/maya_core/learning/test_processes.py, with the same configuration


def guide() -> str:
    return GUIDE.read_text("utf-8").partition(OTHERS)[0]


def commands() -> list[str]:
    lines = re.findall(r"^    (\S.*)$", guide(), re.M)
    return [line for line in lines if not line.startswith(ELSEWHERE)]


def typed(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit status of a command, in this process: starting others takes longer than all they do."""
    program, *words = shlex.split(command)
    if program == "maya":
        monkeypatch.setattr(sys, "argv", ["maya", *words])
        cli.main()
        return 0
    assert (program, words[0]) == ("python", "-m")
    status = import_module(words[1]).main(words[2:])
    assert isinstance(status, int)
    return status


@pytest.mark.long(15)
def test_every_command_of_the_guide(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "MODEL")
    write_records(tmp_path / "my.json", tmp_path / "pictures")
    shutil.copy(tmp_path / "my.json", tmp_path / "more.jsonl")
    (tmp_path / "more.jsonl").write_text(
        (tmp_path / "my.json").read_text("utf-8").replace('"id": ', '"id": 1'), "utf-8"
    )
    for command in commands():
        assert typed(command, monkeypatch) == 0, capsys.readouterr()
    assert (tmp_path / "mine" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "mine-whole" / "model.safetensors").is_file()
    assert (tmp_path / "mine.run" / "plot.png").is_file()
    assert len((tmp_path / "clean.jsonl").read_text("utf-8").splitlines()) == 20
    assert not (tmp_path / "mixed").exists()


def test_forms_and_flags_that_the_guide_names_are_there():
    text = guide()
    names = (
        "help.py",
        "options.py",
        "validate.py",
        "stage.py",
        "estimate.py",
        "../maya_core/commands/models.py",
        "../maya_core/weights/adapters.py",
        "../maya_core/learning/train.py",
    )
    options = "".join((GUIDE.parent / name).read_text("utf-8") for name in names)
    for flag in re.findall(r"`(--[a-z-]+)", text):
        assert flag.removeprefix("--").replace("-", "_") in options, flag
