"""The `maya` command, as people type it, on a small random model."""

import importlib.metadata
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import maya_core.cli as cli
from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.languages import CODES, get_language
from maya_core.weights.checkpoint import load_model, save_model
from tests.tiny import picture, tiny_session


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model in our layout, and a picture."""
    session = tiny_session()
    out = tmp_path_factory.mktemp("cli") / "random-maya"
    save_model(session.model, session.processor, out, dtype=torch.float32)
    picture().save(out.parent / "photo.png")
    return out


def maya(monkeypatch, capsys, *arguments) -> str:
    monkeypatch.setattr(sys, "argv", ["maya", *map(str, arguments)])
    cli.main()
    return capsys.readouterr().out


def test_ask_prints_the_answer(folder, monkeypatch, capsys):
    said = maya(
        monkeypatch, capsys, "ask", folder.parent / "photo.png", "यह क्या है?", "--model", folder, "--max-new-tokens", 5
    )
    assert said.endswith("\n")
    assert said.strip()


def test_ask_takes_several_pictures_and_says_it_as_json(folder, monkeypatch, capsys):
    photo = folder.parent / "photo.png"
    seen = []
    deltas = ChatSession.deltas
    monkeypatch.setattr(
        ChatSession, "deltas", lambda self, messages, options: seen.append(messages) or deltas(self, messages, options)
    )
    said = maya(monkeypatch, capsys, "ask", photo, photo, "Was ist das?", "--answer-in", "ja", "--model", folder,
                "--max-new-tokens", 5, "--json")  # fmt: skip
    fields = json.loads(said)
    assert len(said.splitlines()) == 1
    assert len(seen[0][-1].images) == 2
    assert set(fields) == {"text", "language", "tokens", "seconds_to_first_word", "seconds"}
    assert fields["language"] == "ja"
    assert 1 <= fields["tokens"] <= 5
    assert fields["seconds"] >= (fields["seconds_to_first_word"] or 0) >= 0


def test_a_picture_or_a_question_comes_through_a_pipe(folder, monkeypatch, capsys):
    photo = folder.parent / "photo.png"
    options = ("--model", folder, "--max-new-tokens", 5)
    expected = maya(monkeypatch, capsys, "ask", photo, "What?", *options)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    assert maya(monkeypatch, capsys, "ask", "-", "What?", *options) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("What?\n"))
    assert maya(monkeypatch, capsys, "ask", photo, "-", *options) == expected


LIGHT = """
import sys
from maya_core import cli
sys.argv = ["maya", "ask", "no-such.png", "What?"]
try:
    cli.main()
except SystemExit as left:
    print(left.code, [name for name in ("torch", "transformers", "PIL", "py3langid") if name in sys.modules])
"""


def test_a_wrong_path_is_told_before_anything_heavy_is_loaded():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert done.stdout == "2 []\n"


def test_version_is_told(monkeypatch, capsys):
    assert maya(monkeypatch, capsys, "--version") == f"maya {importlib.metadata.version('maya')}\n"


def test_what_a_terminal_cannot_write_and_who_stops_reading_break_nothing():
    command = [
        sys.executable,
        "-c",
        "import sys; from maya_core import cli; cli.app.cli = lambda **_: print('है' * 99999); cli.main()",
    ]
    narrow = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "cp1252"})
    assert (narrow.returncode, narrow.stdout[:2], narrow.stderr) == (0, b"??", b"")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unread:
        unread.stdout.read(1)
        unread.stdout.close()
        assert unread.stderr.read() == b""
    assert unread.returncode == 0


@pytest.fixture
def asked(folder, monkeypatch, capsys):
    """What the model is asked, and what is told beside the answer, when a terminal of some locale asks a question."""

    def ask(question, locale, *arguments):
        for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LANG", locale)
        seen = []
        monkeypatch.setattr(ChatSession, "stream", lambda self, messages, options: iter(seen.append(messages) or ["…"]))
        monkeypatch.setattr(sys, "argv", ["maya", "ask", str(folder.parent / "photo.png"), question, *arguments])
        monkeypatch.setattr("maya_core.answering.session.load_best", lambda model: tiny_session())
        cli.main()
        said = capsys.readouterr()
        assert said.out == "…\n"
        return seen[0][-1].text, said.err

    return ask


@pytest.mark.parametrize(
    ("question", "locale", "arguments", "code"),
    [
        ("What is this?", "hi_IN.UTF-8", (), None),
        ("What is this?", "hi_IN.UTF-8", ("--answer-in", "ur"), "ur"),
        ("What is this?", "C", ("--answer-in", "en"), None),
        ("?", "hi_IN.UTF-8", (), "hi"),
        ("?", "hi_IN.UTF-8", ("--answer-in", "ja"), "ja"),
        ("?", "de_DE.UTF-8", (), "en"),
        ("?", "C", (), "en"),
        ("yeh kya hai", "C.UTF-8", (), "hi"),
        ("yeh kya hai", "ur_PK.UTF-8", (), "ur"),
    ],
)
def test_ask_asks_for_a_language_only_where_the_question_does_not_say_it(asked, question, locale, arguments, code):
    wanted = f"{question}\n{get_language(code).request}" if code else question
    assert asked(question, locale, *arguments) == (wanted, "")


@pytest.mark.parametrize("code", CODES)
def test_ask_tells_that_it_does_not_know_a_language_in_that_of_the_terminal(asked, code):
    language = get_language(code)
    assert asked("Was ist das?", f"{code}.UTF-8") == (f"Was ist das?\n{language.request}", f"{language.unknown}\n")
    assert asked("Was ist das?", "C", "--answer-in", code) == (f"Was ist das?\n{language.request}", "")


def test_help_names_the_languages(capsys, monkeypatch):
    with pytest.raises(SystemExit):
        maya(monkeypatch, capsys, "ask", "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert ", ".join(CODES) in said


def test_info_names_the_parts(folder, monkeypatch, capsys):
    said = maya(monkeypatch, capsys, "info", "--model", folder)
    assert all(word in said for word in ("random-maya", "vision tower", "connector", "language model", "visual tokens"))


def test_convert_and_export_write_models(folder, monkeypatch, capsys, tmp_path):
    maya(monkeypatch, capsys, "convert", folder, tmp_path / "ours")
    assert load_model(tmp_path / "ours").num_parameters() == load_model(folder).num_parameters()
    maya(monkeypatch, capsys, "export", folder, tmp_path / "stock", "--format", "llava")
    assert '"llava"' in (tmp_path / "stock" / "config.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ask", "no-such.png", "What?"), "There is no file no-such.png"),
        (("ask", "{photo}", "no-such.png", "What?"), "There is no file no-such.png"),
        (("ask", "{photo}"), "Give a picture and a question"),
        (("ask", "-", "-"), "Only one thing can come through the pipe"),
        (("ask", "{photo}", "  ", "--model", "{folder}"), "The question is empty"),
        (("info", "--model", "./nowhere"), "There is no folder"),
        (("convert", "./nowhere", "out"), "There is no folder"),
        (("ask", "{photo}", "What?", "--max-new-tokens", "0"), "max_new_tokens must be at least 1"),
        (("ask", "{photo}", "What?", "--temperature", "-1"), "temperature must be 0 or more"),
        (("ask", "{photo}", "What?", "--temperature", "nan"), "temperature must be a finite number"),
        (("ask", "{photo}", "What?", "--temperature", "inf"), "temperature must be a finite number"),
        (("ask", "{photo}", "What?", "--answer-in", "de"), "'de' is not one of Maya's languages; choose one of en, zh"),
    ],
)
def test_trouble_is_one_sentence_and_status_2(folder, monkeypatch, capsys, arguments, sentence):
    filled = [part.format(photo=folder.parent / "photo.png", folder=folder) for part in arguments]
    with pytest.raises(SystemExit) as stopped:
        maya(monkeypatch, capsys, *filled)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert len(said.splitlines()) == 1


def test_numbers_are_checked_before_a_model_is_loaded(folder, monkeypatch, capsys):
    monkeypatch.setattr("maya_core.answering.session.load_best", lambda model: pytest.fail("it was loaded"))
    with pytest.raises(SystemExit):
        maya(monkeypatch, capsys, "ask", folder.parent / "photo.png", "What?", "--temperature", "-1")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("command", ["convert", "quantize", "export"])
def test_written_weights_have_the_mode_that_the_umask_says(folder, monkeypatch, capsys, tmp_path, command):
    before = os.umask(0o022)
    try:
        maya(monkeypatch, capsys, command, folder, tmp_path / "out")
    finally:
        os.umask(before)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("again", ["while leaving", "at the end"])
def test_a_second_interrupt_is_quiet(again):
    code = f"""
import atexit, signal
from maya_core.cli import interruptible
if {again == "at the end"}:
    atexit.register(signal.raise_signal, signal.SIGINT)
with interruptible():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        if {again == "while leaving"}:
            signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130
    assert not done.stderr.strip()


def test_an_interrupt_ends_a_command_with_status_130(monkeypatch, capsys):
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("maya_core.hardware.inspect_machine", lambda: signal.raise_signal(signal.SIGINT))
    try:
        with pytest.raises(SystemExit) as left:
            maya(monkeypatch, capsys, "doctor")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert left.value.code == 130


def run(*arguments) -> tuple[str, float]:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "maya_core.cli", *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout, time.monotonic() - started


def test_doctor_names_device_and_model():
    said, _ = run("doctor")
    assert "embedded Maya" in said
    assert "MiB" in said
    assert "GiB" in said
    assert " 0.0 " not in said


def test_the_embedded_maya_answers_from_a_cold_start():
    """The bound is the promise of the README's first command: 15 s on two cores."""
    said, seconds = run("ask", str(asset_path("examples") / "1.png"), "यह क्या है?")
    assert said.strip()
    assert seconds < 15
