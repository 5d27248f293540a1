"""What README tells someone to do who tunes Maya on pictures of their own, done as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from maya_core.assets import asset_path
from tests.tiny import SENTENCES

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh", "fr", "es", "ru", "hi", "ja", "ar", "bn", "ur")


def commands(heading: str) -> list[str]:
    """The lines of a chapter of README that are to be typed."""
    [chapter] = re.findall(rf"^## {heading}\n(.*?)(?=^## )", (ROOT / "README.md").read_text("utf-8"), re.S | re.M)
    return re.findall(r"^    (\S.*)$", chapter, re.M)


@pytest.fixture
def workshop(tmp_path):
    """A folder with what the commands name: my.json, pictures and MODEL."""
    (tmp_path / "pictures").mkdir()
    records = []
    for number, (language, sentence) in enumerate(zip(LANGUAGES, SENTENCES, strict=True)):
        Image.new("RGB", (40 + number, 30), (number * 20, 90, 200)).save(tmp_path / "pictures" / f"{number}.png")
        turns = [{"from": "human", "value": f"<image>\n{sentence}"}, {"from": "gpt", "value": sentence}]
        records.append({"id": number, "image": f"{number}.png", "language": language, "conversations": turns})
    (tmp_path / "my.json").write_text(json.dumps(records, ensure_ascii=False), "utf-8")
    shutil.copytree(asset_path("maya-tiny"), tmp_path / "MODEL")
    return tmp_path


def typed(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        command, shell=True, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )


def test_tuning_as_written(workshop):
    lines = commands("Training on pictures of your own")
    assert len(lines) >= 3
    for line in lines:
        done = typed(line, workshop)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (workshop / "maya-tuned" / "adapter_model.safetensors").is_file()
    asked = typed(f'maya ask pictures/0.png "{SENTENCES[0]}" --model maya-tuned', workshop)
    assert asked.returncode == 0, asked.stderr
