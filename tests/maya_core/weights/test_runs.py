"""A run of training opens as a model: what it learnt so far, on what it began from."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maya_core import cli
from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.weights import durable
from maya_core.weights.checkpoint import base_for_adapter, fingerprint_of, load_model, load_processor, save_model
from maya_core.weights.runs import Start, write_start
from tests.tiny import tiny_session

NAME = "connector.layers.0.bias"


def learn(run: Path, kind: str, step: int, value: float) -> Path:
    """Keep a checkpoint of a run in which one bias has a value."""
    bias = torch.full_like(tiny_session().model.connector.layers[0].bias, value)
    durable.commit(run / kind, step, lambda folder: save_file({f"model.{NAME}": bias}, folder / "weights.safetensors"))
    return run / kind / f"step-{step:08d}"


def value(folder: Path) -> float:
    return load_model(folder).connector.layers[0].bias[0].item()


@pytest.fixture
def run(tmp_path) -> Path:
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "base")
    base = base_for_adapter(tmp_path / "base")
    write_start(tmp_path / "run", Start(base=base.name, mark=base.mark))
    return tmp_path / "run"


def test_a_run_is_its_best_or_its_newest_or_the_checkpoint_that_is_named(run, monkeypatch, capsys):
    with pytest.raises(CheckpointNotFound, match="The run in run has kept no checkpoint yet; it keeps one when"):
        load_model(run)
    first, second = learn(run, "checkpoints", 2, 0.25), learn(run, "checkpoints", 4, 0.5)
    assert value(run) == 0.5
    learn(run, "best", 3, 0.75)
    assert [value(folder) for folder in (run, first, second)] == [0.75, 0.25, 0.5]
    assert [value(run / kind) for kind in ("best", "checkpoints")] == [0.75, 0.5]
    base, ours = load_model(run.parent / "base").state_dict(), load_model(run).state_dict()
    assert [name for name in base if not torch.equal(base[name], ours[name])] == [NAME]
    assert load_processor(run).tokenizer is not None
    assert len({fingerprint_of(folder) for folder in (run, first, run.parent / "base")}) == 3
    monkeypatch.setattr(sys, "argv", ["maya", "info", "--model", str(run)])
    cli.main()
    assert "prompt format" in capsys.readouterr().out


def test_a_run_belongs_to_what_it_began_from(run):
    learn(run, "checkpoints", 2, 0.25)
    moved = run.parent / "moved"
    moved.mkdir()
    for name in ("run", "base"):
        shutil.move(run.parent / name, moved / name)
    assert value(moved / "run") == 0.25
    other = tiny_session()
    with torch.no_grad():
        other.model.connector.layers[0].weight.add_(0.01)
    save_model(other.model, other.processor, moved / "base", overwrite=True)
    with pytest.raises(CheckpointMismatch, match="The run in run began from other weights than those that are in base"):
        load_model(moved / "run")
    shutil.rmtree(moved / "base")
    with pytest.raises(CheckpointNotFound, match="run is a run, and what it began from is not where run.json says"):
        load_model(moved / "run")
