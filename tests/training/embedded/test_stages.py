"""Training of the embedded model: every stage runs, and is not run again."""

import json
import re
import sys
from itertools import combinations

import pytest
import torch

from maya_core.errors import DataError
from maya_core.model.towers.photograph import FOLLOWING
from maya_core.weights.checkpoint import load_config, load_model, load_processor
from tests.tiny import tiny_session
from tests.training.embedded import conftest
from training.embedded import __main__ as embedded
from training.embedded.grounding import attend_to_likeness, deepened, told_more
from training.photo_vqa.scenes import photographs


@pytest.mark.long(60)
@pytest.mark.timeout(1200)
def test_every_stage_runs_and_a_second_start_finds_all_done(folders, tmp_path, monkeypatch, capsys):
    steps = [part for stage in ("word", "connector", "grounding", "pointing", "answer", "doubt")
             for part in (f"--{stage}-steps", "1")]  # fmt: skip
    data = ["--caltech", str(folders / "caltech"), "--coco", str(folders / "coco"), "--tower", str(conftest.TOWER)]
    paths = ["--run", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    sizes = ["--scenes", "12", "--vocabulary", "1024", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["embedded", *data, *paths, *sizes, *steps])
    embedded.main()
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    report = json.loads((tmp_path / "out" / "training.json").read_text())
    assert list(report["minutes"]) == [*embedded.STAGES, "all"]
    assert re.fullmatch(r"[0-9a-f]{10,}(-dirty)?|unknown", report["commit"])
    model, processor = load_model(tmp_path / "out"), load_processor(tmp_path / "out")
    assert model.num_parameters() == report["parameters"]
    assert processor.tokenizer is not None
    stored = embedded.tower_of(conftest.TOWER)
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.vision_tower.state_dict().items())
    kept = {name: (tmp_path / "run" / name / "colours.jsonl").read_text() for name in ("seen", "calibration")}
    assert kept["seen"].count("\n") == 12
    held = photographs(folders / "caltech", None, "calibration")
    assert kept["calibration"].count("\n") == len(held)

    def nothing_is_seen(*_, **__):
        raise AssertionError("the tower was asked again")

    monkeypatch.setattr(type(model), "vision_features", nothing_is_seen)
    embedded.main()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "out" / "training.json").read_text())["minutes"] == report["minutes"]


@pytest.mark.long(25)
def test_a_model_goes_on_from_another(folders, tmp_path, monkeypatch, capsys):
    steps = ["--answer-steps", "1", "--doubt-steps", "1", "--scenes", "12", "--workers", "0"]
    data = ["--caltech", str(folders / "caltech"), "--coco", str(folders / "coco")]
    paths = ["--model", str(conftest.TOWER), "--run", str(tmp_path / "run"), "--out", str(tmp_path / "taught")]
    monkeypatch.setattr(sys, "argv", ["embedded", *data, *paths, *steps])
    embedded.main()
    report = json.loads((tmp_path / "taught" / "training.json").read_text())
    assert list(report["minutes"]) == ["answers", "doubting", "all"]
    assert report["before"] == json.loads((conftest.TOWER / "training.json").read_text())
    weights = [(folder / "model.safetensors").read_bytes() for folder in (conftest.TOWER, tmp_path / "taught")]
    assert weights[0] != weights[1]
    assert load_config(tmp_path / "taught").doubts == load_config(conftest.TOWER).doubts


def test_a_photograph_that_nobody_has_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "untrained", lambda *_: (tiny_session().model, tiny_session().processor))
    monkeypatch.setattr(
        sys, "argv", ["embedded", "--caltech", str(tmp_path / "nowhere"), "--run", str(tmp_path / "run")]
    )
    with pytest.raises(DataError, match="There are no photographs in .*nowhere; "):
        embedded.main()
    assert not (tmp_path / "run").exists()


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


def test_a_deeper_model_answers_alike_until_it_is_trained():
    model = tiny_session().model
    layers = model.config.text.num_hidden_layers
    deeper = deepened(model, layers + 1)
    assert len(deeper.get_decoder().layers) == layers + 1
    assert model.config.text.num_hidden_layers == layers
    token_ids_BT = torch.arange(2 * 9).view(2, 9) + 20
    with torch.inference_mode():
        assert torch.equal(deeper(input_ids=token_ids_BT).logits, model(input_ids=token_ids_BT).logits)
    deeper(input_ids=token_ids_BT).logits.square().sum().backward()
    *_, added, last = deeper.get_decoder().layers
    assert added.self_attn.o_proj.weight.grad.any()
    assert added.mlp.down_proj.weight.grad.any()
    assert not torch.equal(added.mlp.down_proj.weight, last.mlp.down_proj.weight)
    assert deepened(model, layers).state_dict().keys() == model.state_dict().keys()


def test_a_connector_hears_more_of_a_cell_and_all_else_as_before():
    before = load_model(conftest.TOWER, dtype=torch.float32)
    features = before.config.vision.hidden_size + 3
    after = told_more(before, features)
    assert (before.config.vision.hidden_size, after.config.vision.hidden_size) == (features - 3, features)
    cells_PD = torch.rand(5, features - 3)
    more_PD = torch.cat([cells_PD[:, : FOLLOWING.start], torch.zeros(5, 3), cells_PD[:, FOLLOWING.start :]], dim=1)
    torch.testing.assert_close(after.connector(more_PD), before.connector(cells_PD))
    more_PD[:, FOLLOWING] = 1
    assert not torch.allclose(after.connector(more_PD), before.connector(cells_PD), atol=1e-2)
    assert told_more(before, features - 3) is before
