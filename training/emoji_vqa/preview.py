"""A contact sheet of scenes with what is asked about them, in every script."""

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from maya_core.assets import asset_path
from maya_core.languages import CODES, get_language
from training.emoji_vqa.questions import Question, ask, families_for
from training.emoji_vqa.scenes import Split, make_scene, render

FONT_FILES = {"zh": "NotoSansSC", "ja": "NotoSansJP", "hi": "NotoSansDevanagari", "bn": "NotoSansBengali",
              "ar": "NotoSansArabic", "ur": "NotoNastaliqUrdu"}  # fmt: skip
SIDE = 256  # px, of a picture
WIDTH = 900  # px, of a row
LINE = 46  # px; Nastaliq is tall
QUESTIONS = 5  # a scene
EXAMPLES = (19, 8, 31)  # validation scenes that the app offers to try
MARGIN = 16
INK, ANSWER_INK, PAPER = (30, 30, 30), (0, 95, 115), (255, 255, 255)


def font_for(language: str, size: int) -> ImageFont.FreeTypeFont:
    """The project's font for a language's script."""
    return ImageFont.truetype(str(asset_path("fonts") / f"{FONT_FILES.get(language, 'NotoSans')}.woff2"), size)


def contact_sheet(split: Split, *, start: int = 0, columns: int = 2) -> Image.Image:
    """One scene for each language, five questions beside each; answers in colour."""
    height = SIDE + 2 * MARGIN
    rows = -(-len(CODES) // columns)
    sheet = Image.new("RGB", (WIDTH * columns, height * rows), PAPER)
    for number, language in enumerate(CODES):
        left, top = number % columns * WIDTH, number // columns * height
        scene = make_scene(split, start + number, size=SIDE)
        sheet.paste(render(scene), (left + MARGIN, top + MARGIN))
        rng = random.Random(f"preview/{split}/{scene.index}")
        families = families_for(scene)
        chosen = sorted(rng.sample(families, min(QUESTIONS, len(families))), key=families.index)
        for line, family in enumerate(chosen):
            _draw_question(
                sheet, ask(scene, family, language, rng), left + SIDE + 2 * MARGIN, top + MARGIN + line * LINE
            )
    return sheet


def _draw_question(sheet: Image.Image, question: Question, left: int, top: int) -> None:
    """Question and answer on one line, from the side where the script begins."""
    draw = ImageDraw.Draw(sheet)
    font = font_for(question.language, 19)
    direction = get_language(question.language).direction
    asked = draw.textlength(question.text, font, direction=direction, language=question.language)
    baseline = top + LINE * 2 // 3
    if direction == "ltr":
        draw.text((left, baseline), question.text, INK, font, "ls")
        draw.text((left + asked + 12, baseline), question.answer, ANSWER_INK, font, "ls")
        return
    right = left + WIDTH - SIDE - 4 * MARGIN
    options = {"direction": "rtl", "language": question.language}
    draw.text((right, baseline), question.text, INK, font, "rs", **options)
    draw.text((right - asked - 12, baseline), question.answer, ANSWER_INK, font, "rs", **options)


def save_preview(out: Path, split: Split) -> None:
    """Write the contact sheet; the file's suffix says the format."""
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(split).save(out)


def save_examples(out: Path) -> None:
    """Write the pictures that the app offers to try."""
    out.mkdir(parents=True, exist_ok=True)
    for number, index in enumerate(EXAMPLES, start=1):
        render(make_scene("validation", index, size=SIDE)).save(out / f"{number}.png", optimize=True)
