"""Training of the embedded model: every stage runs, resumes, and begins where it can learn."""

import json
import sys
from itertools import combinations

import pytest
import torch

from maya_core.checkpoint import load_model, load_processor
from maya_core.data import PackedCollator
from tests.tiny import tiny_session
from training import tiny
from training.emoji_vqa.dataset import EmojiQuestions
from training.emoji_vqa.scenes import COLOURS, make_scene, patch_labels
from training.emoji_vqa.vocabulary import load_vocabulary


def test_every_stage_runs_and_a_second_start_finds_all_done(tmp_path, monkeypatch, capsys):
    steps = [f"--{stage}-steps" for stage in ("tower", "large", "word", "reading", "connector", "answer")]
    flags = [part for name in steps for part in (name, "1")]
    paths = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["tiny", *paths, *flags, "--vocabulary", "2048", "--workers", "0"])
    tiny.main()
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert set(report["minutes"]) == {*tiny.STAGES, "all"}
    model, processor = load_model(tmp_path / "out"), load_processor(tmp_path / "out")
    assert model.num_parameters() == report["parameters"]
    assert processor.tokenizer is not None
    tiny.main()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("index", range(5))
def test_what_is_spelled_out_is_what_is_drawn(index):
    scene = make_scene("train", index)
    things = tiny.patch_things(scene, 8)
    labels = torch.from_numpy(patch_labels(scene, 8)).flatten()
    concepts = len(load_vocabulary())
    assert torch.equal(things[labels >= 0], labels[labels >= 0])
    assert set(things[labels < 0].tolist()) == {concepts + list(COLOURS).index(scene.colour)}
    assert torch.equal(tiny.is_ground(things), labels < 0)


def test_reading_is_answering_with_the_words_in_the_pictures_place(monkeypatch):
    session = tiny_session(vision={"image_size": 64, "patch_size": 8, "vision_use_head": False})
    model, processor = session.model, session.processor
    words = tiny._patch_words(model, processor, ("en", "ur"))
    questions = EmojiQuestions(split="train", size=10, image_size=64, conversations=3)
    spelled = tiny.SpelledCollator(processor)
    samples = [tiny.SpelledQuestions(questions, grid=8)[index] for index in range(2)]
    batch = spelled.collate([spelled.prepare(sample) for sample in samples])
    read = tiny.ReadingObjective(model, words)(batch)
    drawn = PackedCollator(processor)
    pictures = drawn.collate([drawn.prepare(questions[index]) for index in range(2)])
    meant = words(tiny.table_of(model), batch["things"])
    monkeypatch.setattr(model.connector, "forward", lambda features: meant)
    seen = tiny.AnswerObjective(model)(pictures)
    assert int(read.count) == int(seen.count)
    assert read.total.item() == pytest.approx(seen.total.item(), rel=1e-5)


def test_no_two_heads_start_alike():
    session = tiny_session()
    tiny.attend_to_likeness(session.model)
    heads = session.model.config.text.num_attention_heads
    for layer in session.model.get_decoder().layers:
        queries = layer.self_attn.q_proj.weight.unflatten(0, (heads, -1))
        outputs = layer.self_attn.o_proj.weight.unflatten(1, (heads, -1))
        for one, other in combinations(range(heads), 2):
            assert not torch.allclose(queries[one], queries[other], atol=1e-2)
            assert not torch.allclose(outputs[:, one], outputs[:, other], atol=1e-2)
