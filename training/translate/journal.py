"""What is to be translated and what has become of it, in a SQLite file that survives a kill at any moment.

A text that is said in many records is one text, translated once a language. It is pending, in flight, done, or rejected with
a reason, and never two of these: each change is one transaction. In WAL mode these are safe when the process is killed;
when the power fails, the last ones may be gone as a whole, and are paid for again.

What is in flight has its call, with the tokens that it may take; so what is spent never goes over a budget, even if the
process is killed in between, when what is not known to have been used is counted as lost.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Self, get_args

from maya_core.errors import DataError, MayaError
from training.translate.texts import digest, shard_of

State = Literal["pending", "in flight", "done", "rejected"]
STATES: tuple[State, ...] = get_args(State)
FILE = "journal.sqlite3"
SHARD, SOURCE, LANGUAGES = (
    "shard",
    "source",
    "languages",
)  # facts: part k/n, from 0; digest of the source; those asked for
MOST_TRIES = 3  # of a text, each with a whole reply, before it is rejected
_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE records (number INTEGER PRIMARY KEY, id TEXT, folded TEXT, content BLOB NOT NULL, reason TEXT NOT NULL);
CREATE INDEX records_folded ON records (folded);
CREATE TABLE texts (text INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, source TEXT NOT NULL);
CREATE TABLE jobs (
    language TEXT NOT NULL, text INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'pending', tries INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '', translation TEXT, call INTEGER, PRIMARY KEY (language, text)
) WITHOUT ROWID;
CREATE INDEX jobs_pending ON jobs (language, tries, text) WHERE state = 'pending';
CREATE INDEX jobs_in_flight ON jobs (call) WHERE call IS NOT NULL;
CREATE TABLE calls (
    call INTEGER PRIMARY KEY, language TEXT NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL
);
CREATE TABLE spending (
    language TEXT NOT NULL, kind TEXT NOT NULL, calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, PRIMARY KEY (language, kind)
) WITHOUT ROWID;
"""


class JournalUnavailable(MayaError):
    """The journal cannot be written: the disk is full, or nothing may be written there."""


class Tokens(NamedTuple):
    """Of requests and of replies."""

    input: int = 0
    output: int = 0


Reserve = Callable[[str, Sequence[str]], Tokens]  # the most tokens that a request about texts into a language takes


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Texts on their way to the model. tries: replies that each has had before; those with some go alone."""

    call: int
    language: str
    texts: tuple[int, ...]
    sources: tuple[str, ...]
    tries: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What becomes of a text. translation: where it is done. reason: why not, otherwise. again: another try may mend it."""

    text: int
    translation: str | None = None
    reason: str = ""
    again: bool = True


class Journal:
    """One folder's journal. Everything happens in the process that holds the folder; others may read."""

    def __init__(self, folder: Path, *, new: bool = True) -> None:
        """new: make it where it is not. Raises DataError where there is none, JournalUnavailable."""
        self.folder = folder
        file = folder / FILE
        if not new and not file.is_file():
            raise DataError(f"There is no journal in {folder}; name the folder of a translation.")
        folder.mkdir(parents=True, exist_ok=True)
        with _told(folder):
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            if new:
                self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA busy_timeout = 10000")
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
                with self._transaction():
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing."""
        with _told(self.folder):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # SQLite has ended it itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read within is of one moment, whatever is written meanwhile."""
        with _told(self.folder):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    # --- what is to be done ---

    @property
    def facts(self) -> dict[str, str]:
        """What the translation was begun with."""
        return dict(self._db.execute("SELECT name, value FROM facts"))

    def agree(self, facts: Mapping[str, str]) -> None:
        """Note what the translation is begun with, or compare: one journal has one way. Raises DataError with the
        differences."""
        noted = self.facts
        differing = [name for name, value in facts.items() if name in noted and noted[name] != value]
        if differing:
            told = "; ".join(f"{name} was {noted[name]}, and is now {facts[name]}" for name in differing)
            raise DataError(
                f"{self.folder.name} was begun otherwise ({told}); go on with the same, or in another folder."
            )
        with self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", facts.items())

    def take_in(
        self, records: Iterable["Incoming"], languages: Sequence[str], *, source: str, shard: tuple[int, int]
    ) -> None:
        """Note the records of a source and all their texts, in one transaction. What is noted already stays as it is, so
        that a source that grew or was mended takes nothing back. source: its digest; the same one is not read again.

        shard: (k, n) leaves this journal with the k-th of n parts of the texts, from 0.
        """
        part, parts = shard
        taken = {SOURCE: source, LANGUAGES: " ".join(languages)}
        if taken.items() <= self.facts.items():
            return
        with self._transaction():
            self._db.execute("DELETE FROM records")
            for record in records:
                if self._note(record):
                    continue
                for words in record.texts:
                    key = digest(words)
                    if shard_of(key, parts) == part:
                        self._db.execute("INSERT OR IGNORE INTO texts (digest, source) VALUES (?, ?)", (key, words))
            for language in languages:
                self._db.execute("INSERT OR IGNORE INTO jobs (language, text) SELECT ?, text FROM texts", (language,))
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", taken.items())

    def _note(self, record: "Incoming") -> str:
        """Note a record; why it is refused, if it is. Of records with one id the first counts, and of ids that only case or
        normal form tells apart too."""
        reason = record.reason
        if record.id is not None and not reason:
            before = self._db.execute(
                "SELECT id, content FROM records WHERE folded = ? AND reason = '' ORDER BY number LIMIT 1",
                (record.folded,),
            ).fetchone()
            if before:
                is_same, is_copy = before[0] == record.id, before[1] == record.content
                reason = ("duplicate-id" if is_copy else "id-of-another") if is_same else "id-almost-of-another"
        self._db.execute(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
            (record.number, record.id, record.folded, record.content, reason),
        )
        return reason

    def refused_records(self) -> dict[int, str]:
        """Records that are not translated, by number, and why."""
        return dict(self._db.execute("SELECT number, reason FROM records WHERE reason != '' ORDER BY number"))

    # --- the work ---

    def recover(self) -> int:
        """Put back what a process that is gone had in flight, and count its calls as lost; how many there were."""
        with self._transaction():
            calls = self._db.execute("SELECT call, language, input_tokens, output_tokens FROM calls").fetchall()
            for call, language, *tokens in calls:
                self._close_call(call, language, "lost", Tokens(*tokens))
        return len(calls)

    def claim(self, languages: Sequence[str], most: int, reserve: Reserve) -> Claim | None:
        """Take the next pending texts, of the first language that has some, into flight; None where nothing is pending."""
        with self._transaction():
            language, rows = self._following(languages, most)
            if not rows:
                return None
            texts, sources = tuple(row[0] for row in rows), tuple(row[1] for row in rows)
            call = self._db.execute(
                "INSERT INTO calls (language, input_tokens, output_tokens) VALUES (?, ?, ?)",
                (language, *reserve(language, sources)),
            ).lastrowid
            assert call is not None
            self._db.executemany(
                "UPDATE jobs SET state = 'in flight', call = ? WHERE language = ? AND text = ?",
                ((call, language, text) for text in texts),
            )
        return Claim(call=call, language=language, texts=texts, sources=sources, tries=rows[0][2])

    def following(self, languages: Sequence[str], most: int, reserve: Reserve) -> Tokens:
        """What `claim` would reserve now."""
        language, rows = self._following(languages, most)
        return reserve(language, [row[1] for row in rows]) if rows else Tokens()

    def _following(self, languages: Sequence[str], most: int) -> tuple[str, list[tuple[int, str, int]]]:
        """Texts with their sources and tries."""
        for language in languages:
            rows: list[tuple[int, str, int]] = self._db.execute(
                "SELECT text, source, tries FROM jobs JOIN texts USING (text) WHERE language = ? AND state = 'pending' "
                "ORDER BY tries, text LIMIT ?",
                (language, most),
            ).fetchall()
            if rows:
                return language, [row for row in rows if not row[2]] or rows[:1]
        return "", []

    def finish(self, claim: Claim, results: Iterable[Result], tokens: Tokens) -> list[tuple[State, str]]:
        """Note what a call brought, and what it cost; the state and the reason of each of its texts. One that has had its
        tries is rejected."""
        states: list[tuple[State, str]] = []
        with self._transaction():
            for result in results:
                state: State = "done"
                if result.translation is None:
                    state = "pending" if result.again and claim.tries + 1 < MOST_TRIES else "rejected"
                self._db.execute(
                    "UPDATE jobs SET state = ?, reason = ?, translation = ?, tries = tries + 1, call = NULL "
                    "WHERE language = ? AND text = ? AND call = ?",
                    (state, result.reason, result.translation, claim.language, result.text, claim.call),
                )
                states.append((state, result.reason))
            self._close_call(claim.call, claim.language, "answered", tokens)
        return states

    def put_back(self, claim: Claim, *, is_lost: bool) -> None:
        """Texts whose call brought nothing wait as before. is_lost: it may have been paid for."""
        with self._transaction():
            row = self._db.execute(
                "SELECT input_tokens, output_tokens FROM calls WHERE call = ?", (claim.call,)
            ).fetchone()
            self._close_call(
                claim.call, claim.language, "lost" if is_lost else "unanswered", Tokens(*row) if is_lost else Tokens()
            )

    def _close_call(self, call: int, language: str, kind: str, tokens: Tokens) -> None:
        self._db.execute("UPDATE jobs SET state = 'pending', call = NULL WHERE call = ?", (call,))
        self._db.execute("DELETE FROM calls WHERE call = ?", (call,))
        self._db.execute(
            "INSERT INTO spending VALUES (?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + 1, "
            "input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens",
            (language, kind, *tokens),
        )

    def try_again(self, reasons: Sequence[str] = ()) -> int:
        """Make what was rejected pending, all of it or for such reasons; how many there were."""
        chosen = json.dumps(list(reasons))
        with self._transaction():
            return self._db.execute(
                "UPDATE jobs SET state = 'pending', tries = 0, reason = '' WHERE state = 'rejected' "
                "AND (? = '[]' OR reason IN (SELECT value FROM json_each(?)))",
                (chosen, chosen),
            ).rowcount

    # --- what has become of it ---

    def translation(self, language: str, text_digest: bytes) -> tuple[State, str, str | None] | None:
        """State, reason and translation of a text; None where it is not in this journal."""
        row: tuple[State, str, str | None] | None = self._db.execute(
            "SELECT state, reason, translation FROM jobs WHERE language = ? "
            "AND text = (SELECT text FROM texts WHERE digest = ?)",
            (language, text_digest),
        ).fetchone()
        return row

    def counts(self) -> dict[str, dict[State, int]]:
        """How many texts of each language are in each state."""
        found: dict[str, dict[State, int]] = {}
        for language, state, count in self._db.execute("SELECT language, state, count(*) FROM jobs GROUP BY 1, 2"):
            found.setdefault(language, dict.fromkeys(STATES, 0))[state] = count
        return found

    def reasons(self) -> dict[str, dict[str, int]]:
        """Why texts of each language were rejected."""
        found: dict[str, dict[str, int]] = {}
        rows = self._db.execute("SELECT language, reason, count(*) FROM jobs WHERE state = 'rejected' GROUP BY 1, 2")
        for language, reason, count in rows:
            found.setdefault(language, {})[reason] = count
        return found

    def letters_pending(self) -> dict[str, tuple[int, int]]:
        """Texts that wait in each language, and their letters."""
        rows = self._db.execute(
            "SELECT language, count(*), sum(length(source)) FROM jobs JOIN texts USING (text) "
            "WHERE state = 'pending' GROUP BY 1"
        )
        return {language: (count, letters) for language, count, letters in rows}

    def letters_done(self) -> dict[str, int]:
        """Letters of the texts of each language that are done."""
        rows = self._db.execute(
            "SELECT language, sum(length(source)) FROM jobs JOIN texts USING (text) WHERE state = 'done' GROUP BY 1"
        )
        return dict(rows)

    def spent(self, kind: str | None = None) -> dict[str, Tokens]:
        """Tokens of each language's calls; kind: answered, unanswered or lost."""
        rows = self._db.execute(
            "SELECT language, sum(input_tokens), sum(output_tokens) FROM spending WHERE ?1 IS NULL OR kind = ?1 GROUP BY 1",
            (kind,),
        )
        return {language: Tokens(*tokens) for language, *tokens in rows}

    def committed(self) -> Tokens:
        """Tokens that were spent, may have been, or may be on what is in flight."""
        row = self._db.execute(
            "SELECT sum(input_tokens), sum(output_tokens) FROM "
            "(SELECT input_tokens, output_tokens FROM spending UNION ALL SELECT input_tokens, output_tokens FROM calls)"
        ).fetchone()
        return Tokens(row[0] or 0, row[1] or 0)

    def calls(self, kind: str) -> int:
        """How many calls ended so."""
        return int(
            self._db.execute("SELECT coalesce(sum(calls), 0) FROM spending WHERE kind = ?", (kind,)).fetchone()[0]
        )


@dataclass(frozen=True, kw_only=True)
class Incoming:
    """A record of a source as the journal notes it. id: as JSON; folded: the same for ids that nearly agree. content: a
    digest of it all. reason: why it is not translated. texts: what is translated of it."""

    number: int
    id: str | None = None
    folded: str | None = None
    content: bytes = b""
    reason: str = ""
    texts: tuple[str, ...] = ()


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """SQLite's complaints about the disk as a sentence."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise JournalUnavailable(
            f"The journal in {folder.name} cannot be used ({error}); look for free space and the right to write. "
            "What was done is kept."
        ) from None
