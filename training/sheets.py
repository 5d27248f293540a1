"""Sheets of pictures with what is asked about them and answered, in every script."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from maya_core.assets import asset_path
from maya_core.languages import get_language

FONT_FILES = {"zh": "NotoSansSC", "ja": "NotoSansJP", "hi": "NotoSansDevanagari", "bn": "NotoSansBengali",
              "ar": "NotoSansArabic", "ur": "NotoNastaliqUrdu"}  # fmt: skip
SIDE = 256  # px, of a picture
WIDTH = 900  # px, of a row
LINE = 46  # px; Nastaliq is tall
LINES = 5  # a picture
MARGIN = 16
INK, ANSWER_INK, PAPER = (30, 30, 30), (0, 95, 115), (255, 255, 255)


class Line(NamedTuple):
    """A question and its answer."""

    language: str
    text: str
    answer: str


def font_for(language: str, size: int) -> ImageFont.FreeTypeFont:
    """The project's font for a language's script."""
    return ImageFont.truetype(str(asset_path("fonts") / f"{FONT_FILES.get(language, 'NotoSans')}.woff2"), size)


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
    """Question and answer on one line, from the side where the script begins."""
    draw = ImageDraw.Draw(sheet)
    font = font_for(line.language, 19)
    direction = get_language(line.language).direction
    asked = draw.textlength(line.text, font, direction=direction, language=line.language)
    baseline = top + LINE * 2 // 3
    if direction == "ltr":
        draw.text((left, baseline), line.text, INK, font, "ls")
        draw.text((left + asked + 12, baseline), line.answer, ANSWER_INK, font, "ls")
        return
    right = left + WIDTH - SIDE - 4 * MARGIN
    options = {"direction": "rtl", "language": line.language}
    draw.text((right, baseline), line.text, INK, font, "rs", **options)
    draw.text((right - asked - 12, baseline), line.answer, ANSWER_INK, font, "rs", **options)
