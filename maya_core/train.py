"""The training loop: one for every stage. A run is a folder; calling `train` again on it goes on where it stopped.

An objective is a module that turns a batch into a `LossSum`; the loop neither knows nor cares what is learnt.
"""

import json
import logging
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from maya_core.data import Batch, batch_indices, load_batches
from maya_core.errors import CheckpointMismatch, GenerationError
from maya_core.losses import LossSum, next_token_loss
from maya_core.metrics import MetricsLog, StepRecord
from maya_core.model import MayaForConditionalGeneration
from maya_core.optim import build_optimizers, set_learning_rates, trained_parameters, warmup_cosine

log = logging.getLogger(__name__)

MOST_SKIPPED_IN_A_ROW = 3


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One stage of training.

    learning_rates: peak rate by part of the objective (`model.connector`); parts not named are frozen.
    muon_rates: peak rate of Muon for the hidden matrices of a part; parts not named train by AdamW alone.
    batch_size: conversations a step. warmup: share of `steps`. clip_norm: largest gradient norm.
    bf16: compute in bfloat16, weights and optimiser stay fp32. workers: processes that make batches.
    """

    steps: int
    batch_size: int
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    muon_rates: Mapping[str, float] = field(default_factory=dict)
    warmup: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    seed: int = 0
    bf16: bool = True
    save_every: int = 250
    log_every: int = 10
    workers: int = 1


class AnswerObjective(nn.Module):
    """Learn to write the supervised tokens of a conversation."""

    def __init__(self, model: MayaForConditionalGeneration) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> LossSum:
        """batch: input_ids and labels (B, T), pixel_values (images, C, H, W) where there are any; position_ids (B, T) and
        visible (B, 1, T, T) where it is packed.

        The batch is padded on the right, where causal attention hides padding by itself: no other mask is needed.
        """
        pixels = batch.get("pixel_values")
        image_embeds = None if pixels is None else self.model.image_embeds(pixels)
        embeds_BTE = self.model.embed(batch["input_ids"], image_embeds)
        hidden_BTE = self.model.get_decoder()(
            inputs_embeds=embeds_BTE,
            attention_mask=batch.get("visible"),
            position_ids=batch.get("position_ids"),
            use_cache=False,
        ).last_hidden_state
        head_VE = self.model.get_output_embeddings().weight
        assert isinstance(head_VE, Tensor)
        scale = self.model.config.text.logit_scale
        assert scale is not None
        return next_token_loss(hidden_BTE, batch["labels"], head_VE, scale)


@dataclass
class RunState:
    """Where a run is: the next step, and how many steps were skipped for not being finite (in all, in a row)."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


def train(
    objective: nn.Module,
    dataset: Any,
    collate: Callable[[list[Any]], Batch],
    config: TrainConfig,
    run_dir: Path,
    *,
    on_record: Callable[[StepRecord], None] = lambda record: None,
) -> None:
    """Train `objective` on `dataset` to `config.steps`, resuming from the newest checkpoint in `run_dir`.

    Raises CheckpointMismatch where the checkpoint is of another configuration, GenerationError after
    MOST_SKIPPED_IN_A_ROW steps without a finite gradient.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    optimizers = build_optimizers(
        objective,
        config.learning_rates,
        muon_rates=config.muon_rates,
        weight_decay=config.weight_decay,
        betas=config.betas,
    )
    state = resume(objective, optimizers, config, run_dir)
    metrics = MetricsLog(run_dir / "metrics.jsonl", resumed_at=state.step)
    recorder = Recorder(metrics, config, on_record)
    objective.train()
    for batch in _remaining_batches(dataset, collate, config, state):
        set_learning_rates(optimizers, _share(state.step, config))
        loss, grad_norm = training_step(objective, optimizers, batch, config)
        _count_skips(state, grad_norm)
        state.step += 1
        recorder.add(state, loss, grad_norm)
        if state.step % config.save_every == 0 or state.step == config.steps:
            save(objective, optimizers, config, state, run_dir)
    objective.eval()


def training_step(
    objective: nn.Module, optimizers: list[Optimizer], batch: Batch, config: TrainConfig
) -> tuple[LossSum, float]:
    """One update; left out where the gradient is not finite. Returns the loss and the gradient's norm before clipping."""
    device = next(objective.parameters()).device
    batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
        loss = objective(batch)
    (loss.total / loss.count.clamp(min=1)).backward()
    grad_norm = float(nn.utils.clip_grad_norm_(trained_parameters(optimizers), config.clip_norm))
    for optimizer in optimizers:
        if math.isfinite(grad_norm):
            optimizer.step()
        optimizer.zero_grad()
    return loss, grad_norm


def _remaining_batches(
    dataset: Any, collate: Callable[[list[Any]], Batch], config: TrainConfig, state: RunState
) -> Iterator[Batch]:
    indices = batch_indices(
        size=len(dataset), batch_size=config.batch_size, seed=config.seed, start=state.step, steps=config.steps
    )
    return load_batches(dataset, collate, indices, workers=config.workers)


def _share(step: int, config: TrainConfig) -> float:
    return warmup_cosine(step, steps=config.steps, warmup=round(config.warmup * config.steps))


def _count_skips(state: RunState, grad_norm: float) -> None:
    if math.isfinite(grad_norm):
        state.skipped_in_a_row = 0
        return
    state.skipped += 1
    state.skipped_in_a_row += 1
    log.warning("step %d left out: its gradient is not finite", state.step + 1)
    if state.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
        raise GenerationError(
            f"{state.skipped_in_a_row} steps in a row up to step {state.step + 1} gave no finite gradient; "
            "lower the learning rate, or check the data of these steps."
        )


class Recorder:
    """Sums losses between records and writes one every `log_every` steps."""

    def __init__(self, metrics: MetricsLog, config: TrainConfig, on_record: Callable[[StepRecord], None]) -> None:
        self.metrics, self.config, self.on_record = metrics, config, on_record
        self.started = time.monotonic()
        self.total, self.count = 0.0, 0

    def add(self, state: RunState, loss: LossSum, grad_norm: float) -> None:
        self.total += float(loss.total.detach())
        self.count += int(loss.count)
        if state.step % self.config.log_every and state.step != self.config.steps:
            return
        record = StepRecord(
            step=state.step,
            loss=self.total / max(1, self.count),
            learning_rate=_share(state.step - 1, self.config),
            grad_norm=grad_norm,
            tokens=self.count,
            seconds=self.metrics.seconds_before + time.monotonic() - self.started,
            skipped=state.skipped,
        )
        self.metrics.write(record)
        self.on_record(record)
        self.total, self.count = 0.0, 0


# --- checkpoints of a run: <run>/checkpoint/{weights,optimizer}.safetensors and state.json ---


def save(
    objective: nn.Module, optimizers: list[Optimizer], config: TrainConfig, state: RunState, run_dir: Path
) -> None:
    """Write the run's checkpoint beside the old one, then put it in its place."""
    fresh, kept, old = run_dir / "checkpoint.new", run_dir / "checkpoint", run_dir / "checkpoint.old"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    weights = {name: tensor.detach().contiguous() for name, tensor in _own_tensors(objective).items()}
    save_file(weights, fresh / "weights.safetensors")
    save_file(_flat_state(optimizers), fresh / "optimizer.safetensors")
    content = {
        "step": state.step,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
        "config": _identity(config),
    }
    (fresh / "state.json").write_text(json.dumps(content, indent=2))
    shutil.rmtree(old, ignore_errors=True)
    if kept.exists():
        os.replace(kept, old)
    os.replace(fresh, kept)
    shutil.rmtree(old, ignore_errors=True)


def resume(objective: nn.Module, optimizers: list[Optimizer], config: TrainConfig, run_dir: Path) -> RunState:
    """Load the run's checkpoint, if it has one; a fresh state otherwise."""
    folder = next((run_dir / name for name in ("checkpoint", "checkpoint.old") if (run_dir / name).exists()), None)
    if folder is None:
        return RunState()
    content = json.loads((folder / "state.json").read_text())
    ours = _identity(config)
    changed = [name for name in ours if content["config"].get(name) != ours[name]]
    if changed:
        raise CheckpointMismatch(
            f"The run in this folder was started with other settings ({', '.join(changed)}); "
            "use those again, or another folder."
        )
    tensors = _own_tensors(objective)
    stored = load_file(folder / "weights.safetensors")
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(stored[name])
    _restore_state(optimizers, load_file(folder / "optimizer.safetensors"))
    return RunState(content["step"], content["skipped"], content["skipped_in_a_row"])


def _identity(config: TrainConfig) -> dict[str, Any]:
    """The settings that a resumed run must share; how often it saves or logs may change."""
    names = ("steps", "batch_size", "warmup", "weight_decay", "clip_norm", "seed", "bf16")
    return {name: getattr(config, name) for name in names} | {
        "learning_rates": dict(config.learning_rates),
        "muon_rates": dict(config.muon_rates),
        "betas": list(config.betas),
    }


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, a tied tensor once."""
    seen: set[int] = set()
    own = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor
    return own


def _flat_state(optimizers: list[Optimizer]) -> dict[str, Tensor]:
    """Every optimiser's tensors, by `<optimiser>.<parameter>.<name>`."""
    return {
        f"{which}.{parameter}.{name}": tensor.contiguous()
        for which, optimizer in enumerate(optimizers)
        for parameter, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }


def _restore_state(optimizers: list[Optimizer], tensors: dict[str, Tensor]) -> None:
    states: list[dict[int, dict[str, Tensor]]] = [defaultdict(dict) for _ in optimizers]
    for key, tensor in tensors.items():
        which, parameter, name = key.split(".", 2)
        states[int(which)][int(parameter)][name] = tensor
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": dict(state), "param_groups": optimizer.state_dict()["param_groups"]})
