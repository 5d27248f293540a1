"""What trains, how fast, and when: parameter groups by part name, AdamW and Muon, cosine with warmup."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from maya_core.errors import TrainingError
from maya_core.hardware import has_bfloat16

Group = dict[str, Any]


def build_optimizers(
    module: nn.Module,
    learning_rates: Mapping[str, float],
    *,
    muon_rates: Mapping[str, float] | None = None,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    eight_bit: bool = False,
) -> list[Optimizer]:
    """AdamW for the parts of `learning_rates`; Muon for the hidden matrices of those that `muon_rates` names too.

    eight_bit: keep AdamW's moments in 8 bits (bitsandbytes), a quarter of their memory. Raises TrainingError for a part that
    does not exist, or that `muon_rates` alone names.
    """
    muon_rates = muon_rates or {}
    if resting := muon_rates.keys() - learning_rates.keys():
        raise TrainingError(
            f"Muon has rates for {', '.join(sorted(resting))}, and only {', '.join(learning_rates)} train."
        )
    groups = parameter_groups(module, learning_rates, weight_decay=weight_decay)
    hidden = {id(parameter) for parameter in _hidden_matrices(module)}
    for_muon: list[Group] = []
    for group in groups:
        part, parameters = group["part"], group["params"]
        if part not in muon_rates:
            continue
        taken = [parameter for parameter in parameters if id(parameter) in hidden]
        group["params"] = [parameter for parameter in parameters if id(parameter) not in hidden]
        rate = muon_rates[part]
        if taken:
            for_muon.append({**group, "params": taken, "lr": rate, "peak_lr": rate})
    optimizers: list[Optimizer] = [_adamw([group for group in groups if group["params"]], betas, eight_bit)]
    if for_muon:
        optimizers.append(Muon(for_muon))
    return optimizers


class Muon(Optimizer):
    """Muon (Jordan et al., 2024): momentum, and each update of a matrix made orthogonal.

    Trained from nothing, a small transformer needs several times fewer steps. Its rates are scaled to AdamW's update size
    (arXiv 2502.16982), so that both read alike. torch's own iterates in bfloat16 wherever it runs; on a CPU without such
    instructions that takes more than twice the time of all the rest of a step.
    """

    def __init__(self, groups: Iterable[Group], momentum: float = 0.95) -> None:
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of all matrices that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                average = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(average, group["momentum"]))
                rate, size = group["lr"], 0.2 * math.sqrt(max(parameter.shape))
                parameter.mul_(1 - rate * group["weight_decay"]).add_(update, alpha=-rate * size)


def orthogonal(matrix: Tensor, *, iterations: int = 5) -> Tensor:
    """About the nearest matrix whose singular values are all the same: five Newton-Schulz steps bring them to 0.7 to 1.2.

    The coefficients are Jordan's: not to converge, but to lift small singular values fast.
    """
    linear, cubic, quintic = 3.4445, -4.7750, 2.0315
    dtype = torch.bfloat16 if has_bfloat16(matrix.device) else torch.float32
    short = matrix.to(dtype) if matrix.shape[0] <= matrix.shape[1] else matrix.to(dtype).T
    short = short / short.norm().clamp(min=1e-7)  # no singular value above 1
    for _ in range(iterations):
        gram = short @ short.T
        short = linear * short + (cubic * gram + quintic * (gram @ gram)) @ short
    whole: Tensor = short if matrix.shape[0] <= matrix.shape[1] else short.T
    return whole.to(matrix.dtype)


def _adamw(groups: list[Group], betas: tuple[float, float], eight_bit: bool) -> Optimizer:
    if not eight_bit:
        return AdamW(groups, betas=betas, fused=True)
    from bitsandbytes.optim.adamw import AdamW8bit  # it takes seconds to import

    optimizer: Optimizer = AdamW8bit(groups, betas=betas)
    return optimizer


def _hidden_matrices(module: nn.Module) -> Iterator[Tensor]:
    """Weights of linear layers that no embedding shares."""
    tables = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and id(layer.weight) not in tables:
            yield layer.weight


def trained_parameters(optimizers: list[Optimizer]) -> list[Tensor]:
    """All that the optimisers update."""
    groups = chain.from_iterable(optimizer.param_groups for optimizer in optimizers)
    return [parameter for group in groups for parameter in group["params"]]


def parameter_groups(module: nn.Module, learning_rates: Mapping[str, float], *, weight_decay: float) -> list[Group]:
    """One or two groups a part. All parameters that no part has are frozen.

    A part is a submodule of `module` by dotted name, or the name of many (`lora_B`). What lies in a part of a part (named
    longer) belongs to that one. Vectors (biases, norms) are not decayed. Raises TrainingError for a part that is not there.
    """
    module.requires_grad_(False)
    groups: list[Group] = []
    taken: set[Tensor] = set()
    for part in sorted(learning_rates, key=len, reverse=True):
        rate = learning_rates[part]
        parameters = [parameter for parameter in parameters_of(module, part) if parameter not in taken]
        taken.update(parameters)
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


def parameters_of(module: nn.Module, part: str) -> list[nn.Parameter]:
    """All parameters of a part, as `parameter_groups` names them. Raises TrainingError where there is none."""
    try:
        return list(module.get_submodule(part).parameters())
    except AttributeError:
        named = [parameter for name, parameter in module.named_parameters() if part in name.split(".")]
    if not named:
        names = ", ".join(name for name, _ in module.named_modules() if name and name.count(".") < 2)
        raise TrainingError(f"There is no part {part!r} to train; the parts are {names}.")
    return named


def warmup_cosine(step: int, *, steps: int, warmup: int, floor: float = 0.0) -> float:
    """The share of the peak learning rate at `step`: linear from 0 over `warmup` steps, then a cosine to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rates(optimizers: list[Optimizer], share: float) -> None:
    """Set every group's rate to `share` of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
