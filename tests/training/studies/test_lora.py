"""The study of tuning: each method is tried, scored and told."""

import re

import pytest
import torch

from maya_core.assets import asset_path
from maya_core.weights.checkpoint import load_model
from training.model import prepare
from training.studies import lora


def study(monkeypatch, *flags):
    monkeypatch.setattr("sys.argv", ["lora", "--steps", "1", "--batch-size", "1", "--n", "1", *flags])
    lora.main()


def test_a_method_is_tried_at_three_rates_and_scored_on_each_seed(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    study(monkeypatch, "--seeds", "0", "1", "--only", "LoRA+", "--rank", "2")
    told = capsys.readouterr().out
    assert re.findall(r"(rate \d|seed \d): loss \d+\.\d+", told) == ["rate 0", "rate 1", "rate 2", "seed 1"]
    [row] = [line for line in told.splitlines() if "LoRA+, B at 16 times A" in line and "│" in line]
    a, b = (float(rate) for rate in re.search(r"([\d.e-]+), ([\d.e-]+)", row.split("│")[3]).groups())
    assert b == pytest.approx(16 * a)
    assert "all weights" not in told


def test_a_method_that_is_none_is_refused_by_name(monkeypatch):
    with pytest.raises(SystemExit, match="No method has 'DoRA' in its name: all weights, LoRA, one rate"):
        study(monkeypatch, "--only", "DoRA")


def test_adapters_are_float32_and_both_of_their_matrices_move(tmp_path):
    folder = asset_path("maya-tiny")
    recipe = lora.methods(2)["LoRA, one rate"][0]
    outcome = lora.tune(recipe, 0, lora.StudyOptions(model=folder, steps=2, batch_size=1), tmp_path)
    fresh = load_model(folder)
    torch.manual_seed(0)
    prepare(fresh, recipe, torch.device("cpu"))
    start = dict(fresh.named_parameters())
    for name, learnt in outcome.session.model.named_parameters():
        if "lora_" in name:
            assert learnt.dtype == torch.float32, name
            assert (learnt != start[name]).float().mean() > 0.9, name
