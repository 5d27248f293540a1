"""Training conversations from files: what a record must be like, and files as one data set with its languages mixed.

The format is LLaVA's, which Maya's pretraining, PALO and Pangea share: `{id, image, conversations: [{from, value}]}`, as
a JSON list or JSON Lines, one file or a folder of them. torch is not needed before a sample is made.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from maya_core.errors import DataError
from maya_core.languages import LANGUAGES, get_language
from maya_core.learning.record_index import Progress, RecordFile, no_progress
from maya_core.model.prompt import IMAGE, Message, Role

if TYPE_CHECKING:
    from maya_core.learning.data import Sample

Kind = Literal[
    "file",  # a file or folder that is not there or cannot be read
    "no-records",  # there is nothing to train on
    "changed",  # the file is not the one that was indexed
    "torn",  # a file that is cut off, or goes on after its end
    "language",  # a file name that names two languages
    "not-json",
    "missing-keys",  # or of another type than they should be
    "no-conversation",
    "roles",
    "empty-question",
    "empty-answer",
    "bad-letters",
    "marker-without-picture",
    "picture-without-marker",
    "marker-count",
    "marker-in-answer",
    "picture-outside",
    "picture-missing",
]
Record = Mapping[str, Any]

SUFFIXES = (".json", ".jsonl")
UNKNOWN = "und"  # BCP 47 for a language that is not said
NATURAL, BALANCED = 1.0, 0.0  # languages as often as there are records of them; all languages equally often
_ROLES: dict[str, Role] = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NAME = 80  # characters of an id or a file name that a message shows


# --- one record ---


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a record; the sentence says what, and what to do."""

    kind: str
    sentence: str


def defects(record: Record, *, captions: bool = False) -> Iterator[Defect]:
    """All that is wrong with a record by itself; its pictures are not looked at.

    captions: a question may be nothing but its picture, as in the `caption` format.
    """
    malformed = _malformed(record)
    if malformed:
        yield malformed
        return
    turns = _turns(record)
    yield from _wrong_order(turns)
    for number, (role, text) in enumerate(turns, start=1):
        yield from _wrong_text(f"turn {number}", role, text, captions=captions)
    yield from _wrong_pictures(picture_names(record), sum(text.count(IMAGE) for role, text in turns if role == "user"))


def conversation(
    record: Record, images: Path, *, place: str = "a record", captions: bool = False, language: str | None = None
) -> "Sample":
    """The sample of a record, its pictures as files in the folder `images`, which are there but not yet opened.

    place: how a message names the record, beside its id. Raises DataError for the record's first defect.
    """
    from maya_core.learning.data import Sample  # torch, which checking files does without

    defect = next(defects(record, captions=captions), None)
    if defect:
        raise record_error(defect, record, place)
    turns = messages(record, images)
    for name, file in zip(picture_names(record), (file for turn in turns for file in turn.images), strict=True):
        if not (isinstance(file, Path) and file.is_file()):
            raise record_error(missing_picture(name, images), record, place)
    return Sample(messages=turns, language=language)


def messages(record: Record, images: Path) -> tuple[Message, ...]:
    """The turns of a record without defects. A question's pictures go before its text, out of which their markers and
    the whitespace around it are taken, as LLaVA does; an answer stays as it is."""
    files = iter([images / name for name in picture_names(record)])
    return tuple(
        Message(role=role, text=_words(text), images=tuple(next(files) for _ in range(text.count(IMAGE))))
        if role == "user" and IMAGE in text
        else Message(role=role, text=text)
        for role, text in _turns(record)
        if role
    )


def picture_names(record: Record) -> list[str]:
    """The names in `image`, which is a name, a list of names, or not there."""
    image = record.get("image")
    return [image] if isinstance(image, str) else list(image or ())


def answers(record: Record) -> str:
    """All that the assistant says in a record without defects."""
    return "\n".join(text for role, text in _turns(record) if role == "assistant")


def missing_picture(name: str, images: Path) -> Defect:
    return Defect("picture-missing", f"its picture {_shown(name)} is not in the folder {images.name}; put it there.")


def record_error(defect: Defect, record: Record, place: str) -> DataError:
    return DataError(f"{place}{shown_id(record)}: {defect.sentence}", kind=defect.kind)


def shown_id(record: Record) -> str:
    """The id as it stands in a message, nothing where there is none."""
    return f" (id {_shown(record['id'])})" if "id" in record else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}..."


def _malformed(record: Record) -> Defect | None:
    turns = record.get("conversations")
    if not isinstance(turns, list):
        return Defect("missing-keys", "it has no list `conversations`.")
    if not turns:
        return Defect("no-conversation", "its `conversations` is empty; write a turn or leave the record out.")
    for number, turn in enumerate(turns, start=1):
        if not (isinstance(turn, dict) and isinstance(turn.get("from"), str) and _is_text(turn.get("value"))):
            return Defect("missing-keys", f"turn {number} has no `from` or no `value`, or one of them is not text.")
    image = record.get("image")
    if (image is not None and not _is_text(image)) or not all(picture_names(record)):
        return Defect("missing-keys", "its `image` is neither a name nor a list of names.")
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _turns(record: Record) -> list[tuple[Role | None, str]]:
    """Who speaks (None: nobody we know) and what; a text in parts has a line for each."""
    return [
        (_ROLES.get(turn["from"]), turn["value"] if isinstance(turn["value"], str) else "\n".join(turn["value"]))
        for turn in record["conversations"]
    ]


def _words(text: str) -> str:
    return text.replace(IMAGE, "").strip()


def _wrong_order(turns: list[tuple[Role | None, str]]) -> Iterator[Defect]:
    for number, (role, _) in enumerate(turns):
        expected = "gpt" if number % 2 else "human"
        if role != _ROLES[expected]:
            yield Defect("roles", f"turn {number + 1} is not from {expected}; the two take turns, human first.")
            return
    if len(turns) % 2:
        yield Defect("roles", f"it ends with the question of turn {len(turns)}; add the answer.")


def _wrong_text(turn: str, role: Role | None, text: str, *, captions: bool) -> Iterator[Defect]:
    if role == "assistant" and not text.strip():
        yield Defect("empty-answer", f"the answer in {turn} is empty; write one or leave the record out.")
    if role == "assistant" and IMAGE in text:
        yield Defect("marker-in-answer", f"the answer in {turn} contains {IMAGE}; only a question shows a picture.")
    if role == "user" and not _words(text) and not (captions and IMAGE in text):
        yield Defect("empty-question", f"the question in {turn} has no words; write some, or train on captions.")
    if _SURROGATE.search(text):
        yield Defect("bad-letters", f"{turn} holds half a surrogate pair, which is no letter; remove it.")


def _wrong_pictures(names: list[str], markers: int) -> Iterator[Defect]:
    if markers and not names:
        yield Defect("marker-without-picture", f"it has {markers} {IMAGE} but no `image`.")
    elif names and not markers:
        yield Defect("picture-without-marker", f"it has {len(names)} pictures but no {IMAGE} that says where.")
    elif markers != len(names):
        yield Defect("marker-count", f"it has {markers} {IMAGE} for {len(names)} pictures; they must be as many.")
    for name in names:
        if not _is_inside(name):
            yield Defect(
                "picture-outside", f"its picture {_shown(name)} leads out of the image folder; name one within."
            )


def _is_inside(name: str) -> bool:
    """Whether a name stays in its folder, by the rules of every system."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    return "\0" not in name and not any(path.anchor or ".." in path.parts for path in paths)


# --- languages ---


def language_label(tag: str) -> str:
    """The code of one of Maya's languages for a BCP 47 tag or an English name; another tag in lower case, as it is."""
    word = tag.strip().lower()
    try:
        return _codes_by_word().get(word) or get_language(word).code
    except ValueError:
        return word or UNKNOWN


def file_language(path: Path) -> str:
    """The language whose code or English name is a part of the file's name, UNKNOWN where none is.

    Raises DataError where two are.
    """
    words = re.split(r"[^a-z0-9]+", path.stem.lower())
    found = sorted({_codes_by_word()[word] for word in words if word in _codes_by_word()})
    if len(found) > 1:
        raise DataError(
            f"{path.name} names {len(found)} languages ({', '.join(found)}); rename it, or give each record a `language`.",
            kind="language",
        )
    return found[0] if found else UNKNOWN


@lru_cache
def _codes_by_word() -> dict[str, str]:
    return {word: one.code for one in LANGUAGES for word in (one.code, one.english_name.lower())}


# --- files as a data set ---


def data_files(source: Path) -> list[Path]:
    """The file itself, or the .json and .jsonl files in the folder by name; DataError where there are none."""
    if source.is_file():
        return [source]
    found = sorted(file for file in source.glob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not found:
        raise DataError(
            f"{source.name} is neither a file nor a folder with {' or '.join(SUFFIXES)} files.", kind="file"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class LanguageCount:
    """records: to choose from. places: in an epoch. corrupt: records that are left out because they say so."""

    records: int
    places: int
    corrupt: int

    @property
    def repeats(self) -> int:
        """Places beyond one a record."""
        return self.places - self.records


class LanguagePart(NamedTuple):
    """The records of one language in one file. file: its number. first: where in the file's usable records they begin.
    before: how many the language has in the files before."""

    file: int
    first: int
    before: int


@dataclass(frozen=True, kw_only=True)
class LanguageSpan:
    """The places `start` up to `stop` of an epoch are of one language, which has so many records in these parts."""

    language: str
    start: int
    stop: int
    records: int
    parts: tuple[LanguagePart, ...]


class ConversationFiles:
    """The conversations of a file or a folder of files, by their place in an epoch.

    mixing: NATURAL has every record once an epoch. BALANCED gives every language the places of the largest, whose records
    stand once each; those of the others are repeated, each as often as its neighbour or once more. A number between
    gives a language of n records, where the largest has N, N (n/N)^mixing places (XLM-R's smoothing, arXiv 1911.02116).

    Languages stand one after the other (`languages`); the shuffle is `data.sample_index`'s. Corrupt records are left out.
    It can be pickled, as workers need it.
    """

    def __init__(
        self,
        source: Path,
        images: Path,
        *,
        mixing: float = NATURAL,
        captions: bool = False,
        cache: Path | None = None,
        on_progress: Progress = no_progress,
    ) -> None:
        """images: folder that the records' pictures are in. captions: see `defects`. cache, on_progress: see `RecordFile`.

        Raises DataError where a file is damaged, names two languages, or nothing is left to train on.
        """
        if not 0 <= mixing <= 1:
            raise ValueError(
                f"mixing is {mixing}; it must lie between {BALANCED:g} (balanced) and {NATURAL:g} (natural)."
            )
        self.images = images
        self.captions = captions
        self.files = open_files(data_files(source), cache=cache, on_progress=on_progress)
        for file in self.files:
            if file.damage:
                raise file.damage
        self.languages = _spans(self.files, mixing)
        if not self.languages:
            raise DataError(f"{source.name} has no record that can be trained on.", kind="no-records")

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
            language=None if language == UNKNOWN else language,
        )

    def language(self, index: int) -> str:
        """The code of the language at a place; UNKNOWN where neither file nor record says it."""
        return self._span(index).language

    def locate(self, index: int) -> tuple[RecordFile, int]:
        """The file of the record at a place, and its number there."""
        span = self._span(index)
        record = (index - span.start) * span.records // (span.stop - span.start)
        part = span.parts[bisect_right(span.parts, record, key=lambda part: part.before) - 1]
        file = self.files[part.file]
        return file, int(file.index.usable[part.first + record - part.before])

    def report(self) -> dict[str, LanguageCount]:
        """Exact counts of each language."""
        corrupt: dict[str, int] = defaultdict(int)
        for file in self.files:
            for language, count in _by_language(file, file.index.facts.corrupt):
                corrupt[language] += count
        spans = {span.language: span for span in self.languages}
        return {
            language: LanguageCount(
                records=spans[language].records if language in spans else 0,
                places=spans[language].stop - spans[language].start if language in spans else 0,
                corrupt=corrupt.get(language, 0),
            )
            for language in dict.fromkeys([*spans, *corrupt])
        }

    def _span(self, index: int) -> LanguageSpan:
        if not 0 <= index < len(self):
            raise IndexError(f"An epoch has {len(self)} places; there is no place {index}.")
        return self.languages[bisect_right(self.languages, index, key=lambda span: span.stop)]


def open_files(
    paths: list[Path], *, cache: Path | None = None, on_progress: Progress = no_progress
) -> list[RecordFile]:
    """The files, indexed where they were not; on_progress hears of bytes of all of them."""
    sizes = [path.stat().st_size for path in paths]
    opened = []
    for number, path in enumerate(paths):
        before = sum(sizes[:number])

        def in_all(done: int, _: int, before: int = before) -> None:
            on_progress(before + done, sum(sizes))

        opened.append(RecordFile(path, cache=cache, on_progress=in_all))
        on_progress(before + sizes[number], sum(sizes))
    return opened


def _by_language(file: RecordFile, counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Counts by `language` field as counts by language; the field wins over the file's name."""
    for field, count in counts.items():
        yield language_label(field) if field.strip() else file_language(file.path), count


def _spans(files: list[RecordFile], mixing: float) -> tuple[LanguageSpan, ...]:
    parts: dict[str, list[LanguagePart]] = defaultdict(list)
    records: dict[str, int] = defaultdict(int)
    for number, file in enumerate(files):
        first = 0
        for language, count in _by_language(file, file.index.facts.usable):
            parts[language].append(LanguagePart(number, first, records[language]))
            records[language] += count
            first += count
    most = max(records.values(), default=0)
    spans, start = [], 0
    for language, count in records.items():
        stop = start + round(most * (count / most) ** mixing)
        found = tuple(parts[language])
        spans.append(LanguageSpan(language=language, start=start, stop=stop, records=count, parts=found))
        start = stop
    return tuple(spans)
