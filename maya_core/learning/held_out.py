"""Conversations that are not learnt from: how well they are answered tells when to stop, and which weights to keep."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from maya_core.learning.data import Collator, SampleDataset, Steps, load_steps
from maya_core.learning.losses import LANGUAGES, LossSum
from maya_core.learning.metrics import ALL, Measured


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """dataset: what is asked. every: steps between two measurements; the last step is measured too. patience: measurements
    in a row without a lower loss after which a run ends, None for never. answers: what else is measured, by one process, of
    the model as it is then."""

    dataset: SampleDataset
    every: int
    patience: int | None = None
    answers: Callable[[], Measured] | None = None


def held_out_losses(
    accelerator: Accelerator,
    objective: nn.Module,
    dataset: SampleDataset,
    collator: Collator,
    *,
    batch_size: int,
    token_budget: int | None,
    dtype: torch.dtype,
) -> dict[str, float]:
    """Loss a supervised token, of ALL and of each language, over all processes. Nothing of the objective changes."""
    size = len(dataset)
    steps = Steps(
        dataset=dataset,
        collator=collator,
        batch_size=batch_size,
        seed=0,
        most=size,
        token_budget=token_budget,
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
    )
    device = accelerator.device
    sums_2L = torch.zeros(2, LANGUAGES + 2, dtype=torch.float64, device=device)
    was_training = objective.training
    objective.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        for data in load_steps(steps, start=0, total=math.ceil(size / batch_size), workers=0):
            for batch in data.batches:
                _add(sums_2L, objective({name: tensor.to(device) for name, tensor in batch.items()}))
    objective.train(was_training)
    totals, counts = accelerator.reduce(sums_2L).tolist()
    named = zip((ALL, *collator.languages), totals, counts, strict=False)
    return {name: total / count for name, total, count in named if count}


def _add(sums_2L: Tensor, loss: LossSum) -> None:
    sums_2L[:, 0] += torch.stack([loss.total.double(), loss.count.to(loss.total.device).double()])
    if loss.by_language is not None:
        sums_2L[:, 1:] += loss.by_language
