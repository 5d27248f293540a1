"""The check of training data, the same in `training.validate` and before a run's first step.

Every defect that would stop the run or leave a record out of it is found, by kind and place, and some that a person should
look at. Pictures are decoded to their end by several processes; those found good are remembered by file, size and time.
"""

import hashlib
import multiprocessing
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from maya_core.errors import DataError, ImageError, ImageShapeUnsupported, ImageTooLarge, PromptTooLong
from maya_core.hardware import cores
from maya_core.languages import LANGUAGES
from maya_core.learning.column_files import ColumnFile
from maya_core.learning.data_languages import UNKNOWN, file_language, language_label
from maya_core.learning.formats import Record, Source, find_picture, in_llavas_form, sources
from maya_core.learning.record_index import Records, cache_folder
from maya_core.learning.records import Defect, answers, defects, messages, missing_picture, shown_id
from maya_core.model.images import check_image, open_image
from maya_core.model.prompt import MAYA_V1_SYSTEM

if TYPE_CHECKING:
    from maya_core.model.processor import MayaProcessor
    from maya_core.model.prompt import Message

# Records with one of these can be trained on, or say themselves that they are to be left out.
HARMLESS = ("corrupt", "duplicate-id", "wrong-language", "answer-cut")
PLACES = 3  # of each kind that are shown
ENOUGH = 10  # letters; fewer may be a name, a number or an option
WINDOW = 512  # records that are read, and whose pictures are looked at, together
WITH_PICTURES = 64  # of those that hold their pictures themselves
TURN = 16  # tokens that a turn has beside its words, at most
GOOD = "pictures.good"  # in the cache
FEW = 64  # pictures; fewer are not worth a process
# A letter of each script of ISO 15924 in which one of the languages is written.
_LETTERS = {
    "Latn": re.compile("[A-Za-zÀ-ɏ]"),
    "Cyrl": re.compile("[Ѐ-ӿ]"),
    "Deva": re.compile("[ऀ-ॿ]"),
    "Beng": re.compile("[ঀ-৿]"),
    "Arab": re.compile("[؀-ۿݐ-ݿﭐ-﷿ﹰ-ﻼ]"),
    "Hans": re.compile("[㐀-鿿]"),
    "Jpan": re.compile("[぀-ヿ㐀-鿿]"),
}
_SCRIPTS = {language.code: language.script for language in LANGUAGES}

OnRecord = Callable[[int], None]  # records checked since the last call


@dataclass
class Kind:
    """How many defects of one kind there are, where they are, and what the first one's sentence says."""

    count: int = 0
    places: list[str] = field(default_factory=list)
    sentence: str = ""


@dataclass
class LanguageTally:
    """Records of one language: all, those that cannot be trained on, and those marked corrupt."""

    records: int = 0
    unusable: int = 0
    corrupt: int = 0


@dataclass
class Findings:
    """What was found. damaged: files that are not whole. unusable_in: numbers of the records that cannot be trained on, by
    number of file. most_places: of each kind that are kept, None for all."""

    kinds: dict[str, Kind] = field(default_factory=lambda: defaultdict(Kind))
    languages: dict[str, LanguageTally] = field(default_factory=lambda: defaultdict(LanguageTally))
    damaged: int = 0
    unusable_in: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    most_places: int | None = PLACES

    @property
    def records(self) -> int:
        return sum(tally.records for tally in self.languages.values())

    @property
    def unusable(self) -> int:
        return sum(tally.unusable for tally in self.languages.values())

    @property
    def corrupt(self) -> int:
        return sum(tally.corrupt for tally in self.languages.values())

    @property
    def can_train(self) -> bool:
        return self.records > self.corrupt and not self.unusable and not self.damaged

    def note(self, kind: str, place: str, sentence: str = "") -> None:
        found = self.kinds[kind]
        found.count += 1
        found.sentence = found.sentence or sentence
        if self.most_places is None or len(found.places) < self.most_places:
            found.places.append(place)

    def advice(self) -> str:
        """One sentence: what to do."""
        if self.can_train:
            left_out = f"; {self.corrupt:,} that are marked corrupt are left out" if self.corrupt else ""
            return f"All {self.records - self.corrupt:,} records can be trained on{left_out}."
        if not self.unusable and not self.damaged:
            return "There is no record to train on; check the path."
        damaged = f" and {self.damaged} damaged files" if self.damaged else ""
        return (
            f"Not to be trained on: {self.unusable:,} of {self.records:,} records{damaged}; "
            "mend them or take them out (--write-clean of `training.validate` does, --skip-bad goes without), "
            "then check again."
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "unusable": self.unusable,
            "damaged_files": self.damaged,
            "kinds": {kind: vars(found) for kind, found in self.kinds.items()},
            "languages": {code: vars(tally) for code, tally in self.languages.items()},
        }

    def tables(self) -> Iterator[Table]:
        if self.kinds:
            kinds = Table("defect", "count", "first places", "of the first", title="Defects")
            for kind, found in sorted(self.kinds.items(), key=lambda item: -item[1].count):
                kinds.add_row(
                    kind, f"{found.count:,}", escape("\n".join(found.places[:PLACES])), escape(found.sentence)
                )
            yield kinds
        languages = Table("language", "records", "cannot be trained on", "corrupt", title="Languages")
        for code, tally in self.languages.items():
            languages.add_row(escape(code), f"{tally.records:,}", f"{tally.unusable:,}", f"{tally.corrupt:,}")
        yield languages


# --- one record ---


@dataclass(frozen=True, kw_only=True)
class RecordChecks:
    """What is checked of a record.

    pictures: None where they are not looked at. processor: None where lengths are not. max_length: tokens that are kept.
    captions, add_markers: see `records.conversation`.
    """

    pictures: "PictureChecks | None" = None
    processor: "MayaProcessor | None" = None
    max_length: int | None = None
    captions: bool = False
    add_markers: bool = False

    def read(self, record: Record) -> Record:
        """The record in the form that is checked."""
        return in_llavas_form(record, add_markers=self.add_markers)

    def __call__(self, record: Record, language: str) -> Iterator[Defect]:
        """All defects of a record that was `read` and is not marked corrupt."""
        formal = self.formal(record)
        yield from formal
        kinds = {defect.kind for defect in formal}
        if self.pictures and not kinds & {"missing-keys", "no-conversation", "picture-outside", "picture-address"}:
            yield from self.pictures(record)
        if not kinds:
            yield from wrong_language(record, language)
        if not kinds and self.processor:
            yield from self._length(record, self.processor)

    def formal(self, record: Record) -> list[Defect]:
        """Those that the record shows by itself."""
        return list(defects(record, captions=self.captions, images=self.pictures.folder if self.pictures else None))

    def _length(self, record: Record, processor: "MayaProcessor") -> Iterator[Defect]:
        turns = messages(record, [Path()] * len(sources(record.get("image"))))
        if self.max_length and _most_tokens(turns, processor.image_slots) <= self.max_length:
            return  # not worth tokenising
        encode = partial(processor.encode, turns, answer_next=False, prompt_format="caption" if self.captions else None)
        try:
            kept = len(encode(max_length=self.max_length).input_ids)
            is_cut = kept == self.max_length and len(encode(max_length=kept + 1).input_ids) > kept
        except PromptTooLong as error:
            yield Defect("too-long", str(error))
            return
        if is_cut:
            yield Defect("answer-cut", f"what follows its first {kept} tokens is not learnt; raise --max-length.")


def _most_tokens(turns: Sequence["Message"], slots: int) -> int:
    """More than a conversation can take: a token is a byte at least, and a turn has a few of its own."""
    written = sum(len(turn.text.encode("utf-8", "replace")) + len(turn.images) * (slots + 1) + TURN for turn in turns)
    return written + len(MAYA_V1_SYSTEM) + TURN


class PictureChecks:
    """Whether pictures are there and can be read, to their end or by their headers.

    Those last found good are remembered by hash in a table of fixed size (the languages share their pictures), and on the
    disk from run to run.
    """

    REMEMBERED = 1 << 21

    def __init__(self, folder: Path, *, decode: bool = True, cache: Path | None = None) -> None:
        self.folder, self.decode = folder, decode
        self._good = array("q", bytes(8 * self.REMEMBERED))
        self._bad: dict[str, Defect] = {}
        self._kept = (cache or cache_folder()) / GOOD
        self._known = _keys_in(self._kept) if decode else frozenset[int]()
        self._pool: ProcessPoolExecutor | None = None

    def look(self, wanted: Iterable[Source]) -> None:
        """Look at those of these pictures that are not known, several at a time."""
        unknown: dict[str, tuple[Path | bytes, int]] = {}
        for source in wanted:
            name = _name_of(source)
            if name in unknown or name in self._bad or self._is_good(name):
                continue
            picture = source if isinstance(source, bytes) else find_picture(source, self.folder)
            key = _key_of(picture) if picture else 0
            if picture is None:
                self._bad[name] = missing_picture(name, self.folder)
            elif key in self._known:
                self._note_good(name)
            else:
                unknown[name] = picture, key
        found = self._looked_at([picture for picture, _ in unknown.values()])
        good = [
            key for (name, (_, key)), defect in zip(unknown.items(), found, strict=True) if not self._note(name, defect)
        ]
        if self.decode:
            _keep(self._kept, good)

    def __call__(self, record: Record) -> Iterator[Defect]:
        """The defects of a record's pictures."""
        of_record = sources(record.get("image"))
        self.look(of_record)
        for source in of_record:
            if defect := self._bad.get(_name_of(source)):
                yield defect

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()

    def _looked_at(self, pictures: Sequence[Path | bytes]) -> list[Defect | None]:
        look = partial(unreadable, decode=self.decode)
        if len(pictures) < FEW:
            return [look(picture) for picture in pictures]
        if self._pool is None:
            self._pool = ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn"))
        return list(self._pool.map(look, pictures, chunksize=8))

    def _note(self, name: str, defect: Defect | None) -> bool:
        """Remember what a picture is; whether it is bad."""
        if defect is None:
            self._note_good(name)
        else:
            self._bad[name] = defect
        return defect is not None

    def _note_good(self, name: str) -> None:
        self._good[hash(name) % self.REMEMBERED] = hash(name)

    def _is_good(self, name: str) -> bool:
        return self._good[hash(name) % self.REMEMBERED] == hash(name)


def unreadable(picture: Path | bytes, *, decode: bool) -> Defect | None:
    """What is wrong with a picture."""
    try:
        if decode or isinstance(picture, bytes):
            open_image(picture)
        else:
            check_image(picture)
    except (ImageTooLarge, ImageShapeUnsupported) as error:
        return Defect("picture-too-large", str(error))
    except ImageError as error:
        return Defect("picture-unreadable", str(error))
    return None


# --- pictures that were found good, from run to run: 8 bytes each ---


def _name_of(source: Source) -> str:
    """What tells a picture from others: its name, or what no name is and stands for its content."""
    return source if isinstance(source, str) else f"\0{hashlib.blake2b(source, digest_size=16).hexdigest()}"


def _key_of(picture: Path | bytes) -> int:
    if isinstance(picture, bytes):
        seen = picture
    else:
        status = picture.stat()
        seen = f"{picture.absolute()}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(seen, digest_size=8).digest(), "little", signed=True)


def _keys_in(kept: Path) -> frozenset[int]:
    try:
        content = kept.read_bytes()
    except OSError:
        return frozenset()
    return frozenset(np.frombuffer(content[: len(content) // 8 * 8], "<i8").tolist())


def _keep(kept: Path, keys: Sequence[int]) -> None:
    """Add to the file; where the disk does not let us, they are looked at again."""
    if not keys:
        return
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with kept.open("ab") as file:
            file.write(np.array(keys, "<i8").tobytes())
    except OSError:
        return


def wrong_language(record: Record, language: str) -> Iterator[Defect]:
    """A defect where the answers have letters enough, but none of the language's script."""
    letters = _LETTERS.get(_SCRIPTS.get(language, ""))
    said = answers(record)
    if letters and not letters.search(said) and sum(map(str.isalpha, said)) >= ENOUGH:
        yield Defect("wrong-language", f"no letter of the answers is one of {language}.")


# --- files ---


def check_files(
    files: Sequence[Records],
    checks: RecordChecks,
    *,
    on_record: OnRecord,
    chosen: Callable[[int], Iterable[Any]] | None = None,
    all_places: bool = False,
) -> Findings:
    """Check every record of every file, each read once, or those that `chosen` gives by number of file."""
    findings = Findings(most_places=None if all_places else PLACES)
    try:
        for which, file in enumerate(files):
            numbers = range(len(file)) if chosen is None else [int(number) for number in chosen(which)]
            _FileCheck(file, which, checks, findings).run(numbers, on_record)
    finally:
        if checks.pictures:
            checks.pictures.close()
    return findings


class _FileCheck:
    """The check of one file."""

    def __init__(self, file: Records, which: int, checks: RecordChecks, findings: Findings) -> None:
        self.file, self.which, self.checks, self.findings = file, which, checks, findings
        self.named = _named_language(file, findings)

    def run(self, numbers: Sequence[int], on_record: OnRecord) -> None:
        identities = np.zeros(len(numbers), np.int64)  # a hash of language and id; 0 where there is none
        together = WITH_PICTURES if isinstance(self.file, ColumnFile) else WINDOW
        for start in range(0, len(numbers), together):
            window = numbers[start : start + together]
            records = [self._read(number) for number in window]
            if self.checks.pictures:
                self.checks.pictures.look(self._pictures(records))
            for place, (number, record) in enumerate(zip(window, records, strict=True), start=start):
                if isinstance(record, DataError):
                    self._count(number, self.named, [Defect(record.kind, str(record))], "")
                else:
                    identities[place] = self._check(number, record)
            on_record(len(window))
        self._count_duplicates(numbers, identities)

    def _read(self, number: int) -> Record | DataError:
        try:
            return self.checks.read(self.file[number])
        except DataError as error:
            return error

    def _pictures(self, records: Sequence[Record | DataError]) -> Iterator[Source]:
        """Of the records whose pictures are looked at."""
        for record in records:
            if not isinstance(record, DataError) and not record.get("corrupt") and not self.checks.formal(record):
                yield from sources(record.get("image"))

    def _check(self, number: int, record: Record) -> int:
        language = _language(record, self.named)
        if record.get("corrupt"):
            self._count(number, language, [Defect("corrupt", "it says so itself.")], shown_id(record))
            return 0
        self._count(number, language, list(self.checks(record, language)), shown_id(record))
        return hash((language, repr(record["id"]))) if "id" in record else 0

    def _count(self, number: int, language: str, found: list[Defect], shown: str) -> None:
        """Count a record, and each kind of its defects once."""
        kinds = {defect.kind: defect.sentence for defect in reversed(found)}
        tally = self.findings.languages[language]
        tally.records += 1
        tally.corrupt += "corrupt" in kinds
        if any(kind not in HARMLESS for kind in kinds):
            tally.unusable += 1
            self.findings.unusable_in[self.which].append(number)
        for kind, sentence in reversed(kinds.items()):
            self.findings.note(kind, self._place(number) + shown, sentence)

    def _place(self, number: int) -> str:
        return f"{self.file.path.name}:{number + 1}"

    def _count_duplicates(self, numbers: Sequence[int], identities: "np.ndarray[Any, Any]") -> None:
        """Note the records whose id another one of the same language before them in the file has."""
        order = np.argsort(identities, kind="stable")
        ordered = identities[order]
        again = np.sort(order[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)])
        most = self.findings.most_places
        for place in again[:most]:
            number = numbers[int(place)]
            shown = self._place(number) + shown_id(self.file[number])
            self.findings.note("duplicate-id", shown, "another record of its language has the same id.")
        self.findings.kinds["duplicate-id"].count += len(again) - len(again[:most])
        if not self.findings.kinds["duplicate-id"].count:
            del self.findings.kinds["duplicate-id"]


def _named_language(file: Records, findings: Findings) -> str:
    """The language that the file's name says; also notes what is wrong with the file as a whole."""
    if file.damage:
        findings.damaged += 1
        findings.note(file.damage.kind, str(file.damage))
    try:
        return file_language(file.path)
    except DataError as error:
        if any(not label.strip() for label in file.index.facts.usable):  # the records do not all say it themselves
            findings.damaged += 1
            findings.note(error.kind, str(error))
        return UNKNOWN


def _language(record: Record, named: str) -> str:
    language = record.get("language")
    return language_label(language) if isinstance(language, str) and language.strip() else named
