"""What a run keeps of itself, so that it can go on: checkpoints, and what makes it the same run."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from maya_core.errors import CheckpointMismatch
from maya_core.learning.optim import trained_parameters
from maya_core.learning.recorder import RunState
from maya_core.weights import durable
from maya_core.weights.runs import BEST, CHECKPOINTS, WEIGHTS

LONGEST_TOLD = 40  # characters of a setting that a message shows


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: steps taken, and of how many; whether it ended before, for what is held out came no lower;
    restarts: see TrainConfig."""

    step: int
    total: int
    ended: bool = False
    restarts: tuple[int, ...] = ()


def progress_of(run_dir: Path) -> Progress | None:
    """How far the run in a folder is, by its newest checkpoint, whose bytes are not verified; None where there is none."""
    for found in durable.versions(run_dir / CHECKPOINTS):
        if (found.folder / durable.MARKER).is_file():
            content = json.loads((found.folder / "state.json").read_text())
            run, ended = content["run"], content["state"].get("ended", False)
            return Progress(step=found.step, total=run["steps"], ended=ended, restarts=tuple(run.get("restarts", ())))
    return None


class Checkpoints:
    """What a run keeps of itself: `<run>/checkpoints/step-…/{weights,optimizer}.safetensors` and `state.json`."""

    def __init__(
        self,
        accelerator: Accelerator,
        run_dir: Path,
        objective: nn.Module,
        optimizers: list[Optimizer],
        identity: dict[str, Any],
    ) -> None:
        """objective, optimizers: as accelerate prepared them. identity: what a resumed run must share, as JSON holds it."""
        self.accelerator, self.run_dir, self.identity = accelerator, run_dir, identity
        self.objective, self.optimizers = objective, optimizers
        self.saved_at: int | None = None

    def save(self, state: RunState) -> None:
        """Commit a checkpoint of this step, unless there is one. Every process must call this."""
        if self.saved_at == state.step:
            return
        weights = self._weights()
        moments, shared = _flat_state(self.optimizers)
        content = {"state": asdict(state), "run": self.identity, "shared": shared}

        def write(folder: Path) -> None:
            save_file(weights, folder / WEIGHTS)
            save_file(moments, folder / "optimizer.safetensors")
            (folder / "state.json").write_text(json.dumps(content, indent=1))

        self._commit(CHECKPOINTS, state.step, write, keep=2)
        self.saved_at = state.step

    def save_best(self, step: int) -> None:
        """Keep these weights as the best. Every process must call this."""
        weights = self._weights()

        def write(folder: Path) -> None:
            save_file(weights, folder / WEIGHTS)

        self._commit(BEST, step, write, keep=1)

    def resume(self, *, allow_changes: bool) -> RunState:
        """Where the newest whole checkpoint is, with all that it holds put in place; the beginning where there is none.

        Raises CheckpointMismatch where it is of other settings, unless `allow_changes`, or of other parts.
        """
        found = durable.newest(self.run_dir / CHECKPOINTS)
        if found is None:
            self.saved_at = 0
            return RunState()
        content = json.loads((found.folder / "state.json").read_text())
        if not allow_changes:
            _require_same(content["run"], _before_restart(self.identity, content["run"]))
        stored = load_file(found.folder / WEIGHTS)
        trained = self._trained()
        if set(stored) != set(trained):
            raise CheckpointMismatch("The run in this folder trains other parts of the model; use another folder.")
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(_placed_like(parameter, stored[name]))
        _restore_state(self.optimizers, load_file(found.folder / "optimizer.safetensors"), content["shared"])
        state = RunState(**content["state"])
        self.saved_at = state.step
        return state

    def _commit(self, kind: str, step: int, write: Callable[[Path], None], *, keep: int) -> None:
        if self.accelerator.is_main_process:
            durable.commit(self.run_dir / kind, step, write, keep=keep)
        self.accelerator.wait_for_everyone()

    def _weights(self) -> dict[str, Tensor]:
        return {name: whole(parameter) for name, parameter in self._trained().items()}

    def _trained(self) -> dict[str, nn.Parameter]:
        module = self.accelerator.unwrap_model(self.objective)
        return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _before_restart(now: dict[str, Any], was: Mapping[str, Any]) -> dict[str, Any]:
    """What the run was where its rates start anew, if that is what it was."""
    *earlier, last = now.get("restarts") or [None]
    if last is None or was.get("steps") != last:
        return now
    before = now | {"steps": last, "restarts": earlier}
    return before if earlier else {name: value for name, value in before.items() if name != "restarts"}


def _require_same(was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """CheckpointMismatch that names what makes a run and is not as it was, with its values where one can read them."""

    def told(name: str) -> str:
        if max(len(str(side.get(name))) for side in (was, now)) > LONGEST_TOLD:
            return f"another {name}"
        return f"{name} {was.get(name)} (now {now.get(name)})"

    if changed := [name for name in dict.fromkeys([*was, *now]) if was.get(name) != now.get(name)]:
        raise CheckpointMismatch(
            f"The run in this folder was started with {', '.join(map(told, changed))}; use that again, or "
            "another folder, or begin anew (--restart)."
        )


# --- tensors that may be spread over processes ---


def whole(tensor: Tensor) -> Tensor:
    """A tensor as one piece, on the CPU where it was spread; every process must call this."""
    tensor = tensor.detach()
    return (tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor).contiguous()


def _placed_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """`tensor` spread over processes as `parameter` is."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)


def _flat_state(optimizers: list[Optimizer]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every optimiser's state, by `<optimiser>.<parameter>.<name>`; whole numbers become int64 scalars. What several
    parameters share (the tables of 8-bit moments) is there once; beside it, by key, where the others find it."""
    tensors: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[Tensor, str] = {}  # tensors are told apart by identity
    for which, optimizer in enumerate(optimizers):
        for number, parameter in enumerate(trained_parameters([optimizer])):
            for name, value in optimizer.state[parameter].items():
                key = f"{which}.{number}.{name}"
                if isinstance(value, int):
                    tensors[key] = torch.tensor(value)
                elif value in first:
                    shared[key] = first[value]
                else:
                    first[value] = key
                    tensors[key] = whole(value)
    return tensors, shared


def _restore_state(optimizers: list[Optimizer], tensors: dict[str, Tensor], shared: dict[str, str]) -> None:
    parameters = [trained_parameters([optimizer]) for optimizer in optimizers]
    placed: dict[str, Tensor | int] = {}
    for key in (*tensors, *shared):
        which, number, name = key.split(".", 2)
        parameter = parameters[int(which)][int(number)]
        if key in tensors:
            placed[key] = _placed_state(parameter, tensors[key])
        optimizers[int(which)].state[parameter][name] = placed[shared.get(key, key)]


def _placed_state(parameter: Tensor, tensor: Tensor) -> Tensor | int:
    if tensor.ndim:
        return _placed_like(parameter, tensor).to(parameter.device)
    return int(tensor) if tensor.dtype == torch.int64 else tensor
