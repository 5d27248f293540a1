"""A table of answers, CSV or JSON Lines, that grows row by row and that a later run goes on with."""

import csv
import io
import json
import os
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


class RowFile:
    """The rows in a file. done: (picture, question) of those that are there. A row that was cut off as it was written is
    taken away. Raises MayaError where something else is in the file, or where it cannot be written."""

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in ENDINGS:
            raise MayaError(f"{path.name} should end in {' or '.join(ENDINGS)}.")
        self.path, self.is_csv = path, path.suffix.lower() == ".csv"
        try:
            there = path.read_bytes() if path.exists() else b""
            rows, whole = self._read(there)
            with path.open("ab") as file:
                file.truncate(whole)
                if self.is_csv and not whole:
                    file.write(f"{MARK}{_csv_line(COLUMNS)}".encode())
        except OSError as error:
            raise MayaError(f"{path} cannot be written ({error.strerror}); choose another file.") from None
        self.done = {(_written(row["picture"]), _written(row["question"])) for row in rows}

    def __contains__(self, pair: tuple[str, str]) -> bool:
        """Whether there is a row of a (picture, question)."""
        return tuple(map(_written, pair)) in self.done

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

    def _read(self, there: bytes) -> tuple[list[dict[str, str]], int]:
        """The rows, and in how many bytes the whole ones are."""
        beginning = (f"{MARK}{','.join(COLUMNS)}" if self.is_csv else '{"picture": ').encode()
        if beginning.startswith(there):
            return [], 0
        rows: list[dict[str, str]] = []
        whole = read = 0

        def lines() -> Iterator[str]:
            nonlocal read
            for line in there.splitlines(keepends=True):
                read += len(line)
                yield line.decode()

        try:
            for row in _csv_rows(lines()) if self.is_csv else map(_json_row, lines()):
                if there[read - 1 : read] == b"\n":
                    rows, whole = [*rows, row] if row else rows, read
        except ValueError:  # of the file's last row, which was cut off, or of one that is not ours
            if read < len(there) or not (whole or there.startswith(beginning)):
                raise MayaError(f"{self.path.name} holds something else; choose another file.") from None
        return rows, whole


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
    if not isinstance(row, dict) or not {"picture", "question"} <= row.keys():
        raise ValueError("another kind of line")
    return row
