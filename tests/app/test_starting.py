"""`maya-app` says at once what cannot be, in one sentence, before the page opens."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from app import __main__ as starting
from maya_core.errors import MayaError

pytestmark = pytest.mark.filterwarnings("default")  # what the server's libraries warn about is theirs


@pytest.fixture
def start(tmp_path, monkeypatch):
    """start("--port", "0") -> the exit status."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(starting, "stay_private", lambda **_: None)
    for name in ("DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))

    def started(*flags):
        monkeypatch.setattr(sys, "argv", ["maya-app", "--no-browser", *flags])
        with pytest.raises(SystemExit) as left:
            starting.main()
        return left.value.code

    return started


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--port", "70000"], "A port is 0 to 65535, not 70000"),
        (["--port", "-1"], "A port is 0 to 65535, not -1"),
        (["--port", "0", "--model", "/nope"], "There is no model in /nope"),
        (["--port", "0", "--model", "owner/name/more"], "There is no model in owner/name/more"),
        (["--port", "0", "--lang", "xx"], "xx"),
    ],
    ids=["port", "negative", "folder", "name", "language"],
)
def test_an_option_that_cannot_be_is_refused_in_one_sentence(start, capsys, flags, says):
    assert start(*flags) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert "Maya is at" not in told.out


def test_who_has_no_home_is_told(start, monkeypatch, capsys):
    for name in ("DATA", "CONFIG", "CACHE"):
        monkeypatch.delenv(f"XDG_{name}_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as of a user whom the system does not know
    assert start("--port", "0") == 2
    assert (
        capsys.readouterr().err
        == "You have no home folder for Maya to keep things in; name one, such as HOME=/tmp/me.\n"
    )


def test_a_damaged_history_is_told_and_left_as_it_is(start, tmp_path, capsys):
    folder = tmp_path / "data" / "maya"
    folder.mkdir(parents=True)
    (folder / "history.sqlite").write_bytes(bytes(range(256)) * 64)
    assert start("--port", "0") == 2
    assert "history.sqlite, is damaged" in capsys.readouterr().err
    assert (folder / "history.sqlite").read_bytes() == bytes(range(256)) * 64


def test_ctrl_c_while_it_starts_ends_it_quietly(start, monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(starting, "_serve", interrupted)
    assert start() == 130
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_used_is_named(start, monkeypatch, capsys):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/me/maya")

    monkeypatch.setattr(starting, "_serve", full)
    assert start() == 2
    assert capsys.readouterr().err.startswith("/home/me/maya cannot be used (No space left on device); look for")


def test_help_may_be_read_in_part_and_a_desktop_that_cannot_be_is_a_mistake_of_status_2(start, monkeypatch, capsys):
    def impossible():
        raise MayaError("There is no menu here.")

    monkeypatch.setattr("app.window.install", impossible)
    assert start("--install") == 2
    assert capsys.readouterr().err == "There is no menu here.\n"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "app", "--help"]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=buffered)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
