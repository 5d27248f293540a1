"""XM3600: captions in many languages. Layout: captions.jsonl (image/key, and for each locale its captions), images."""

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from maya_core.languages import CODES
from training.benchmarks.base import ALL, Answered, Benchmark, Figures, Item, Sums, Tally
from training.benchmarks.files import field, one_of, picture_in, read_lines

DESCRIBE = {
    "en": "Describe the picture in one sentence, in English.",
    "zh": "请用一句中文描述这张图片。",
    "fr": "Décris l'image en une phrase, en français.",
    "es": "Describe la imagen en una frase, en español.",
    "ru": "Опиши картинку одним предложением по-русски.",
    "hi": "चित्र का वर्णन हिन्दी में एक वाक्य में करो।",
    "ja": "この画像を日本語の一文で説明してください。",
    "ar": "صف الصورة بجملة واحدة بالعربية.",
    "bn": "ছবিটির বর্ণনা বাংলায় এক বাক্যে দাও।",
    "ur": "تصویر کو اردو میں ایک جملے میں بیان کریں۔",
}
LONGEST_GRAM = 4
WIDTH = 6.0  # of the penalty for other lengths, words
_UNSPACED = ("zh", "ja")

Grams = Counter[tuple[str, ...]]


class Xm3600(Benchmark):
    """CIDEr-D (arXiv 1411.5726), times 100. Words are runs of letters and their marks; in Chinese and
    Japanese, characters."""

    name = "xm3600"
    answers_as_asked = True

    def items(self, folder: Path) -> list[Item]:
        file = one_of(folder, "captions.jsonl")
        items = []
        for record in read_lines(file):
            key = field(record, "image/key", file)
            picture = picture_in(folder, f"{key}.jpg", "images")
            for language in CODES:
                if captions := record.get(language, {}).get("caption"):
                    items.append(
                        Item(
                            id=key,
                            language=language,
                            prompt=DESCRIBE[language],
                            picture=picture,
                            reference=captions,
                        )
                    )
        return items

    def tally(self, rows: Iterable[Answered]) -> Tally:
        rows = list(rows)
        scores = cider(
            [words(row.answer, row.item.language) for row in rows],
            [[words(caption, row.item.language) for caption in row.item.reference] for row in rows],
        )
        pairs = zip(rows, scores, strict=True)
        return {row.item.id: {(ALL, "score"): score, (ALL, "asked"): 1.0} for row, score in pairs}

    def figures(self, sums: Sums) -> Figures:
        return {ALL: 100 * sums[ALL, "score"] / sums[ALL, "asked"]}


def words(text: str, language: str) -> list[str]:
    """What is counted of a caption."""
    letters = unicodedata.normalize("NFKC", text).casefold()
    letters = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in letters)
    return list(letters.replace(" ", "")) if language in _UNSPACED else letters.split()


def cider(given: Sequence[Sequence[str]], wanted: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """CIDEr-D of each caption, from 0 to 10: how much it has in common with what people said of its picture, rare words
    counting more. given: words; wanted: for each, the words of several captions."""
    seen: Counter[tuple[str, ...]] = Counter()
    for captions in wanted:
        seen.update(set().union(*(_grams(caption) for caption in captions)))
    return [
        sum(_alike(caption, one, seen, len(wanted)) for one in captions) / len(captions)
        for caption, captions in zip(given, wanted, strict=True)
    ]


def _grams(caption: Sequence[str]) -> Grams:
    return Counter(
        tuple(caption[start : start + size])
        for size in range(1, LONGEST_GRAM + 1)
        for start in range(len(caption) - size + 1)
    )


def _alike(one: Sequence[str], other: Sequence[str], seen: Grams, pictures: int) -> float:
    """Ten times the mean over sizes of grams of the cosine of weights, clipped, with a penalty for another length."""
    ours, theirs = _grams(one), _grams(other)
    total = 0.0
    for size in range(1, LONGEST_GRAM + 1):
        mine = {gram: count * _rarity(gram, seen, pictures) for gram, count in ours.items() if len(gram) == size}
        his = {gram: count * _rarity(gram, seen, pictures) for gram, count in theirs.items() if len(gram) == size}
        lengths = math.sqrt(sum(w * w for w in mine.values()) * sum(w * w for w in his.values()))
        if lengths:
            total += sum(min(weight, his[gram]) * his[gram] for gram, weight in mine.items() if gram in his) / lengths
    return 10 * total / LONGEST_GRAM * math.exp(-((len(one) - len(other)) ** 2) / (2 * WIDTH**2))


def _rarity(gram: tuple[str, ...], seen: Grams, pictures: int) -> float:
    return math.log(pictures / max(1, seen[gram])) if pictures > 1 else 1.0
