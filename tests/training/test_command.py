"""A command ends with a sentence and a status, whatever a person or a disk has done."""

import errno
import os
import subprocess
import sys

import pytest

from maya_core.errors import DataError
from training.command import ended


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DataError("The file is empty."), 2, "The file is empty."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 2, "A file cannot be written (No space left on device)"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out.md"), 2, "out.md cannot be used (Permission"),
        (ModuleNotFoundError("x", name="httpx2"), 2, "httpx2 is not installed; pip install -e '.[data]' brings it."),
        (ModuleNotFoundError("x", name="ray.data"), 2, "ray is not installed; pip install -e '.[cluster]' brings it."),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), 2, "There is not enough free memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "There is not enough free memory"),
        (ImportError("libtorch_cpu.so: failed to map segment"), 2, "There is not enough free memory"),
        (KeyboardInterrupt(), 130, "Stopped; what is done is kept, and the same command goes on."),
    ],
)
def test_what_ends_a_command_is_said_in_a_line(capsys, error, status, said):
    assert ended(failing(error), extra="data") == status
    told = capsys.readouterr().err
    assert told.startswith(said)
    assert told.count("\n") == 1


def test_what_nobody_can_mend_is_not_hidden(capsys):
    for error in (RuntimeError("ours"), OSError("a library's own"), ModuleNotFoundError("x", name="training.x")):
        with pytest.raises(type(error)):
            ended(failing(error), extra="data")
    assert ended(lambda: None, extra="data") == 0
    assert ended(lambda: 1, extra="data") == 1


@pytest.mark.parametrize(
    ("done", "status"),
    [
        ("print('.' * 99999)", 0),
        ("print('.')", 0),
        ("(print('.'), 1)[1]", 1),
        ("(print('.'), sys.exit(2))", 2),
        ("__import__('rich').print('.')", 0),
    ],
    ids=["much", "little", "defects", "left", "rich"],
)
def test_who_stops_reading_breaks_nothing(done, status):
    assert unread(f"import sys; from training.command import ended; sys.exit(ended(lambda: {done}))") == (status, b"")


def test_help_may_be_read_in_part():
    program = "import sys; from training.evaluate import main; sys.exit(main(['--help']))"
    assert unread(program) == (0, b"")


def test_another_pipe_that_breaks_is_told(capsys):
    assert ended(failing(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))) == 2
    assert capsys.readouterr().err.startswith("A file cannot be written (Broken pipe)")


def test_why_it_ended_is_told_to_nobody_where_nobody_reads():
    program = "import sys; from training.command import ended; sys.exit(ended(lambda: open('/nope/x')))"
    reading, writing = os.pipe()
    os.close(reading)
    assert subprocess.run([sys.executable, "-c", program], stderr=writing, check=False).returncode == 2
    os.close(writing)


def test_letters_that_a_terminal_does_not_have_stop_nothing():
    program = "import sys; from training.command import ended; sys.exit(ended(lambda: print('है')))"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, b"??", b"")


def unread(program):
    """Exit status and what is told beside, of a program whose output nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", program]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False, env=buffered)
    os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("training.emoji_vqa", "preview", "--out"),
        ("training.photo_vqa", "preview", "--out"),
        ("training.photo_vqa", "evaluate", "--sheet"),
        ("training.photo_vqa", "evaluate", "--failures"),
        ("training.plot", ".", "--out"),
    ],
)
def test_a_picture_of_no_kind_is_refused_before_anything_is_done(command, tmp_path):
    module, *words = command
    done = subprocess.run(
        [sys.executable, "-m", module, *words, tmp_path / "sheet.doc"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == "sheet.doc does not say what kind of picture it is; end it in .png, .jpg, .webp, .pdf.\n"
