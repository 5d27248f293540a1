"""Conversations on this computer: words in SQLite, pictures as files beside it, all of it for this user's eyes alone.

A write is on the disk when its call returns (WAL with full synchronisation), so that a crash loses no question. A turn has
an identity: an answer belongs to its question, and what is asked in place of another turn hides that one, which goes only
when the new question has a word of an answer.
"""

import base64
import binascii
import errno
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
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
LOCKED_SECONDS = 10.0  # how long another program's lock is waited for
SAVE_AGAIN_SECONDS = 2.0  # between two tries to keep an answer

SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, updated REAL NOT NULL, deleted REAL
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role TEXT NOT NULL, text TEXT NOT NULL, tokens INTEGER NOT NULL, seconds REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS turns (
    message INTEGER PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    answers INTEGER, replaced INTEGER, half INTEGER NOT NULL DEFAULT 0, waited REAL NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS pictures (
    message INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, file TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_of ON messages (conversation);
CREATE INDEX IF NOT EXISTS pictures_of ON pictures (message);
CREATE INDEX IF NOT EXISTS replaced_by ON turns (replaced);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(folded, tokenize = 'trigram');
CREATE TRIGGER IF NOT EXISTS forget_words AFTER DELETE ON messages BEGIN
    DELETE FROM words WHERE rowid = old.id;
END;
"""
# In `turns`, beside messages as an older Maya knows them, answers: the question's id; replaced: the id of the question that
# was asked in its place; half: an answer that was stopped; waited: seconds until its first word.
TURNS = """
SELECT id, role, text, tokens, seconds, coalesce(half, 0), coalesce(waited, 0) FROM messages LEFT JOIN turns ON message = id
WHERE conversation = ? AND replaced IS NULL ORDER BY coalesce(answers, id), id
"""


class HistoryUnavailable(MayaError):
    """Conversations cannot be read or written."""


class HistoryLocked(HistoryUnavailable):
    """Another program holds the file."""


class HistoryFull(HistoryUnavailable):
    """There is no space on the disk."""


class HistoryForbidden(HistoryUnavailable):
    """There is no right to write, or something else is in the folder's place."""


class HistoryDamaged(HistoryUnavailable):
    """The file is no database, or no longer whole."""


class PictureGone(MayaError):
    """The file of a kept picture is not there any more."""


class ConversationGone(MayaError):
    """It was deleted for good."""


class TurnGone(MayaError):
    """A turn is not there any more, or others have come after what was seen."""


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
    """One turn. pictures: files of the store, on the user's turns; tokens, seconds: of the assistant's, and waited: those
    until its first word; half: whether it was stopped before its end; id: of a turn that is kept."""

    role: Role
    text: str
    pictures: tuple[Path, ...] = ()
    tokens: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    half: bool = False
    id: int = field(default=0, compare=False)


class History:
    """All conversations, in `folder`, which is made for this user alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = folder / "pictures"
        self._unsaved: dict[int, tuple[str, Entry]] = {}  # question -> its conversation, and its answer
        self._saving: threading.Thread | None = None
        self._change = threading.Lock()
        with _told():
            self.pictures.mkdir(parents=True, exist_ok=True)
            for private in (folder, self.pictures):
                private.chmod(0o700)
            with self._open() as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(SCHEMA)
                _widen(database)
                _index_anew(database)
                for (question,) in database.execute("SELECT DISTINCT replaced FROM turns").fetchall():
                    _leave_unanswered(database, question)  # Maya ended while it was being answered

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
        """Erase what was deleted, or made and left empty, more than `older` seconds ago; and every picture that no
        conversation shows."""
        with self._open() as database:
            database.execute("DELETE FROM conversations WHERE deleted <= ?", (time.time() - older,))
            database.execute(
                "DELETE FROM conversations WHERE updated <= ? AND id NOT IN (SELECT conversation FROM messages)",
                (time.time() - older,),
            )
            shown = {file for (file,) in database.execute("SELECT file FROM pictures")}
        for file in self.pictures.iterdir():
            if file.name not in shown and file.stat().st_mtime <= time.time() - older:
                file.unlink(missing_ok=True)

    # --- one conversation ---

    def entries(self, conversation: str) -> list[Entry]:
        """Its turns, in order; with answers that could not be kept yet."""
        with self._open() as database:
            rows = database.execute(TURNS, (conversation,)).fetchall()
            files = {key: self._files(database, key) for key, *_ in rows}
        entries = [
            Entry(
                role=role,
                text=text,
                pictures=files[key],
                tokens=tokens,
                seconds=seconds,
                waited=waited,
                half=bool(half),
                id=key,
            )
            for key, role, text, tokens, seconds, half, waited in rows
        ]
        with self._change:
            unsaved = [(turn, answer) for turn, (of, answer) in self._unsaved.items() if of == conversation]
        return _with_unsaved(entries, unsaved)

    def _files(self, database: sqlite3.Connection, message: int) -> tuple[Path, ...]:
        found = database.execute("SELECT file FROM pictures WHERE message = ? ORDER BY rowid", (message,))
        return tuple(self.pictures / file for (file,) in found)

    def create(self, title: str) -> str:
        """A new, empty conversation; its id."""
        key = uuid.uuid4().hex
        with self._open() as database:
            database.execute("INSERT INTO conversations VALUES (?, ?, ?, NULL)", (key, shortened(title), time.time()))
        return key

    def begin(self, title: str, entries: Iterable[Entry]) -> str:
        """A new conversation of turns, each answer after its question; its id. A picture that others show too stays as long
        as any of them does."""
        conversation, question = uuid.uuid4().hex, 0
        with self._open() as database:
            fields = (conversation, shortened(title), time.time())
            database.execute("INSERT INTO conversations VALUES (?, ?, ?, NULL)", fields)
            for entry in entries:
                is_question = entry.role == "user"
                added = self._add(database, conversation, entry, None if is_question else question)
                question = added if is_question else question
        return conversation

    def forget(self, conversation: str) -> None:
        """Erase it, for good."""
        with self._open() as database:
            database.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def append(
        self, conversation: str, entry: Entry, *, instead_of: int | None = None, seen: Collection[int] = ()
    ) -> int:
        """Add a turn at the end; its id. A question brings a deleted conversation back.

        instead_of: a turn that is hidden, with all after it, until `keep_answer` or `take_back`; they are to be among
        `seen`. Raises ConversationGone, and TurnGone where there is no such turn or others have come since.
        """
        with self._open() as database:
            _require(database, conversation)
            replaced = _from(database, conversation, instead_of, seen) if instead_of is not None else ()
            added = self._add(database, conversation, entry)
            database.executemany(
                "INSERT INTO turns (message, replaced) VALUES (?, ?) ON CONFLICT DO UPDATE SET replaced = excluded.replaced",
                [(turn, added) for turn in replaced],
            )
            if entry.role == "user":
                database.execute("UPDATE conversations SET deleted = NULL WHERE id = ?", (conversation,))
        return added

    def _add(self, database: sqlite3.Connection, conversation: str, entry: Entry, answers: int | None = None) -> int:
        added = database.execute(
            "INSERT INTO messages (conversation, role, text, tokens, seconds) VALUES (?, ?, ?, ?, ?)",
            (conversation, entry.role, _unbroken(entry.text), entry.tokens, entry.seconds),
        ).lastrowid
        assert added is not None
        database.execute(
            "INSERT INTO turns (message, answers, half, waited) VALUES (?, ?, ?, ?)",
            (added, answers, entry.half, entry.waited),
        )
        database.executemany("INSERT INTO pictures VALUES (?, ?)", [(added, one.name) for one in entry.pictures])
        database.execute("INSERT INTO words (rowid, folded) VALUES (?, ?)", (added, _folded(entry.text)))
        database.execute("UPDATE conversations SET updated = ? WHERE id = ?", (time.time(), conversation))
        return added

    def keep_answer(self, conversation: str, question: int, answer: Entry) -> None:
        """An answer of a question, in place of one that it had. What the question was asked in place of is forgotten.

        Raises HistoryUnavailable; then the answer is among the `entries` all the same, and kept as soon as that can be.
        """
        try:
            self._keep_answer(conversation, question, answer)
            with self._change:
                self._unsaved.pop(question, None)
        except HistoryUnavailable:
            with self._change:
                self._unsaved[question] = (conversation, answer)
                if self._saving is None:
                    self._saving = threading.Thread(target=self._save_later, name="maya-save", daemon=True)
                    self._saving.start()
            raise

    def _keep_answer(self, conversation: str, question: int, answer: Entry) -> None:
        with self._open() as database:
            if not database.execute("SELECT 1 FROM messages WHERE id = ?", (question,)).fetchone():
                return  # it was deleted for good, and its answer with it
            database.execute(
                "DELETE FROM messages WHERE id IN (SELECT message FROM turns WHERE replaced = ? OR answers = ?)",
                (question, question),
            )
            self._add(database, conversation, answer, question)

    def save(self) -> None:
        """Keep what could not be kept before. Raises HistoryUnavailable."""
        with self._change:
            unsaved = list(self._unsaved.items())
        for question, (conversation, answer) in unsaved:
            self._keep_answer(conversation, question, answer)
            with self._change:
                if self._unsaved.get(question) == (conversation, answer):
                    del self._unsaved[question]

    def _save_later(self) -> None:
        while True:
            time.sleep(SAVE_AGAIN_SECONDS)
            with suppress(HistoryUnavailable):
                self.save()
            with self._change:
                if not self._unsaved:
                    self._saving = None
                    return

    def take_back(self, conversation: str, question: int) -> bool:
        """Take a question that has no answer out again, as if it had never been asked; whether anything else was said in the
        conversation, which goes otherwise."""
        with self._open() as database:
            _show_again(database, question)
            database.execute("DELETE FROM messages WHERE id = ?", (question,))
            left = database.execute("SELECT 1 FROM messages WHERE conversation = ?", (conversation,)).fetchone()
            if not left:
                database.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
        return left is not None

    def leave_unanswered(self, conversation: str, question: int) -> None:
        """A question has got no word of an answer: what it was asked in place of comes back before it, or, where the same
        was asked, instead of it."""
        with self._open() as database:
            _leave_unanswered(database, question)

    def revision(self, conversation: str) -> str:
        """Changes with all that is shown of a conversation; empty where it is not there, or deleted."""
        with self._open() as database:
            row = database.execute(
                "SELECT title, updated, (SELECT group_concat(id) FROM messages LEFT JOIN turns ON message = id "
                "WHERE conversation = ?1 AND replaced IS NULL) FROM conversations WHERE id = ?1 AND deleted IS NULL",
                (conversation,),
            ).fetchone()
        with self._change:
            unsaved = [turn for turn, (of, _) in self._unsaved.items() if of == conversation]
        return blake2b(repr((row, unsaved)).encode(), digest_size=8).hexdigest() if row else ""

    def keep_picture(self, source: str | Path | bytes) -> Path:
        """A copy of a picture with nothing but its pixels, under a name that says nothing. Raises ImageError, and
        PictureGone where there is none at its path."""
        if not isinstance(source, bytes) and not Path(source).exists():
            raise PictureGone("The picture's file is gone; add it again.")
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
                {"role": entry.role, "text": entry.text, "pictures": [_base64(file) for file in there(entry)]}
                | ({"half": True} if entry.half else {})
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
        return self.begin(title if title.strip() else entries[0].text, entries)

    def _entry(self, message: Mapping[str, Any]) -> Entry:
        role, text = message["role"], message["text"]
        if role not in ("user", "assistant") or not isinstance(text, str):
            raise TypeError(role)
        if role == "assistant" and message["pictures"]:
            raise ValueError("an answer that is a picture, which no model could read")
        if role == "user":
            clean_text(text)  # it must be possible to ask it
        data = [base64.b64decode(picture, validate=True) for picture in message["pictures"]]
        pictures = tuple(self.keep_picture(picture) for picture in data)
        return Entry(role=role, text=_unbroken(text), pictures=pictures, half=bool(message.get("half")))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own, so that any thread may call."""
        with _told():
            database = sqlite3.connect(self.folder / "history.sqlite", timeout=LOCKED_SECONDS)
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
        kind = _kind_of(error)
        raise kind(REMEDIES[kind].format(error=type(error).__name__)) from error


REMEDIES: Mapping[type[HistoryUnavailable], str] = {
    HistoryLocked: "Another program holds the file of Maya's conversations ({error}); close it, and try again.",
    HistoryFull: "Conversations cannot be kept, because the disk is full ({error}); make room, and try again.",
    HistoryForbidden: "Maya cannot write to its folders ({error}); look for free space and for the right to write.",
    HistoryDamaged: "The file of Maya's conversations, history.sqlite, is damaged ({error}); put a copy of yours in its"
    " place, or move it elsewhere to begin anew.",
    HistoryUnavailable: "Conversations cannot be kept ({error}); look for free space and for the right to write.",
}
SQLITE_KINDS: Mapping[int, type[HistoryUnavailable]] = {
    sqlite3.SQLITE_BUSY: HistoryLocked,
    sqlite3.SQLITE_LOCKED: HistoryLocked,
    sqlite3.SQLITE_FULL: HistoryFull,
    sqlite3.SQLITE_READONLY: HistoryForbidden,
    sqlite3.SQLITE_CANTOPEN: HistoryForbidden,
    sqlite3.SQLITE_PERM: HistoryForbidden,
    sqlite3.SQLITE_CORRUPT: HistoryDamaged,
    sqlite3.SQLITE_NOTADB: HistoryDamaged,
}
FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def _kind_of(error: sqlite3.Error | OSError) -> type[HistoryUnavailable]:
    if isinstance(error, OSError):
        return (
            HistoryFull if error.errno in FULL else HistoryForbidden if error.errno in FORBIDDEN else HistoryUnavailable
        )
    code = getattr(error, "sqlite_errorcode", None)  # none where Python itself refuses
    return SQLITE_KINDS.get(code & 0xFF, HistoryUnavailable) if code else HistoryUnavailable


def _require(database: sqlite3.Connection, conversation: str) -> None:
    if not database.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation,)).fetchone():
        raise ConversationGone("The conversation was deleted; begin a new one.")


def _from(database: sqlite3.Connection, conversation: str, first: int, seen: Collection[int]) -> list[int]:
    """The turns from `first` on. Raises TurnGone where it is not there, or one that was not seen."""
    turns = [turn for turn, *_ in database.execute(TURNS, (conversation,))]
    if first not in turns or not set(turns[turns.index(first) :]) <= set(seen):
        raise TurnGone("The conversation was changed meanwhile; look at it as it is now.")
    return turns[turns.index(first) :]


def _show_again(database: sqlite3.Connection, question: int) -> None:
    """What a question was asked in place of."""
    database.execute("UPDATE turns SET replaced = NULL WHERE replaced = ?", (question,))


def _leave_unanswered(database: sqlite3.Connection, question: int) -> None:
    said = "SELECT text FROM messages WHERE id = (SELECT min(message) FROM turns WHERE replaced = ?)"
    before = database.execute(said, (question,)).fetchone()
    _show_again(database, question)
    if before:
        database.execute("DELETE FROM messages WHERE id = ? AND text = ?", (question, *before))


def _with_unsaved(entries: Sequence[Entry], unsaved: Sequence[tuple[int, Entry]]) -> list[Entry]:
    """With each answer that is not kept yet after its question, in place of what it had."""
    shown = list(entries)
    for question, answer in unsaved:
        at = next((number for number, entry in enumerate(shown, start=1) if entry.id == question), None)
        if at is not None:
            end = at + (at < len(shown) and shown[at].role == "assistant")
            shown[at:end] = [answer]
    return shown


def there(entry: Entry) -> list[Path]:
    """Its pictures that are on the disk: their files can be deleted by hand."""
    return [file for file in entry.pictures if file.is_file()]


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


def _widen(database: sqlite3.Connection) -> None:
    """A database of an older Maya gets what it had no place for."""
    if "waited" not in {name for _, name, *_ in database.execute("PRAGMA table_info(turns)")}:
        database.execute("ALTER TABLE turns ADD COLUMN waited REAL NOT NULL DEFAULT 0")


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
