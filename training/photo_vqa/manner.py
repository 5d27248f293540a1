"""How the questions of people stray from any list of wordings: what they say before and after, one word for another, words
left out, and slips of the finger. What a model learns with them it also understands in words that it has never read.
"""

import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from training.photo_vqa.phrases import load_phrases, without_words
from training.photo_vqa.texts import is_spaced
from training.photo_vqa.things import HERE

MARKS = "?.!？。！؟۔। "
# What a word is written with, inside a class of characters: `\w` lacks the vowel signs of Arabic, Hindi and Bengali.
_OF_WORDS = r"\w\u064b-\u065f\u0900-\u0963\u0971-\u09ff"


@dataclass(frozen=True, kw_only=True)
class Manner:
    """Chances. dropped: of each word, that it is left out; alike: of each that has others like it, that one stands for it;
    opened, closed: of a question, that something is said before it, and after it; careless: that it begins without a large
    letter, and that it ends without a mark; slipped: that a letter is missing, twice there, or in the next one's place."""

    dropped: float = 0.0
    alike: float = 0.0
    opened: float = 0.0
    closed: float = 0.0
    careless: float = 0.0
    slipped: float = 0.0

    def worded(self, wording: str, language: str, rng: random.Random) -> str:
        """A wording, its slots still empty, in other words, which are those of no wording that is held back."""
        changed = without_words(wording, self.dropped, rng)
        if self.alike:
            for pattern, words in _alike(language):
                changed = self._exchanged(changed, pattern, words, rng)
        return self.framed(wording if _bare(changed) in _held(language) else changed, language, rng)

    def _exchanged(self, wording: str, pattern: re.Pattern[str], words: Sequence[str], rng: random.Random) -> str:
        return pattern.sub(lambda found: rng.choice(words) if rng.random() < self.alike else found[0], wording)

    def framed(self, text: str, language: str, rng: random.Random) -> str:
        """A question with what people say before and after it."""
        space = " " if is_spaced(language) else ""
        if self.opened and rng.random() < self.opened:
            before = rng.choice(_manners()[language]["before"])
            text = f"{before}{space}{_goes_on(text, language) if before[-1] in ',:،，、：' else text}"
        if self.closed and rng.random() < self.closed:
            text = f"{text}{space}{rng.choice(_manners()[language]['after'])}"
        return text

    def typed(self, text: str, rng: random.Random) -> str:
        """A question as fingers write it."""
        if self.careless and rng.random() < self.careless:
            text = text[:1].lower() + text[1:]
        if self.careless and rng.random() < self.careless:
            text = text.rstrip(MARKS) or text
        return _slipped(text, rng) if self.slipped and rng.random() < self.slipped else text


PLAIN = Manner()


def _goes_on(text: str, language: str) -> str:
    """As it is written inside a sentence."""
    if not load_phrases(language).begins_large or not re.match(r"¿?(?!I\b)\w[^A-ZА-ЯЁ]", text):
        return text
    at = 1 if text.startswith("¿") else 0
    return text[:at] + text[at].lower() + text[at + 1 :]


def _slipped(text: str, rng: random.Random) -> str:
    letters = [at for at, pair in enumerate(pairwise(text)) if all(map(str.isalpha, pair))]
    if not letters:
        return text
    at = rng.choice(letters)
    first, second = text[at], text[at + 1]
    return text[:at] + rng.choice((second, first + first + second, second + first)) + text[at + 2 :]


def _bare(wording: str) -> str:
    """Without what does not make it another wording."""
    return " ".join(wording.casefold().split()).strip(MARKS)


@cache
def _held(language: str) -> frozenset[str]:
    return frozenset(_bare(wording) for of in load_phrases(language).asked.values() for wording in of.held)


@cache
def _manners() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads((HERE / "manners.toml").read_text("utf-8"))


@cache
def _alike(language: str) -> list[tuple[re.Pattern[str], Sequence[str]]]:
    """Each group of words for one another, and a pattern that finds any of them outside slots."""
    edges = (rf"(?<![{_OF_WORDS}{{])", rf"(?![{_OF_WORDS}}}])") if is_spaced(language) else ("", "")
    groups: list[list[str]] = _manners()[language]["alike"]  # type: ignore[assignment]
    return [
        (re.compile("|".join(map(re.escape, words)).join((f"{edges[0]}(?:", f"){edges[1]}"))), words)
        for words in groups
    ]
