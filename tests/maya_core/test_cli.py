"""The `maya` command, as people type it, on a small random model."""

import csv
import importlib.metadata
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import maya_core.cli as cli
from maya_core.answering import footprint
from maya_core.answering.session import ChatSession, Delta
from maya_core.assets import asset_path
from maya_core.commands import opening, progress
from maya_core.errors import NO_MEMORY
from maya_core.hardware import GIB, Machine
from maya_core.languages import CODES, get_language
from maya_core.weights import quantization
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
        ChatSession,
        "deltas",
        lambda self, messages, *how, **more: seen.append(messages) or deltas(self, messages, *how, **more),
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
    for end in ("\n", "\r\n"):  # as Windows ends lines
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"What?{end}", newline=""))
        assert maya(monkeypatch, capsys, "ask", photo, "-", *options) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_picture_comes_from_another_command_by_a_name(folder, monkeypatch, capsys, tmp_path):
    """As a shell's <(...) gives it."""
    photo = folder.parent / "photo.png"
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=(tmp_path / "fifo").write_bytes, args=(photo.read_bytes(),), daemon=True)
    writer.start()
    options = ("--model", folder, "--max-new-tokens", 5)
    answer = maya(monkeypatch, capsys, "ask", tmp_path / "fifo", "What?", *options)
    writer.join()
    assert answer == maya(monkeypatch, capsys, "ask", photo, "What?", *options)


@pytest.fixture
def album(folder, tmp_path, monkeypatch):
    """A folder of pictures, one of them broken and one below, and of something else; the command is run beside it."""
    (tmp_path / "album" / "below").mkdir(parents=True)
    for name in ("a.png", "below/b.png"):
        shutil.copy(folder.parent / "photo.png", tmp_path / "album" / name)
    (tmp_path / "album" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "album" / "notes.txt").write_text("no picture either")
    monkeypatch.chdir(tmp_path)


def table(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_answered_into_a_table_which_a_later_run_goes_on_with(folder, album, monkeypatch, capsys):
    options = ("--model", folder, "--max-new-tokens", 5)
    alone = maya(monkeypatch, capsys, "ask", "album/a.png", "What?", *options).rstrip("\n")
    with pytest.raises(SystemExit) as left:
        maya(monkeypatch, capsys, "ask", "album", "What?", "--out", "out.csv", *options)
    assert left.value.code == cli.PARTLY == 1
    assert capsys.readouterr().err == "2 answered in out.csv; 1 failed, and the column error says why.\n"
    a, below, broken = table(Path("out.csv"))
    assert [Path(row["picture"]).as_posix() for row in (a, below, broken)] == [
        "album/a.png", "album/below/b.png", "album/broken.jpg"
    ]  # fmt: skip
    assert a["answer"] == below["answer"] == alone
    assert (a["question"], a["language"], a["error"], broken["answer"]) == ("What?", "en", "", "")
    assert broken["error"]
    Path("questions.txt").write_bytes("What?\r\n\r\nیہ کیا ہے؟\r\n".encode())  # as Windows ends lines
    shutil.rmtree("album/below")
    Path("album/broken.jpg").unlink()
    maya(monkeypatch, capsys, "ask", "album/*", "--questions", "questions.txt", "--out", "out.csv", *options)
    assert [row["language"] for row in table(Path("out.csv"))] == ["en", "en", "", "ur"]
    monkeypatch.setattr("maya_core.answering.session.load_best", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.setattr(sys, "argv", ["maya", "ask", "album/a.png", "What?", "--out", "out.csv"])
    cli.main()
    assert capsys.readouterr().err == "0 answered in out.csv, 4 were there.\n"


def test_a_picture_that_was_repaired_is_asked_about_by_the_next_run(folder, album, monkeypatch, capsys):
    arguments = ("ask", "album", "What?", "--out", "out.csv", "--model", folder, "--max-new-tokens", 5)
    with pytest.raises(SystemExit):
        maya(monkeypatch, capsys, *arguments)
    capsys.readouterr()
    shutil.copy("album/a.png", "album/broken.jpg")
    monkeypatch.setattr(sys, "argv", ["maya", *map(str, arguments)])
    cli.main()
    assert capsys.readouterr().err == "1 answered in out.csv, 2 were there.\n"
    rows = table(Path("out.csv"))
    assert [Path(row["picture"]).name for row in rows] == ["a.png", "b.png", "broken.jpg"]
    assert [bool(row["answer"]) and not row["error"] for row in rows] == [True, True, True]


def test_one_question_that_cannot_be_asked_costs_no_other_its_answer(folder, album, monkeypatch, capsys):
    Path("questions.txt").write_text(f"What?\n{'long ' * 1500}\n", "utf-8")
    with pytest.raises(SystemExit):
        maya(monkeypatch, capsys, "ask", "album/a.png", "--questions", "questions.txt", "--out", "out.jsonl",
             "--model", folder, "--max-new-tokens", 5)  # fmt: skip
    asked, long = map(json.loads, Path("out.jsonl").read_text("utf-8").splitlines())
    assert (bool(asked["answer"]), asked["error"]) == (True, "")
    assert (long["answer"], "shorten it" in long["error"]) == ("", True)


def test_system_is_told_before_the_question(asked):
    seen, told = asked("What is this?", "C", "--system", "Be brief.", whole=True)
    assert [(message.role, message.text) for message in seen] == [("system", "Be brief."), ("user", "What is this?")]
    assert told == ""


def test_what_takes_minutes_is_told_before(folder, monkeypatch, capsys):
    """Where a plan brings a model to four bits as it loads."""
    plan = footprint.Plan(device="cpu", dtype=torch.bfloat16, quantization="nf4", needed=1, to_quantize=7_000_000_000)
    monkeypatch.setattr("maya_core.answering.session.best_plan", lambda *_, **__: plan)
    monkeypatch.setattr(footprint, "seconds_to_quantize", lambda numbers, device: {7_000_000_000: 640.0}[numbers])
    shares = []
    with pytest.raises(SystemError):
        opening.open_session(folder, lambda doing, share: shares.append((doing, share)) or _stop())
    assert "takes about 11 minutes here" in capsys.readouterr().err
    assert shares[0][0] == "Bringing the model to four bits"


def _stop():
    raise SystemError


def test_seconds_for_four_bits_grow_with_the_numbers(monkeypatch):
    clock = iter([0.0, 0.5, 10.0, 10.5])
    monkeypatch.setattr(footprint.time, "monotonic", lambda: next(clock))
    seconds = footprint.seconds_to_quantize(10**6, "cpu")
    assert seconds == pytest.approx(0.5 * 10**6 / footprint.SAMPLE)
    assert footprint.seconds_to_quantize(2 * 10**6, "cpu") == pytest.approx(2 * seconds)
    assert footprint.seconds_to_quantize(0, "cpu") == 0


def test_where_no_terminal_is_lines_tell_what_is_done(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.001)
    said = ""
    with progress.telling() as tell:
        tell("Loading the model", 0.25)
        while "Loading" not in said:
            said += capsys.readouterr().err
    assert re.match(r"Loading the model: 25% \(\d+ s\)\n", said)


def test_before_it_is_known_what_is_done_nothing_is_told(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.001)
    with progress.telling():
        time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_what_is_told_next_goes_on_with_the_clock_of_what_was_told_before(monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.3)
    for doing in ("one", "two", "three", "four"):
        with progress.telling() as tell:
            tell(doing)
            time.sleep(0.2)  # in less than this nothing is told of it alone
    assert re.search(r"^(two|three|four) \(", capsys.readouterr().err, re.MULTILINE)


LITTLE_MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 * 1024**3, 4 * 1024**3))
from maya_core import cli
cli.main()
"""
LIGHT = """
import sys
from maya_core import cli
try:
    cli.main()
except SystemExit as left:
    print(left.code, [name for name in ("torch", "transformers", "PIL", "py3langid") if name in sys.modules])
"""
PHOTO, NO_MODEL = str(asset_path("examples") / "1.png"), str(asset_path("examples"))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="Windows has no such files")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-", "What?"), "The file has more than 20 MB"),
        ((PHOTO, "-"), "more than 8000; shorten it"),
        ((PHOTO, "--out", "answers.csv", "--questions", "/dev/zero"), "/dev/zero cannot be read"),
        ((PHOTO, "What?", "--out", "zero.csv"), "zero.csv cannot be written"),
    ],
)
def test_what_has_no_end_is_read_no_further_than_it_may_be(tmp_path, arguments, sentence):
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    command = [sys.executable, "-c", LITTLE_MEMORY, "ask", *arguments]
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(command, stdin=zeros, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr


def refused(*arguments):
    """What a command's status is, and what heavy has been loaded by then."""
    done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True, check=True)
    assert len(done.stderr.splitlines()) == 1
    return done.stdout


def test_a_wrong_path_is_told_before_anything_heavy_is_loaded():
    assert refused("ask", "no-such.png", "What?") == "2 []\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", PHOTO, " "),
        ("ask", PHOTO, "", "--out", "no-such-folder/x.csv"),
        ("ask", PHOTO, "x" * 9000),
        ("ask", PHOTO, "What?", "--temperature", "-1"),
        ("ask", PHOTO, "What?", "--max-new-tokens", "0"),
        ("ask", PHOTO, "What?", "--answer-in", "de"),
        ("ask", PHOTO, "What?", "--model", "nowhere"),
        ("info", "--model", "nowhere"),
        ("ask", PHOTO, "What?", "--model", NO_MODEL),
        *((name, NO_MODEL, "no-such-folder") for name in ("convert", "quantize", "export", "merge")),
        *((name, "nowhere", "no-such-folder") for name in ("convert", "quantize", "export", "merge")),
        *((name, str(asset_path("maya-tiny")), str(asset_path(""))) for name in ("convert", "quantize", "export")),
    ],
    ids=lambda arguments: " ".join(part if len(part) < 20 else "…" for part in arguments),
)
def test_what_is_asked_wrongly_is_told_before_anything_heavy_is_loaded(arguments):
    said = refused(*arguments)
    assert said.startswith("2 ")
    assert "torch" not in said
    assert "transformers" not in said


ENDS = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # after what is registered later
from maya_core import cli
cli.main()
"""


def test_as_a_command_ends_nothing_is_collected_once_more():
    done = subprocess.run([sys.executable, "-c", ENDS, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_version_is_told(monkeypatch, capsys):
    assert maya(monkeypatch, capsys, "--version") == f"maya {importlib.metadata.version('maya')}\n"


def test_help_names_no_default_that_is_nothing(monkeypatch, capsys):
    for command in cli.commands:
        with pytest.raises(SystemExit):
            maya(monkeypatch, capsys, command, "--help")
        assert "(default: )" not in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["--help"], 0), (["completion", "bash"], 0), (["ask", "nope.png", "?"], 2)],
    ids=str,
)
def test_nobody_has_to_read_what_is_told(arguments, status):
    command = [sys.executable, "-m", "maya_core.cli", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    for streams in ({"stdout": writing, "stderr": subprocess.PIPE}, {"stdout": writing, "stderr": writing}):
        done = subprocess.run(command, check=False, env=buffered, **streams)
        assert done.returncode == status
        assert b"Broken" not in (done.stderr or b"")
    os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("around", "status", "out", "err"),
    [
        ("{} <&-", 0, "''\n", ""),
        ("{} >&- </dev/null", 0, "", ""),
        ("printf '\\377' | {}", 0, "'\ufffd'\n", ""),
        ("{} >/dev/full </dev/null", 2, "", "What is said cannot be written (No space left on device); look for free"),
    ],
    ids=["no input", "no output", "no letter", "no space"],
)
def test_whatever_stands_at_the_ends_of_a_pipe_is_borne_or_told(around, status, out, err):
    program = (
        "import sys; from maya_core import cli; cli.app.cli = lambda **_: print(repr(sys.stdin.read())); cli.main()"
    )
    command = around.format(shlex.join([sys.executable, "-c", program]))
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (status, out), done.stderr
    assert done.stderr.startswith(err)
    assert len(done.stderr.splitlines()) == bool(err)


WITH_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from maya_core import cli
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 1024**2,) * 2)  # torch's library alone is larger
sys.argv = ["maya", "ask", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_too_little_memory_is_told_in_one_sentence():
    picture = asset_path("examples") / "1.png"
    command = [sys.executable, "-c", WITH_LITTLE_MEMORY, picture, "What is this?"]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # it takes memory for each
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    *waiting, said = done.stderr.splitlines()
    assert all(line.startswith("Starting") for line in waiting)
    assert said == NO_MEMORY


@pytest.fixture
def asked(folder, monkeypatch, capsys):
    """What the model is asked, and what is told beside the answer, when a terminal of some locale asks a question."""

    def ask(question, locale, *arguments, whole=False):
        for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("LC_CTYPE", "C.UTF-8")  # as Python does by itself where a locale is not installed
        monkeypatch.setenv("LANG", locale)
        seen = []
        monkeypatch.setattr(
            ChatSession, "deltas", lambda self, messages, *_, **__: seen.append(messages) or [Delta("…", 1, 0)]
        )
        monkeypatch.setattr(sys, "argv", ["maya", "ask", str(folder.parent / "photo.png"), question, *arguments])
        monkeypatch.setattr("maya_core.answering.session.load_best", lambda model, **_: tiny_session())
        cli.main()
        said = capsys.readouterr()
        assert said.out == "…\n"
        return seen[0] if whole else seen[0][-1].text, said.err

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
        ("?", "zh_CN.UTF-8", (), "zh"),
        ("?", "ur_PK.UTF-8@calendar", (), "ur"),
        ("?", "de:bn_BD:en", (), "bn"),
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


def test_exit_statuses_are_those_that_help_and_readme_name(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        maya(monkeypatch, capsys, "--help")
    said = re.sub(r"[^\w,.]+", " ", capsys.readouterr().out)
    readme = " ".join((Path(__file__).parents[2] / "README.md").read_text("utf-8").split())
    named = re.search(
        r"Exit statuses: 0 done, (\d+) done but for .*?, (\d+) what you can mend.*?, (\d+) Ctrl-C", readme
    )
    statuses = [cli.PARTLY, cli.MENDABLE, cli.INTERRUPTED]
    assert list(map(int, named.groups())) == statuses
    assert list(map(int, re.search(r"0 done, (\d+) .*, (\d+) what .*, (\d+) Ctrl", said).groups())) == statuses


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_what_there_is_to_complete(monkeypatch, capsys, tmp_path, shell):
    script = maya(monkeypatch, capsys, "completion", shell)
    assert all(word in script for word in ("doctor", "quantize", "answer-in"))
    assert not re.search(r"'description': [^}]*\\\\n", script)  # each line is taken for something to complete
    if shell == "zsh" or not shutil.which(shell):  # zsh completes nothing without a terminal
        return
    (tmp_path / "script").write_text(script)
    (tmp_path / "a cup.png").touch()
    for typed, offered in {
        ("maya", "do"): ["doctor", "download"],
        ("maya", "ask", ""): ["a cup.png", "script"],
        ("maya", "ask", "a"): ["a cup.png"],
        ("maya", "ask", "a.png", "--answer"): ["--answer-in"],
        ("maya", "info", "--model", "s"): ["script"],
        ("maya", "ask", "a.png", "--answer-in", ""): sorted(CODES),
        ("maya", "ask", "a.png", "--answer-in", "h"): ["hi"],
        ("maya", "completion", ""): ["bash", "fish", "zsh"],
        ("maya", "completion", "z"): ["zsh"],
    }.items():
        program = {
            "bash": f"source script; COMP_WORDS=({shlex.join(typed)}); COMP_CWORD={len(typed) - 1}; "
            f"""_tyro_maya maya '{typed[-1]}'; printf '%s\\n' "${{COMPREPLY[@]-$(compgen -o default '{typed[-1]}')}}" """,
            "fish": f"source script; complete -C '{' '.join(typed)}' | cut -f 1",
        }[shell]
        environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run([shell, "-c", program], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert sorted(line for line in done.stdout.splitlines() if not line.startswith("-") or typed[-1]) == offered, (
            typed
        )
    assert "complete -o default -F _tyro_maya maya" in script or shell == "fish"


def test_info_names_the_parts(folder, monkeypatch, capsys):
    said = maya(monkeypatch, capsys, "info", "--model", folder)
    assert all(word in said for word in ("random-maya", "vision tower", "connector", "language model", "visual tokens"))


def test_convert_and_export_write_models(folder, monkeypatch, capsys, tmp_path):
    maya(monkeypatch, capsys, "convert", folder, tmp_path / "ours")
    assert load_model(tmp_path / "ours").num_parameters() == load_model(folder).num_parameters()
    maya(monkeypatch, capsys, "export", folder, tmp_path / "stock", "--format", "llava")
    assert '"llava"' in (tmp_path / "stock" / "config.json").read_text()


@pytest.mark.parametrize(
    ("form", "doing"),
    [
        (("convert",), "Reading the model"),
        (("quantize",), "Bringing the model to four bits"),
        (("export",), "Reading the model"),
        (("export", "--format", "gguf"), "Writing the language model"),
    ],
)
def test_how_far_writing_a_model_is_is_told(folder, monkeypatch, capsys, tmp_path, form, doing):
    told = []
    monkeypatch.setattr(progress, "telling", lambda: nullcontext(lambda *what: told.append(what)))
    monkeypatch.setattr(footprint, "seconds_to_quantize", lambda numbers, device: 640.0 if numbers else 0.0)
    monkeypatch.setattr(sys, "argv", ["maya", form[0], str(folder), str(tmp_path / "out"), *form[1:]])
    cli.main()
    shares = [what[1] for what in told if what[0] == doing]
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert (told[0], told[-1]) == (("Starting",), ("Writing the model",))
    assert ("Four bits take about 11 minutes here, once." in capsys.readouterr().err) == (form == ("quantize",))


def test_a_program_is_told_how_far_four_bits_are(folder, monkeypatch, capsys, tmp_path):
    *told, last = maya(monkeypatch, capsys, "quantize", "--as-json", folder, tmp_path / "out").splitlines()
    shares = [json.loads(line)["done"] for line in told]
    assert shares == sorted(set(shares))
    assert (shares[-1], last) == (100, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ask", "no-such.png", "What?"), "There is no file no-such.png"),
        (("ask", "{photo}", "no-such.png", "What?"), "There is no file no-such.png"),
        (
            ("ask", "{photo}", "{folder}/config.json", "What?"),
            "config.json: The file is not a picture that can be read",
        ),
        (("ask", "x" * 300, "What?"), "There is no file xxx"),
        (("ask", "What is this?", "{photo}"), "There is no file What is this?"),
        (("info", "--model", "~nobody-of-this-name/maya"), "There is no folder ~nobody"),
        (("info", "--model", "x" * 300), "There is no folder xxx"),
        (("ask", "{photo}"), "Give a picture and a question"),
        (("ask", "{folder}", "What?"), "{folder} is not a picture; with --out answers.csv each picture there is asked"),
        (("ask", "{folder}", "What?", "--questions", "q.txt"), "Questions from a file are answered into another"),
        (("ask", "{folder}", "--questions", "no-such.txt", "--out", "x.csv"), "no-such.txt cannot be read"),
        (("ask", "{folder}", "What?", "--out", "x.csv"), "There is no picture there"),
        (("ask", "{photo}", "What?", "--out", "x.xls"), "x.xls should end in .csv or .jsonl"),
        (("ask", "{photo}", "What?", "--system", " "), "There is nothing in --system"),
        (("ask", "{folder}", "What?", "--out", "x.csv", "--json"), "--json is for one question"),
        (("aks", "{photo}", "What?"), "There is no command aks; did you mean ask?"),
        (("quantise",), "There is no command quantise; did you mean quantize?"),
        (("paint",), "There is no command paint; there are ask, info, doctor"),
        (("{photo}", "What?"), "There is no command {photo}; maya ask {photo} QUESTION asks about a picture."),
        (("ask", "-", "-"), "Only one thing can come through the pipe"),
        (("ask", "{photo}", "  ", "--model", "{folder}"), "The question is empty"),
        (("info", "--model", "./nowhere"), "There is no folder"),
        (("convert", "./nowhere", "out"), "There is no folder"),
        (("ask", "{photo}", "What?", "--max-new-tokens", "0"), "--max-new-tokens must be at least 1"),
        (("ask", "{photo}", "What?", "--temperature", "-1"), "--temperature must be 0 or more"),
        (("ask", "{photo}", "What?", "--temperature", "nan"), "--temperature must be a finite number"),
        (("ask", "{photo}", "What?", "--temperature", "inf"), "--temperature must be a finite number"),
        (("ask", "{photo}", "What?", "--answer-in", "de"), "'de' is not one of Maya's languages; choose one of en, zh"),
    ],
)
def test_trouble_is_one_sentence_and_status_2(folder, monkeypatch, capsys, arguments, sentence):
    filled = [part.format(photo=folder.parent / "photo.png", folder=folder) for part in arguments]
    with pytest.raises(SystemExit) as stopped:
        maya(monkeypatch, capsys, *filled)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence.format(photo=folder.parent / "photo.png", folder=folder))
    assert len(said.splitlines()) == 1


def test_numbers_are_checked_before_a_model_is_loaded(folder, monkeypatch, capsys):
    monkeypatch.setattr("maya_core.answering.session.load_best", lambda model, **_: pytest.fail("it was loaded"))
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


def test_doctor_says_on_a_small_computer_that_the_large_model_does_not_fit(monkeypatch, capsys):
    small = Machine(device="cpu", name="X", memory=4 * GIB, cores=2)
    monkeypatch.setattr("maya_core.hardware.inspect_machine", lambda: small)
    monkeypatch.setenv("COLUMNS", "200")
    said = maya(monkeypatch, capsys, "doctor")
    assert re.search(r"│ The model needs \d+\.\d GiB, and X has 4\.0; choose a smaller one\. +│", said)


@pytest.mark.parametrize(("gib", "pace"), [(16, ""), (12, ", slowly for want of memory")])
def test_doctor_says_where_memory_is_too_little_for_speed(gib, pace, monkeypatch, capsys):
    machine = Machine(device="cpu", name="X", memory=gib * GIB, cores=2)
    monkeypatch.setattr("maya_core.hardware.inspect_machine", lambda: machine)
    for module in (footprint, quantization):
        monkeypatch.setattr(module, "has_kernel", lambda: False)
    monkeypatch.setenv("COLUMNS", "200")
    said = maya(monkeypatch, capsys, "doctor")
    assert re.search(rf"Maya 8B +│ fits in 4 bits \(NF4\), with \d+\.\d GiB{pace}; use it with", said)


def test_the_embedded_maya_answers_from_a_cold_start():
    """The bound is the promise of the README's first command: 15 s on two cores."""
    said, seconds = run("ask", str(asset_path("examples") / "1.png"), "यह क्या है?")
    assert said.strip()
    assert seconds < 15
