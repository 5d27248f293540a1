"""What the README tells someone to do with the paper's data, done as it stands there, on a smaller sample."""

import importlib
import json
import os
import re
import shlex
from pathlib import Path

import pytest

from maya_core.learning.conversation_files import ConversationFiles
from maya_core.model.images import open_image
from maya_core.reviews import Review, add_review, load_items
from tests.tiny import picture
from tests.training.translate.conftest import records, write
from tests.training.translate.fake_endpoint import fake_endpoint
from training.toxicity.findings import Finding, Findings
from training.toxicity.scan import begin
from training.translate.run import OTHERS

ROOT = Path(__file__).parents[3]
CHAPTER = "The paper's data: translated, examined, without what is toxic"


def commands() -> list[str]:
    text = (ROOT / "training" / "README.md").read_text("utf-8").split(f"## {CHAPTER}\n")[1].split("\n## ")[0]
    return re.findall(r"^    (\S.*)$", text, re.M)


def reviewed(folder: Path) -> None:
    """What `app.review` does, which tests/app/review drives in a browser."""
    for item in load_items(folder):
        add_review(folder, Review(item=item.id, language=item.language, reviewer="Asha", verdict="accept", moment=0.0))


def scanned(folder: Path) -> None:
    """What `scan` does with models of 14 GB; tests/training/toxicity does it with small ones."""
    with Findings(folder / "found") as findings:
        begin(findings, folder / "captions.json", {"text": "a", "image": "b"})
        for part in ("text", "image"):
            toxic = {3: Finding(verdict="toxic", reason="x")}
            findings.note(part, {number: Finding(verdict="clean", reason="") for number in range(40)} | toxic)


@pytest.mark.long(10)
def test_the_papers_data_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "captions.json", records(40))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for one in records(40):
        picture().save(pictures / one["image"])
    export, *lines = commands()
    assert export.startswith("export ENDPOINT=")
    assert len(lines) == 12
    with fake_endpoint() as server:
        monkeypatch.setenv("ENDPOINT", server.url)
        monkeypatch.setenv("MODEL", "fake")
        for line in lines:
            python, flag, module, *arguments = shlex.split(os.path.expandvars(line.replace("--n 30", "--n 5")))
            assert (python, flag) == ("python", "-m")
            if module == "app.review":
                reviewed(tmp_path / "review")
            elif arguments[0] == "scan":
                scanned(tmp_path)
            else:
                main = importlib.import_module(f"{module}.__main__").main
                assert main(arguments) == 0, capsys.readouterr().err
    assert open_image(tmp_path / "search" / "scores.png").size[0] > 500
    data = ConversationFiles(tmp_path / "clean", pictures, captions=True)
    assert {language: count.records for language, count in data.report().items()} == dict.fromkeys(OTHERS, 39)
    for language in OTHERS:
        left = json.loads((tmp_path / "clean" / f"captions.{language}.json").read_text("utf-8"))
        assert "000003" not in [one["id"] for one in left]
    assert data[0].messages[1].text
