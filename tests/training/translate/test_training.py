"""What the pipeline writes is what training reads: the paper's two stages take real steps on an export in nine languages."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from maya_core.learning.metrics import read_records
from maya_core.weights.checkpoint import save_model
from tests.tiny import picture, tiny_session
from tests.training.translate.conftest import exported, plan, records, work, write
from tests.training.translate.fake_endpoint import Reply, Request, fake_endpoint, faults
from training import finetune, pretrain
from training.translate.journal import Journal
from training.translate.run import OTHERS

COUNT = 6


def translated(begun: Callable[..., Journal], source: Path, folder: str, seed: int) -> Journal:
    """A journal that is done, through an endpoint with a tenth of faults and replies in whatever order."""
    journal, order, faulty = begun(source, OTHERS, folder=folder), random.Random(seed), faults(0.1, seed=seed)

    def script(request: Request, reply: Reply) -> Reply:
        reply.delay = order.random() * 0.01
        return faulty(request, reply)

    with fake_endpoint(script) as server:
        while any(states["pending"] + states["rejected"] for states in journal.counts().values()):
            journal.try_again()
            work(journal, server, plan(OTHERS, batch=4))
    return journal


def changed(before: Path, after: Path) -> set[str]:
    """Parts of which a tensor is another."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert old.keys() == new.keys()
    return {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.long(10)
def test_both_stages_learn_from_an_export_that_is_the_same_to_the_byte(
    begun: Callable[..., Journal], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "captions.json", records(COUNT))
    files = [
        exported(tmp_path / f"out{seed}", source, [translated(begun, source, f"job{seed}", seed)], OTHERS)
        for seed in (1, 2)
    ]
    assert files[0] == files[1]
    (tmp_path / "pictures").mkdir()
    for one in records(COUNT):
        picture().save(tmp_path / "pictures" / one["image"])
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "base")
    given = ["--data", str(tmp_path / "out1"), "--images", str(tmp_path / "pictures"), "--steps", "2", "--batch-size", "9",
             "--log-every", "1", "--workers", "0", "--frozen", "float32"]  # fmt: skip
    stages: tuple[tuple[Any, str, str, set[str]], ...] = (
        (pretrain.main, "base", "stage1", {"connector"}),
        (finetune.main, "stage1", "stage2", {"connector", "language_model"}),
    )
    for main, model, out, trained in stages:
        status = main([*given, "--model", str(tmp_path / model), "--out", str(tmp_path / out)])
        assert status == 0, capsys.readouterr().err
        assert changed(tmp_path / model, tmp_path / out) == trained
        losses = [one["loss"] for one in read_records(tmp_path / f"{out}.run" / "metrics.jsonl") if "loss" in one]
        assert len(losses) == 2
        assert all(map(math.isfinite, losses))
