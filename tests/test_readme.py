"""What README tells someone to do, done as it stands there, with defaults."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maya_core.assets import PUBLISHED, asset_path
from maya_core.model.images import open_image
from tests.local_hub import hub_environment, local_hub
from tests.tiny import SENTENCES, write_records

ROOT = Path(__file__).parents[1]
# What no test can do as it stands, and what does the same.
ELSEWHERE = {
    "make app": "a fresh machine",
    "make test": "this is it",
    "python3 -m venv .venv": "a fresh machine",
    ".venv/bin/pip install -c constraints.txt -e .": "a fresh machine",
    ".venv/bin/maya-app": "tests/app/test_load.py, which starts it as a program",
    ".venv/bin/maya chat": "tests/app/test_command.py, with what is typed",
    "pip install -c constraints.txt -e '.[llamacpp]'": "tests/maya_core/answering/test_engines.py, where it is installed",
    "maya export maya-multimodal/maya maya-8b-gguf --format gguf --numbers q4_0": "tests/maya_core/weights/test_gguf.py",
    'maya ask assets/examples/1.png "यह क्या है?" --model maya-8b-gguf': "tests/maya_core/answering/test_engines.py",
    "python -m training.embedded --caltech caltech101 --coco coco128": "hours; tests/training/embedded, a step a stage",
    "python -m training.photo_vqa evaluate --caltech caltech101 --coco coco128": "tests/training/photo_vqa, on others",
}


def chapters() -> dict[str, str]:
    """README without what is fenced, by headings."""
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text("utf-8"), flags=re.S | re.M)
    parts = re.split(r"^## (.*)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(chapter: str) -> list[str]:
    """The lines of a chapter that are to be typed, without comments, that are not done elsewhere."""
    lines = [line.split("  #")[0].strip() for line in re.findall(r"^    (\S.*)$", chapters()[chapter], re.M)]
    return [line for line in lines if line not in ELSEWHERE]


@pytest.fixture
def workshop(tmp_path):
    """A folder with what the commands name: .venv, assets, my.json, pictures and MODEL."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    write_records(tmp_path / "my.json", tmp_path / "pictures")
    shutil.copytree(asset_path("maya-tiny"), tmp_path / "MODEL")
    return tmp_path


def typed(command: str, folder: Path, **environment: str) -> str:
    """What a command prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=os.environ | {"PATH": path} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_asking_as_written(workshop):
    asked, as_json, _, doctor, info = (typed(line, workshop) for line in commands("Use it"))
    assert asked.strip()
    assert json.loads(as_json)["text"]
    assert (workshop / "answers.csv").read_text("utf-8-sig").count("assets/examples/") == 3
    assert "embedded Maya" in doctor
    assert "maya-tiny" in info


@pytest.mark.long(12)
def test_from_nothing_to_an_answer_of_the_published_model_as_written(workshop):
    """The embedded one plays its part, on a hub of our own that gives it to who has signed in."""
    login, download, quantize, ask = commands("The published model")
    with local_hub() as hub:
        hub.files[PUBLISHED] = {file.name: file.read_bytes() for file in asset_path("maya-tiny").iterdir()}
        hub.tokens, hub.gated = {"hf_good": "somebody"}, {PUBLISHED: {"hf_good"}}
        own = hub_environment(hub, workshop / "home")
        assert "ABCD" in typed(login, workshop, **own)
        assert (workshop / "home" / "token").read_text() == "hf_good"
        folder = Path(typed(download, workshop, **own).strip())
        assert (folder / "model.safetensors").is_file()
        typed(quantize, workshop, **own)
        assert not folder.exists()
        asked = len(hub.requests)
        assert "कप" in typed(ask, workshop, **own)
        assert len(hub.requests) == asked


@pytest.mark.parametrize("number", [0, 1])
def test_python_as_written(number):
    block = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.S | re.M)[number]
    done = subprocess.run([sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ("taza", "カップ")[number] in done.stdout


@pytest.mark.long(12)
def test_tuning_as_written(workshop):
    lines = commands("Training on pictures of your own")
    assert len(lines) == 3
    for line in lines:
        typed(line, workshop)
    assert (workshop / "maya-tuned" / "adapter_model.safetensors").is_file()
    assert typed(f'maya ask pictures/0.png "{SENTENCES[0]}" --model maya-tuned', workshop)


def test_emoji_vqa_as_written(workshop):
    preview, _, export = commands("The embedded Maya")
    typed(preview, workshop)
    assert open_image(workshop / "preview.png").size[0] > 500
    assert "1000 conversations" in typed(export, workshop)


@pytest.mark.slow
def test_the_evaluation_as_written_gives_the_cards_figures(workshop):
    _, evaluate, _ = commands("The embedded Maya")
    [split] = re.findall(r"--split (\w+)", evaluate)
    card = json.loads((asset_path("maya-tiny") / f"evaluation-{split}.json").read_text("utf-8"))
    told = typed(f"{evaluate} --json again.json", workshop)
    again = json.loads((workshop / "again.json").read_text("utf-8"))
    assert again["exact_match"]["mean"]["all"] == pytest.approx(card["exact_match"]["mean"]["all"], abs=0.002), told


def test_every_chapter_with_commands_is_done_here():
    done = {"Use it", "The published model", "Training on pictures of your own", "The embedded Maya"}
    assert {name for name in chapters() if commands(name)} == done
