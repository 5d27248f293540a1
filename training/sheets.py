"""Sheets of pictures with what is asked about them and answered, in every script."""

from collections.abc import Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from maya_core.assets import asset_path
from maya_core.languages import get_language

FONT_FILES = {"zh": "NotoSansSC", "ja": "NotoSansJP", "hi": "NotoSansDevanagari", "bn": "NotoSansBengali",
              "ur": "NotoNastaliqUrdu", "ar": "NotoSansArabic"}  # fmt: skip
SIDE = 256  # px, of a picture
WIDTH = 1100  # px, of a row
LINE = 46  # px; Nastaliq is tall
LINES = 5  # a picture
MARGIN = 16
GAP = 12  # px, between a question and its answer, and between scripts
LARGEST, SMALLEST = 19, 9  # px, of letters
INK, ANSWER_INK, PAPER = (30, 30, 30), (0, 95, 115), (255, 255, 255)


class Line(NamedTuple):
    """A question and its answer."""

    language: str
    text: str
    answer: str


def font_for(language: str, size: int) -> ImageFont.FreeTypeFont:
    """The project's font for a language's script."""
    return ImageFont.truetype(_font_file(language), size)


def in_scripts(text: str, language: str) -> list[tuple[str, str]]:
    """A text in parts of whole words, each with the language whose font has its letters: the text's own, wherever it has,
    and another's where an answer came in another script."""
    words = [(_language_that_writes(word, language), word) for word in text.split()]
    return [(one, " ".join(word for _, word in part)) for one, part in groupby(words, key=itemgetter(0))]


def _language_that_writes(word: str, language: str) -> str:
    able = (one for one in (language, *FONT_FILES, "en") if {*map(ord, word)} <= _letters(one))
    return next(able, language)


def _font_file(language: str) -> str:
    return str(asset_path("fonts") / f"{FONT_FILES.get(language, 'NotoSans')}.woff2")


@cache
def _letters(language: str) -> set[int]:
    from fontTools.ttLib import TTFont

    return {*TTFont(_font_file(language)).getBestCmap()}


def contact_sheet(rows: Sequence[tuple[Image.Image, Sequence[Line]]], *, columns: int = 2) -> Image.Image:
    """A picture a row, with its lines beside it; answers in colour."""
    height = SIDE + 2 * MARGIN
    sheet = Image.new("RGB", (WIDTH * columns, height * -(-len(rows) // columns)), PAPER)
    for number, (picture, lines) in enumerate(rows):
        left, top = number % columns * WIDTH, number // columns * height
        small = picture.copy()
        small.thumbnail((SIDE, SIDE))
        sheet.paste(small, (left + MARGIN, top + MARGIN))
        for place, line in enumerate(lines[:LINES]):
            _draw(sheet, line, left + SIDE + 2 * MARGIN, top + MARGIN + place * LINE)
    return sheet


def _draw(sheet: Image.Image, line: Line, left: int, top: int) -> None:
    """Question and answer on one line, from the side where the script begins, as large as fits."""
    draw = ImageDraw.Draw(sheet)
    texts = ((line.text, INK), (line.answer, ANSWER_INK))
    parts = [(ink, language, part) for text, ink in texts for language, part in in_scripts(text, line.language)]
    room, baseline = WIDTH - SIDE - 4 * MARGIN, top + LINE * 2 // 3
    for size in range(LARGEST, SMALLEST - 1, -1):
        options: list[dict[str, Any]] = [
            {"font": font_for(one, size), "language": one, "direction": get_language(one).direction}
            for _, one, _ in parts
        ]
        widths = [draw.textlength(part, **option) for (_, _, part), option in zip(parts, options, strict=True)]
        if sum(widths) + GAP * (len(parts) - 1) <= room:
            break
    is_from_left = get_language(line.language).direction == "ltr"
    place = float(left if is_from_left else left + room)
    for (ink, _, part), width, option in zip(parts, widths, options, strict=True):
        draw.text((place, baseline), part, ink, anchor="ls" if is_from_left else "rs", **option)
        place += (width + GAP) if is_from_left else -(width + GAP)
