"""Checks of every reply: what is wrong with a translation, without knowing its language.

They are few and cheap, and mean to catch what models do: answer instead of translating, copy, explain, refuse, lose a
number. A translation that is only poor passes; the reference set is there to find how many are.
"""

import re
import unicodedata
from collections import Counter

from maya_core.answering.language import answer_language

_PLACEHOLDER = re.compile(r"<[A-Za-z/|][^<>\s]*>|\{\w*\}|https?://\S+")
_IMAGE = "<image>"
_NUMBER = re.compile(r"\d+")
_MARK_IN_NUMBER = re.compile(r"(?<=\d)[,.'’٬٫](?=\d)")
_SPACE_IN_NUMBER = re.compile(r"(?<=\d)[ \u00a0\u202f\u2009](?=\d{3}(?!\d))")
_BAD_LETTERS = re.compile("[\ud800-\udfff\0\ufffd]")
_REFUSAL = re.compile(
    r"i(?:'|’)?m sorry\b|i am sorry\b|i apologi[sz]e|i can(?:not|'t|’t)\b|as an ai\b|sorry, (?:but )?i\b|je suis désolée?\b|"
    r"en tant qu['’]ia\b|lo siento\b|lamento\b|к сожалению|извините|простите|抱歉|对不起|很遗憾|申し訳|すみません|"
    r"मुझे (?:खेद|माफ)|क्षमा करें|माफ़ करें|عذرا|عذرًا|آسف|أعتذر|দুঃখিত|আমি দুঃখিত|معذرت|معاف",
    re.IGNORECASE,
)
_APOLOGY = re.compile(r"sorry|apolog|cannot|can['’]t|unfortunately|unable|excuse|forgive|pardon|regret", re.IGNORECASE)
_QUOTES = {'"': '"', "“": "”", "«": "»", "「": "」", "'": "'", "‘": "’", "„": "“"}
_WIDE = "WF"  # East Asian width of a character that says as much as two letters
SHORTEST, LONGEST, SLACK = 0.3, 3.5, 16  # of a translation's length to its source's; letters beyond, for short texts
FEW_WORDS = 3  # so many may be the same in both languages: names


def tidied(reply: str, source: str) -> str:
    """A reply in NFC without spaces around it, and without quotation marks that the source has not."""
    text = unicodedata.normalize("NFC", reply).strip()
    for opening, closing in _QUOTES.items():
        if len(text) > 2 and text[0] == opening and text[-1] == closing and source[:1] not in _QUOTES:
            inner = text[1:-1]
            if opening not in inner and closing not in inner:
                return inner.strip()
    return text


def fault(source: str, translation: str, language: str) -> str:
    """Why a tidied translation into `language` is not taken, in a word; nothing where it is."""
    if not translation:
        return "empty"
    if _BAD_LETTERS.search(translation):
        return "bad-letters"
    if _PLACEHOLDER.findall(source) != _PLACEHOLDER.findall(translation):
        return "placeholders"
    if _image_places(source) != _image_places(translation):
        return "image-moved"
    if _REFUSAL.match(translation) and not _APOLOGY.search(source):
        return "refusal"
    if "\n" in translation and "\n" not in source:
        return "more-lines"
    if _same(source) == _same(translation) and len(source.split()) > FEW_WORDS:
        return "untranslated"
    if _numbers_changed(source, translation):
        return "numbers"
    length, given = _length(translation), _length(source)
    if not SHORTEST * given - SLACK <= length <= LONGEST * given + SLACK:
        return "length"
    read = answer_language(_PLACEHOLDER.sub(" ", translation), conversation=language)
    if read.code != language or read.notice:
        return "language"
    return ""


def _image_places(text: str) -> list[str]:
    """Of each picture's slot whether it stands first, last or within."""
    parts = text.split(_IMAGE)
    first, last = not parts[0].strip(), not parts[-1].strip()
    return ["first"] * first + ["within"] * (len(parts) - 1 - first - last) + ["last"] * last if len(parts) > 1 else []


def _same(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def _numbers_changed(source: str, translation: str) -> bool:
    """Whether a number is lost. One of a single digit may become a word, unless another number stands there for it. Two
    numbers with a space between them may be one, and are read both ways."""
    return all(
        _is_lost(_numbers(source, join_spaces=join), _numbers(translation, join_spaces=join)) for join in (False, True)
    )


def _is_lost(wanted: Counter[str], found: Counter[str]) -> bool:
    missing, extra = wanted - found, found - wanted
    return any(len(number) > 1 for number in missing) or bool(missing and extra)


def _numbers(text: str, *, join_spaces: bool) -> Counter[str]:
    """Numbers in ASCII digits, without what separates thousands or decimals."""
    joined = _MARK_IN_NUMBER.sub("", text)
    joined = _SPACE_IN_NUMBER.sub("", joined) if join_spaces else joined
    return Counter("".join(str(unicodedata.digit(digit)) for digit in number) for number in _NUMBER.findall(joined))


def _length(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in _WIDE) for letter in text)
