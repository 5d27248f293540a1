"""Files from the hub into its own cache: several at once, each going on where it stopped, however that was.

What has come of a file lies in a partial one beside its place; it gets its name there, its digest, only when its bytes have
that digest. So nothing half-fetched or damaged is ever taken for the file.
"""

import hashlib
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import constants, get_session, get_token, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HfHubHTTPError

from maya_core.errors import DiskFull, DownloadDamaged, DownloadInterrupted, MayaError
from maya_core.weights.durable import digest, sync
from maya_core.weights.hub_errors import is_passing, not_the_hub

Report = Callable[[int, int], None]  # is told how many bytes are here, and of how many

AT_ONCE = 4  # files
WAITS = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds before it is tried again, when nothing has come since
LONGEST_WAIT = 60.0  # seconds that a hub may ask for
TOLD_EVERY = 0.2  # seconds
PARTIAL = ".maya-partial"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a repository. digest: SHA-256 of a large one, git's own SHA-1 of a small one."""

    repo: str
    commit: str
    name: str
    size: int
    digest: str

    @property
    def url(self) -> str:
        return hf_hub_url(self.repo, self.name, revision=self.commit)

    def is_in(self, file: Path) -> bool:
        """Whether a file has just these bytes."""
        if not file.is_file() or file.stat().st_size != self.size:
            return False
        return self.digest == (digest(file) if len(self.digest) == 64 else _git_digest(file))


def bring(
    files: Sequence[RemoteFile],
    blobs: Path,
    report: Report,
    came: Callable[[RemoteFile, Path], None],
    *,
    present: int = 0,
) -> None:
    """Fetch `files` into the folder `blobs`, each under its digest.

    came: is told of each file that is whole, and where it is, by any thread. present: bytes that are here besides, for
    `report`. Raises DiskFull, DownloadDamaged or DownloadInterrupted, and what the hub's client raises.
    """
    blobs.mkdir(parents=True, exist_ok=True)
    with _alone(blobs):
        here = {file: _size_of(_partial(blobs, file)) for file in files}
        _require_room(files, here, blobs)
        size = present + sum(file.size for file in files)
        work = _Work(blobs, deque(sorted(files, key=lambda file: file.size)), here, came)
        threads = [threading.Thread(target=work.run, daemon=True) for _ in files[:AT_ONCE]]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    report(present + sum(here.values()), size)
                    thread.join(TOLD_EVERY)  # Ctrl-C comes through
        finally:
            work.stopped.set()
        if work.failures:
            raise work.failures[0]
        report(size, size)


class _Work:
    """What threads share: the files that are left, how much of each is here, and why they stopped."""

    def __init__(
        self,
        blobs: Path,
        left: deque[RemoteFile],
        here: dict[RemoteFile, int],
        came: Callable[[RemoteFile, Path], None],
    ) -> None:
        self.blobs, self.left, self.here, self.came = blobs, left, here, came
        self.failures: list[Exception] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            while self.left and not self.stopped.is_set():
                with suppress(IndexError):  # another thread took the last one
                    self._bring(self.left.popleft())
        except (httpx2.HTTPError, OSError, MayaError) as error:
            self.failures.append(error)
            self.stopped.set()

    def _bring(self, file: RemoteFile) -> None:
        partial = _partial(self.blobs, file)
        for _ in range(2):  # of a damaged one everything is fetched again, once
            self._complete(file, partial)
            if self.stopped.is_set():
                return
            if file.is_in(partial):
                sync(partial)
                os.replace(partial, self.blobs / file.digest)
                self.came(file, self.blobs / file.digest)
                return
            partial.unlink()
            self.here[file] = 0
        raise DownloadDamaged(
            f"{file.name} of {file.repo} came damaged twice and was removed; try again, best over another network."
        )

    def _complete(self, file: RemoteFile, partial: Path) -> None:
        """Bring what is missing of a file, patiently."""
        tries = 0
        while not self.stopped.is_set():
            start = _size_of(partial)
            try:
                if start < file.size or not partial.exists():
                    self._receive(file, partial, start)
                return
            except (httpx2.HTTPError, OSError) as error:
                tries = 0 if _size_of(partial) > start else tries + 1
                if not is_passing(error) or tries > len(WAITS):
                    raise
                self.stopped.wait(wait_after(error, max(tries, 1)))

    def _receive(self, file: RemoteFile, partial: Path, start: int) -> None:
        asked = {"Accept-Encoding": "identity"}
        if token := get_token():
            asked["Authorization"] = f"Bearer {token}"  # for the hub alone: the client takes it from what is redirected
        if start:
            asked["Range"] = f"bytes={start}-"
        with get_session().stream(
            "GET", file.url, headers=asked, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        ) as response:
            hf_raise_for_status(response)
            goes_on = response.status_code == 206
            wanted = file.size - start if goes_on else file.size
            if int(response.headers.get("Content-Length", wanted)) != wanted:
                raise not_the_hub()
            with partial.open("ab" if goes_on else "wb") as opened:
                self.here[file] = start if goes_on else 0
                for piece in response.iter_bytes():
                    opened.write(piece)
                    opened.flush()  # kill -9 takes nothing back
                    self.here[file] += len(piece)
                    if self.stopped.is_set():
                        return


def wait_after(error: Exception, tries: int) -> float:
    """Seconds to wait before it is tried again: what the hub asks for, or longer from time to time. Raises the error where
    that is too long."""
    if isinstance(error, HfHubHTTPError):
        asked = error.response.headers.get("Retry-After", "")
        if asked.isdigit():
            if int(asked) > LONGEST_WAIT:
                raise error
            return float(asked)
    return WAITS[tries - 1]


def _partial(blobs: Path, file: RemoteFile) -> Path:
    return blobs / f"{file.digest}{PARTIAL}"


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _git_digest(file: Path) -> str:
    """What git calls a file's content."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _require_room(files: Sequence[RemoteFile], here: dict[RemoteFile, int], blobs: Path) -> None:
    missing = sum(file.size - here[file] for file in files)
    free = shutil.disk_usage(blobs).free
    if missing > free:
        raise DiskFull(
            f"{files[0].repo} needs {missing / 1e9:.1f} GB more and the disk has {free / 1e9:.1f} GB free; "
            "make room and try again."
        )


@contextmanager
def _alone(blobs: Path) -> Iterator[None]:
    """One process at a time: a partial file has one writer. The system frees it when the process ends, however."""
    try:
        lock = blobs.parents[1] / ".locks" / blobs.parent.name / "maya.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise DownloadInterrupted(
            "Another process is fetching this model; wait for its end, or end it, and try again."
        ) from None
