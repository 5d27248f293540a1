"""A run of training as a model: what it learnt so far, on what it began from. Its folder says in `run.json` what that is."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from maya_core.assets import typed_path
from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.weights import adapters, durable
from maya_core.weights.adapters import LoraSettings
from maya_core.weights.destination import RUN
from maya_core.weights.files import header_of, read_json

CHECKPOINTS, BEST, WEIGHTS = "checkpoints", "best", "weights.safetensors"  # in a run's folder
_KINDS = (BEST, CHECKPOINTS)
_PREFIX = "model."  # of every name in a checkpoint: what is trained holds the model


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a run began from. base, mark: a model, as `adapters.Base` names it. adapter: one on it that is tuned on. tower,
    language_model: of a new model, whose configuration and tokenizer lie in the run's folder. lora: of what trains."""

    base: str | None = None
    mark: str | None = None
    adapter: str | None = None
    tower: str | None = None
    language_model: str | None = None
    lora: LoraSettings | None = None


def write_start(run_dir: Path, start: Start) -> None:
    """Say in a run's folder what it begins from; folders are named as it sees them, so that both can be moved together."""
    fields = asdict(start)
    for part in ("base", "adapter", "tower", "language_model"):
        if fields[part] is not None and typed_path(fields[part]).is_dir():
            fields[part] = adapters.seen_from(run_dir.resolve(), typed_path(fields[part]).resolve())
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / RUN).write_text(json.dumps(fields, indent=1) + "\n", "utf-8")


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, or lies in it and holds checkpoints, or is one."""
    return _run_of(folder) is not None


def start_of(folder: Path) -> Start:
    """What the run began from; folders by whole paths."""
    run = _found_run(folder)
    fields = read_json(run / RUN)
    lora = fields.pop("lora", None)
    try:
        start = Start(
            **fields, lora=None if lora is None else LoraSettings(**lora | {"targets": tuple(lora["targets"])})
        )
    except (TypeError, KeyError):
        raise CheckpointMismatch(f"{RUN} in {run.name} is of another version; give the run's result.") from None
    named = {part: _place(run, getattr(start, part)) for part in ("base", "adapter", "tower", "language_model")}
    return Start(**named, mark=start.mark, lora=start.lora)


def is_new(folder: Path) -> bool:
    """Whether the run makes a new model, of a tower and a language model."""
    return start_of(folder).base is None


def folder_of(folder: Path) -> Path:
    """The run's own folder."""
    return _found_run(folder)


def learnt_weights(folder: Path) -> Path:
    """The file of what a run has learnt: the best where that was measured, or the newest; or of the checkpoint that the
    folder is. Raises CheckpointNotFound where there is none that is whole."""
    run = _run_of(folder) or folder
    if folder.parent.name in _KINDS and folder.parent.parent == run:
        durable.verify(folder)
        return folder / WEIGHTS
    kinds = [folder.name] if folder.name in _KINDS and folder.parent == run else _KINDS
    found = next((version for kind in kinds if (version := durable.newest(run / kind))), None)
    if found is None:
        raise CheckpointNotFound(
            f"The run in {run.name} has kept no checkpoint yet; it keeps one when it is stopped (Ctrl-C), and every "
            "--save-every steps."
        )
    return found.folder / WEIGHTS


def overlaid(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of what a run began from, by our names, with what it learnt in their place or added to them."""
    start = start_of(folder)
    stored = _stored(load_file(learnt_weights(folder)))
    if start.adapter is not None:  # what rested stays as it was
        stored = adapters.stored_in(Path(start.adapter)) | stored
    scale = start.lora.scale if start.lora else 0.0
    left = dict(stored)
    for name, tensor in adapters.with_updates(tensors, stored, scale):
        left.pop(name, None)
        yield name, tensor
    if is_new(folder):  # whose connector nothing else holds
        yield from ((name, tensor) for name, tensor in left.items() if name.startswith("connector."))


def require_base(folder: Path, mark: str, *, base: Path) -> None:
    """Raise CheckpointMismatch where the model in `base`, whose fingerprint is `mark`, is not the one that it began from."""
    if start_of(folder).mark not in (None, mark):
        raise CheckpointMismatch(
            f"The run in {_found_run(folder).name} began from other weights than those that are in {base.name} now; "
            f"put these back, or name their folder in {RUN}."
        )


def require_fit(folder: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise CheckpointMismatch where what a run learnt belongs to another model than one with such weights; no weights are
    read."""
    headers = _stored(header_of(learnt_weights(folder)))
    strange = [
        name for name, header in headers.items() if ".lora_" not in name and tuple(shapes.get(name, ())) != header.shape
    ]
    if strange:
        raise CheckpointMismatch(
            f"What the run in {_found_run(folder).name} learnt does not fit what it began from, such as {min(strange)}; "
            f"put that back, or name its folder in {RUN}."
        )


def _stored(learnt: Mapping[str, Any]) -> dict[str, Any]:
    return adapters.as_stored({name.removeprefix(_PREFIX): tensor for name, tensor in learnt.items()})


def _run_of(folder: Path) -> Path | None:
    place = folder.resolve()
    if (place / RUN).is_file():
        return place
    for inside, run in ((place, place.parent), (place.parent, place.parent.parent)):
        if inside.name in _KINDS and (run / RUN).is_file():
            return run
    return None


def _found_run(folder: Path) -> Path:
    run = _run_of(folder)
    assert run is not None, folder
    return run


def _place(run: Path, name: str | None) -> str | None:
    if name is None:
        return None
    return str((run / name).resolve()) if (run / name).is_dir() else name
