"""Exact match, after both answers are written the same way: each language has its own marks that do not count."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

_ARTICLES: Mapping[str, str] = {
    "en": r"(a|an|the)",
    "fr": r"(un|une|des|le|la|les|l['’])",
    "es": r"(un|una|unos|unas|el|la|los|las)",
}
_LEADING_ARTICLE = {code: re.compile(rf"^{words}(?<=['’])|^{words}\s+") for code, words in _ARTICLES.items()}
# Letters that one language writes in two ways.
_SAME: Mapping[str, Mapping[int, str]] = {
    "ru": {ord("ё"): "е"},
    "ar": {ord("أ"): "ا", ord("إ"): "ا", ord("آ"): "ا", ord("ى"): "ي", ord("ٱ"): "ا"},
    "ur": {ord("ي"): "ی", ord("ى"): "ی", ord("ك"): "ک", ord("ه"): "ہ", ord("ۀ"): "ہ"},
}


def normalise(answer: str, language: str) -> str:
    """An answer without case, punctuation, spacing, vowel marks of Arabic script, and leading article; ASCII digits."""
    text = unicodedata.normalize("NFKC", answer).casefold().strip()
    if language in _LEADING_ARTICLE:
        text = _LEADING_ARTICLE[language].sub("", text)
    text = text.translate(_SAME.get(language, {}))
    return "".join(_kept(letter) for letter in text)


def _kept(letter: str) -> str:
    category = unicodedata.category(letter)
    if category == "Nd":
        return str(unicodedata.digit(letter))
    if category[0] in "PZC" or letter == "ـ" or 0x064B <= ord(letter) <= 0x0652:
        return ""
    return letter


def exact_match(given: str, wanted: str, language: str) -> bool:
    """Whether two answers say the same; both in `language`."""
    return normalise(given, language) == normalise(wanted, language)


def batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter."""
    while batch := list(islice(items, size)):
        yield batch
