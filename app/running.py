"""The Maya that runs already: who starts another one is shown that.

It holds a lock, which the system frees however it ends, and leaves beside it where it listens and a token that it alone
answers to, so that no other program at its port is taken for it.
"""

import http.client
import json
import secrets
import time
from pathlib import Path

from filelock import FileLock, Timeout

ADDRESS = "127.0.0.1"
PATH = "/running"
PATIENCE = 60.0  # seconds for one that has just been started to listen
PAUSE = 0.2
ANSWERS_WITHIN = 5.0  # seconds


class Running:
    """Of the Mayas that keep their conversations in `folder`, the first. token: what it answers to."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_urlsafe(16)
        self._file = folder / "running.json"
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "running.lock", mode=0o600)

    def claim(self) -> bool:
        """Whether no other one runs; from then on this one does."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        self._file.unlink(missing_ok=True)
        return True

    def listens_at(self, port: int) -> None:
        """Tell those who come later."""
        if self._lock.is_locked:
            self._file.write_text(json.dumps({"port": port, "token": self.token}), "utf-8")
            self._file.chmod(0o600)

    def other(self, *, patience: float = PATIENCE) -> str | None:
        """The address of the other one, as soon as it answers; None where it does not."""
        until = time.monotonic() + patience
        while not self.claim():
            if (port := _answering(self._file)) is not None:
                return f"http://{ADDRESS}:{port}/"
            if time.monotonic() > until:
                return None
            time.sleep(PAUSE)
        return None

    def end(self) -> None:
        """Another one may be the first."""
        if self._lock.is_locked:
            self._file.unlink(missing_ok=True)
            self._lock.release()


def _answering(file: Path) -> int | None:
    """The port of what answers to the token in a file."""
    try:
        told = json.loads(file.read_text("utf-8"))
        port, token = int(told["port"]), str(told["token"])
        connection = http.client.HTTPConnection(ADDRESS, port, timeout=ANSWERS_WITHIN)
        connection.request("GET", f"{PATH}/{token}")
        status = connection.getresponse().status
        connection.close()
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
        return None
    return port if status == 204 else None
