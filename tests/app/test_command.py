"""`maya` as it is installed."""

import io
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app import command
from app.history import History
from app.i18n import SENTENCES, translate
from maya_core.assets import asset_path
from maya_core.errors import FileMissing
from maya_core.languages import CODES

PHOTO = asset_path("examples") / "1.png"


def test_maya_is_what_is_tested_here():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["scripts"]["maya"] == f"{command.__name__}:{command.main.__name__}"


def test_chat_answers_what_comes_through_a_pipe_and_keeps_it_where_the_page_looks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("app.settings.data_folder", lambda: tmp_path / "data")
    monkeypatch.setattr("app.settings.settings_file", lambda: tmp_path / "settings.json")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PHOTO} यह क्या है?\r\n/सूची\r\n", newline=""))
    monkeypatch.setattr(sys, "argv", ["maya", "chat", "--lang", "hi"])
    command.main()
    out, err = capsys.readouterr()
    assert "कप" in out
    assert "1  यह क्या है?" in err
    history = History(tmp_path / "data")
    [conversation] = history.conversations()
    question, answer = history.entries(conversation.id)
    assert (question.text, len(question.pictures), f"{answer.text}\n") == ("यह क्या है?", 1, out)


@pytest.mark.parametrize("language", ["--lang", "--answer-in"])
def test_a_language_that_maya_does_not_know_is_told(tmp_path, monkeypatch, capsys, language):
    monkeypatch.setattr("app.settings.settings_file", lambda: tmp_path / "settings.json")
    monkeypatch.setattr(sys, "argv", ["maya", "chat", language, "de"])
    with pytest.raises(SystemExit) as left:
        command.main()
    assert left.value.code == 2
    assert "'de' is not one of Maya's languages" in capsys.readouterr().err


@pytest.mark.parametrize("code", CODES)
def test_trouble_is_told_in_the_terminals_language_too(monkeypatch, capsys, code):
    monkeypatch.setenv("LANGUAGE", code)
    monkeypatch.setattr(sys, "argv", ["maya", "ask", "nowhere.png", "What is this?"])
    with pytest.raises(SystemExit) as left:
        command.main()
    assert left.value.code == 2
    exact, *own = capsys.readouterr().err.splitlines()
    assert exact == "There is no file nowhere.png; check the path."
    assert own == ([] if code == "en" else [translate(SENTENCES[FileMissing], code)])


def test_what_only_the_exact_sentence_knows_is_told_alone(monkeypatch, capsys):
    monkeypatch.setenv("LANGUAGE", "hi")
    monkeypatch.setattr(sys, "argv", ["maya", "aks"])
    with pytest.raises(SystemExit):
        command.main()
    assert capsys.readouterr().err == "There is no command aks; did you mean ask?\n"


HELP = """
import sys
from app import command
try:
    command.main()
finally:
    print([name for name in ("torch", "gradio", "transformers", "prompt_toolkit") if name in sys.modules])
"""


def test_help_names_chat_and_is_light():
    done = subprocess.run([sys.executable, "-c", HELP, "--help"], capture_output=True, text=True, check=True)
    assert "chat" in done.stdout
    assert done.stdout.endswith("[]\n")
