"""Conversations on this computer: words in SQLite, pictures as files beside it, all of it for this user's eyes alone.

A write is on the disk when its call returns (WAL with full synchronisation), so that a crash loses no question.
"""

import base64
import binascii
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import regex
from PIL import Image

from app.folding import FOLDING, fold
from maya_core.errors import ImageError, MayaError, PromptError
from maya_core.model.images import open_image_apart
from maya_core.model.prompt import Role, clean_text

TITLE_LENGTH = 60  # characters
LONGEST_SIDE = 2048  # px of a kept picture; models look at 256 to 512
LARGEST_PNG = 2 * 1024**2  # bytes; above this a picture is kept as JPEG
SHORTEST_INDEXED = 3  # characters; the index knows runs of three, shorter words are looked for one by one
EXPORT_FORMAT = "maya-conversation"
EXPORT_VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, updated REAL NOT NULL, deleted REAL
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role TEXT NOT NULL, text TEXT NOT NULL, tokens INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS pictures (
    message INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, file TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_of ON messages (conversation);
CREATE INDEX IF NOT EXISTS pictures_of ON pictures (message);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(folded, tokenize = 'trigram');
CREATE TRIGGER IF NOT EXISTS forget_words AFTER DELETE ON messages BEGIN
    DELETE FROM words WHERE rowid = old.id;
END;
"""


class HistoryUnavailable(MayaError):
    """Conversations cannot be read or written: no space, no right, or a damaged file."""


class NotAConversation(MayaError):
    """A file to be imported is not a conversation that Maya exported."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One entry of the list. title: as the user named it, or the start of the first question."""

    id: str
    title: str
    updated: float


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One turn. pictures: files of the store, on the user's turns; tokens, seconds: of the assistant's."""

    role: Role
    text: str
    pictures: tuple[Path, ...] = ()
    tokens: int = 0
    seconds: float = 0.0


class History:
    """All conversations, in `folder`, which is made for this user alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        with _told():
            self.pictures.mkdir(parents=True, exist_ok=True)
            for private in (folder, self.pictures):
                private.chmod(0o700)
            with self._open() as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(SCHEMA)
                _index_anew(database)

    # --- the list ---

    def conversations(self, search: str = "", *, most: int = 200) -> list[Conversation]:
        """The latest first, but for empty ones; those whose title or words hold every word of `search`, in any script."""
        terms = _folded(search).split()
        with self._open() as database:
            rows = database.execute(
                "SELECT id, title, updated FROM conversations WHERE deleted IS NULL "
                "AND EXISTS (SELECT 1 FROM messages WHERE conversation = conversations.id) "
                "ORDER BY updated DESC, rowid DESC"
            ).fetchall()
            found = [_found(database, term) for term in terms]
        kept = (
            Conversation(id=key, title=title, updated=updated)
            for key, title, updated in rows
            if all(key in ids or term in _folded(title) for term, ids in zip(terms, found, strict=True))
        )
        return [conversation for conversation, _ in zip(kept, range(most), strict=False)]

    def first_pictures(self, conversations: Sequence[str]) -> dict[str, Path]:
        """The first picture of each that has one."""
        marks = ", ".join("?" * len(conversations))
        with self._open() as database:
            rows = database.execute(
                "SELECT conversation, file FROM messages JOIN pictures ON pictures.message = messages.id "
                f"WHERE conversation IN ({marks}) ORDER BY messages.id DESC, pictures.rowid DESC",
                tuple(conversations),
            ).fetchall()
        return {conversation: self.pictures / file for conversation, file in rows}

    def title(self, conversation: str) -> str:
        """Its title; empty where there is no such conversation."""
        with self._open() as database:
            row = database.execute("SELECT title FROM conversations WHERE id = ?", (conversation,)).fetchone()
        return str(row[0]) if row else ""

    def is_kept(self, conversation: str) -> bool:
        """Whether there is such a conversation that is not deleted."""
        with self._open() as database:
            found = "SELECT 1 FROM conversations WHERE id = ? AND deleted IS NULL"
            return database.execute(found, (conversation,)).fetchone() is not None

    def rename(self, conversation: str, title: str) -> None:
        """Give it a title; one without letters changes nothing."""
        if title.strip():
            with self._open() as database:
                database.execute("UPDATE conversations SET title = ? WHERE id = ?", (shortened(title), conversation))

    def delete(self, conversation: str) -> None:
        """Take it from the list. `undelete` brings it back until `purge`."""
        self._mark(conversation, time.time())

    def undelete(self, conversation: str) -> None:
        """Put a deleted conversation back."""
        self._mark(conversation, None)

    def _mark(self, conversation: str, deleted: float | None) -> None:
        with self._open() as database:
            database.execute("UPDATE conversations SET deleted = ? WHERE id = ?", (deleted, conversation))

    def purge(self, *, older: float = 0.0) -> None:
        """Erase what was deleted more than `older` seconds ago, and every picture that no conversation shows."""
        with self._open() as database:
            database.execute("DELETE FROM conversations WHERE deleted <= ?", (time.time() - older,))
            shown = {file for (file,) in database.execute("SELECT file FROM pictures")}
        for file in self.pictures.iterdir():
            if file.name not in shown and file.stat().st_mtime <= time.time() - older:
                file.unlink(missing_ok=True)

    # --- one conversation ---

    def entries(self, conversation: str) -> list[Entry]:
        """Its turns, in order."""
        with self._open() as database:
            rows = database.execute(
                "SELECT id, role, text, tokens, seconds FROM messages WHERE conversation = ? ORDER BY id",
                (conversation,),
            ).fetchall()
            files = {key: self._files(database, key) for key, *_ in rows}
        return [
            Entry(role=role, text=text, pictures=files[key], tokens=tokens, seconds=seconds)
            for key, role, text, tokens, seconds in rows
        ]

    def _files(self, database: sqlite3.Connection, message: int) -> tuple[Path, ...]:
        found = database.execute("SELECT file FROM pictures WHERE message = ? ORDER BY rowid", (message,))
        return tuple(self.pictures / file for (file,) in found)

    def create(self, title: str) -> str:
        """A new, empty conversation; its id."""
        key = uuid.uuid4().hex
        with self._open() as database:
            database.execute("INSERT INTO conversations VALUES (?, ?, ?, NULL)", (key, shortened(title), time.time()))
        return key

    def append(self, conversation: str, entry: Entry, *, keep: int | None = None) -> None:
        """Add a turn at the end, or after the first `keep` in place of all that came after them: both or neither."""
        with self._open() as database:
            if keep is not None:
                self._cut(database, conversation, keep)
            added = database.execute(
                "INSERT INTO messages (conversation, role, text, tokens, seconds) VALUES (?, ?, ?, ?, ?)",
                (conversation, entry.role, _unbroken(entry.text), entry.tokens, entry.seconds),
            )
            files = [(added.lastrowid, picture.name) for picture in entry.pictures]
            database.executemany("INSERT INTO pictures VALUES (?, ?)", files)
            database.execute("INSERT INTO words (rowid, folded) VALUES (?, ?)", (added.lastrowid, _folded(entry.text)))
            database.execute("UPDATE conversations SET updated = ? WHERE id = ?", (time.time(), conversation))

    def cut(self, conversation: str, keep: int) -> None:
        """Take away all turns but the first `keep`."""
        with self._open() as database:
            self._cut(database, conversation, keep)

    def _cut(self, database: sqlite3.Connection, conversation: str, keep: int) -> None:
        database.execute(
            "DELETE FROM messages WHERE id IN "
            "(SELECT id FROM messages WHERE conversation = ? ORDER BY id LIMIT -1 OFFSET ?)",
            (conversation, keep),
        )

    def keep_picture(self, source: str | Path | bytes) -> Path:
        """A copy of a picture with nothing but its pixels, under a name that says nothing. Raises ImageError."""
        data, ending = _encoded(open_image_apart(source, longest_side=LONGEST_SIDE))
        file = self.pictures / f"{uuid.uuid4().hex}.{ending}"
        with _told(), os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        return file

    # --- in and out ---

    def to_json(self, conversation: str) -> str:
        """A conversation with its pictures, for `from_json` of any Maya."""
        entries = self.entries(conversation)
        fields = {
            "format": EXPORT_FORMAT,
            "version": EXPORT_VERSION,
            "title": self.title(conversation),
            "messages": [
                {"role": entry.role, "text": entry.text, "pictures": [_base64(file) for file in entry.pictures]}
                for entry in entries
            ],
        }
        return json.dumps(fields, ensure_ascii=False, indent=1)

    def from_json(self, text: str | bytes) -> str:
        """Add an exported conversation, brought into order; its id. Raises NotAConversation, and then nothing is added."""
        try:
            fields = json.loads(text)
            if fields["format"] != EXPORT_FORMAT or fields["version"] != EXPORT_VERSION:
                raise NotAConversation("The file is not a conversation of a version that this Maya knows.")
            entries = _in_order(self._entry(message) for message in fields["messages"])
            title = str(fields["title"])
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            binascii.Error,
            ImageError,
            PromptError,
        ):
            raise NotAConversation("The file is not a conversation that Maya exported; choose another one.") from None
        conversation = self.create(title if title.strip() else entries[0].text)
        for entry in entries:
            self.append(conversation, entry)
        return conversation

    def _entry(self, message: Mapping[str, Any]) -> Entry:
        role, text = message["role"], message["text"]
        if role not in ("user", "assistant") or not isinstance(text, str):
            raise TypeError(role)
        if role == "user":
            clean_text(text)  # it must be possible to ask it
        data = [base64.b64decode(picture, validate=True) for picture in message["pictures"]]
        return Entry(role=role, text=_unbroken(text), pictures=tuple(self.keep_picture(picture) for picture in data))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own, so that any thread may call."""
        with _told():
            database = sqlite3.connect(self.folder / "history.sqlite", timeout=10)
            try:
                database.execute("PRAGMA foreign_keys = ON")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA secure_delete = ON")
                with database:
                    yield database
            finally:
                database.close()


@contextmanager
def _told() -> Iterator[None]:
    """What the disk and SQLite raise, as ours."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise HistoryUnavailable(
            f"Conversations cannot be kept ({type(error).__name__}); look for free space and for the right to write."
        ) from error


def shortened(title: str, most: int = TITLE_LENGTH) -> str:
    """One line of at most `most` characters, cut between words where that leaves half of it."""
    line = " ".join(_unbroken(title).split())
    if len(line) <= most:
        return line
    start = line[: most - 1]
    at_word = start.rsplit(" ", 1)[0]
    cut = at_word if len(at_word) > most // 2 else start
    return f"{_whole_letters(line, len(cut)).rstrip()}…"


def _whole_letters(line: str, most: int) -> str:
    """At most `most` characters of the line's start, cut where people see a letter end: not in a flag, between a letter and
    its marks, or behind a sign that binds two consonants into one."""
    end = 0
    for letter in regex.finditer(r"(?:\X(?<=\p{Canonical_Combining_Class=9}))*\X", line):
        if letter.end() > most:
            break
        end = letter.end()
    return line[:end]


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    """A conversation in which each answer follows a question: what is said twice in a row is one answer."""
    ordered: list[Entry] = []
    for entry in entries:
        if entry.role == "assistant" and not ordered:
            raise ValueError("an answer without a question")
        if entry.role == "assistant" and ordered[-1].role == "assistant":
            ordered[-1] = replace(ordered[-1], text=f"{ordered[-1].text}\n\n{entry.text}")
        else:
            ordered.append(entry)
    if not ordered:
        raise ValueError("nothing was said")
    return ordered


def _unbroken(text: str) -> str:
    """Without what a database cannot hold or look for: NUL, and the halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")


@lru_cache(maxsize=16384)
def _folded(text: str) -> str:
    """What `fold` makes of it; remembered, for every title is compared in every search."""
    return fold(_unbroken(text))


def _index_anew(database: sqlite3.Connection) -> None:
    """Fold all words again where an older Maya folded them otherwise."""
    if database.execute("PRAGMA user_version").fetchone() == (FOLDING,):
        return
    database.execute("DELETE FROM words")
    said = database.execute("SELECT id, text FROM messages").fetchall()
    database.executemany("INSERT INTO words (rowid, folded) VALUES (?, ?)", [(key, fold(text)) for key, text in said])
    database.execute(f"PRAGMA user_version = {FOLDING}")


def _found(database: sqlite3.Connection, term: str) -> set[str]:
    """Conversations in whose words a term occurs."""
    joined = "SELECT DISTINCT conversation FROM messages JOIN words ON words.rowid = messages.id WHERE "
    if len(term) < SHORTEST_INDEXED:
        rows: Sequence[tuple[str]] = database.execute(f"{joined} instr(folded, ?) > 0", (term,)).fetchall()
    else:
        quoted = term.replace('"', '""')
        rows = database.execute(f"{joined} words MATCH ?", (f'"{quoted}"',)).fetchall()
    return {conversation for (conversation,) in rows}


def _encoded(picture: Image.Image) -> tuple[bytes, str]:
    """The picture's file and its ending: exact where that is small."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    if buffer.tell() <= LARGEST_PNG:
        return buffer.getvalue(), "png"
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue(), "jpg"


def _base64(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode("ascii")
