"""The study of tuning: each method is tried, scored and told."""

import re

import pytest

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
