"""What Maya remembers of the hub: the commit of each repository, what it holds, and which files were found whole."""

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

from maya_core.weights.transfer import RemoteFile


class HubMemory:
    """A file in the platform's folder for user data. What cannot be read of it is found out anew."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or Path(platformdirs.user_data_dir("maya")) / "hub.json"
        self._change = threading.Lock()

    def commit(self, repo: str) -> str | None:
        """That was seen first."""
        found: str | None = self._read()["commits"].get(repo)
        return found

    def pin(self, repo: str, commit: str) -> None:
        """From now on this commit is meant, whatever the repository becomes."""
        self._write("commits", repo, commit)

    def files(self, repo: str, commit: str) -> list[RemoteFile]:
        """What makes a model whole; empty where it never was."""
        kept = self._read()["models"].get(f"{repo}@{commit}", {})
        return [
            RemoteFile(repo=repo, commit=commit, name=name, size=size, digest=digest)
            for name, (size, digest) in kept.items()
        ]

    def keep(self, repo: str, commit: str, files: Iterable[RemoteFile]) -> None:
        """The model is here, and these are its files."""
        self._write("models", f"{repo}@{commit}", {file.name: [file.size, file.digest] for file in files})

    def is_checked(self, file: RemoteFile, path: Path) -> bool:
        """Whether `path` has the file's bytes; they are read only where it has changed since they were last."""
        if not path.is_file():
            return False
        if self._read()["checked"].get(file.digest) == _state(path):
            return True
        if not file.is_in(path):
            return False
        self.check(file, path)
        return True

    def check(self, file: RemoteFile, path: Path) -> None:
        """`path` has the file's bytes."""
        self._write("checked", file.digest, _state(path))

    def _read(self) -> dict[str, dict[str, Any]]:
        parts: dict[str, dict[str, Any]] = {"commits": {}, "models": {}, "checked": {}}
        try:
            kept = json.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return parts
        return {name: _sound(kept, name) for name in parts}

    def _write(self, part: str, name: str, value: Any) -> None:
        with self._change:
            kept = self._read()
            kept[part][name] = value
            self.file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
            fresh.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
            os.replace(fresh, self.file)


def _state(path: Path) -> list[int]:
    seen = path.stat()
    return [seen.st_size, seen.st_mtime_ns]


def _sound(kept: Any, part: str) -> dict[str, Any]:
    """What of a part can be what was written there."""
    found = kept.get(part) if isinstance(kept, dict) else None
    if not isinstance(found, dict):
        return {}
    fits = {"commits": lambda value: isinstance(value, str), "models": _are_files}.get(part, lambda _: True)
    return {name: value for name, value in found.items() if fits(value)}


def _are_files(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], int) and isinstance(pair[1], str)
        for pair in value.values()
    )
