"""What training/README.md tells someone who evaluates, done as it stands there."""

import json
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from maya_core.assets import EMBEDDED
from tests.training.benchmarks.endpoint import scripted_endpoint, text_of
from tests.training.benchmarks.test_examples import judge
from training import evaluate
from training.benchmarks import __main__ as benchmarks
from training.benchmarks.published import reported

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
    for name in ("en.jsonl", "hi.jsonl"):
        review = {"question_id": 1, "category": "llava_bench_conv", "content": "8 6", "tuple": [8.0, 6.0]}
        (tmp_path / name).write_text(json.dumps(review) + "\n")
    with scripted_endpoint(reply) as server:
        told = {command: typed(command.replace(ENDPOINT, server.url), capsys) for command in commands()}
    assert len(told) == 10
    assert {file.name for file in (tmp_path / "evaluation").glob("*.json")} == {
        f"pope-{EMBEDDED}.json", f"maxm-{EMBEDDED}.json", f"palo-{EMBEDDED}.json", "palo-PEER.json", "old.json",
    }  # fmt: skip
    [estimated] = [text for command, text in told.items() if "--estimate" in command]
    assert re.search(r"30 questions, 8 of them answered; .* The judge is asked 60 times", estimated)
    [compared] = [text for command, text in told.items() if " compare " in command]
    assert "PEER less maya-tiny" in compared
    assert "Maya 8B" in (tmp_path / "report.md").read_text("utf-8")
    with Image.open(tmp_path / "report.png") as picture:
        assert picture.size[1] > 1000


def test_the_published_figures_are_those_that_reports_show():
    rows = re.search(r"<!-- published -->\n(.*?)\n<!-- /published -->", section(), re.S)
    written = [[cell.strip() for cell in row.strip("|").split("|")][:3] for row in rows[1].split("\n")[2:]]
    ours = [one for one in reported() if one.model == "Maya 8B" and one.benchmark != "palo"]
    assert written == [[one.benchmark, one.figure, str(one.mean or one.values["en"])] for one in ours]
