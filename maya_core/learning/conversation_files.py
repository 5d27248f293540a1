"""Files of conversations as one data set: several of them with weights, their languages mixed, a part of them taken."""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maya_core.errors import DataError
from maya_core.learning.column_files import COLUMNAR, ColumnFile
from maya_core.learning.data_languages import UNKNOWN, file_language, language_label
from maya_core.learning.formats import find_picture, in_llavas_form, sources
from maya_core.learning.record_index import BOM, Offsets, Progress, Records, no_progress
from maya_core.learning.records import conversation
from maya_core.learning.splits import TRAIN, Tell, files_in, no_tell
from maya_core.learning.tables import TABLES, as_conversations, open_json
from maya_core.weights.durable import digest

if TYPE_CHECKING:
    from maya_core.learning.data import Sample

SUFFIXES = (".json", ".jsonl", *TABLES, *COLUMNAR)
NATURAL, BALANCED = 1.0, 0.0  # languages as often as there are records of them; all languages equally often
_HEAD = 4096  # bytes that tell what a file is
_PACKED = {
    "gzip": b"\x1f\x8b",
    "zip, as spreadsheets are": b"PK\x03\x04",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh",
    "xz": b"\xfd7zXZ\0",
}
SEEN = 500  # records whose pictures' content tells data sets apart
Narrowed = dict[tuple[int, int], Offsets]  # by file and first of a part: of its records those that are chosen


@dataclass(frozen=True)
class DataSource:
    """A file or a folder of files. weight: how often each of its records stands in an epoch, 0.3 for three of ten."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, written: str) -> "DataSource":
        """`PATH` or `PATH:WEIGHT`. Raises ValueError for a weight that cannot be."""
        path, colon, weight = written.rpartition(":")
        if not colon or Path(written).exists():
            return cls(Path(written))
        try:
            number = float(weight)
        except ValueError:  # a drive, or a colon of the name
            return cls(Path(written))
        if not 0 < number < float("inf"):
            raise ValueError(f"The weight of {path} is {weight}; it must be finite and above 0.")
        return cls(Path(path), number)

    def __str__(self) -> str:
        return str(self.path) if self.weight == 1 else f"{self.path}:{self.weight:g}"


def data_files(
    source: Path,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    splits: Sequence[str] = (TRAIN,),
    cache: Path | None = None,
    tell: Tell = no_tell,
) -> list[Path]:
    """Files of conversations: the file itself, or those in the folder by name, or what is made of them.

    columns: see `tables.as_conversations`. splits, tell: see `splits.files_in`. Raises DataError where there are none.
    """
    found = [source] if source.is_file() else files_in(source, SUFFIXES, splits=splits, tell=tell)
    made = [file for path in found if (file := _readable(path, columns, cache))]
    if not made:
        *most, last = SUFFIXES
        raise DataError(
            f"{source.name} is neither a file nor a folder with {', '.join(most)} or {last} files.", kind="file"
        )
    return made


def _readable(path: Path, columns: Mapping[str, str], cache: Path | None) -> Path | None:
    try:
        _require_readable(path)
        return as_conversations(path, columns=columns, cache=cache)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read ({type(error).__name__}); check the path.", kind="file") from None


def _require_readable(path: Path) -> None:
    """DataError for a file that is packed, or of a kind that is not known."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if packed := next((name for name, magic in _PACKED.items() if head.startswith(magic)), None):
        raise DataError(f"{path.name} is packed ({packed}); unpack it, or save a spreadsheet as CSV.", kind="file")
    if path.suffix.lower() not in SUFFIXES and not head.removeprefix(BOM).lstrip().startswith((b"{", b"[")):
        *most, last = SUFFIXES
        raise DataError(f"{path.name} is none of {', '.join(most)} and {last}; give data in one of them.", kind="file")


@dataclass(frozen=True, kw_only=True)
class LanguageCount:
    """records: to choose from. places: in an epoch. corrupt: records that are left out because they say so."""

    records: int = 0
    places: int = 0
    corrupt: int = 0

    @property
    def repeats(self) -> int:
        """Places beyond one a record."""
        return self.places - self.records


class LanguagePart(NamedTuple):
    """The records of one language in one file. file: its number. first, last: where in the file's usable records they begin
    and end. before: how many of the language's are chosen in the parts before."""

    file: int
    first: int
    last: int
    before: int


@dataclass(frozen=True, kw_only=True)
class LanguageSpan:
    """The places `start` up to `stop` of an epoch are of one language in one source, which has so many records in these
    parts."""

    language: str
    start: int
    stop: int
    records: int
    parts: tuple[LanguagePart, ...]


class ConversationFiles:
    """The conversations of files by their place in an epoch.

    mixing: NATURAL has every record once an epoch. BALANCED gives every language the places of the largest, whose records
    stand once each; those of the others are repeated, each as often as its neighbour or once more. A number between
    gives a language of n records, where the largest has N, N (n/N)^mixing places (XLM-R's smoothing, arXiv 1911.02116).
    A source's weight multiplies all this.

    Languages stand one after the other (`languages`); the shuffle is `data.sample_index`'s. Corrupt records are left out.
    It can be pickled, as workers need it.
    """

    def __init__(
        self,
        source: Path | Sequence[DataSource],
        images: Path,
        *,
        mixing: float = NATURAL,
        captions: bool = False,
        add_markers: bool = False,
        columns: Mapping[str, str] = MappingProxyType({}),
        splits: Sequence[str] = (TRAIN,),
        cache: Path | None = None,
        on_progress: Progress = no_progress,
        tell: Tell = no_tell,
    ) -> None:
        """images: folder that the records' pictures are in. captions, add_markers: see `records.conversation`. columns: see
        `tables.as_conversations`. splits, tell: see `splits.files_in`. cache, on_progress: see `RecordFile`.

        Raises DataError where a file is damaged, names two languages, or nothing is left to train on.
        """
        if not 0 <= mixing <= 1:
            raise ValueError(
                f"mixing is {mixing}; it must lie between {BALANCED:g} (balanced) and {NATURAL:g} (natural)."
            )
        self.images, self.mixing, self.captions, self.add_markers = images, mixing, captions, add_markers
        self.sources = (DataSource(source),) if isinstance(source, Path) else tuple(source)
        by_source = [
            data_files(one.path, columns=columns, splits=splits, cache=cache, tell=tell) for one in self.sources
        ]
        self._source_of = [number for number, paths in enumerate(by_source) for _ in paths]
        paths = [path for paths in by_source for path in paths]
        self.files = open_files(paths, columns=columns, cache=cache, on_progress=on_progress)
        for file in self.files:
            if file.damage:
                raise file.damage
        self._narrowed: Narrowed = {}
        self._mix()

    def __len__(self) -> int:
        """Places in an epoch."""
        return self.languages[-1].stop

    def __getitem__(self, index: int) -> "Sample":
        """Raises DataError, which names file, record and id, where the record or one of its pictures cannot be used."""
        file, number = self.locate(index)
        language = self.language(index)
        return conversation(
            file[number],
            self.images,
            place=file.place(number),
            captions=self.captions,
            add_markers=self.add_markers,
            language=None if language == UNKNOWN else language,
        )

    def language(self, index: int) -> str:
        """The code of the language at a place; UNKNOWN where neither file nor record says it."""
        return self._span(index).language

    def locate(self, index: int) -> tuple[Records, int]:
        """The file of the record at a place, and its number there."""
        span = self._span(index)
        record = (index - span.start) * span.records // (span.stop - span.start)
        part = span.parts[bisect_right(span.parts, record, key=lambda part: part.before) - 1]
        return self.files[part.file], int(self._numbers(part)[record - part.before])

    def records(self, file: int) -> Offsets:
        """The numbers of a file's records that stand in an epoch, from the first on."""
        found = [self._numbers(part) for _, part in self._parts() if part.file == file]
        return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)

    def report(self) -> dict[str, LanguageCount]:
        """Exact counts of each language."""
        records: dict[str, int] = defaultdict(int)
        places: dict[str, int] = defaultdict(int)
        corrupt: dict[str, int] = defaultdict(int)
        for span in self.languages:
            records[span.language] += span.records
            places[span.language] += span.stop - span.start
        for file in self.files:
            for language, count in _by_language(file, file.index.facts.corrupt):
                corrupt[language] += count
        return {
            language: LanguageCount(
                records=records.get(language, 0), places=places.get(language, 0), corrupt=corrupt.get(language, 0)
            )
            for language in dict.fromkeys([*records, *corrupt])
        }

    def fingerprint(self) -> str:
        """What two data sets share where the same is learnt from them: by the content of their files, and of some of their
        pictures."""
        seen = hashlib.sha256()
        for number, file in enumerate(self.files):
            seen.update(f"{self.sources[self._source_of[number]].weight} {file.mark()}\n".encode())
        for index in range(0, len(self), -(-len(self) // SEEN)):
            file, number = self.locate(index)
            seen.update(self._pictures_of(file, number))
        return seen.hexdigest()

    def _pictures_of(self, file: Records, number: int) -> bytes:
        """Digests of a record's pictures, as far as they can be read."""
        try:
            record = in_llavas_form(file[number])
        except DataError:
            return b""
        own = sources(record.get("image"))
        found = [there for name in own if isinstance(name, str) and (there := find_picture(name, self.images))]
        return "".join(map(digest, found)).encode() + b"".join(one for one in own if isinstance(one, bytes))

    # --- a part of them ---

    def take(self, number: int, *, seed: int) -> None:
        """Keep so many records, drawn by the seed, as many of each language as there can be."""
        counts = {language: count.records for language, count in self.report().items() if count.records}
        self._keep(_shares(counts, number), seed)

    def split(self, share: float, *, seed: int) -> "ConversationFiles":
        """Take a share of each language's records out, at least one of each language that has two; returns them as a data
        set of their own, each once."""
        counts = {language: count.records for language, count in self.report().items()}
        held, rest = copy(self), dict(self._narrowed)
        held._keep({language: max(round(count * share), int(count > 1)) for language, count in counts.items()}, seed)
        for _, part in self._parts():
            key = part.file, part.first
            rest[key] = np.setdiff1d(self._numbers(part), held._narrowed[key], assume_unique=True)
        held.mixing, held.sources = NATURAL, tuple(DataSource(one.path) for one in held.sources)
        held._mix()
        self._narrowed = rest
        self._mix()
        return held

    def leave_out(self, records: Mapping[int, Sequence[int]]) -> None:
        """Go on without some records, by number of file. Raises DataError where none is left."""
        narrowed = dict(self._narrowed)
        for _, part in self._parts():
            numbers, left_out = self._numbers(part), np.asarray(records.get(part.file, ()), np.int64)
            narrowed[part.file, part.first] = numbers[~np.isin(numbers, left_out)]
        self._narrowed = narrowed
        self._mix()

    def _keep(self, shares: Mapping[str, int], seed: int) -> None:
        """Of each language so many records, drawn by the seed."""
        pooled: dict[str, list[tuple[tuple[int, int], Offsets]]] = defaultdict(list)
        for span, part in self._parts():
            pooled[span.language].append(((part.file, part.first), self._numbers(part)))
        narrowed: Narrowed = {}
        for language, parts in sorted(pooled.items()):
            ends = np.cumsum([len(numbers) for _, numbers in parts])
            drawn = np.random.default_rng([seed, *language.encode()]).permutation(int(ends[-1]))[: shares[language]]
            for (key, numbers), end in zip(parts, ends, strict=True):
                own = drawn[(drawn < end) & (drawn >= end - len(numbers))] - (end - len(numbers))
                narrowed[key] = numbers[np.sort(own)]
        self._narrowed = narrowed
        self._mix()

    def _numbers(self, part: LanguagePart) -> Offsets:
        """Which of its file's records a part has."""
        narrowed = self._narrowed.get((part.file, part.first))
        return self.files[part.file].index.usable[part.first : part.last] if narrowed is None else narrowed

    def _parts(self) -> Iterator[tuple[LanguageSpan, LanguagePart]]:
        return ((span, part) for span in self.languages for part in span.parts)

    # --- an epoch ---

    def _mix(self) -> None:
        spans: list[LanguageSpan] = []
        for number, source in enumerate(self.sources):
            files = [file for file, of_source in enumerate(self._source_of) if of_source == number]
            spans += self._spans(files, source.weight, start=spans[-1].stop if spans else 0)
        self.languages = tuple(spans)
        if not spans:
            names = ", ".join(source.path.name for source in self.sources)
            raise DataError(f"{names} has no record that can be trained on.", kind="no-records")

    def _spans(self, files: Sequence[int], weight: float, *, start: int) -> Iterator[LanguageSpan]:
        parts: dict[str, list[LanguagePart]] = defaultdict(list)
        records: dict[str, int] = defaultdict(int)
        for number in files:
            first = 0
            for language, usable in _by_language(self.files[number], self.files[number].index.facts.usable):
                part = LanguagePart(number, first, first + usable, records.get(language, 0))
                first = part.last
                if count := len(self._numbers(part)):
                    parts[language].append(part)
                    records[language] += count
        most = max(records.values(), default=0)
        for language, count in records.items():
            stop = start + max(1, round(weight * most * (count / most) ** self.mixing))
            yield LanguageSpan(language=language, start=start, stop=stop, records=count, parts=tuple(parts[language]))
            start = stop

    def _span(self, index: int) -> LanguageSpan:
        if not 0 <= index < len(self):
            raise IndexError(f"An epoch has {len(self)} places; there is no place {index}.")
        return self.languages[bisect_right(self.languages, index, key=lambda span: span.stop)]


def open_files(
    paths: Sequence[Path],
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    cache: Path | None = None,
    on_progress: Progress = no_progress,
) -> list[Records]:
    """The files, indexed where they were not; on_progress hears of bytes of all of them. columns: see `ColumnFile`."""
    sizes = [path.stat().st_size for path in paths]
    opened: list[Records] = []
    for number, path in enumerate(paths):
        before = sum(sizes[:number])

        def in_all(done: int, _: int, before: int = before) -> None:
            on_progress(before + done, sum(sizes))

        if path.suffix.lower() in COLUMNAR:
            opened.append(ColumnFile(path, columns=columns, cache=cache))
        else:
            opened.append(open_json(path, columns=columns, cache=cache, on_progress=in_all))
        on_progress(before + sizes[number], sum(sizes))
    return opened


def _by_language(file: Records, counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Counts by `language` field as counts by language; the field wins over the file's name."""
    for field, count in counts.items():
        yield language_label(field) if field.strip() else file_language(file.path), count


def _shares(counts: Mapping[str, int], number: int) -> dict[str, int]:
    """How many of each language make `number` records: as many of each, as far as they go."""
    shares, left = {}, number
    for place, (language, count) in enumerate(sorted(counts.items(), key=lambda item: (item[1], item[0]))):
        shares[language] = min(count, left // (len(counts) - place))
        left -= shares[language]
    return shares
