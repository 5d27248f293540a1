"""Photographs as LLaVA JSON with a folder of pictures, the format of the paper's own data."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maya_core.languages import CODES, PRETRAINED_CODES
from training.photo_vqa.questions import Question, ask, follow, questions
from training.photo_vqa.scenes import Photograph, Scene, Scenes

TURNS = 5  # most questions of a conversation


def export(out: Path, photographs: Sequence[Photograph], number: int) -> tuple[int, int]:
    """Write `images/`, `pretrain.json` (a caption a scene that has one, eight languages in turn) and `instruct.json`
    (conversations in ten) into `out`; returns how many records each has."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    scenes, captions, instructions = Scenes(photographs), [], []
    for index in range(number):
        picture = scenes[index].render()
        scene, rng = scenes[index].with_colours(picture), random.Random(f"export/{index}")
        file = f"{index:07d}.jpg"
        picture.save(out / "images" / file, quality=90)
        caption = ask(scene, "describe", PRETRAINED_CODES[index % len(PRETRAINED_CODES)], rng)
        if caption:
            captions.append(_record(file, [caption]))
        turns = _conversation(scene, CODES[index % len(CODES)], rng)
        if turns:
            instructions.append(_record(file, turns))
    for name, records in (("pretrain", captions), ("instruct", instructions)):
        text = json.dumps(records, ensure_ascii=False, indent=1)
        (out / f"{name}.json").write_text(text + "\n", "utf-8")
    return len(captions), len(instructions)


def _conversation(scene: Scene, language: str, rng: random.Random) -> list[Question]:
    asked = questions(scene, language, rng)
    chosen: list[Question] = []
    for question in rng.sample(asked, min(TURNS - 1, len(asked))):
        second = follow(scene, question, rng)
        chosen += [question] if second is None else [question, second]
    return chosen[:TURNS]


def _record(file: str, questions: Sequence[Question]) -> dict[str, Any]:
    """The picture's slot stands at the start of the first question, as LLaVA writes it."""
    turns = []
    for number, question in enumerate(questions):
        turns.append({"from": "human", "value": question.text if number else f"<image>\n{question.text}"})
        turns.append({"from": "gpt", "value": question.answer})
    return {"id": Path(file).stem, "image": file, "language": questions[0].language, "conversations": turns}
