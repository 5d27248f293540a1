"""One training conversation: what a record must be like, and the sample that it is.

Records are of LLaVA's form here, into which `formats` brings the others. torch is not needed before a sample is made.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Literal

from maya_core.errors import DataError
from maya_core.learning.formats import (
    CHOSEN,
    LABEL,
    NO_PICTURES,
    Record,
    find_picture,
    in_llavas_form,
    is_address,
    other_picture,
    role_of,
    sources,
)
from maya_core.model.images import open_image
from maya_core.model.prompt import IMAGE, Message, Picture, Role

if TYPE_CHECKING:
    from maya_core.learning.data import Sample

Kind = Literal[
    "file",  # a file or folder that is not there or cannot be read
    "no-records",  # there is nothing to train on
    "changed",  # the file is not the one that was indexed
    "encoding",  # a file that is not in UTF-8
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
    "marker-unknown",  # of another project
    "picture-outside",
    "picture-missing",
    "picture-key",  # under a name that is not read
    "picture-address",  # on the web
    "not-a-picture",  # a video or a sound
    "preference",  # answers that are compared or judged
]

# How other projects show a picture; what would be a tag in a question about code is not among them.
_OTHER_MARKERS = re.compile(r"<img>[^<>]*</img>|<\|image(_pad|_\d+)?\|>|<image[_ ]\d+>|<ImageHere>")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_NAME = 80  # characters of an id or a file name that a message shows


# --- one record ---


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a record; the sentence says what, and what to do."""

    kind: str
    sentence: str


def defects(record: Record, *, captions: bool = False, images: Path | None = None) -> Iterator[Defect]:
    """All that is wrong with a record by itself; its pictures are not looked at.

    captions: a question may be nothing but its picture, as in the `caption` format. images: folder in which whole paths may
    lie.
    """
    malformed = _malformed(record)
    if malformed:
        yield malformed
        return
    turns = _turns(record)
    if told := _judged(record):
        yield Defect("preference", told)
    yield from _wrong_order(turns, [turn["from"] for turn in record["conversations"]])
    for number, (role, text) in enumerate(turns, start=1):
        yield from _wrong_text(f"turn {number}", role, text, captions=captions)
    pictures = sources(record.get("image"))
    yield from _wrong_keys(record, has_pictures=bool(pictures))
    yield from _wrong_count(len(pictures), sum(text.count(IMAGE) for role, text in turns if role == "user"))
    yield from _wrong_names([source for source in pictures if isinstance(source, str)], images)


def conversation(
    record: Record,
    images: Path,
    *,
    place: str = "a record",
    captions: bool = False,
    add_markers: bool = False,
    language: str | None = None,
) -> "Sample":
    """The sample of a record in any form that `formats` knows; its pictures as files in the folder `images`, which are
    there but not yet opened, or as the record holds them.

    place: how a message names the record, beside its id. Raises DataError for the record's first defect, ImageError for a
    picture in it that cannot be used.
    """
    from maya_core.learning.data import Sample  # torch, which checking files does without

    record = in_llavas_form(record, add_markers=add_markers)
    defect = next(defects(record, captions=captions, images=images), None)
    if defect:
        raise record_error(defect, record, place)
    pictures: list[Picture] = []
    for source in sources(record.get("image")):
        found = open_image(source) if isinstance(source, bytes) else find_picture(source, images)
        if found is None:
            raise record_error(missing_picture(source, images), record, place)
        pictures.append(found)
    return Sample(messages=messages(record, pictures), language=language)


def messages(record: Record, pictures: Sequence[Picture]) -> tuple[Message, ...]:
    """The turns of a record without defects, and with its pictures. A question's go before its text, out of which their
    markers and the whitespace around it are taken, as LLaVA does; an answer stays as it is."""
    left = iter(pictures)
    return tuple(
        Message(role=role, text=_words(text), images=tuple(next(left) for _ in range(text.count(IMAGE))))
        if role == "user" and IMAGE in text
        else Message(role=role, text=text)
        for role, text in _turns(record)
        if role
    )


def answers(record: Record) -> str:
    """All that the assistant says in a record without defects."""
    return "\n".join(text for role, text in _turns(record) if role == "assistant")


def missing_picture(name: str, images: Path) -> Defect:
    what = f"its picture {_shown(name)} is not in the folder {images.name}"
    first, _, rest = name.replace("\\", "/").partition("/")
    if rest and find_picture(rest, images):
        return Defect("picture-missing", f"{what}, but is without {first}/; give --images the folder above {first}.")
    return Defect("picture-missing", f"{what}; put it there.")


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
    if not all(isinstance(source, str | bytes) and source for source in sources(record.get("image"))):
        return Defect("missing-keys", "its `image` is neither a picture nor a list of them.")
    return None


def _judged(record: Record) -> str:
    """Why a record is not one to learn from as it is: its answers are compared, or may be bad ones."""
    if record.get(CHOSEN):
        return f"it has `{CHOSEN}`, the better of two answers; Maya learns from answers alone, so make that one its answer."
    if isinstance(record.get(LABEL), bool):
        return (
            f"its `{LABEL}` says whether the answer is good; leave out what is not, and take the label from the others."
        )
    return ""


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(part, str) for part in value))


def _turns(record: Record) -> list[tuple[Role | None, str]]:
    """Who speaks (None: nobody we know) and what; a text in parts has a line for each."""
    return [
        (role_of(turn["from"]), turn["value"] if isinstance(turn["value"], str) else "\n".join(turn["value"]))
        for turn in record["conversations"]
    ]


def _words(text: str) -> str:
    return text.replace(IMAGE, "").strip()


def _wrong_order(turns: list[tuple[Role | None, str]], speakers: Sequence[str]) -> Iterator[Defect]:
    first = 1 if turns[0][0] == "system" else 0
    for number, (role, _) in enumerate(turns[first:], start=first):
        expected = "gpt" if (number - first) % 2 else "human"
        if role != role_of(expected):
            turn = f"turn {number + 1} is from {_shown(speakers[number])}, and not from {expected}"
            yield Defect("roles", f"{turn}; the two take turns, human first, and nobody else speaks.")
            return
    if (len(turns) - first) % 2:
        yield Defect("roles", f"it ends with the question of turn {len(turns)}; add the answer.")
    elif len(turns) == first:
        yield Defect("roles", "nobody asks anything in it; add a question and its answer.")


def _wrong_text(turn: str, role: Role | None, text: str, *, captions: bool) -> Iterator[Defect]:
    if role == "assistant" and not text.strip():
        yield Defect("empty-answer", f"the answer in {turn} is empty; write one or leave the record out.")
    if role == "assistant" and IMAGE in text:
        yield Defect("marker-in-answer", f"the answer in {turn} contains {IMAGE}; only a question shows a picture.")
    if role == "user" and not _words(text) and not (captions and IMAGE in text):
        yield Defect("empty-question", f"the question in {turn} has no words; write some, or train on captions.")
    if role == "user" and (other := _OTHER_MARKERS.search(text)):
        yield Defect(
            "marker-unknown",
            f"the question in {turn} shows a picture by {_shown(other[0])}, which is not read; write {IMAGE} there, and the "
            "picture's file as `image`.",
        )
    if _SURROGATE.search(text):
        yield Defect("bad-letters", f"{turn} holds half a surrogate pair, which is no letter; remove it.")


def _wrong_keys(record: Record, *, has_pictures: bool) -> Iterator[Defect]:
    if other := next((key for key in NO_PICTURES if record.get(key)), None):
        yield Defect("not-a-picture", f"it has `{other}`, and Maya sees pictures alone; leave the record out.")
    if not has_pictures and (other := other_picture(record)):
        yield Defect("picture-key", f"it has `{other}`, which is not read; give the picture's file as `image`.")


def _wrong_count(pictures: int, markers: int) -> Iterator[Defect]:
    if markers and not pictures:
        yield Defect("marker-without-picture", f"it has {markers} {IMAGE} but no `image`.")
    elif pictures and not markers:
        yield Defect(
            "picture-without-marker",
            f"it has {pictures} pictures but no {IMAGE} that says where; --add-markers puts them in front.",
        )
    elif markers != pictures:
        yield Defect("marker-count", f"it has {markers} {IMAGE} for {pictures} pictures; they must be as many.")


def _wrong_names(names: Sequence[str], images: Path | None) -> Iterator[Defect]:
    for name in names:
        if is_address(name):
            yield Defect(
                "picture-address",
                f"its picture {_shown(name)} is on the web; get it into the image folder, say by wget, and name the file.",
            )
        elif not _is_inside(name, images):
            yield Defect(
                "picture-outside", f"its picture {_shown(name)} leads out of the image folder; name one within."
            )


def _is_inside(name: str, images: Path | None) -> bool:
    """Whether a name stays in its folder, by the rules of every system; a whole path may lead there."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    if "\0" in name or any(".." in path.parts for path in paths):
        return False
    is_whole_path = images is not None and Path(name).is_absolute() and Path(name).is_relative_to(images.absolute())
    return is_whole_path or not any(path.anchor for path in paths)
