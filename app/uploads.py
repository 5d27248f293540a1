"""The folder for what a browser uploads: this process's own, for this user's eyes alone, and gone when it ends.

What a killed process left behind is removed by the next one.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "lock"


def own_folder(root: Path) -> Path:
    """A fresh folder under `root`; those of processes that are no more are removed. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o700)
    for left in root.iterdir():
        _remove_if_left(left)
    folder = Path(tempfile.mkdtemp(dir=root))  # which only this user may read
    lock = FileLock(folder / LOCK)
    lock.acquire()

    def end() -> None:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return folder


def _remove_if_left(folder: Path) -> None:
    try:
        with FileLock(folder / LOCK, timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, OSError):  # another Maya is at work there
        return
