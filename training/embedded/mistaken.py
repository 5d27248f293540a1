"""Photographs that the model takes for something else: what it learns to doubt from.

It is asked what they show after it has learnt to answer, and before it has read them.
"""

import json
import random
from collections import Counter
from pathlib import Path

import torch

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.languages import CODES
from training.embedded.looking import SEEN
from training.embedded.seen import SeenScenes
from training.emoji_vqa.dataset import as_a_page_asks, as_messages
from training.photo_vqa.questions import Question, answers_that_name, ask
from training.photo_vqa.scenes import Scene
from training.scoring import batches, normalise

TIMES = 3  # that each is asked about, in as many languages
BATCH = 64
OPTIONS = GenerationOptions(max_new_tokens=24)


def mistaken(session: ChatSession, seen: SeenScenes, file: Path) -> dict[int, str]:
    """By the scene's number, the thing that most of the answers name, where that is not the one that it shows. file: keeps
    them, so that nothing is asked again."""
    if not file.exists():
        file.write_text(json.dumps(_ask(session, seen)) + "\n", "utf-8")
    return {int(number): thing for number, thing in json.loads(file.read_text("utf-8")).items()}


def _ask(session: ChatSession, seen: SeenScenes) -> dict[int, str]:
    mistaken = {}
    scenes = ((number, seen.scenes[number]) for number in range(len(seen)))
    known = ((number, scene) for number, scene in scenes if len(scene.things) == 1)
    for batch in batches(known, BATCH // TIMES):
        asked = [(number, question) for number, scene in batch for question in _questions(number, scene)]
        features_IPD = torch.stack([seen.features(number) for number, _ in asked])
        conversations = [as_a_page_asks(as_messages(SEEN, [question])[:-1], question.language) for _, question in asked]
        named: dict[int, list[str]] = {number: [] for number, _ in batch}
        answers = session.answers(conversations, OPTIONS, features_IND=features_IPD)
        for (number, question), given in zip(asked, answers, strict=True):
            thing = _named(question, given)
            if thing:
                named[number].append(thing)
        for number, scene in batch:
            commonest = Counter(named[number]).most_common(1)
            if commonest and commonest[0][0] != scene.things[0].thing:
                mistaken[number] = commonest[0][0]
    return mistaken


def _questions(number: int, scene: Scene) -> list[Question]:
    rng = random.Random(f"mistaken/{number}")
    asked = [ask(scene, "what", language, rng) for language in rng.sample(CODES, TIMES)]
    return [question for question in asked if question]


def _named(question: Question, given: str) -> str | None:
    """The thing that an answer names: the one that is shown, where it is right by any of its names."""
    if question.is_right(given):
        return question.thing
    return answers_that_name(question.language).get(normalise(given, question.language))
