"""Training of the embedded model: every stage runs, and is not run again."""

import json
import re
import sys
from itertools import combinations

import pytest
import torch

from maya_core.weights.checkpoint import load_model, load_processor
from tests.tiny import tiny_session
from training.embedded import __main__ as embedded
from training.embedded.grounding import attend_to_likeness


@pytest.mark.long(25)
def test_every_stage_runs_and_a_second_start_finds_all_done(tmp_path, monkeypatch, capsys):
    stages = ("tower", "large", "word", "connector", "grounding", "pointing", "answer", "looking", "refining")
    steps = [f"--{stage}-steps" for stage in stages]
    flags = [part for name in steps for part in (name, "1")]
    paths = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["embedded", *paths, *flags, "--vocabulary", "2048", "--workers", "0"])
    embedded.main()
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert list(report["minutes"]) == [*embedded.FIRST_STAGES, *embedded.LAST_STAGES, "all"]
    assert re.fullmatch(r"[0-9a-f]{10,}(-dirty)?|unknown", report["commit"])
    model, processor = load_model(tmp_path / "out"), load_processor(tmp_path / "out")
    assert model.num_parameters() == report["parameters"]
    assert processor.tokenizer is not None
    embedded.main()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    paths = ["--model", str(tmp_path / "out"), "--run", str(tmp_path / "run-2"), "--out", str(tmp_path / "out-2")]
    monkeypatch.setattr(sys, "argv", ["embedded", *paths, *flags[-4:], "--workers", "0"])
    embedded.main()
    again = json.loads((tmp_path / "out-2" / "training.json").read_text())
    assert all(again["minutes"][stage] == report["minutes"][stage] for stage in embedded.FIRST_STAGES)
    assert (tmp_path / "out-2" / "model.safetensors").read_bytes() != weights


def test_no_two_heads_start_alike():
    session = tiny_session()
    attend_to_likeness(session.model)
    heads = session.model.config.text.num_attention_heads
    for layer in session.model.get_decoder().layers:
        queries = layer.self_attn.q_proj.weight.unflatten(0, (heads, -1))
        outputs = layer.self_attn.o_proj.weight.unflatten(1, (heads, -1))
        for one, other in combinations(range(heads), 2):
            assert not torch.allclose(queries[one], queries[other], atol=1e-2)
            assert not torch.allclose(outputs[:, one], outputs[:, other], atol=1e-2)
