"""The mean of several models' weights."""

import json
import shutil

import pytest
import torch

from maya_core.assets import asset_path
from maya_core.errors import CheckpointMismatch
from maya_core.weights.checkpoint import load_model, load_processor, save_model
from tests.tiny import tiny_session
from training.embedded.averaged import average

FOLDER = asset_path("maya-tiny")


def test_each_weight_is_the_mean_and_the_last_report_stays(tmp_path):
    model, processor = load_model(FOLDER, dtype=torch.float32), load_processor(FOLDER)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5
    save_model(model, processor, tmp_path / "other", dtype=torch.float32)
    shutil.copy(FOLDER / "training.json", tmp_path / "other")
    average([FOLDER, tmp_path / "other"], tmp_path / "mean")
    found = load_model(tmp_path / "mean", dtype=torch.float32).state_dict()
    for name, after in model.state_dict().items():
        torch.testing.assert_close(found[name], (before[name] + after) / 2, atol=2e-3, rtol=2e-3)
        assert not torch.equal(before[name], after)
    assert json.loads((tmp_path / "mean" / "training.json").read_text())["averaged"] == 2


def test_models_of_other_shapes_are_refused(tmp_path):
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "other")
    with pytest.raises(CheckpointMismatch, match="has other weights than"):
        average([tmp_path / "other", FOLDER], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
