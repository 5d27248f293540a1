"""Sheets of pictures with what is asked about them and answered, in every script."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from maya_core.assets import asset_path
from maya_core.languages import get_language

FONT_FILES = {"zh": "NotoSansSC", "ja": "NotoSansJP", "hi": "NotoSansDevanagari", "bn": "NotoSansBengali",
              "ar": "NotoSansArabic", "ur": "NotoNastaliqUrdu"}  # fmt: skip
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
    """Question and answer on one line, from the side where the script begins, as large as fits."""
    draw = ImageDraw.Draw(sheet)
    question, answer = (" ".join(text.split()) for text in (line.text, line.answer))
    direction = get_language(line.language).direction
    options: dict[str, Any] = {"direction": direction, "language": line.language}
    room, baseline = WIDTH - SIDE - 4 * MARGIN, top + LINE * 2 // 3
    for size in range(LARGEST, SMALLEST - 1, -1):
        font = font_for(line.language, size)
        asked, answered = (draw.textlength(text, font, **options) for text in (question, answer))
        if asked + GAP + answered <= room:
            break
    if direction == "ltr":
        draw.text((left, baseline), question, INK, font, "ls", **options)
        draw.text((left + asked + GAP, baseline), answer, ANSWER_INK, font, "ls", **options)
        return
    draw.text((left + room, baseline), question, INK, font, "rs", **options)
    draw.text((left + room - asked - GAP, baseline), answer, ANSWER_INK, font, "rs", **options)
