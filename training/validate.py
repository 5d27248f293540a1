"""Check training data before a run: `python -m training.validate DATA --images DIR`.

Lists by kind every defect that would stop the run or leave a record out of it, and some that a person should look at.
"""

import json
import os
import re
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from maya_core.errors import (
    DataError,
    ImageError,
    ImageShapeUnsupported,
    ImageTooLarge,
    MayaError,
    PromptTooLong,
)
from maya_core.languages import LANGUAGES
from maya_core.learning.record_index import RecordFile
from maya_core.learning.records import (
    UNKNOWN,
    Defect,
    Record,
    answers,
    data_files,
    defects,
    file_language,
    language_label,
    messages,
    missing_picture,
    open_files,
    picture_names,
    shown_id,
)
from maya_core.model.images import check_image, open_image

if TYPE_CHECKING:
    from maya_core.model.processor import MayaProcessor

# Records with one of these can be trained on, or say themselves that they are to be left out.
HARMLESS = ("corrupt", "duplicate-id", "wrong-language")
PLACES = 3  # of each kind that are shown
ENOUGH = 10  # letters; fewer may be a name, a number or an option
STEP = 500  # records between two moves of the progress bar
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
    """How many defects of one kind there are, and where the first are."""

    count: int = 0
    first: list[str] = field(default_factory=list)


@dataclass
class LanguageTally:
    """Records of one language: all, those that cannot be trained on, and those marked corrupt."""

    records: int = 0
    unusable: int = 0
    corrupt: int = 0


@dataclass
class Findings:
    """What was found. damaged: files that are not whole."""

    kinds: dict[str, Kind] = field(default_factory=lambda: defaultdict(Kind))
    languages: dict[str, LanguageTally] = field(default_factory=lambda: defaultdict(LanguageTally))
    damaged: int = 0

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

    def note(self, kind: str, place: str) -> None:
        found = self.kinds[kind]
        found.count += 1
        if len(found.first) < PLACES:
            found.first.append(place)

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
            "mend them or take them out, then check again."
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "unusable": self.unusable,
            "damaged_files": self.damaged,
            "kinds": {kind: {"count": found.count, "first": found.first} for kind, found in self.kinds.items()},
            "languages": {code: vars(tally) for code, tally in self.languages.items()},
        }

    def tables(self) -> Iterator[Table]:
        if self.kinds:
            kinds = Table("defect", "count", "first places", title="Defects")
            for kind, found in sorted(self.kinds.items(), key=lambda item: -item[1].count):
                kinds.add_row(kind, f"{found.count:,}", escape("\n".join(found.first)))
            yield kinds
        languages = Table("language", "records", "cannot be trained on", "corrupt", title="Languages")
        for code, tally in self.languages.items():
            languages.add_row(escape(code), f"{tally.records:,}", f"{tally.unusable:,}", f"{tally.corrupt:,}")
        yield languages


# --- one record ---


@dataclass(frozen=True, kw_only=True)
class RecordChecks:
    """What is checked of a record beyond its form.

    pictures: None where they are not looked at. processor: None where lengths are not. captions: see `records.defects`.
    """

    pictures: "PictureChecks | None" = None
    processor: "MayaProcessor | None" = None
    captions: bool = False

    def __call__(self, record: Record, language: str) -> Iterator[Defect]:
        """All defects of a record that is not marked corrupt."""
        formal = list(defects(record, captions=self.captions))
        yield from formal
        kinds = {defect.kind for defect in formal}
        if self.pictures and not kinds & {"missing-keys", "no-conversation", "picture-outside"}:
            yield from self.pictures(record)
        if not kinds:
            yield from wrong_language(record, language)
        if not kinds and self.processor:
            yield from self._too_long(record, self.processor)

    def _too_long(self, record: Record, processor: "MayaProcessor") -> Iterator[Defect]:
        turns = messages(record, Path())
        try:
            processor.encode(turns, answer_next=False, prompt_format="caption" if self.captions else None)
        except PromptTooLong as error:
            yield Defect("too-long", str(error))


class PictureChecks:
    """Whether pictures are there and can be read, by their headers or decoded to the end.

    The pictures last found good are remembered, by hash, in a table of fixed size: the languages share their pictures.
    """

    REMEMBERED = 1 << 21

    def __init__(self, folder: Path, *, decode: bool = False) -> None:
        self.folder, self.decode = folder, decode
        self._good = array("q", bytes(8 * self.REMEMBERED))

    def __call__(self, record: Record) -> Iterator[Defect]:
        for name in picture_names(record):
            key = hash(name)
            slot = key % self.REMEMBERED
            if self._good[slot] == key:
                continue
            defect = self._defect(name)
            if defect:
                yield defect
            else:
                self._good[slot] = key

    def _defect(self, name: str) -> Defect | None:
        file = self.folder / name
        if not file.is_file():
            return missing_picture(name, self.folder)
        try:
            if self.decode:
                open_image(file)
            else:
                check_image(file)
        except (ImageTooLarge, ImageShapeUnsupported) as error:
            return Defect("picture-too-large", str(error))
        except ImageError as error:
            return Defect("picture-unreadable", str(error))
        return None


def wrong_language(record: Record, language: str) -> Iterator[Defect]:
    """A defect where the answers have letters enough, but none of the language's script."""
    letters = _LETTERS.get(_SCRIPTS.get(language, ""))
    said = answers(record)
    if letters and not letters.search(said) and sum(map(str.isalpha, said)) >= ENOUGH:
        yield Defect("wrong-language", f"no letter of the answers is one of {language}.")


# --- files ---


def check_files(files: Sequence[RecordFile], checks: RecordChecks, *, on_record: OnRecord) -> Findings:
    """Check every record of every file, each read once."""
    findings = Findings()
    for file in files:
        _check_file(file, checks, findings, on_record)
    return findings


def _check_file(file: RecordFile, checks: RecordChecks, findings: Findings, on_record: OnRecord) -> None:
    named = _named_language(file, findings)
    identities = np.zeros(len(file), np.int64)  # a hash of language and id; 0 where there is none
    for number in range(len(file)):
        if number % STEP == STEP - 1:
            on_record(STEP)
        try:
            record = file[number]
        except DataError as error:
            _count(findings, named, [Defect(error.kind, str(error))], f"{file.path.name}:{number + 1}")
            continue
        language = _language(record, named)
        place = f"{file.path.name}:{number + 1}{shown_id(record)}"
        if record.get("corrupt"):
            _count(findings, language, [Defect("corrupt", "")], place)
            continue
        _count(findings, language, list(checks(record, language)), place)
        if "id" in record:
            identities[number] = hash((language, repr(record["id"])))
    on_record(len(file) % STEP)
    _count_duplicates(file, identities, findings)


def _named_language(file: RecordFile, findings: Findings) -> str:
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


def _count(findings: Findings, language: str, found: list[Defect], place: str) -> None:
    """Count a record, and each kind of its defects once."""
    kinds = dict.fromkeys(defect.kind for defect in found)
    tally = findings.languages[language]
    tally.records += 1
    tally.corrupt += "corrupt" in kinds
    tally.unusable += any(kind not in HARMLESS for kind in kinds)
    for kind in kinds:
        findings.note(kind, place)


def _count_duplicates(file: RecordFile, identities: "np.ndarray[Any, Any]", findings: Findings) -> None:
    """Note the records whose id another one of the same language before them in the file has."""
    order = np.argsort(identities, kind="stable")
    ordered = identities[order]
    again = np.sort(order[1:][(ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)])
    for number in again[:PLACES]:
        findings.note("duplicate-id", f"{file.path.name}:{number + 1}{shown_id(file[int(number)])}")
    if len(again) > PLACES:
        findings.kinds["duplicate-id"].count += len(again) - PLACES


# --- the command ---


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """Check training data: list every defect by kind, with its first places. Exit status 1 where a record or a file
    cannot be trained on, 2 where there is nothing to check."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="a JSON or JSON Lines file, or a folder of them")]
    images: Annotated[Path | None, tyro.conf.arg(help="folder of the pictures; not looked at if not given")] = None
    decode: Annotated[bool, tyro.conf.arg(help="read pictures to the end, not only their headers")] = False
    model: Annotated[
        str | None, tyro.conf.arg(help="folder or repository of the model whose context conversations must fit")
    ] = None
    captions: Annotated[bool, tyro.conf.arg(help="questions may be nothing but a picture, as in pretraining")] = False
    json: Annotated[Path | None, tyro.conf.arg(help="file for the findings")] = None
    cache: Annotated[Path | None, tyro.conf.arg(help="folder for indexes; the platform's own if not given")] = None


def validate(options: ValidateOptions, console: Console) -> Findings:
    """Index the files, check their records, and show a bar meanwhile."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        indexing = progress.add_task("finding records, bytes", total=None)
        files = open_files(
            data_files(options.data),
            cache=options.cache,
            on_progress=lambda done, size: progress.update(indexing, completed=done, total=size),
        )
        checking = progress.add_task("checking records", total=sum(map(len, files)))
        return check_files(files, _checks(options), on_record=lambda count: progress.advance(checking, count))


def _checks(options: ValidateOptions) -> RecordChecks:
    processor = None
    if options.model is not None:
        from maya_core.weights.checkpoint import load_processor

        processor = load_processor(options.model)
        processor.require_tokenizer()
    pictures = PictureChecks(options.images, decode=options.decode) if options.images else None
    return RecordChecks(pictures=pictures, processor=processor, captions=options.captions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = tyro.cli(ValidateOptions, args=arguments, prog="python -m training.validate")
    console = Console(width=int(os.environ["COLUMNS"]) if "COLUMNS" in os.environ else None)
    try:
        findings = validate(options, console)
    except MayaError as error:
        print(error, file=sys.stderr)
        return 2
    for table in findings.tables():
        console.print(table)
    console.print(findings.advice())
    if options.json:
        options.json.write_text(json.dumps(findings.as_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0 if findings.can_train else 1


if __name__ == "__main__":
    sys.exit(main())
