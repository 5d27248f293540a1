"""kill -9 at any moment of a run: what is resumed ends as if nothing had happened."""

import subprocess
import sys

import pytest

KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from safetensors.torch import load_file
from torch import nn
from maya_core.learning.data import Collator
from maya_core.weights.durable import newest
from maya_core.learning.losses import LossSum
from maya_core.learning.metrics import read_records
from maya_core.learning.train import TrainConfig, train

torch.set_num_threads(1)
STEPS, SEEN = 30, "seen"

class Numbers:
    def __len__(self):
        return 50

    def __getitem__(self, index):
        return index

class Columns(Collator):
    def collate(self, prepared):
        return {"index": torch.tensor(prepared)}

class Objective(nn.Module):
    '''Dropout makes the outcome depend on the random state; `seen` counts what was learnt from, sample by sample.'''

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 16), nn.Dropout(0.3), nn.Linear(16, 1))
        self.body.seen = nn.Parameter(torch.zeros(50))

    def forward(self, batch):
        seen = self.body.seen[batch["index"]].sum()
        error = (self.body(batch["index"]).squeeze(-1) - torch.sin(batch["index"].float())) ** 2
        return LossSum(error.sum() + seen, torch.tensor(len(error)))

def run(folder):
    config = TrainConfig(
        steps=STEPS, batch_size=7, learning_rates={"body": 1e-2, "body.1": 1e-2}, muon_rates={"body.1": 1e-2}, bf16=False,
        save_every=2, log_every=2, workers=0,
    )
    train(Objective(), Numbers(), Columns(), config, folder)

def in_child(folder, seconds=None):
    '''Seconds that the run took; None where it was killed after so many.'''
    started = time.monotonic()
    process = os.fork()
    if not process:
        run(folder)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, status
    return None if os.WIFSIGNALED(status) else time.monotonic() - started

def outcome(folder):
    found = newest(folder / "checkpoints")
    parts = {name: load_file(found.folder / f"{name}.safetensors") for name in ("weights", "optimizer")}
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

def history(folder):
    return [(record["step"], record["loss"], record["supervised"]) for record in read_records(folder / "metrics.jsonl")]

root, moments = Path(sys.argv[1]), int(sys.argv[2])
took = in_child(root / "whole")
wanted, said = outcome(root / "whole"), history(root / "whole")
rng = random.Random(0)
hit = 0
for number in range(moments):
    folder = root / str(number)
    hit += in_child(folder, rng.uniform(0, took)) is None
    if number % 2:
        in_child(folder, rng.uniform(0, took / 2))  # and again on the way back
    assert in_child(folder) is not None
    found = outcome(folder)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), (number, name)
    assert history(folder) == said, number
print(hit)
"""


@pytest.mark.parametrize("moments", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_at_random_moments_the_outcome_is_bit_equal(tmp_path, moments):
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(moments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > moments // 2
