"""The training loop: one for every stage. A run is a folder; calling `train` again on it goes on where it stopped.

An objective is a module that turns a batch into a `LossSum`; the loop neither knows nor cares what is learnt. It runs on
one CPU, one GPU, or many processes (`accelerate launch`, with DDP or FSDP2 as accelerate is configured); the same samples
make a step however many processes share them.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import get_available_trackers
from torch import nn
from torch.optim import Optimizer

from maya_core.errors import DataError, OutOfMemory, RunDiverged, TrainingError, is_out_of_memory
from maya_core.hardware import has_bfloat16
from maya_core.learning.checkpoints import Checkpoints, whole
from maya_core.learning.data import Collator, SampleDataset, StepData, Steps, load_steps
from maya_core.learning.held_out import HeldOut, held_out_losses
from maya_core.learning.losses import LossSum
from maya_core.learning.metrics import ALL, Measured, StepRecord
from maya_core.learning.optim import build_optimizers, set_learning_rates, trained_parameters, warmup_cosine
from maya_core.learning.recorder import Recorder
from maya_core.learning.stop_signals import StopSignals
from maya_core.weights import durable
from maya_core.weights.quantization import keep_as_stored

log = logging.getLogger(__name__)

LONGEST_DYING = 5.0  # seconds between the end of a process's connections and the signal of its death
MOST_SKIPPED_IN_A_ROW = 3
MOST_REFUSED = 0.001  # share of a run's samples that may be unusable before it stops
MOST_SEEDS = 2**32  # each, and a step's number, make one of torch's seeds


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One stage of training.

    steps: updates; None for as many as `epochs` passes over the data take.
    batch_size: conversations an update, over all processes. token_budget: most tokens computed at one time by one process;
        None computes its share at once. It changes memory and speed, and nothing else.
    learning_rates: peak rate by part of the objective (`model.connector`); parts not named are frozen.
    muon_rates: peak rate of Muon for the hidden matrices of a part; parts not named train by AdamW alone.
    optimizer: `adamw`, or `adamw8bit` with moments in 8 bits.
    warmup: share of the steps. clip_norm: largest gradient norm.
    bf16: compute in bfloat16, where the device has it (`computes_in`); weights and optimiser stay as they are.
    recompute: compute activations again in the backward pass instead of keeping them.
    workers: processes that make batches; worker_timeout: seconds that a step's data may take.
    trackers: of accelerate, beside metrics.jsonl (`tensorboard`).
    restarts: steps at which the rates start anew, with their warmup, as where a run that was finished goes on.
    """

    steps: int | None = None
    epochs: float = 1.0
    batch_size: int
    token_budget: int | None = None
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    muon_rates: Mapping[str, float] = field(default_factory=dict)
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    warmup: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 1.0
    seed: int = 0
    bf16: bool = True
    recompute: bool = False
    save_every: int = 250
    log_every: int = 10
    workers: int = 1
    worker_timeout: float = 600
    trackers: tuple[str, ...] = ()
    restarts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "token_budget", "save_every", "log_every"):
            number = getattr(self, name)
            require(number is None or number >= 1, name, "at least 1", number)
        for kind in ("learning_rates", "muon_rates"):
            for part, rate in getattr(self, kind).items():
                require(0 <= rate < math.inf, f"{kind} of {part}", "finite, and 0 or more", rate)
        require(0 < self.epochs < math.inf, "epochs", "finite, and above 0", self.epochs)
        require(0 <= self.warmup <= 1, "warmup", "from 0 to 1", self.warmup)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "finite, and 0 or more", self.weight_decay)
        require(all(0 <= beta < 1 for beta in self.betas), "betas", "from 0 to less than 1", self.betas)
        require(self.clip_norm > 0, "clip_norm", "above 0", self.clip_norm)
        require(0 <= self.seed < MOST_SEEDS, "seed", f"from 0 to {MOST_SEEDS - 1}", self.seed)
        require(self.workers >= 0, "workers", "0 or more", self.workers)
        require(0 <= self.worker_timeout < math.inf, "worker_timeout", "finite, and 0 or more", self.worker_timeout)

    def total_steps(self, samples: int) -> int:
        """Updates of a run over a data set of this many samples."""
        return self.steps if self.steps is not None else math.ceil(self.epochs * samples / self.batch_size)

    def computes_in(self, device: torch.device, rest: torch.dtype) -> torch.dtype:
        """What matrix products are computed in, where weights that do not train are of type `rest`: float32 on a CPU that
        would take longer for bfloat16, if the weights can be taken as they are."""
        would_be_slower = not has_bfloat16(device) and rest == torch.float32
        return torch.bfloat16 if self.bf16 and not would_be_slower else torch.float32


def require(is_so: bool, name: str, wanted: str, given: object) -> None:
    """ValueError for a setting that is not what it must be."""
    if not is_so:
        raise ValueError(f"{name} must be {wanted}, not {given}.")


def train(
    objective: nn.Module,
    dataset: SampleDataset,
    collator: Collator,
    config: TrainConfig,
    run_dir: Path,
    *,
    on_record: Callable[[StepRecord], None] = lambda record: None,
    held_out: HeldOut | None = None,
    made_from: Mapping[str, Any] = MappingProxyType({}),
    allow_changes: bool = False,
) -> int:
    """Train `objective` on `dataset`, resuming from the newest whole checkpoint in `run_dir`. Returns the steps taken: 0
    where the run was finished.

    held_out: what is not learnt from; with it the weights of the lowest loss there are kept in `run_dir/best`.
    made_from: what else makes the result, by name (fingerprints of data and base, say), as JSON holds it: a run is resumed
    with the same alone.
    SIGINT, SIGTERM and SIGHUP finish the step, save and leave by SystemExit(128 + signal); a second SIGINT leaves at once.
    Raises, before anything is done, TrainingError where a tracker is not installed, RunBusy where another process holds the
    folder, and CheckpointMismatch where the checkpoint is of other settings, unless `allow_changes`; later, and after
    saving, RunDiverged after MOST_SKIPPED_IN_A_ROW steps without a finite gradient, DataError where more than MOST_REFUSED
    of the samples cannot be used, OutOfMemory where a step does not fit; DiskFull.
    """
    _check_trackers(config.trackers)
    processes()
    accelerator = Accelerator(log_with=list(config.trackers) or None, project_dir=str(run_dir))
    with ExitStack() as stack:
        if accelerator.is_main_process:
            stack.enter_context(durable.exclusive(run_dir))
        stop = stack.enter_context(StopSignals())
        stack.enter_context(durable.room_on_disk(run_dir))
        identity = _identity(config, len(dataset)) | dict(made_from)
        run = _Run(
            accelerator,
            objective,
            len(dataset),
            config,
            run_dir,
            on_record,
            identity,
            languages=collator.languages,
            allow_changes=allow_changes,
        )
        start = run.state.step
        steps = Steps(
            dataset=dataset,
            collator=collator,
            batch_size=config.batch_size,
            seed=config.seed,
            most=run.most,
            token_budget=config.token_budget,
            rank=accelerator.process_index,
            ranks=accelerator.num_processes,
        )
        try:
            for data in _loaded(steps, run):
                if run.learn(data, stop, partial(_measured, run, held_out, collator)):
                    break
        except (RunDiverged, DataError, OutOfMemory):
            if accelerator.num_processes == 1:  # others would wait for ever for this one's part
                run.checkpoints.save(run.state)
            raise
        except RuntimeError as error:  # a worker's death is told by a signal, at any place of a step: nothing to save
            if not _is_worker_gone(error):
                raise
            is_worker_gone = True
        else:
            is_worker_gone = False
        if is_worker_gone:
            raise _worker_gone(run)
        run.finish()
        if run.stopped_by:
            raise SystemExit(128 + run.stopped_by)
        return run.state.step - start


def processes() -> PartialState:
    """Who takes part: started by torchrun or `accelerate launch`, on GPUs or on CPUs alone, or one process by itself."""
    return PartialState(cpu=not torch.accelerator.is_available())


def _measured(run: "_Run", held_out: HeldOut | None, collator: Collator) -> Measured:
    """Losses on what is held out, where this step's are measured, and answers to it; the lowest so far keep their weights,
    and where it does not come lower for long, the run ends."""
    state = run.state
    if held_out is None or (state.step % held_out.every and state.step != run.total):
        return {}
    losses = held_out_losses(
        run.accelerator,
        run.objective,
        held_out.dataset,
        collator,
        batch_size=run.config.batch_size,
        token_budget=run.config.token_budget,
        dtype=run.computes_in,
    )
    if state.lowest is None or losses[ALL] < state.lowest:
        state.lowest, state.since_lowest = losses[ALL], 0
        run.checkpoints.save_best(state.step)
    else:
        state.since_lowest += 1
        state.ended = held_out.patience is not None and state.since_lowest >= held_out.patience
    return {"held_out": losses} | run.measure(held_out.answers)


def _check_trackers(names: tuple[str, ...]) -> None:
    """accelerate passes over, in silence, what is not installed."""
    there = {str(tracker) for tracker in get_available_trackers()}
    absent = ", ".join(sorted(set(names) - there))
    if absent:
        raise TrainingError(f"There is no tracker {absent} here; install it, or choose {', '.join(sorted(there))}.")


def _loaded(steps: Steps, run: "_Run") -> Iterator[StepData]:
    """The steps that are left; DataError where a worker died or hung."""
    config = run.config
    loaded = load_steps(
        steps, start=run.state.step, total=run.total, workers=config.workers, timeout=config.worker_timeout
    )
    while run.state.step < run.total and not run.state.ended:
        data = None
        try:
            data = next(loaded)
        except RuntimeError as error:
            if not _is_worker_gone(error):
                raise
        except (ConnectionError, EOFError) as error:  # it died while it handed over a batch
            if not config.workers or not _is_worker_gone(error):
                raise
            with suppress(RuntimeError):  # the signal of its death comes here, and not in the midst of saving
                time.sleep(LONGEST_DYING)
        if data is None:  # said here, where no traceback holds the loader: it would go on telling of its worker's death
            del loaded
            raise _worker_gone(run)
        yield data


def _is_worker_gone(error: Exception) -> bool:
    """The loader tells of it; or the connection ends over which the worker was handing a batch. What a worker raised itself
    comes back as caught "in DataLoader worker process"."""
    is_its_own = "in DataLoader worker process" in str(error)
    return not is_its_own and ("DataLoader" in str(error) or isinstance(error, ConnectionError | EOFError))


def _worker_gone(run: "_Run") -> DataError:
    return DataError(
        f"A process that prepares data died, or took longer than {run.config.worker_timeout:.0f} s, at step "
        f"{run.state.step + 1}; start again to go on from there, with fewer --workers if memory is short."
    )


class _Run:
    """A run under way: what is trained, and where it is."""

    def __init__(
        self,
        accelerator: Accelerator,
        objective: nn.Module,
        samples: int,
        config: TrainConfig,
        run_dir: Path,
        on_record: Callable[[StepRecord], None],
        identity: dict[str, Any],
        *,
        languages: Sequence[str],
        allow_changes: bool,
    ) -> None:
        self.accelerator, self.config = accelerator, config
        self.total = config.total_steps(samples)
        self.most = (
            config.batch_size * self.total if config.steps is not None else max(1, round(config.epochs * samples))
        )
        torch.manual_seed(config.seed)
        keep_as_stored(objective)
        optimizers = build_optimizers(
            objective,
            config.learning_rates,
            muon_rates=config.muon_rates,
            weight_decay=config.weight_decay,
            betas=config.betas,
            eight_bit=config.optimizer == "adamw8bit",
        )
        self.module = objective
        self.objective, *self.optimizers = accelerator.prepare(objective, *optimizers)
        self.checkpoints = Checkpoints(accelerator, run_dir, self.objective, self.optimizers, identity)
        self.state = self.checkpoints.resume(allow_changes=allow_changes)
        self.recorder = Recorder(
            accelerator,
            run_dir,
            self.state,
            on_record,
            total=self.total,
            every=config.log_every,
            trackers=config.trackers,
            languages=languages,
        )
        self.stopped_by = 0
        objective.train()

    def learn(self, data: StepData, stop: StopSignals, measure: Callable[[], Measured]) -> bool:
        """One step, with what follows it; whether to leave."""
        share = self._share(self.state.step)
        set_learning_rates(self.optimizers, share)
        torch.manual_seed(self.config.seed * 1_000_003 + self.state.step * 1009 + self.accelerator.process_index)
        try:
            loss, grad_norm = training_step(self.accelerator, self.objective, self.optimizers, data, self.config)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._forget_gradients()
            raise OutOfMemory(
                f"Step {self.state.step + 1} does not fit into memory; lower --token-budget (the result stays the same), "
                "or turn on --recompute."
            ) from error
        self.state.step += 1
        self._count_refused(data)
        self._count_skips(data, grad_norm)
        with self.recorder.paused():
            measured = measure()
        self.recorder.add(self.state, data, loss, grad_norm, share, measured)
        self.stopped_by = self._agreed_stop(stop)
        is_last = self.state.step == self.total or self.state.ended
        if self.state.step % self.config.save_every == 0 or is_last or self.stopped_by:
            self.checkpoints.save(self.state)
        return bool(self.stopped_by) or self.state.ended

    @property
    def computes_in(self) -> torch.dtype:
        return computed_in(self.config, self.objective, self.accelerator.device)

    def measure(self, what: Callable[[], Measured] | None) -> Measured:
        """Let the first process measure something while nothing trains."""
        measured: Measured = {}
        if what is not None:
            self.objective.eval()
            if self.accelerator.is_main_process:
                measured = what()
            self.objective.train()
            self.accelerator.wait_for_everyone()
        return measured

    def finish(self) -> None:
        self.accelerator.end_training()
        self.module.eval()

    def _share(self, step: int) -> float:
        start = max((begun for begun in self.config.restarts if begun <= step), default=0)
        stop = min((begun for begun in self.config.restarts if begun > step), default=self.total)
        return warmup_cosine(step - start, steps=stop - start, warmup=round(self.config.warmup * (stop - start)))

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def _agreed_stop(self, stop: StopSignals) -> int:
        """The signal that any process got, 0 for none."""
        if self.accelerator.num_processes == 1:
            return stop.received
        signals = self.accelerator.gather(torch.tensor([stop.received], device=self.accelerator.device))
        return int(signals.max())

    def _count_refused(self, data: StepData) -> None:
        for index, reason in data.refused:
            log.warning("sample %d left out: %s", index, reason)
        self.state.refused += self._total(len(data.refused))
        if self.state.refused > max(1, MOST_REFUSED * self.most):
            raise DataError(
                f"{self.state.refused} samples up to step {self.state.step} cannot be used, the last because: "
                f"{data.refused[-1][1] if data.refused else 'see the log of the other processes'} "
                "Find and mend them with `python -m training.validate`."
            )

    def _count_skips(self, data: StepData, grad_norm: float) -> None:
        if math.isfinite(grad_norm):
            self.state.skipped_in_a_row = 0
            return
        self.state.skipped += 1
        self.state.skipped_in_a_row += 1
        log.warning("step %d left out: its gradient is not finite; samples %s", self.state.step, data.indices)
        if self.state.skipped_in_a_row > MOST_SKIPPED_IN_A_ROW:
            raise RunDiverged(
                f"{self.state.skipped_in_a_row} steps in a row up to step {self.state.step} gave no finite gradient; "
                "lower the learning rate, or check the data of these steps."
            )

    def _total(self, number: int) -> int:
        if self.accelerator.num_processes == 1:
            return number
        return int(self.accelerator.reduce(torch.tensor(number, device=self.accelerator.device)))


def training_step(
    accelerator: Accelerator, objective: nn.Module, optimizers: list[Optimizer], data: StepData, config: TrainConfig
) -> tuple[LossSum, float]:
    """One update from all batches of all processes; left out where the gradient is not finite.

    The sum of losses is differentiated and then divided once, by all supervised tokens of the step: a batch of short
    answers and one of long ones weigh by what they teach. Returns this process's loss and the gradient's norm before
    clipping (nan where there was nothing to learn).
    """
    device = accelerator.device
    computed = computed_in(config, objective, device)
    losses = []
    for number, batch in enumerate(data.batches, start=1):
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with accelerator.no_sync(objective) if number < len(data.batches) else nullcontext():
            with torch.autocast(device.type, torch.bfloat16, enabled=computed == torch.bfloat16):
                loss: LossSum = objective(batch)
            accelerator.backward(loss.total)
        losses.append(LossSum(loss.total.detach(), loss.count, loss.by_language))
    loss = _summed(losses)
    count = float(accelerator.reduce(loss.count.to(device, torch.float64)))
    trained = trained_parameters(optimizers)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    torch._foreach_mul_(gradients, accelerator.num_processes / count if count else math.nan)
    grad_norm = float(whole(accelerator.clip_grad_norm_(trained, config.clip_norm)))
    for optimizer in optimizers:
        if math.isfinite(grad_norm):
            optimizer.step()
        optimizer.zero_grad()
    return loss, grad_norm


def computed_in(config: TrainConfig, objective: nn.Module, device: torch.device) -> torch.dtype:
    """What an objective's matrix products are computed in; see `TrainConfig.computes_in`."""
    are_mixed = any(parameter.dtype == torch.bfloat16 for parameter in objective.parameters())
    return config.computes_in(device, torch.bfloat16 if are_mixed else torch.float32)


def _summed(losses: list[LossSum]) -> LossSum:
    by_language = [loss.by_language for loss in losses if loss.by_language is not None]
    return LossSum(
        torch.stack([loss.total for loss in losses]).sum(),
        torch.stack([loss.count for loss in losses]).sum(),
        torch.stack(by_language).sum(0) if by_language else None,
    )


def _identity(config: TrainConfig, samples: int) -> dict[str, Any]:
    """What a resumed run must share; how it is cut into batches, saved or logged may change."""
    names = ("batch_size", "optimizer", "warmup", "weight_decay", "clip_norm", "seed", "bf16")
    return {name: getattr(config, name) for name in names} | {
        "steps": config.total_steps(samples),
        "samples": samples,
        "learning_rates": dict(config.learning_rates),
        "muon_rates": dict(config.muon_rates),
        "betas": list(config.betas),
        **({"restarts": list(config.restarts)} if config.restarts else {}),
    }
