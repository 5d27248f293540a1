"""Whether an answer is in the language in which it was asked for."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from maya_core.answering.language import LANGUAGES_OF, answer_language
from maya_core.languages import CODES
from training.benchmarks.base import Answered, Counts, Figures, Sums

FIDELITY = "language fidelity"
FEW = 4  # words


def fidelity_counts(rows: Sequence[Answered]) -> Counts:
    """Of answers that say something, in one of the ten languages asked for."""
    said = [row for row in rows if row.item.language in CODES and any(map(str.isalpha, row.answer))]
    faithful = sum(is_in(row.answer, row.item.language) for row in said)
    return {(FIDELITY, "in the language"): faithful, (FIDELITY, "said"): len(said)} if said else {}


def fidelity_figures(sums: Sums) -> Figures:
    """In percent of the answers that say something."""
    if (FIDELITY, "said") not in sums:
        return {}
    return {FIDELITY: 100 * sums[FIDELITY, "in the language"] / sums[FIDELITY, "said"]}


@cache
def is_in(text: str, language: str) -> bool:
    """Whether a text's words are in a language of the ten; where they could be in several, they are in the one that is
    asked about. Most letters must be of the language's script; of a few words more is not asked where they seem to be in
    none of the ten, for many are names, and shared with neighbours."""
    if language not in LANGUAGES_OF.get(_script(text), ()):
        return False
    found = answer_language(text, conversation=language)
    if found.notice:
        return len(text.split()) <= FEW
    return found.code == language


def _script(text: str) -> str:
    """That of most letters, as `LANGUAGES_OF` calls it."""
    names = (unicodedata.name(letter, "").split(" ")[0] for letter in text if letter.isalpha())
    scripts = Counter("KANA" if name in ("HIRAGANA", "KATAKANA") else name for name in names)
    return scripts.most_common(1)[0][0] if scripts else ""
