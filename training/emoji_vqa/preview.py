"""A sheet of scenes with what is asked about them, in every script."""

import random
from pathlib import Path

from PIL import Image

from maya_core.languages import CODES
from training.emoji_vqa.questions import ask, families_for
from training.emoji_vqa.scenes import Split, make_scene, render
from training.sheets import LINES, SIDE, Line, contact_sheet

EXAMPLES = {2: 117, 3: 28}  # validation scenes that the app offers to try, behind a photograph


def preview(split: Split) -> Image.Image:
    """One scene for each language, some questions beside each."""
    rows = []
    for number, language in enumerate(CODES):
        scene = make_scene(split, number, size=SIDE)
        rng = random.Random(f"preview/{split}/{scene.index}")
        families = families_for(scene)
        chosen = sorted(rng.sample(families, min(LINES, len(families))), key=families.index)
        asked = [ask(scene, family, language, rng) for family in chosen]
        rows.append((render(scene), [Line(language, question.text, question.answer) for question in asked]))
    return contact_sheet(rows)


def save_preview(out: Path, split: Split) -> None:
    """Write the sheet; the file's suffix says the format."""
    out.parent.mkdir(parents=True, exist_ok=True)
    preview(split).save(out)


def save_examples(out: Path) -> None:
    """Write the pictures that the app offers to try."""
    out.mkdir(parents=True, exist_ok=True)
    for number, index in EXAMPLES.items():
        render(make_scene("validation", index, size=SIDE)).save(out / f"{number}.png", optimize=True)
