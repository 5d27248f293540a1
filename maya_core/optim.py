"""What trains, how fast, and when: parameter groups by part name, AdamW, cosine with warmup."""

import math
from collections.abc import Mapping

import torch
from torch import nn


def parameter_groups(
    module: nn.Module, learning_rates: Mapping[str, float], *, weight_decay: float
) -> list[dict[str, object]]:
    """One or two groups a part; parts are submodules of `module`, by dotted name. All other parameters are frozen.

    Vectors (biases, norms) are not decayed. Raises ValueError for a part that does not exist.
    """
    module.requires_grad_(False)
    groups: list[dict[str, object]] = []
    for part, rate in learning_rates.items():
        try:
            parameters = list(module.get_submodule(part).parameters())
        except AttributeError:
            names = ", ".join(name for name, _ in module.named_children())
            raise ValueError(f"There is no part {part!r} to train; the parts are {names}.") from None
        for parameter in parameters:
            parameter.requires_grad_(True)
        matrices = [parameter for parameter in parameters if parameter.ndim > 1]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups += [
            {"params": chosen, "lr": rate, "peak_lr": rate, "weight_decay": decay, "part": part}
            for chosen, decay in ((matrices, weight_decay), (vectors, 0.0))
            if chosen
        ]
    return groups


def warmup_cosine(step: int, *, steps: int, warmup: int, floor: float = 0.0) -> float:
    """The share of the peak learning rate at `step`: linear from 0 over `warmup` steps, then a cosine to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's rate to `share` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
