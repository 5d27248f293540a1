"""Sheets of pictures with what is asked about them and answered, in every script."""

from collections.abc import Sequence
from functools import cache
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
GAP = 12  # px, between a question and its answer
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


def language_that_writes(text: str, language: str) -> str:
    """The language, or another where only that one's font has all letters, as where the answer is in another script."""
    letters = {ord(letter) for letter in text if not letter.isspace()}
    able = (one for one in (language, *FONT_FILES, "en") if letters <= _letters(one))
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
    texts = [" ".join(text.split()) for text in (line.text, line.answer)]
    languages = [language_that_writes(text, line.language) for text in texts]
    options: list[dict[str, Any]] = [
        {"direction": get_language(language).direction, "language": language} for language in languages
    ]
    room, baseline = WIDTH - SIDE - 4 * MARGIN, top + LINE * 2 // 3
    for size in range(LARGEST, SMALLEST - 1, -1):
        for option, language in zip(options, languages, strict=True):
            option["font"] = font_for(language, size)
        asked, answered = (draw.textlength(text, **option) for text, option in zip(texts, options, strict=True))
        if asked + GAP + answered <= room:
            break
    is_from_left = get_language(line.language).direction == "ltr"
    places = (left, left + asked + GAP) if is_from_left else (left + room, left + room - asked - GAP)
    anchor = "ls" if is_from_left else "rs"
    for text, place, ink, option in zip(texts, places, (INK, ANSWER_INK), options, strict=True):
        draw.text((place, baseline), text, ink, anchor=anchor, **option)
