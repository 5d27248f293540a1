"""Sheets of photographs: what is asked about them, or what a model answers."""

import random
from collections.abc import Sequence

from PIL import Image

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.languages import CODES
from maya_core.model.prompt import Message
from training.photo_vqa.evaluate import LONGEST_ANSWER, Asked
from training.photo_vqa.phrases import load_phrases
from training.photo_vqa.questions import questions
from training.photo_vqa.scenes import Photograph, Scenes, alone
from training.sheets import LINES, Line, contact_sheet

FIVE_SCRIPTS = ("en", "hi", "ar", "zh", "bn")


def preview(photographs: Sequence[Photograph]) -> Image.Image:
    """Two scenes for each language, some questions beside each."""
    scenes, rows = Scenes(photographs), []
    for number in range(2 * len(CODES)):
        language, rng = CODES[number % len(CODES)], random.Random(f"preview/{number}")
        picture = scenes[number].render()
        asked = questions(scenes[number].with_colours(picture), language, rng)
        chosen = rng.sample(asked, min(LINES, len(asked)))
        rows.append((picture, [Line(language, question.text, question.answer) for question in chosen]))
    return contact_sheet(rows)


def answered(session: ChatSession, photographs: Sequence[Photograph], number: int = 20) -> Image.Image:
    """What a model says that some photographs show, in five scripts."""
    chosen = random.Random("sheet").sample(list(photographs), min(number, len(photographs)))
    options, rows = GenerationOptions(max_new_tokens=LONGEST_ANSWER), []
    for photograph in chosen:
        picture = alone(photograph).render()
        asked = [(code, load_phrases(code).asked["what"].held[0]) for code in FIVE_SCRIPTS]
        turns = [[Message(role="user", text=text, images=(picture,))] for _, text in asked]
        said = session.answers(turns, options)
        rows.append((picture, [Line(code, text, answer) for (code, text), answer in zip(asked, said, strict=True)]))
    return contact_sheet(rows)


def failed(failures: Sequence[tuple[Asked, str]], number: int = 10) -> Image.Image:
    """What a model got wrong, beside what was wanted."""
    chosen = random.Random("failures").sample(list(failures), min(number, len(failures)))
    rows = []
    for asked, given in chosen:
        question = asked.question
        turns = [Line(one.language, one.text, one.answer) for one in asked.before]
        wanted = Line(question.language, question.text, f"{given}   [{question.answer}]")
        rows.append((asked.scene.render(), [*turns, wanted]))
    return contact_sheet(rows)
