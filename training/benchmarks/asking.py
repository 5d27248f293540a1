"""Asking a model, once: what it replied is kept by the hash of all that the reply depends on."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

from maya_core.errors import MayaError
from maya_core.weights.durable import digest

MANY = 500  # keys that are looked up at once
ENOUGH = 10  # failures at the start, and nothing else, that say that something is wrong with all of it


class EvaluationError(MayaError):
    """An evaluation cannot go on, or its files cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked. picture: its file or bytes. longest: tokens of the reply."""

    prompt: str
    longest: int
    picture: Path | bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came: a text, or why there is none."""

    text: str = ""
    failure: str = ""


class Asker(Protocol):
    """A model that can be asked: here, or at an endpoint. name: for a reader; fingerprint: what tells it from others."""

    name: str
    fingerprint: Mapping[str, str]

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(number of the request, its reply), as they come. Raises a MayaError where it makes no sense to go on."""
        ...


class ReplyStore:
    """Replies in SQLite; what is put is safe, whatever happens to the process."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(keys), MANY):
            some = keys[start : start + MANY]
            marks = ",".join("?" * len(some))
            found.update(self._connection.execute(f"SELECT key, text FROM replies WHERE key IN ({marks})", some))
        return found

    def put(self, key: str, text: str) -> None:
        """Raises EvaluationError where there is no room."""
        try:
            self._connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, text))
            self._connection.commit()
        except sqlite3.OperationalError as error:
            raise EvaluationError(
                f"A reply cannot be kept ({error}); look for free space and the right to write. What was kept before is "
                "there, and the same command goes on."
            ) from None


@contextmanager
def open_store(file: Path) -> Iterator[ReplyStore]:
    """The store in a file, which is made where there is none. Raises EvaluationError where it is something else, or cannot
    be made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(file, timeout=60)
    except sqlite3.OperationalError as error:
        raise EvaluationError(f"{file} cannot be opened ({error}); look for the right to write there.") from None
    with closing(connection):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT NOT NULL)")
        except sqlite3.OperationalError as error:
            raise EvaluationError(
                f"{file} cannot be written ({error}); look for free space and the right to write."
            ) from None
        except sqlite3.DatabaseError:
            raise EvaluationError(f"{file.name} is damaged or something else; move it away.") from None
        yield ReplyStore(connection)


def replies(
    asker: Asker, requests: Sequence[Request], store: ReplyStore, on_reply: Callable[[int], None] = lambda count: None
) -> list[Reply]:
    """The reply to each request, asked for where the store has none; the same request is asked once. What fails is not
    stored, and is asked again the next time. on_reply: is told how many more are there. Raises EvaluationError where the
    first ones all fail."""
    keys = [key_of(asker, request) for request in requests]
    known = {key: Reply(text=text) for key, text in store.get(list(dict.fromkeys(keys))).items()}
    on_reply(sum(key in known for key in keys))
    first = {key: number for number, key in reversed(list(enumerate(keys))) if key not in known}
    missing = sorted(first.values())
    failed = 0
    for done, (number, reply) in enumerate(asker.ask([requests[number] for number in missing]), start=1):
        key = keys[missing[number]]
        failed += bool(reply.failure)
        if failed == done == ENOUGH:
            raise EvaluationError(f"The first {ENOUGH} requests all failed, the last one so: {reply.failure}")
        if not reply.failure:
            store.put(key, reply.text)
        known[key] = reply
        on_reply(1)
    return [known[key] for key in keys]


def key_of(asker: Asker, request: Request) -> str:
    """A hash of the model and of what it is asked."""
    return sha256_of([dict(asker.fingerprint), request_digest(request)])


def request_digest(request: Request) -> str:
    """A hash of the prompt, the picture's bytes, and how long the reply may be."""
    return sha256_of([request.prompt, picture_digest(request.picture), request.longest])


def picture_digest(picture: Path | bytes | None) -> str:
    """SHA-256 of a picture's file; empty where there is none."""
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    return _file_digest(picture) if picture else ""


@cache
def _file_digest(file: Path) -> str:
    return digest(file) if file.is_file() else ""


def sha256_of(content: object) -> str:
    """Of something that can be written as JSON."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def batched(numbers: Sequence[int], size: int) -> Iterable[Sequence[int]]:
    """Parts of `size`, the last perhaps shorter."""
    return (numbers[start : start + size] for start in range(0, len(numbers), size))
