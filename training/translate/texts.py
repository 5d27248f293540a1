"""What is translated of a record: the words of its turns, each text once, without the places of its pictures."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from maya_core.learning.formats import Record

_LEADING = re.compile(r"(?:\s|<image>)*")
_MARKER = "<image>"
_WORD = re.compile(r"[^\W\d_]{2}")


class Piece(NamedTuple):
    """A turn's words, and what stands around them, where they stay."""

    before: str
    words: str
    after: str


def cut(value: str) -> Piece:
    """A turn without the pictures' places and the spaces at its ends."""
    before = _LEADING.match(value)
    assert before is not None
    end = len(value)
    while True:  # from the end, piece by piece: a pattern that looks for the end would try every place
        shorter = len(value[:end].rstrip())
        shorter = shorter - len(_MARKER) if value[:shorter].endswith(_MARKER) else shorter
        if shorter == end:
            break
        end = shorter
    start = before.end()
    end = max(start, end)
    return Piece(value[:start], value[start:end], value[end:])


def values(record: Record) -> list[str]:
    """What is said in each turn of a record without defects."""
    return [
        value if isinstance(value, str) else "\n".join(value)
        for value in (turn["value"] for turn in record["conversations"])
    ]


def words_of(record: Record) -> Iterator[str]:
    """What has to be translated of a record: each turn's words in NFC, but for numbers, letters of choices and the like."""
    for value in values(record):
        words = unicodedata.normalize("NFC", cut(value).words)
        if _WORD.search(words):
            yield words


def translated(record: Record, translations: Mapping[str, str], language: str) -> dict[str, Any]:
    """The record in another language. translations: of each of `words_of`."""
    turns = []
    for turn, value in zip(record["conversations"], values(record), strict=True):
        before, words, after = cut(value)
        words = unicodedata.normalize("NFC", words)
        turns.append({**turn, "value": before + translations.get(words, words) + after})
    return {**record, "language": language, "conversations": turns}


def digest(text: str) -> bytes:
    """Sixteen bytes that stand for a text."""
    return blake2b(text.encode(), digest_size=16).digest()


def shard_of(text_digest: bytes, shards: int) -> int:
    """Which of so many machines translates a text, from 0; the same for all of them."""
    return int.from_bytes(text_digest[:8], "big") % shards
