"""How short answers are read: yes or no, an option's letter, words after the normaliser of VQA."""

import re
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"

_THOUGHTS = re.compile(r"\s*<think>.*?</think>", re.DOTALL)
_DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = ("a", "an", "the")
# As VQA's own evaluation has them: not all that English has.
_SHORTENED = (
    "ain't", "aren't", "can't", "could've", "couldn't", "couldn't've", "didn't", "doesn't", "don't", "hadn't",
    "hadn't've", "hasn't", "haven't", "he'd", "he'd've", "he's", "how'd", "how'll", "how's", "isn't", "it'd",
    "it'd've", "it'll", "ma'am", "might've", "mightn't", "mightn't've", "must've", "mustn't", "needn't", "not've",
    "o'clock", "oughtn't", "'ow's'at", "shan't", "she'd've", "should've", "shouldn't", "shouldn't've", "somebody'd've",
    "somebody'll", "somebody's", "someone'd", "someone'd've", "someone'll", "someone's", "something'd",
    "something'd've", "something'll", "that's", "there'd", "there'd've", "there're", "there's", "they'd", "they'd've",
    "they'll", "they're", "they've", "'twas", "wasn't", "we'd've", "we've", "weren't", "what'll", "what're", "what's",
    "what've", "when's", "where'd", "where's", "where've", "who'd", "who'd've", "who'll", "who's", "who've", "why'll",
    "why're", "why's", "won't", "would've", "wouldn't", "wouldn't've", "y'all", "y'all'd've", "y'all'll", "you'd",
    "you'd've", "you'll", "you're", "you've",
)  # fmt: skip
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d)")
_FULL_STOP = re.compile(r"\.(?!\d)")


def _spellings(word: str) -> list[str]:
    """A shortened word without one of its apostrophes."""
    return [word[:place] + word[place + 1 :] for place, letter in enumerate(word) if letter == "'"]


_WHOLE = {spelling: word for word in _SHORTENED for spelling in _spellings(word)} | {"somebody'd": "somebodyd"}


def says_yes(answer: str) -> bool:
    """As POPE reads it: the first sentence denies, or else it affirms."""
    words = answer.split(".")[0].replace(",", "").split()
    return not any(word in ("No", "not", "no") for word in words)


def yes_or_no(answer: str) -> str:
    """As MME reads it: by how the answer begins; `other` where it is neither."""
    beginning = answer.strip().lower()[:4]
    return "yes" if "yes" in beginning else "no" if "no" in beginning else "other"


def chosen_option(answer: str, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer chooses: named as a letter, or the one whose text it says."""
    letters = LETTERS[: len(options)]
    text = answer.strip()
    for pattern in (
        rf"\(?([{letters}])[).:]?",
        rf"\(?([{letters}])[).:]\s.*",
        rf".*\banswer is:?\s+\(?([{letters}])\b.*",
    ):
        if named := re.fullmatch(pattern, text, re.DOTALL):
            return named[1]
    said = [letter for letter, option in zip(letters, options, strict=True) if plain(option) == plain(text)]
    if not said:
        words = f" {plain(text)} "
        said = [letter for letter, option in zip(letters, options, strict=True) if f" {plain(option)} " in words]
    return said[0] if len(said) == 1 else None


def first_line(verdict: str | None) -> str:
    """The first line of what a judge wrote, behind what it thought before it wrote."""
    written = _THOUGHTS.sub("", verdict or "").strip()
    return written.split("\n")[0].strip()


def plain(text: str) -> str:
    """Lower case, spaces single, no full stop at the end, in any script."""
    return " ".join(text.casefold().rstrip(" \n.。।۔").split())


def lettered(options: Sequence[str]) -> str:
    """Options as lines, each with its letter."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def vqa_normal(answer: str) -> str:
    """An English answer as VQA's own evaluation compares it, to the letter: punctuation, articles, number words and
    apostrophes made the same."""
    given = " ".join(answer.split())
    has_comma = bool(_COMMA_IN_NUMBER.search(given))
    text = given
    for mark in _PUNCTUATION:
        is_at_edge = f"{mark} " in given or f" {mark}" in given or has_comma
        text = text.replace(mark, "" if is_at_edge else " ")
    words = [_DIGITS.get(word, word) for word in _FULL_STOP.sub("", text).lower().split()]
    return " ".join(_WHOLE.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, references: Sequence[str]) -> float:
    """min(1, matches / 3), averaged over the references with each left out in turn, as VQA's own evaluation does."""
    given = vqa_normal(answer)
    matches = [given == vqa_normal(reference) for reference in references]
    if len(matches) < 2:
        return float(any(matches))
    return sum(min(1.0, (sum(matches) - match) / 3) for match in matches) / len(matches)
