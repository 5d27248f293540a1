"""A command ends with a sentence and a status, whatever a person or a disk has done."""

import errno
import os

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
