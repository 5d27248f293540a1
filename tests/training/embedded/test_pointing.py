"""Pointing: the names beside the conversations carry the right places, and disturb nothing."""

import math

import pytest
import torch
from maya_core.learning.objective import AnswerObjective

from maya_core.languages import CODES
from maya_core.learning.data import PackedCollator
from maya_core.learning.optim import build_optimizers
from tests.tiny import tiny_session
from training.embedded.__main__ import untrained
from training.embedded.grounding import look_by_names, thing_forms
from training.embedded.pointing import LAYERS, PointingCollator, PointingObjective, PointingQuestions
from training.embedded.sight import WordVectors
from training.emoji_vqa.dataset import EmojiQuestions
from training.emoji_vqa.questions import concept_name
from training.emoji_vqa.scenes import make_scene

QUESTIONS = EmojiQuestions(split="train", size=100, image_size=64, conversations=2)
POINTING = PointingQuestions(questions=QUESTIONS, names=8, grid=4)


def batch_of(collator, samples):
    return collator.collate([collator.prepare(sample) for sample in samples])


def test_names_come_with_the_places_of_their_things():
    there = 0
    for index in range(40):
        scene, sample = make_scene("train", index, size=64), POINTING[index]
        for name, cells in zip(sample.names, sample.cells, strict=True):
            known = {concept_name(thing.concept, code): thing.concept for thing in scene.things for code in CODES}
            lying = [thing.cell for thing in scene.things if thing.concept == known.get(name.strip())]
            assert sorted(cells) == sorted(lying)
            there += bool(cells)
    assert 0.4 < there / (40 * POINTING.names) < 0.6


def test_a_name_sees_the_picture_and_itself_and_no_answer_changes():
    session = tiny_session()
    samples = [POINTING[index] for index in range(3)]
    batch = batch_of(PointingCollator(session.processor), samples)
    tokenizer = session.processor.require_tokenizer()
    names = [tokenizer(name, add_special_tokens=False)["input_ids"] for one in samples for name in one.names]
    slots_BT = session.model.slots(batch["input_ids"])
    for (row, end), ids in zip(batch["name_ends"].tolist(), names, strict=True):
        seen_T = batch["visible"][row, 0, end]
        assert batch["input_ids"][row, end - len(ids) + 1 : end + 1].tolist() == ids
        assert seen_T[slots_BT[row]].all()
        after_picture_T = seen_T & (torch.arange(len(seen_T)) > slots_BT[row].nonzero().max())
        assert after_picture_T.nonzero().flatten().tolist() == list(range(end - len(ids) + 1, end + 1))
    alone = AnswerObjective(session.model)(batch_of(PackedCollator(session.processor), [one.packed for one in samples]))
    beside = AnswerObjective(session.model)(batch)
    assert beside.total.item() == pytest.approx(alone.total.item(), rel=1e-5)
    assert int(beside.count) == int(alone.count)


def test_it_learns_where_things_lie():
    session = tiny_session()
    torch.manual_seed(0)
    objective = PointingObjective(session.model, session.processor)
    batch = batch_of(PointingCollator(session.processor), [POINTING[index] for index in range(3)])
    [optimizer] = build_optimizers(objective, {"model.language_model": 5e-2, "model.connector": 2e-2, "places": 1e-1})
    losses = []
    for _ in range(30):
        loss = objective(batch)
        mean = loss.total / loss.count
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        losses.append(mean.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(place.weight.grad.abs().sum() > 0 for place in objective.places)
    assert len(objective.places) == LAYERS


def test_a_name_begins_by_attending_to_what_is_like_it():
    model, processor = untrained(16384)
    look_by_names(model, processor, sharpness=9.0)
    text = model.config.text
    size = text.hidden_size // text.num_attention_heads
    attention = model.get_decoder().layers[0].self_attn
    names_WE = WordVectors(thing_forms(processor, CODES))(model.get_input_embeddings().weight).flatten(0, 1)
    names_WE = torch.nn.functional.layer_norm(names_WE, names_WE.shape[-1:])
    for group in range(text.num_key_value_heads):
        first = group * text.num_attention_heads // text.num_key_value_heads * size
        queries_WH = names_WE @ attention.q_proj.weight[first : first + size].T
        keys_WH = names_WE @ attention.k_proj.weight[group * size : (group + 1) * size].T
        assert not queries_WH[:, : size // 2].any()
        own_W = (queries_WH * keys_WH).sum(1) / math.sqrt(size)
        assert own_W.mean().item() == pytest.approx(9.0, rel=1e-3)
