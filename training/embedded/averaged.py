"""The mean of several embedded Mayas' weights, of which each went on from the one before:
`python -m training.embedded.averaged OUT MODEL MODEL...`.

Each has forgotten something else; their mean answers better than any of them (model soups, arXiv 2203.05482).
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import torch
import tyro

from maya_core.errors import CheckpointMismatch
from maya_core.weights.checkpoint import load_model, load_processor, save_model
from training.command import ended
from training.embedded.__main__ import TRAINING_REPORT


def average(folders: list[Path], out: Path) -> None:
    """Write the mean of the models in `folders` into `out`, with the last one's report. Raises CheckpointMismatch where
    their weights do not have the same names and shapes."""
    *others, last = folders
    model = load_model(last, dtype=torch.float32)
    means = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for folder in others:
        weights = load_model(folder, dtype=torch.float32).state_dict()
        if {name: tensor.shape for name, tensor in weights.items()} != {name: one.shape for name, one in means.items()}:
            raise CheckpointMismatch(
                f"{folder.name} has other weights than {last.name}; average models of the same shapes."
            )
        for name, tensor in weights.items():
            means[name] += tensor.double()
    model.load_state_dict({name: total / len(folders) for name, total in means.items()})
    save_model(model, load_processor(last), out, dtype=torch.float16, overwrite=True)
    report = json.loads((last / TRAINING_REPORT).read_text("utf-8")) | {"averaged": len(folders)}
    (out / TRAINING_REPORT).write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def main(
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="where their mean goes")],
    models: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help="folders; the last one's report is kept")
    ],
) -> None:
    """Average the weights of embedded Mayas."""
    average(list(models), out)
    print(out)


if __name__ == "__main__":
    sys.exit(ended(lambda: tyro.cli(main, description=__doc__)))
