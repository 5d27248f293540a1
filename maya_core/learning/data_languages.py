"""The language of training data, from the ways in which people and their files say it."""

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from babel import Locale

from maya_core.errors import DataError
from maya_core.languages import LANGUAGES

UNKNOWN = "und"  # BCP 47 for a language that is not said
# Beside code, English name and own name: ISO 639-2 and 639-3, and what else each is called.
_ALSO = {
    "en": ("eng",),
    "zh": ("zho", "chi", "cmn", "mandarin", "汉语", "漢語", "华语", "普通话", "简体中文", "繁體中文"),
    "fr": ("fra", "fre", "francais"),
    "es": ("spa", "espanol", "castellano", "castilian"),
    "ru": ("rus",),
    "hi": ("hin", "हिंदी"),
    "ja": ("jpn", "日本语"),
    "ar": ("ara", "arb"),
    "bn": ("ben", "bengali"),
    "ur": ("urd",),
}
_BETWEEN_WORDS = re.compile(r"[\s_.,;()\[\]+&-]+")
_IN_TAGS = re.compile(r"[_.-]")
_SHORTEST = 5  # letters of another language's name that is looked for in a file's name


def language_label(name: str) -> str:
    """The code of a language that is named in English or in itself, by ISO 639 or BCP 47 (`Bengali`, `বাংলা`, `ben`, `bn-BD`,
    `Chinese (Simplified)`); what is no language that is known keeps its own name, in lower case."""
    whole = _folded(name)
    words = [word for word in _BETWEEN_WORDS.split(whole) if word]
    if not words:
        return UNKNOWN
    tag = _IN_TAGS.split(whole)[0]
    if found := _ours().get(whole) or _others().get(whole) or _ours().get(tag):
        return found
    named = {_ours()[word] for word in words if word in _ours() and len(word) > 2}
    if len(named) == 1:
        return named.pop()
    return tag if tag in _others().values() else whole


def file_language(path: Path) -> str:
    """The language that a part of the file's name says, as `language_label` understands it; UNKNOWN where none does.

    Raises DataError where two are.
    """
    words = [word.strip("0123456789") for word in _BETWEEN_WORDS.split(_folded(path.stem))]
    others = {_others()[word] for word in words if len(word) >= _SHORTEST and word in _others()}
    found = sorted({_ours()[word] for word in words if word in _ours()} | others)
    if len(found) > 1:
        raise DataError(
            f"{path.name} names {len(found)} languages ({', '.join(found)}); rename it, or give each record a `language`.",
            kind="language",
        )
    return found[0] if found else UNKNOWN


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


@lru_cache
def _ours() -> dict[str, str]:
    """Codes of Maya's languages, by each of their names."""
    return {
        _folded(word): one.code
        for one in LANGUAGES
        for word in (one.code, one.english_name, one.native_name, *_ALSO[one.code])
    }


@lru_cache
def _others() -> dict[str, str]:
    """Codes of the other languages that CLDR knows, by their English names."""
    named = Locale("en").languages.items()
    return {_folded(name): code for code, name in named if "_" not in code and code not in _ALSO and code != UNKNOWN}
