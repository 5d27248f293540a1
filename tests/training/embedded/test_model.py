"""The Maya that comes along: its size, its card, and that it answers."""

import json

import pytest
import torch

from app.i18n import Say
from maya_core.answering.session import load_session
from maya_core.assets import asset_path
from maya_core.languages import CODES
from maya_core.model.images import open_image
from maya_core.model.maya import parameter_counts
from maya_core.model.prompt import Message, answered_in
from maya_core.weights.checkpoint import load_config
from maya_core.weights.export import quantize_checkpoint
from training.embedded.model_card import model_card
from training.emoji_vqa.evaluate import evaluate
from training.photo_vqa.phrases import load_phrases
from training.photo_vqa.texts import forms_of
from training.photo_vqa.things import load_names, load_things

FOLDER = asset_path("maya-tiny")
SCENES = 40


def test_it_is_small():
    counts = parameter_counts(load_config(FOLDER))
    assert sum(counts.values()) <= 40_000_000
    assert sum(file.stat().st_size for file in asset_path("").rglob("*.safetensors")) <= 45_000_000
    assert json.loads((FOLDER / "training.json").read_text())["parameters"] == sum(counts.values())


def test_the_card_says_what_its_files_say():
    assert (FOLDER / "README.md").read_text("utf-8") == model_card(FOLDER)


@pytest.fixture(scope="module")
def scores():
    """On some of the scenes of the card."""
    torch.manual_seed(0)
    return evaluate(load_session(), "test", SCENES)


def share(scores):
    return sum(scores.right.values()) / sum(scores.asked.values())


@pytest.mark.long(50)
def test_it_answers_as_well_as_its_card_says(scores):
    """Within what so few questions can tell (three standard errors)."""
    wanted = json.loads((FOLDER / "evaluation-test.json").read_text())["exact_match"]["mean"]["all"]
    questions = sum(scores.asked.values())
    assert share(scores) == pytest.approx(wanted, abs=3 * (wanted * (1 - wanted) / questions) ** 0.5 + 0.02)


@pytest.mark.long(50)
def test_four_bits_cost_at_most_two_points(scores, tmp_path):
    quantize_checkpoint(FOLDER, tmp_path / "four-bit")
    four_bit = evaluate(load_session(tmp_path / "four-bit"), "test", SCENES)
    assert four_bit.asked == scores.asked
    assert share(scores) - share(four_bit) <= 0.02, (share(scores), share(four_bit))


@pytest.mark.parametrize("code", CODES)
def test_it_answers_in_the_language_that_is_asked_for(code):
    """Whatever the question's own: the answer names the cup in that language."""
    picture = open_image(asset_path("examples") / "1.png")
    question = Message(role="user", text="What is this?", images=(picture,))
    answer = load_session().answer([answered_in(question, code)])
    cup = list(load_things()).index("cup")
    names = {words[cup] for form, words in forms_of(code).items() if form not in ("latin", "also")}
    assert any(name in answer.casefold() for name in names), answer


@pytest.mark.parametrize("code", CODES)
def test_what_the_page_offers_to_try_is_answered_rightly(code):
    say, phrases = Say(code), load_phrases(code)
    wanted = {
        say("What is this?"): phrases.named(load_names(code)["cup"]),
        say("How many things are in the picture?"): "3",
        say("What colour is the background?"): phrases.as_answer(phrases.colours["green"]),
    }
    pictures = [open_image(asset_path("examples") / f"{number}.png") for number in (1, 2, 3)]
    asked = [Message(role="user", text=text, images=(one,)) for text, one in zip(wanted, pictures, strict=True)]
    assert load_session().answers([[message] for message in asked]) == list(wanted.values())
