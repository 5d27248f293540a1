"""Records as people have them, brought into LLaVA's form: `{id, image, conversations: [{from, value}]}`.

Which of these a record is, is told by looking at it:

LLaVA, PALO, Maya, Pangea: `conversations` of `from` and `value`, pictures in `image`.
The Cauldron, FineVision: `texts` of `user` and `assistant`, pictures in `images`.
LLaMA-Factory: `messages` or `conversations`, pictures in `images`, perhaps a `system` text.
OpenAI, Hugging Face: `messages` of `role` and `content`, which is text or a list of parts of text and pictures.
TRL: the same in `prompt` and `completion`.

A picture is a name, `{path, bytes}`, base64, or an address beginning with `data:` or `file:`.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from maya_core.model.prompt import IMAGE, Role

Record = Mapping[str, Any]
Source = str | bytes  # of a picture: a name, or a file's content

TURNS = ("conversations", "messages", "texts")  # keys under which the turns of a conversation are
_PROMPT, _COMPLETION = "prompt", "completion"  # those in two halves
# Under such names people keep pictures too; what is behind them is not known well enough to be read unasked.
_OTHER_PICTURES = re.compile(
    r"(image|img|pic|picture|photo)s?_?(path|file|name|url|uri|id|base64|b64|bytes|data)?s?", re.I
)
NO_PICTURES = ("video", "videos", "audio", "audios")
CHOSEN, LABEL = "chosen", "label"  # of data in which answers are compared, or judged
_SPEAKERS, _TEXTS = ("from", "role"), ("value", "content")
_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "chatgpt", "bing", "bard"), "assistant"),
}
_PICTURES = ("image", "images")
_OF_TEXT = ("text", "input_text", "output_text")  # types of parts
_OF_PICTURE = ("image", "image_url", "input_image")
_ADDRESSES = ("image_url", "image", "url", "path", "base64", "data")  # keys of a part under which a picture may be
# How base64 of a JPEG, PNG, GIF, WebP, BMP or TIFF begins.
_BASE64 = re.compile(r"(/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-3]|SUkq|TU0A)[A-Za-z0-9+/\s]{40,}={0,2}\s*")
_KEYS = ("bytes", "url", "path", "base64", "data")  # of a picture that is an object


def in_llavas_form(record: Record, *, add_markers: bool = False) -> Record:
    """The record as LLaVA would have written it, with the pictures that it has in a list; one that is of no form that is
    known stays as it is.

    add_markers: where no question says that it shows the pictures, the first one does.
    """
    turns = turns_of(record)
    if turns is None:
        return record
    listed = [source for key in _PICTURES for source in sources(record.get(key))]
    shown: list[Source] = []
    unplaced = iter(listed)
    written: list[Any] = []
    if isinstance(system := record.get("system"), str) and system.strip():
        written.append({"from": "system", "value": system})
    for turn in (each for one in turns for each in _said(one)):
        text, own = _turn(turn)
        if isinstance(text, dict) and isinstance(text.get("value"), str):
            shown += _in_order(text["value"], own, unplaced)
            text["value"] = text["value"].replace(_OWN, IMAGE)
        written.append(text)
    pictures = [*shown, *unplaced]
    if add_markers and pictures and not any(IMAGE in _text(turn) for turn in written):
        _show(pictures, written)
    return {**record, "image": pictures, "conversations": written}


def turns_of(record: Record) -> list[Any] | None:
    """The turns of a conversation as they are written; None where there are none."""
    halves = record.get(_PROMPT), record.get(_COMPLETION)
    if all(isinstance(half, list) for half in halves):
        return [turn for half in halves for turn in half or ()]
    return next((record[key] for key in TURNS if isinstance(record.get(key), list)), None)


_OWN = "\0a picture\0"  # stands for one that is in its place already, until all texts are read


def _said(turn: Any) -> list[Any]:
    """The turns in one of a question and its answer; else the turn itself."""
    if not (isinstance(turn, Mapping) and {"user", "assistant"} <= turn.keys()):
        return [turn]
    return [{"role": role, "content": turn[role]} for role in ("user", "assistant")]


def _turn(turn: Any) -> tuple[Any, list[Source]]:
    """A turn in LLaVA's form, and the pictures that are among its parts."""
    if not isinstance(turn, Mapping):
        return turn, []
    speaker = next((turn[key] for key in _SPEAKERS if key in turn), None)
    content = next((turn[key] for key in _TEXTS if key in turn), None)
    if not (isinstance(content, list) and any(isinstance(part, Mapping) for part in content)):
        text = "\n".join(content) if isinstance(content, list) and all(isinstance(c, str) for c in content) else content
        return {"from": speaker, "value": text}, []
    texts: list[str] = []
    pictures: list[Source] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type") in _OF_TEXT and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, Mapping) and part.get("type") in _OF_PICTURE:
            own = next((source for key in _ADDRESSES for source in sources(part.get(key))), None)
            texts.append(IMAGE if own is None else _OWN)
            pictures += [] if own is None else [own]
        else:
            return {"from": speaker, "value": None}, []  # of a kind that is not known
    return {"from": speaker, "value": "\n".join(texts)}, pictures


def _in_order(text: str, own: list[Source], unplaced: Iterator[Source]) -> Iterator[Source]:
    """The pictures that a text shows: those among its parts, and for each marker the next of the record's list."""
    parts = iter(own)
    for mark in re.findall(f"{_OWN}|{re.escape(IMAGE)}", text):
        picture = next(parts if mark == _OWN else unplaced, None)
        if picture is not None:
            yield picture


def role_of(speaker: Any) -> Role | None:
    """Who speaks, by any of the names that people use; None for nobody we know."""
    return _ROLES.get(speaker.casefold()) if isinstance(speaker, str) else None


def _text(turn: Any) -> str:
    value = turn.get("value") if isinstance(turn, Mapping) else None
    return value if isinstance(value, str) else ""


def _show(pictures: list[Source], turns: list[Any]) -> None:
    for number, turn in enumerate(turns):
        if isinstance(turn, Mapping) and role_of(turn.get("from")) == "user":
            turns[number] = {**turn, "value": f"{IMAGE * len(pictures)}\n{_text(turn)}"}
            return


# --- pictures ---


def other_picture(record: Record) -> str | None:
    """A key under which a record seems to have a picture, beside those that are read."""
    told = (key for key, value in record.items() if is_other_picture(key) and not _is_nothing(value))
    return next(told, None)


def is_other_picture(key: object) -> bool:
    return isinstance(key, str) and _OTHER_PICTURES.fullmatch(key) is not None


def _is_nothing(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})  # 0 is the number of a picture


def sources(value: Any) -> list[Any]:
    """Pictures in the ways in which a record may hold one or several; what is none of these stays, to be refused."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [source for one in value for source in sources(one)]
    if isinstance(value, Mapping):
        found = next((value[key] for key in _KEYS if value.get(key)), None)
        return [value] if found is None else sources(found)
    return [decoded(value) if isinstance(value, str) else value]


def decoded(source: str) -> Source:
    """The content of a picture that a record holds as base64 or `data:`, the path of a `file:`; else what was given."""
    head = source[:5].lower()
    try:
        if head == "data:":
            kind, _, content = source.partition(",")
            plain = unquote_to_bytes(content)
            return base64.b64decode(plain) if kind.endswith(";base64") else plain
        if head == "file:":
            return url2pathname(urlsplit(source).path)
        if _BASE64.fullmatch(source):
            return base64.b64decode(source)
    except (binascii.Error, ValueError):
        pass
    return source


def is_address(source: Source) -> bool:
    """Whether a picture is on the web."""
    return isinstance(source, str) and source[:8].lower().startswith(("http://", "https://", "s3://", "gs://"))


def find_picture(name: str, folder: Path) -> Path | None:
    """The file of that name in a folder, in whichever way its letters and separators are written; None where it is not
    there."""
    slashed = name.replace("\\", "/")
    names = dict.fromkeys([name, slashed, normalize("NFC", slashed), normalize("NFD", slashed)])
    return next((file for each in names if (file := folder / each).is_file()), None)
