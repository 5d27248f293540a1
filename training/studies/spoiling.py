"""Answers as a careless translation leaves them: another word, another language, a word less."""

import random
from collections.abc import Callable
from functools import partial

import sacrebleu

from maya_core.languages import CODES
from training.emoji_vqa import scenes as emoji
from training.photo_vqa.questions import ask
from training.photo_vqa.scenes import drawn
from training.photo_vqa.things import load_names

TOLD = 200  # drawings, whose descriptions tell how much is spoilt
UNSPACED = ("zh", "ja")


def spoilt(said: Callable[[str], str], language: str, share: float, rng: random.Random) -> str:
    """What is said in a language, or by that chance a spoilt form of it; English, from which it is translated, never is."""
    text = said(language)
    if language == "en" or rng.random() >= share:
        return text
    how = rng.choice((_other_word, _other_language, _word_less))
    return how(said, language, rng)


def _other_word(said: Callable[[str], str], language: str, rng: random.Random) -> str:
    """The name of some other thing, in the place of a word."""
    words = _words(said(language), language) or [""]
    words[rng.randrange(len(words))] = rng.choice(list(load_names(language).values()))["name"]
    return _joined(words, language)


def _other_language(said: Callable[[str], str], language: str, rng: random.Random) -> str:
    return said(rng.choice([code for code in CODES if code != language]))


def _word_less(said: Callable[[str], str], language: str, rng: random.Random) -> str:
    words = _words(said(language), language)
    if len(words) > 1:
        del words[rng.randrange(len(words))]
    return _joined(words, language)


def _words(text: str, language: str) -> list[str]:
    return list(text) if language in UNSPACED else text.split()


def _joined(words: list[str], language: str) -> str:
    return ("" if language in UNSPACED else " ").join(words)


def bleu(share: float, language: str) -> float:
    """Of spoilt answers against the clean ones, 0 to 100, by character n-grams where words are not spaced."""
    rng = random.Random(f"bleu/{share}/{language}")
    spoilt_texts, clean_texts = [], []
    for index in range(TOLD):
        said = partial(_told, index)
        clean_texts.append(said(language))
        spoilt_texts.append(spoilt(said, language, share, rng))
    tokenizer = {"zh": "zh", "ja": "char"}.get(language, "13a")
    return float(sacrebleu.corpus_bleu(spoilt_texts, [clean_texts], tokenize=tokenizer, smooth_method="exp").score)


def _told(index: int, language: str) -> str:
    """What a drawing shows."""
    scene = drawn(emoji.make_scene("train", index, size=64, number=3))
    asked = ask(scene, "describe", language, random.Random(0))
    return asked.answer if asked else ""
