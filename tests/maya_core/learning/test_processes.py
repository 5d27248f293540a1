"""Two processes learn what one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maya_core.learning.data import ConversationCollator, Sample
from maya_core.learning.metrics import read_records
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import train
from maya_core.model.prompt import Message
from maya_core.weights.durable import newest
from tests.maya_core.learning.test_train import CONFIG, ROOT, Colours
from tests.maya_core.model.test_connectors import CONNECTORS, session_of

PROCESSES = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
from maya_core.learning.data import ConversationCollator
from maya_core.learning.train import train
from maya_core.learning.objective import AnswerObjective
from tests.maya_core.model.test_connectors import session_of
from tests.maya_core.learning.test_processes import SomeUnseen
from tests.maya_core.learning.test_train import CONFIG

torch.set_num_threads(1)
folder, steps, *kinds = sys.argv[1:]
for kind in kinds:
    session = session_of(kind)
    config = replace(CONFIG, steps=int(steps), token_budget=60)
    collator = ConversationCollator(session.processor)
    train(AnswerObjective(session.model), SomeUnseen(), collator, config, Path(folder) / kind)
"""


class SomeUnseen(Colours):
    """Every third conversation has no picture: what only pictures pass through then has no gradient of its own."""

    def __getitem__(self, index):
        if index % 3:
            return super().__getitem__(index)
        return Sample(messages=(Message(role="user", text="What?"), Message(role="assistant", text="Nothing.")))


def launched(folder: Path, script: Path, *options: str, steps: int = 8) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", *options]
    command += ["--main_process_port", "0"]  # any free one: another run of these tests may be under way
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [*command, str(script), str(folder), str(steps), *CONNECTORS],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


LAUNCHES = {"ddp": (), "fsdp2": ("--config_file", str(ROOT / "training" / "fsdp2.yaml"))}


def test_torchrun_on_cpus_has_one_that_speaks(tmp_path):
    script = tmp_path / "who.py"
    script.write_text(
        "import sys; from pathlib import Path; from maya_core.learning.train import processes; state = processes(); "
        "(Path(sys.argv[1]) / str(state.process_index)).write_text(f'{state.num_processes} {state.is_main_process}')"
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    subprocess.run(
        [sys.executable, *launcher, str(script), str(tmp_path)], check=True, capture_output=True, env=environment
    )
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2 True", "2 False"]


@pytest.fixture(scope="module")
def two(request, tmp_path_factory):
    """A run of two processes for each connector, one after the other: their start takes longer than they."""
    folder = tmp_path_factory.mktemp("two")
    script = folder / "processes.py"
    script.write_text(PROCESSES)
    launched(folder, script, *LAUNCHES[request.param], steps=8)
    return folder


@pytest.mark.long(20)  # all of them
@pytest.mark.parametrize("kind", CONNECTORS)
@pytest.mark.parametrize("two", LAUNCHES, indirect=True)
def test_two_processes_learn_what_one_does(tmp_path, two, kind):
    session, records = session_of(kind), []
    collator = ConversationCollator(session.processor)
    train(AnswerObjective(session.model), SomeUnseen(), collator, CONFIG, tmp_path / "one", on_record=records.append)
    alone = session.model
    weights = load_file(newest(two / kind / "checkpoints").folder / "weights.safetensors")
    for name, parameter in alone.named_parameters():
        # Softmax does not see a bias of keys: its gradient is rounding alone, which Adam makes steps of.
        if f"model.{name}" in weights and not name.endswith("key.bias"):
            torch.testing.assert_close(weights[f"model.{name}"], parameter, rtol=2e-3, atol=2e-5)
    logged = read_records(two / kind / "metrics.jsonl")
    assert [record["supervised"] for record in logged] == [record.supervised for record in records]
    assert logged[-1]["loss"] == pytest.approx(records[-1].loss, rel=1e-4)
