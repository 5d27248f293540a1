"""The Maya that comes along: its size, its card, and that it answers."""

import json

import pytest
import torch

from maya_core.assets import asset_path
from maya_core.checkpoint import load_config, load_session
from maya_core.model import parameter_counts
from training.emoji_vqa.evaluate import evaluate
from training.model_card import model_card

FOLDER = asset_path("maya-tiny")


def test_it_is_small():
    counts = parameter_counts(load_config(FOLDER))
    assert sum(counts.values()) <= 12_000_000
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25_000_000
    assert json.loads((FOLDER / "training.json").read_text())["parameters"] == sum(counts.values())


def test_the_card_says_what_its_files_say():
    assert (FOLDER / "README.md").read_text("utf-8") == model_card(FOLDER)


def test_it_answers_as_well_as_its_card_says():
    """On 120 of the scenes of the card: within what so few questions can tell (three standard errors)."""
    wanted = json.loads((FOLDER / "evaluation-test.json").read_text())["exact_match"]["mean"]["all"]
    torch.manual_seed(0)
    scores = evaluate(load_session(), "test", 120)
    questions = sum(scores.asked.values())
    right = sum(scores.right.values()) / questions
    assert right == pytest.approx(wanted, abs=3 * (wanted * (1 - wanted) / questions) ** 0.5 + 0.02)
