"""What training/README.md tells someone who evaluates, done as it stands there."""

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from maya_core.assets import EMBEDDED
from tests.training.benchmarks.endpoint import scripted_endpoint, text_of
from tests.training.benchmarks.test_examples import judge
from training import evaluate
from training.benchmarks import __main__ as benchmarks
from training.benchmarks import local
from training.benchmarks.registry import NAMES

ROOT = Path(__file__).parents[3]
ENDPOINT = "http://127.0.0.1:8000/v1"
ELSEWHERE = ("python -m lmms_eval",)  # test_lmms_eval.py


def section() -> str:
    text = (ROOT / "training" / "README.md").read_text("utf-8")
    found = re.search(r"^## Evaluate: .*?(?=^## |\Z)", text, re.M | re.S)
    assert found
    return found[0]


def commands() -> list[str]:
    lines = re.findall(r"^    (python .*)$", section(), re.M)
    return [line for line in lines if not line.startswith(ELSEWHERE)]


def reply(body):
    """A judge's, or a peer's that has something to say."""
    return judge(body) if body["model"] == "JUDGE" else f"A cat. {len(text_of(body))}"


def _replaced(command: str, changes: Mapping[str, str]) -> str:
    for before, after in changes.items():
        command = command.replace(before, after)
    return command


def typed(command: str, capsys) -> str:
    """What a command prints; in this process, because importing torch ten times would take most of the time."""
    python, flag, module, *arguments = shlex.split(command)
    assert (python, flag) == ("python", "-m")
    main = {"training.evaluate": evaluate.main, "training.benchmarks": benchmarks.main}[module]
    status = main(arguments)
    told = capsys.readouterr()
    assert status == 0, command + told.out + told.err
    return told.out


@pytest.mark.long(12)
def test_evaluating_as_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(local, "open_local", cache(local.open_local))  # each command would open it anew
    for name in ("en.jsonl", "hi.jsonl"):
        review = {"question_id": 1, "category": "llava_bench_conv", "content": "8 6", "tuple": [8.0, 6.0]}
        (tmp_path / name).write_text(json.dumps(review) + "\n")
    quicker = {"--benchmark all": "--benchmark all --limit 1 --languages en ur"}
    with scripted_endpoint(reply) as server:
        quicker[ENDPOINT] = server.url
        told = {command: typed(_replaced(command, quicker), capsys) for command in commands()}
    assert len(told) == 15
    assert {file.name for file in (tmp_path / "evaluation").glob("*.json")} == {
        f"pope-{EMBEDDED}.json", f"maxm-{EMBEDDED}.json", f"xgqa-{EMBEDDED}.json", f"palo-{EMBEDDED}.json",
        "palo-PEER.json", "old.json",
    }  # fmt: skip
    [estimated] = [text for command, text in told.items() if "--estimate" in command]
    assert re.search(r"30 questions, 8 of them answered; .* The judge is asked 60 times", estimated)
    of_all = (tmp_path / "embedded" / "report.md").read_text("utf-8")
    assert re.findall("^# (.*)$", of_all, re.M) == [name for name in NAMES if name not in ("palo", "mm-vet")]
    assert all((tmp_path / "embedded" / file).is_file() for file in re.findall(r"!\[.*\]\((.*)\)", of_all))
    [compared] = [text for command, text in told.items() if " compare " in command]
    assert "PEER less maya-tiny" in compared
    assert "Maya 8B" in (tmp_path / "report.md").read_text("utf-8")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size[1] > 1000


def test_the_published_figures_are_those_that_the_command_shows(capsys):
    """The command computes them anew of the published counts."""
    table = re.search(r"<!-- published -->\n(.*?\n)<!-- /published -->", section(), re.S)
    assert table[1] == typed("python -m training.benchmarks published", capsys)
    rows = [row.split(" | ") for row in table[1].splitlines()[2:]]
    again = {(row[0], row[1]): (float(row[2]), float(row[3])) for row in rows if row[3] != "-"}
    assert len(again) == 4
    assert all(published == computed for published, computed in again.values())
