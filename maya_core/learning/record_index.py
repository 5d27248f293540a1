"""Where each record of a training file stands: found in one pass without parsing, kept in a cache, memory-mapped.

A file is a JSON list, or JSON Lines. Record i of n lies between the bytes `cuts[i]` and `cuts[i + 1]`; these are the
brackets and commas of the list, or the ends of lines. So 4.4 million records cost 70 MB of disk and next to no memory.
"""

import codecs
import hashlib
import json
import mmap
import os
import re
import tempfile
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import platformdirs
from numpy.typing import NDArray

from maya_core.errors import DataError, DiskFull
from maya_core.weights.durable import digest, is_full, replaced

Offsets = NDArray[np.int64]
Data = mmap.mmap | bytes  # of a whole file
Progress = Callable[[int, int], None]  # bytes done, bytes in all

CHUNK = 1 << 18  # bytes; a chunk and what is computed from it stay in the processor's cache
BOM = b"\xef\xbb\xbf"
_VERSION = 1  # of the cache's layout
_WHITESPACE = b" \t\r\n"
_QUOTE, _COMMA, _BACKSLASH, _NEWLINE = b'",\\\n'
_OPEN, _CLOSE = b"{}"  # with bit 5 set, "[" and "]" become these
_BIT_5 = np.uint8(0x20)
_SHORTEST = 64  # bytes; no record with a conversation is shorter, so only such lines can be blank
# Keys that are wanted before a record is parsed. A quote right before and after makes it a key or a whole string.
_CORRUPT = b'"corrupt"'
LANGUAGE = "language"  # unless another key is named
_AS_WRITTEN = b'"corrupt": false'
_MAYBE_CORRUPT = re.compile(rb'"corrupt"(?!\s*:\s*(false|null))')
_NOT_WHITESPACE = re.compile(rb"[^ \t\r\n]")
_SPREAD = re.compile(rb"\s*\{[ \t\r]*\n")  # a record that goes on in the next line


def no_progress(done: int, size: int) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class IndexFacts:
    """What an index says beside its numbers.

    size, mtime_ns: of the file it describes. records: all there are. usable, corrupt: how many of each `language` field,
    "" where there is none. damage: the kind and the sentence of what is wrong with the file as a whole, or two times "".
    """

    size: int
    mtime_ns: int
    records: int
    usable: dict[str, int]
    corrupt: dict[str, int]
    damage: tuple[str, str]
    version: int = _VERSION


@dataclass(frozen=True, kw_only=True)
class RecordIndex:
    """cuts: (records + 1,) byte offsets; none where records stand in columns. usable: numbers of the records to train on,
    those of one language together in the order of `facts.usable`. corrupt: numbers of the others. cached: whether all this
    is mapped from a cache file.
    """

    facts: IndexFacts
    cuts: Offsets
    usable: Offsets
    corrupt: Offsets
    cached: bool = False


class Records(ABC):
    """The records of one file by number, from 0; each is read when it is asked for. It can be pickled.

    `damage` is the DataError that says what is wrong with the file as a whole (cut off, NUL bytes at its end), or None;
    the records before the damage can be read.
    """

    path: Path
    index: RecordIndex

    def __len__(self) -> int:
        """How many records there are, corrupt ones too."""
        return self.index.facts.records

    @abstractmethod
    def __getitem__(self, number: int) -> dict[str, Any]:
        """The record; raises DataError where it cannot be read."""

    @abstractmethod
    def mark(self) -> str:
        """What two files share where their content is the same."""

    @property
    def damage(self) -> DataError | None:
        kind, sentence = self.index.facts.damage
        return DataError(f"{self.path.name}: {sentence}", kind=kind) if kind else None

    def place(self, number: int) -> str:
        """The file and the record's place in it, counted from 1, as a message names them."""
        return f"{self.path.name}, record {number + 1}"

    def _require_number(self, number: int) -> None:
        if not 0 <= number < len(self):
            raise IndexError(f"{self.path.name} has {len(self)} records; there is no number {number}.")

    def _changed(self) -> DataError:
        return DataError(f"{self.path.name} was changed while it was in use; start again.", kind="changed")


class RecordFile(Records):
    """The records of a JSON list or of JSON Lines. Opening one that was indexed before takes milliseconds; what is mapped is
    mapped again where it was pickled."""

    def __init__(
        self,
        path: Path,
        *,
        cache: Path | None = None,
        language: str = LANGUAGE,
        chunk_bytes: int = CHUNK,
        on_progress: Progress = no_progress,
    ) -> None:
        """cache: folder for indexes; by default in the platform's folder for caches. language: the key under which a record
        says its own. Raises DataError where the file cannot be read."""
        self.path = path
        self.cache = cache
        self.language = language
        self.index = open_index(path, cache=cache, language=language, chunk_bytes=chunk_bytes, on_progress=on_progress)
        self._data: Data | None = None

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The record; raises DataError where it is not a JSON object."""
        self._require_number(number)
        start, stop = self.index.cuts[number : number + 2]
        try:
            record = _parsed(self._mapped()[start + 1 : stop])
        except (ValueError, RecursionError):
            raise DataError(f"{self.place(number)}: it is not valid JSON in UTF-8.", kind="not-json") from None
        if not isinstance(record, dict):
            raise DataError(f"{self.place(number)}: it is not a JSON object.", kind="not-json")
        return record

    def mark(self) -> str:
        return digest(self.path)

    def _mapped(self) -> Data:
        if self._data is None:
            with self.path.open("rb") as file:
                if _identity(file) != (self.index.facts.size, self.index.facts.mtime_ns):
                    raise self._changed()
                self._data = _map(file)
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        index = self.index
        return {
            "path": self.path.absolute(),
            "cache": self.cache,
            "language": self.language,
            "facts": index.facts,
            "index": None if index.cached else index,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path, self.cache, self._data = state["path"], state["cache"], None
        self.language = state["language"]
        self.index = state["index"] or open_index(self.path, cache=self.cache, language=self.language)
        if self.index.facts != state["facts"]:
            raise self._changed()


# --- the cache: a line of JSON, then cuts, usable and corrupt as little-endian int64 ---


def open_index(
    path: Path,
    *,
    cache: Path | None = None,
    language: str = LANGUAGE,
    chunk_bytes: int = CHUNK,
    on_progress: Progress = no_progress,
) -> RecordIndex:
    """The index of a file: from the cache where it is of the same path, size and time, else made and put there.

    Where the cache cannot be written, the index stays in memory. Raises DataError where the file cannot be read.
    """
    kept = _cache_file(path, cache, language)
    try:
        with path.open("rb") as file:
            size, mtime_ns = _identity(file)
            index = _load(kept, size, mtime_ns)
            if index is None:
                index = build_index(file, language=language, chunk_bytes=chunk_bytes, on_progress=on_progress)
                if _store(kept, index):
                    index = _load(kept, size, mtime_ns) or index
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__}); check the path.", kind="file") from None
    return index


def cache_folder() -> Path:
    """The folder for indexes where none is named."""
    return Path(platformdirs.user_cache_dir("maya")) / "records"


@contextmanager
def made_in_cache(made: Path, source: Path) -> Iterator[Path]:
    """A file to write what is made of `source`, which becomes `made` where it is whole. Raises DiskFull, or DataError where
    nothing can be written there."""
    can_be_written = False
    try:
        with replaced(made) as fresh:
            fresh.touch()
            can_be_written = True
            yield fresh
    except OSError as error:
        if not is_full(error) and can_be_written:
            raise
        folder, why = made.parent, "the disk is full" if is_full(error) else type(error).__name__
        kind = DiskFull if is_full(error) else DataError
        raise kind(
            f"What is made of {source.name} cannot be kept in {folder} ({why}); make room for it there."
        ) from None


def _cache_file(path: Path, cache: Path | None, language: str) -> Path:
    folder, seen = cache or cache_folder(), os.fsencode(path.absolute())
    if language != LANGUAGE:
        seen += b"\0" + language.encode()
    return folder / f"{hashlib.sha256(seen).hexdigest()[:32]}.index"


def _identity(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _load(kept: Path, size: int, mtime_ns: int) -> RecordIndex | None:
    """The index in a cache file; None where there is none, or it is of another state of the file, or damaged."""
    try:
        with kept.open("rb") as file:
            header = file.readline()
        fields = json.loads(header)
        facts = IndexFacts(**(fields | {"damage": tuple(fields["damage"])}))
        numbers = np.asarray(np.memmap(kept, "<i8", "r", offset=len(header)))
    except (OSError, ValueError, TypeError, LookupError):
        return None
    ends = np.cumsum([facts.records + 1, sum(facts.usable.values()), sum(facts.corrupt.values())])
    if (facts.size, facts.mtime_ns, facts.version, len(numbers)) != (size, mtime_ns, _VERSION, ends[-1]):
        return None
    cuts, usable, corrupt = np.split(numbers, ends[:-1])
    return RecordIndex(facts=facts, cuts=cuts, usable=usable, corrupt=corrupt, cached=True)


def _store(kept: Path, index: RecordIndex) -> bool:
    """Write a cache file, whole or not at all; False where the disk does not let us."""
    header = json.dumps(asdict(index.facts)).encode()
    header += b" " * (-(len(header) + 1) % 8) + b"\n"
    fresh = ""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix=kept.stem, delete=False) as file:
            fresh = file.name
            file.write(header)
            for numbers in (index.cuts, index.usable, index.corrupt):
                file.write(numbers.astype("<i8", copy=False).data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, kept)
    except OSError:
        if fresh:
            Path(fresh).unlink(missing_ok=True)
        return False
    return True


# --- making an index ---


def build_index(
    file: BinaryIO, *, language: str = LANGUAGE, chunk_bytes: int = CHUNK, on_progress: Progress = no_progress
) -> RecordIndex:
    """Read a file once, from its start to its end, and say where its records are. language: the key that says it."""
    size, mtime_ns = _identity(file)
    data = _map(file)
    if _is_utf_16(data):
        return unreadable_index(size, mtime_ns, "encoding", "it is in UTF-16; save it as UTF-8.")
    start, is_list = _beginning(data)
    if not is_list and _SPREAD.match(data, start):
        why = "it is one object, or its records have several lines each; save them as a list, or each on a line."
        return unreadable_index(size, mtime_ns, "not-json", why)
    scanner = ListScanner() if is_list else LineScanner()
    file.seek(start)
    keys = [json.dumps(language, ensure_ascii=is_ascii).encode() for is_ascii in (True, False)]
    cuts, flags = _scan(file, scanner, start, lambda at: on_progress(at, size), chunk_bytes, [*dict.fromkeys(keys)])
    cuts, damage = _end_of_list(data, cuts, scanner.closed) if is_list else _end_of_lines(data, cuts)
    return index_of(size, mtime_ns, *_labels(data, cuts, flags, language), cuts=cuts, damage=damage)


def index_of(
    size: int,
    mtime_ns: int,
    languages: list[str],
    language_N: NDArray[np.int32],
    corrupt_N: NDArray[np.bool_],
    *,
    cuts: Offsets | None = None,
    damage: tuple[str, str] = ("", ""),
) -> RecordIndex:
    """The index of records of which it is known which of `languages` each has, and whether it is corrupt."""
    usable = np.flatnonzero(~corrupt_N)
    if len(languages) > 1:
        usable = usable[np.argsort(language_N[usable], kind="stable")]
    return RecordIndex(
        facts=IndexFacts(
            size=size,
            mtime_ns=mtime_ns,
            records=len(corrupt_N),
            usable=_counted(languages, language_N[~corrupt_N]),
            corrupt=_counted(languages, language_N[corrupt_N]),
            damage=damage,
        ),
        cuts=np.empty(0, np.int64) if cuts is None else cuts,
        usable=usable,
        corrupt=np.flatnonzero(corrupt_N),
    )


def unreadable_index(size: int, mtime_ns: int, kind: str, sentence: str) -> RecordIndex:
    """The index of a file of which no record can be read."""
    nothing = np.empty(0, np.int64)
    facts = IndexFacts(size=size, mtime_ns=mtime_ns, records=0, usable={}, corrupt={}, damage=(kind, sentence))
    return RecordIndex(facts=facts, cuts=np.zeros(1, np.int64), usable=nothing, corrupt=nothing)


class LineScanner:
    """Finds the ends of lines."""

    closed = False

    def feed(self, chunk: bytes) -> Offsets:
        return np.flatnonzero(np.frombuffer(chunk, np.uint8) == _NEWLINE)


class ListScanner:
    """Finds the commas between the elements of a JSON list, and its closing bracket, chunk by chunk.

    Only what stands outside strings counts, and a quote is a string's border unless an odd run of backslashes precedes
    it. The list's own bracket is the first byte fed; `closed` is true once its partner was.
    """

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._in_string = False
        self._escaped = False  # whether the chunk before ends in an odd run of backslashes

    def feed(self, chunk: bytes) -> Offsets:
        """Offsets in this chunk of the commas at depth 1 and of the bracket that closes the list."""
        bytes_N = np.frombuffer(chunk, np.uint8)
        folded_N = bytes_N | _BIT_5
        marks_N = folded_N == _OPEN
        marks_N |= folded_N == _CLOSE
        marks_N |= bytes_N == _COMMA
        marks_N &= self._outside_strings(bytes_N)
        places = np.flatnonzero(marks_N)
        return self._cuts(places, folded_N[places])

    def _outside_strings(self, bytes_N: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """For each byte, but for quotes, whether it stands outside strings; takes the state on to the next chunk."""
        quotes_N = bytes_N == _QUOTE
        quotes_N[0] &= not self._escaped
        behind = np.flatnonzero(quotes_N[1:] & (bytes_N[:-1] == _BACKSLASH)) + 1
        quotes_N[behind] = False  # right for a single backslash; a run of them, or one at the chunk's start, is counted
        for place in behind[(behind == 1) | (bytes_N[behind - 2] == _BACKSLASH)]:
            quotes_N[place] = not self._escaped_at(bytes_N, int(place))
        in_string_N = _odd_so_far(quotes_N) ^ self._in_string
        self._escaped = self._escaped_at(bytes_N, len(bytes_N))
        self._in_string = bool(in_string_N[-1])
        return ~in_string_N

    def _escaped_at(self, bytes_N: NDArray[np.uint8], place: int) -> bool:
        """Whether an odd run of backslashes ends right before the place."""
        start = place
        while start and bytes_N[start - 1] == _BACKSLASH:
            start -= 1
        return bool((place - start) % 2) ^ (self._escaped and not start)

    def _cuts(self, places: Offsets, kinds: NDArray[np.uint8]) -> Offsets:
        """Of the marks outside strings, those that part the list's elements."""
        steps = (kinds == _OPEN).astype(np.int8)
        steps -= kinds == _CLOSE
        depths = np.cumsum(steps, dtype=np.int64)
        depths += self._depth
        if len(depths):
            self._depth = int(depths[-1])
        ends = np.flatnonzero(depths == 0)
        if len(ends):
            self.closed = True
            places, kinds, depths = places[: ends[0] + 1], kinds[: ends[0] + 1], depths[: ends[0] + 1]
        cuts: Offsets = places[((kinds == _COMMA) & (depths == 1)) | (depths == 0)]
        return cuts


def _odd_so_far(marks_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the number of marks up to and with each place is odd.

    64 places are computed at once, as the bits of a word, which is far faster than a running sum over bytes.
    """
    packed = np.packbits(marks_N, bitorder="little")
    words = np.concatenate([packed, np.zeros(-len(packed) % 8, np.uint8)]).view("<u8")
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(shift)
    odd = words >> np.uint64(63)
    odd_before = np.bitwise_xor.accumulate(odd) ^ odd
    words ^= np.uint64(0) - odd_before  # all bits of a word turn over where the words before it are odd
    return np.unpackbits(words.view(np.uint8), count=len(marks_N), bitorder="little").view(np.bool_)


def _is_utf_16(data: Data) -> bool:
    return data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or data[:4].count(0) == 2


def _beginning(data: Data) -> tuple[int, bool]:
    """Where the records begin, and whether they are a list: the place of its bracket, or of the first line."""
    start = len(BOM) if data[: len(BOM)] == BOM else 0
    first = _NOT_WHITESPACE.search(data, start)
    if first and first[0] == b"[":
        return first.start(), True
    return start, False


def _scan(
    file: BinaryIO,
    scanner: LineScanner | ListScanner,
    start: int,
    on_progress: Callable[[int], None],
    chunk_bytes: int,
    keys: Sequence[bytes],
) -> tuple[Offsets, Offsets]:
    """The cuts, the first of them before `start` or at the list's bracket, and the places of keys wanted at once. keys: of
    the language, as they may be written."""
    cuts = array("q", [start if isinstance(scanner, ListScanner) else start - 1])
    flags = array("q")
    at, overlap = start, b""
    while not scanner.closed and (chunk := file.read(chunk_bytes)):
        cuts.frombytes((scanner.feed(chunk) + at).astype(np.int64, copy=False).tobytes())
        window = overlap + chunk
        flags.extend(at - len(overlap) + place for place in _flag_places(window, keys))
        overlap = window[1 - max(map(len, (_CORRUPT, *keys))) :]
        at += len(chunk)
        on_progress(at)
    return np.array(cuts, np.int64), np.array(flags, np.int64)


def _flag_places(window: bytes, keys: Sequence[bytes]) -> Iterator[int]:
    """Where keys stand that say more than `"corrupt": false`, which PALO writes into every record."""
    if window.count(_CORRUPT) > window.count(_AS_WRITTEN):
        yield from (match.start() for match in _MAYBE_CORRUPT.finditer(window))
    for key in keys:
        place = window.find(key)
        while place >= 0:
            yield place
            place = window.find(key, place + 1)


def _end_of_list(data: Data, cuts: Offsets, closed: bool) -> tuple[Offsets, tuple[str, str]]:
    """Damage where the list has no end, or where more than whitespace follows it."""
    end = int(cuts[-1])
    if not closed:
        return cuts, (
            "torn",
            f"the list is cut off: record {len(cuts)}, from byte {end + 1}, or the list itself has no end; "
            "get the file again, or mend it there.",
        )
    if len(cuts) == 2 and not data[cuts[0] + 1 : end].strip(_WHITESPACE):
        cuts = cuts[:1]
    rest = _NOT_WHITESPACE.search(data, end + 1)
    if not rest:
        return cuts, ("", "")
    what = "NUL bytes follow" if rest[0] == b"\0" else "something follows"
    return cuts, ("torn", f"{what} the end of the list at byte {end}; get the file again, or cut it there.")


def _end_of_lines(data: Data, cuts: Offsets) -> tuple[Offsets, tuple[str, str]]:
    """Take out blank lines, and add the last line if it has no end; damage where that one is not whole."""
    cuts = _without_blank_lines(data, cuts)
    last = int(cuts[-1]) + 1
    line = data[last:]
    if not line.strip(_WHITESPACE):
        return cuts, ("", "")
    try:
        _parsed(line)
    except (ValueError, RecursionError):
        ending = "ends in NUL bytes" if line.endswith(b"\0") else "is cut off"
        return cuts, (
            "torn",
            f"its last line, record {len(cuts)} from byte {last}, {ending}; get the file again, or cut it there.",
        )
    return np.append(cuts, len(data)), ("", "")


def _without_blank_lines(data: Data, cuts: Offsets) -> Offsets:
    """A blank line becomes part of the record after it, which JSON does not mind."""
    short = np.flatnonzero(np.diff(cuts) <= _SHORTEST)
    blank = [n + 1 for n in short if not data[cuts[n] + 1 : cuts[n + 1]].strip(_WHITESPACE)]
    return np.delete(cuts, blank) if blank else cuts


def _labels(
    data: Data, cuts: Offsets, flags: Offsets, key: str
) -> tuple[list[str], NDArray[np.int32], NDArray[np.bool_]]:
    """The `language` fields there are ("" first: none), which one each record has, and which records are corrupt.

    Only records with such a key are parsed; those that cannot be are left for the reader to refuse by name.
    """
    records = len(cuts) - 1
    languages = {"": 0}
    language_N, corrupt_N = np.zeros(records, np.int32), np.zeros(records, np.bool_)
    numbers = np.unique(np.searchsorted(cuts, flags, side="right") - 1)
    for number in numbers[numbers < records]:
        try:
            record = _parsed(data[cuts[number] + 1 : cuts[number + 1]])
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            language = record.get(key)
            language_N[number] = languages.setdefault(language if isinstance(language, str) else "", len(languages))
            corrupt_N[number] = bool(record.get("corrupt"))
    return list(languages), language_N, corrupt_N


def _counted(languages: list[str], language_N: NDArray[np.int32]) -> dict[str, int]:
    counts = np.bincount(language_N, minlength=len(languages))
    return {language: int(count) for language, count in zip(languages, counts, strict=True) if count}


def _map(file: BinaryIO) -> Data:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if _identity(file)[0] else b""


def _parsed(data: bytes) -> Any:
    """The JSON value in UTF-8 `data`; ValueError or RecursionError where there is none."""
    return json.loads(data.decode("utf-8"))
