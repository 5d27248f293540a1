"""What classifiers found, kept so that a run goes on where it stopped and every removal has its reason."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from maya_core.errors import DataError, MayaError

Verdict = Literal["clean", "toxic", "unknown"]
Part = Literal["image", "text", "arbiter"]
FILE = "findings.sqlite3"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, id TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS records_id ON records (id);
CREATE TABLE IF NOT EXISTS findings (
    number INTEGER NOT NULL, part TEXT NOT NULL, verdict TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (number, part)
) WITHOUT ROWID;
"""


class ToxicityError(MayaError):
    """A classifier cannot be used, or what it found cannot be kept."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Of one part of a record. reason: labels with their scores, what a guard or an arbiter said, or what failed."""

    verdict: Verdict
    reason: str


def union(findings: Mapping[Part, Finding], wanted: Sequence[Part]) -> Verdict:
    """What a record is: toxic where any part is, clean where every wanted part is known to be, and unknown otherwise. An
    arbiter's verdict stands for a picture that was found toxic."""
    verdicts = {part: finding.verdict for part, finding in findings.items()}
    if verdicts.get("image") == "toxic" and "arbiter" in wanted:
        verdicts["image"] = verdicts.get("arbiter", "unknown")
    parts = [verdicts.get(part, "unknown") for part in wanted if part != "arbiter"]
    if "toxic" in parts:
        return "toxic"
    return "clean" if parts and all(verdict == "clean" for verdict in parts) else "unknown"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Records in the form of the paper's counts: toxic by image, by text, by either."""

    records: int
    image: int
    text: int
    union: int
    unknown: int

    @property
    def both(self) -> int:
        return self.image + self.text - self.union


class Findings:
    """One folder's findings. Raises ToxicityError where they cannot be kept."""

    def __init__(self, folder: Path, *, new: bool = True) -> None:
        if not new and not (folder / FILE).is_file():
            raise DataError(f"There are no findings in {folder}; `python -m training.toxicity scan` writes them.")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        with _told(folder):
            self._db = sqlite3.connect(folder / FILE)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def begin(self, facts: Mapping[str, str], records: Iterator[tuple[int, str, str]]) -> None:
        """Note what is looked at and with what; later the same must be. records: number, id as JSON, why it cannot be looked
        at. Raises DataError with the differences."""
        noted = self.facts
        differing = [name for name, value in facts.items() if noted and noted.get(name) != value]
        if differing:
            told = "; ".join(f"{name} was {noted.get(name)}, and is now {facts[name]}" for name in differing)
            raise DataError(
                f"{self.folder.name} was begun otherwise ({told}); go on with the same, or in another folder."
            )
        if noted:
            return
        with _told(self.folder), self._db:
            self._db.executemany("INSERT INTO records VALUES (?, ?, ?)", records)
            self._db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())

    @property
    def facts(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, value FROM facts"))

    @property
    def wanted(self) -> tuple[Part, ...]:
        """The parts of a record that are looked at."""
        parts: tuple[Part, ...] = ("image", "text", "arbiter")
        return tuple(part for part in parts if self.facts.get(part))

    def note(self, part: Part, found: Mapping[int, Finding]) -> None:
        """Keep what was found of a part of some records, all or none."""
        rows = ((number, part, finding.verdict, finding.reason) for number, finding in found.items())
        with _told(self.folder), self._db:
            self._db.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?)", rows)

    def open_numbers(self, part: Part) -> list[int]:
        """Records whose part is not known yet; for an arbiter, of those whose picture was found toxic."""
        condition = (
            "number IN (SELECT number FROM findings WHERE part = 'image' AND verdict = 'toxic')"
            if part == "arbiter"
            else "1"
        )
        rows = self._db.execute(
            f"SELECT number FROM records WHERE reason = '' AND {condition} AND number NOT IN "
            "(SELECT number FROM findings WHERE part = ? AND verdict != 'unknown') ORDER BY number",
            (part,),
        )
        return [number for (number,) in rows]

    def of(self, number: int) -> dict[Part, Finding]:
        rows = self._db.execute("SELECT part, verdict, reason FROM findings WHERE number = ?", (number,))
        return {part: Finding(verdict=verdict, reason=reason) for part, verdict, reason in rows}

    def verdicts(self) -> Iterator[tuple[int, str, Verdict, dict[Part, Finding]]]:
        """Number, id as JSON, verdict and findings of every record. One that cannot be looked at is unknown."""
        wanted = self.wanted
        for number, identity, reason in self._db.execute(
            "SELECT number, id, reason FROM records ORDER BY number"
        ).fetchall():
            unseen: dict[Part, Finding] = {"text": Finding(verdict="unknown", reason=reason)} if reason else {}
            found = unseen or self.of(number)
            yield number, identity, union(found, wanted), found

    def counts(self) -> Counts:
        wanted, total = self.wanted, Counter[str]()
        for _, _, verdict, found in self.verdicts():
            total["records"] += 1
            total[verdict] += 1
            for part in ("image", "text"):
                own = [one for one in wanted if one == part or (part == "image" and one == "arbiter")]
                total[f"{part} toxic"] += part in wanted and union(found, own) == "toxic"
        return Counts(
            records=total["records"],
            image=total["image toxic"],
            text=total["text toxic"],
            union=total["toxic"],
            unknown=total["unknown"],
        )

    def write_audit(self, file: Path) -> None:
        """A line for each record that is not clean, with what was found of it and by what."""
        facts = self.facts
        with file.open("w", encoding="utf-8") as opened:
            for number, identity, verdict, found in self.verdicts():
                if verdict == "clean":
                    continue
                line: dict[str, Any] = {"id": json.loads(identity), "record": number + 1, "verdict": verdict}
                line["findings"] = {
                    part: {"by": facts.get(part, ""), "verdict": finding.verdict, "reason": finding.reason}
                    for part, finding in found.items()
                }
                opened.write(json.dumps(line, ensure_ascii=False) + "\n")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise ToxicityError(
            f"The findings in {folder.name} cannot be used ({error}); look for free space and the right to write."
        ) from None
