"""Records in columns: Parquet, and the Arrow files of `datasets`. pyarrow reads them, and never a whole file: how many
records there are stands in its footer, their languages in a column, and of a record its row group alone is read.

What has row groups too large to be read for a record is written into the cache once, as a file that is mapped.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from maya_core.errors import DataError
from maya_core.learning.formats import TURNS, turns_of
from maya_core.learning.record_index import Records, cache_folder, index_of, made_in_cache, unreadable_index
from maya_core.learning.tables import conversation_of, named_columns

PARQUET, ARROW = ".parquet", ".arrow"
COLUMNAR = (PARQUET, ARROW)
LARGE = 1 << 26  # bytes of a row group, beyond which it is not read again and again
_AT_ONCE = 64  # rows of one that is large
_LABELS_AT_ONCE = 1 << 16  # rows of a column of languages
_BUFFER = 1 << 20  # bytes
_BLOCKS = 1024  # of a file, which tell it from others


class ColumnFile(Records):
    """The records of a Parquet or an Arrow file by number; one whose columns are no conversations, but a question and its
    answer or a picture and its text, becomes a conversation."""

    def __init__(
        self, path: Path, *, columns: Mapping[str, str] = MappingProxyType({}), cache: Path | None = None
    ) -> None:
        """columns: by what they are for, where they are named otherwise than `tables.COLUMNS` says. cache: folder for
        what is made of a file with large row groups. Raises DataError where the file cannot be read, or pyarrow is absent.
        """
        self.path, self.columns, self.cache = path, dict(columns), cache
        self._process = 0
        self._file: Any = None  # a Parquet file, or the batches of one of Arrow
        self._named: dict[str, str] | None = None
        self._rows: Any = None  # those of one row group
        self._group = -1
        _pyarrow(path)
        try:
            status = path.stat()
            self._identity = status.st_size, status.st_mtime_ns
            self._open()
            languages, language_N, corrupt_N = self._labels()
            self.index = index_of(*self._identity, languages, language_N, corrupt_N)
        except _arrow_errors() as error:
            sentence = f"it cannot be read to its end ({str(error).splitlines()[0][:80]}); get it again."
            self.index = unreadable_index(*self._identity, "torn", sentence)
        except OSError as error:
            raise DataError(
                f"{path.name} cannot be read ({type(error).__name__}); check the path.", kind="file"
            ) from None

    def __getitem__(self, number: int) -> dict[str, Any]:
        self._require_number(number)
        if self._process != os.getpid():  # an open file is not shared with a process that was forked off
            self._open()
        group = bisect_right(self._starts, number) - 1
        if group != self._group:
            try:
                self._rows, self._group = self._read(group), group
            except _arrow_errors(OSError) as error:
                said = str(error).splitlines()[0][:80]
                raise DataError(
                    f"{self.place(number)}: it cannot be read ({said}); get the file again.", kind="torn"
                ) from None
        [row] = self._rows.slice(number - self._starts[group], 1).to_pylist()
        return row if self._named is None else conversation_of(self.path, row, self._named)

    def mark(self) -> str:
        """By its size and blocks at even distances: such files are as large as their pictures."""
        size = self._identity[0]
        seen = hashlib.sha256(str(size).encode())
        with self.path.open("rb") as file:
            for block in range(_BLOCKS):
                file.seek(block * max(0, size - _BUFFER // 16) // (_BLOCKS - 1))
                seen.update(file.read(_BUFFER // 16))
        return seen.hexdigest()

    # --- what pyarrow has open ---

    def _open(self) -> None:
        status = self.path.stat()
        if (status.st_size, status.st_mtime_ns) != self._identity:
            raise self._changed()
        place = self.path
        if place.suffix.lower() == PARQUET and _has_large_groups(place):
            place = _as_arrow(place, self._identity, self.cache)
        if place.suffix.lower() == PARQUET:
            self._file = _parquet(place)
            self._schema, about = self._file.schema_arrow, self._file.metadata
            sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
        else:
            self._schema, self._file = _batches(place)
            sizes = [batch.num_rows for batch in self._file]
        self._starts = [0, *accumulate(sizes)][:-1]
        self._length = sum(sizes)
        self._group = -1
        self._named = self._columns_by_use()
        self._process = os.getpid()

    def _read(self, group: int) -> Any:
        if isinstance(self._file, list):
            return self._file[group]
        return self._file.read_row_group(group, use_threads=False)

    def _columns_by_use(self) -> dict[str, str] | None:
        """Which column is for what; None where there are conversations."""
        names = self._schema.names
        lists: dict[str, list[Any]] = {name: [] for name in names if _is_list(self._schema.field(name).type)}
        is_said = set(names) & set(TURNS) or turns_of(lists) is not None
        return None if is_said else named_columns(self.path, names, self.columns)

    def _labels(self) -> tuple[list[str], Any, Any]:
        """The `language` fields there are ("" first), which one each record has, and which records are corrupt."""
        language = "language" if self._named is None else self._named.get("language", "")
        languages, language_N = {"": 0}, np.zeros(self._length, np.int32)
        corrupt_N = np.zeros(self._length, np.bool_)
        for start, stop, values in self._column(language):
            for value in values.unique().to_pylist():
                if isinstance(value, str):
                    number = languages.setdefault(value, len(languages))
                    language_N[start:stop][_equal(values, value)] = number
        for start, _, values in self._column("corrupt"):
            corrupt_N[[start + place for place, value in enumerate(values.to_pylist()) if value]] = True
        return list(languages), language_N, corrupt_N

    def _column(self, name: str) -> Iterator[tuple[int, int, Any]]:
        """A column part by part, with where each begins and ends; nothing where there is no such column."""
        if name not in self._schema.names:
            return
        parts = self._file
        if not isinstance(parts, list):
            parts = self._file.iter_batches(_LABELS_AT_ONCE, columns=[name], use_threads=False)
        start = 0
        for part in parts:
            values = part.column(name)
            yield start, start + len(values), values
            start += len(values)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("path", "columns", "cache", "index", "_identity")} | {
            "_process": 0,
            "path": self.path.absolute(),
        }


# --- pyarrow, which is not always there ---


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            f"{path.name} is read by pyarrow, which is not installed: pip install -e '.[parquet]'.", kind="file"
        ) from None
    return pyarrow


def _arrow_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    from pyarrow import ArrowException

    return (ArrowException, *others)


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind))


def _parquet(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)


def _has_large_groups(path: Path) -> bool:
    about = _parquet(path).metadata
    return any(about.row_group(group).total_byte_size > LARGE for group in range(about.num_row_groups))


def _batches(path: Path) -> tuple[Any, list[Any]]:
    """Schema and batches of a file of Arrow, mapped: `datasets` writes streams, others files."""
    import pyarrow

    mapped = pyarrow.memory_map(str(path))
    if mapped.read(6) == b"ARROW1":
        file = pyarrow.ipc.open_file(mapped)
        return file.schema, [file.get_batch(number) for number in range(file.num_record_batches)]
    mapped.seek(0)
    stream = pyarrow.ipc.open_stream(mapped)
    return stream.schema, list(stream)


def _as_arrow(path: Path, identity: tuple[int, int], cache: Path | None) -> Path:
    """What a Parquet file holds as an Arrow file in the cache, written a few rows at a time."""
    import pyarrow

    seen = hashlib.sha256(f"{path.absolute()} {identity}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    made = (cache or cache_folder()) / f"{seen}{ARROW}"
    if made.is_file():
        return made
    file = _parquet(path)
    with (
        made_in_cache(made, path) as fresh,
        pyarrow.OSFile(str(fresh), "wb") as sink,
        pyarrow.ipc.new_stream(sink, file.schema_arrow) as stream,
    ):
        for batch in file.iter_batches(_AT_ONCE, use_threads=False):
            stream.write_batch(batch)
    return made


def _equal(values: Any, value: str) -> Any:
    from pyarrow import compute

    return compute.fill_null(compute.equal(values.cast("string"), value), False).to_numpy(zero_copy_only=False)
