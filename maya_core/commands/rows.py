"""A table of answers, CSV or JSON Lines, that grows row by row and that a later run goes on with."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from maya_core.errors import MayaError

ENDINGS = (".csv", ".jsonl")
MARK = "\ufeff"  # by which spreadsheets know that a CSV file is in UTF-8


@dataclass(frozen=True, kw_only=True)
class Row:
    """A picture, a question about it, and its answer in some language, or why there is none."""

    picture: str
    question: str
    answer: str = ""
    language: str = ""
    error: str = ""


COLUMNS = [field.name for field in fields(Row)]


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a row of a (picture, question) is in a file, and whether it has no answer. pair: None of the columns' names."""

    pair: tuple[str, str] | None
    failed: bool
    start: int
    end: int


class RowFile:
    """The rows in a file. done: (picture, question) of those that have an answer; failed: of those that have none. A row
    that was cut off as it was written is taken away. Raises MayaError where something else is in the file, or where it
    cannot be written."""

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise MayaError(f"{path.name} should end in {' or '.join(ENDINGS)}.")
        if path.exists() and not path.is_file():
            raise MayaError(f"{path} cannot be written (it is not a regular file); choose another file.")
        self.path, self.is_csv = path, path.suffix.lower() == ".csv"
        try:
            there = path.read_bytes() if path.exists() else b""
            rows = self._read(there)
            whole = rows[-1].end if rows else 0
            with path.open("ab") as file:
                file.truncate(whole)
                if self.is_csv and not whole:
                    file.write(f"{MARK}{_csv_line(COLUMNS)}".encode())
        except OSError as error:
            raise MayaError(f"{path} cannot be written ({error.strerror}); choose another file.") from None
        self.done = {row.pair for row in rows if row.pair and not row.failed}
        self.failed = {row.pair for row in rows if row.pair} - self.done

    def __contains__(self, pair: tuple[str, str]) -> bool:
        """Whether there is an answer of a (picture, question)."""
        return tuple(map(_written, pair)) in self.done

    def forget_failed(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Take away the rows without an answer of each (picture, question), which are asked again."""
        again = self.failed & {(_written(picture), _written(question)) for picture, question in pairs}
        if not again:
            return
        place = self.path.resolve()
        fresh = place.with_name(f".{place.name}.new")
        try:
            there = place.read_bytes()
            kept = (there[row.start : row.end] for row in self._read(there) if row.pair not in again)
            with fresh.open("wb") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(place, fresh)
            fresh.replace(place)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise MayaError(f"{self.path} cannot be written ({error.strerror}); make room, and try again.") from None
        self.failed -= again

    def add(self, rows: Sequence[Row]) -> None:
        """Put rows at the end; they are on the disk when this returns."""
        lines = [asdict(row) for row in rows]
        text = "".join(
            _csv_line(list(line.values())) if self.is_csv else f"{json.dumps(line, ensure_ascii=False)}\n"
            for line in lines
        )
        try:
            with self.path.open("ab") as file:
                file.write(_written(text).encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MayaError(
                f"{self.path} cannot be written ({error.strerror}); the same command goes on where it stopped."
            ) from None

    def _read(self, there: bytes) -> list[_Place]:
        """Where each row is that is whole; that of the columns' names is the first."""
        beginning = (f"{MARK}{','.join(COLUMNS)}" if self.is_csv else '{"picture": ').encode()
        if beginning.startswith(there):
            return []
        rows: list[_Place] = []
        read = 0

        def lines() -> Iterator[str]:
            nonlocal read
            for line in there.splitlines(keepends=True):
                read += len(line)
                yield line.decode()

        try:
            for row in _csv_rows(lines()) if self.is_csv else map(_json_row, lines()):
                if there[read - 1 : read] == b"\n":
                    pair = (_written(row["picture"]), _written(row["question"])) if row else None
                    start = rows[-1].end if rows else 0
                    rows.append(_Place(pair=pair, failed=bool(row.get("error")), start=start, end=read))
        except ValueError:  # of the file's last row, which was cut off, or of one that is not ours
            is_whole = not self.is_csv and there.endswith(b"\n")
            if read < len(there) or is_whole or not (rows or there.startswith(beginning)):
                raise MayaError(f"{self.path.name} holds something else; choose another file.") from None
        return rows


def _written(text: str) -> str:
    """What of a text can be in a file: bytes of a file's name that are no letters are spelled."""
    return text.encode("utf-8", "backslashreplace").decode()


def _csv_line(values: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def _csv_rows(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Rows by their columns' names; the names' own is an empty one. Raises ValueError for other tables."""
    try:
        for number, values in enumerate(csv.reader(lines, strict=True)):
            if (number == 0 and [values[0].removeprefix(MARK), *values[1:]] != COLUMNS) or len(values) != len(COLUMNS):
                raise ValueError("another table")
            yield dict(zip(COLUMNS, values, strict=True)) if number else {}
    except csv.Error as error:
        raise ValueError(str(error)) from None


def _json_row(line: str) -> dict[str, str]:
    row = json.loads(line)
    if not (isinstance(row, dict) and all(isinstance(row.get(name), str) for name in ("picture", "question"))):
        raise ValueError("another kind of line")
    return row
