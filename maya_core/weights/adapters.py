"""LoRA (arXiv 2106.09685) on the language model: adding it before training, keeping it in peft's own file format, and
merging it when a model is loaded.

An adapter's folder holds what peft's does, with the connector among its tensors, as `modules_to_save` would have put it;
`peft.PeftModel.from_pretrained` reads it too.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.weights import fingerprint
from maya_core.weights.destination import FRESH, written
from maya_core.weights.files import Header, header_of, read_json, refuse_pickles

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", fingerprint.ADAPTER
MATRICES = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)  # of each of the decoder's layers
PARTS = ("lora_A", "lora_B")  # names of the two matrices' modules, as `TrainConfig.learning_rates` takes them
MAGNITUDE = "lora_magnitude_vector"  # and of DoRA's third part
_PREFIX = "base_model.model."  # of every key that peft writes
_A, _B, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", f".{MAGNITUDE}"
_OF_SINGLE_LAYERS = ("rank_pattern", "alpha_pattern")  # of peft's configuration
_BASE = "base"  # in the metadata of an adapter's weights: the fingerprint of the model that it belongs to


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """rank: of the update of each matrix. alpha: the update is scaled by alpha / rank. dropout: share of its inputs that
    are left out in training. rslora: scaled by alpha / sqrt(rank) instead (arXiv 2312.03732). dora: the lengths of a
    matrix's rows are learnt apart from their directions (arXiv 2402.09353). targets: names of the matrices, such as
    `q_proj`; all of the decoder's where none is named. Defaults as in the published (never released) LoRA recipe.
    """

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ()

    @property
    def matrices(self) -> frozenset[str]:
        """That are tuned."""
        return frozenset(self.targets or MATRICES)

    @property
    def scale(self) -> float:
        """Of the update."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


class Base(NamedTuple):
    """The model that an adapter belongs to. name: a folder, or `owner/name@commit`. mark: its fingerprint."""

    name: str
    mark: str


def add_lora(model: nn.Module, settings: LoraSettings) -> None:
    """Put an update of low rank, which is nothing at first, beside every linear layer of the decoder, in place."""
    from peft import inject_adapter_in_model

    inject_adapter_in_model(_peft_config(settings), model)


def _peft_config(settings: LoraSettings, **more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        target_modules=rf"language_model\.model\.layers\.\d+\.(self_attn|mlp)\.({'|'.join(settings.targets or MATRICES)})",
        **more,
    )


def save_adapter(
    trained: Mapping[str, Tensor], settings: LoraSettings, folder: str | Path, *, base: Base, overwrite: bool = False
) -> None:
    """Write adapters and connector. trained: by name in the model. base: what lies under them; a folder is named as the
    adapter's own sees it, so that both can be moved together.

    overwrite: put it in the place of another model. Raises DestinationError or DiskFull.
    """
    needed = sum(tensor.nbytes for tensor in trained.values())

    def verify(fresh: Path) -> None:
        _read_config(fresh)
        shapes = {name: header.shape for name, header in _headers(fresh).items()}
        assert shapes == {name: tuple(tensor.shape) for name, tensor in as_stored(trained).items()}

    with written(folder, verify, overwrite=overwrite, needed=needed) as fresh:
        write_adapter(trained, settings, fresh, place=Path(folder), base=base)


def write_adapter(
    trained: Mapping[str, Tensor], settings: LoraSettings, folder: Path, *, place: Path, base: Base
) -> None:
    """As `save_adapter`, into a folder that is ours already. place: where it will be."""
    tensors = {_PREFIX + name: tensor.contiguous() for name, tensor in as_stored(trained).items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS, {_BASE: base.mark})  # more than one would stand in any order
    name, _, commit = base.name.partition("@")
    if is_folder := Path(base.name).is_dir():
        name = seen_from(place.resolve(), Path(base.name).resolve())
    config = _peft_config(
        settings,
        base_model_name_or_path=name,
        revision=None if is_folder else commit or None,
        modules_to_save=["connector"],
        inference_mode=True,
    )
    config.save_pretrained(str(folder))


def as_stored(trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What trained, by the names that an adapter's file has, but for what they begin with."""
    return {
        name.replace(f"{_MAGNITUDE}.default.weight", _MAGNITUDE).replace(".default.", "."): tensor
        for name, tensor in trained.items()
    }


def seen_from(place: Path, base: Path) -> str:
    return os.path.relpath(base, place) if place.anchor == base.anchor else str(base)


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Folder or repository of the model that an adapter belongs to."""
    config = _read_config(folder)
    name, commit = str(config["base_model_name_or_path"]), config.get("revision")
    place = folder.resolve()
    if place.name == FRESH:  # it is being written, and names its base as it will be seen
        place = place.parent
    if (beside := place / name).is_dir():
        return str(beside.resolve())
    return f"{name}@{commit}" if commit and not Path(name).is_dir() else name


def require_base(folder: Path, mark: str, *, base: Path) -> None:
    """Raise CheckpointMismatch where the model in `base`, whose fingerprint is `mark`, is not the one that the adapter in
    `folder` was trained on. Adapters of others do not say which it was."""
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as tensors:
        wanted = (tensors.metadata() or {}).get(_BASE, mark)
    if wanted != mark:
        raise CheckpointMismatch(
            f"The adapter in {folder.name} was trained on other weights than those that are in {base.name} now; "
            f"put these back, or name their folder in {ADAPTER_CONFIG}."
        )


def settings_of(folder: Path) -> LoraSettings:
    """How an adapter was made."""
    config = _read_config(folder)
    tuned = {name.removesuffix(_A).rpartition(".")[2] for name in _headers(folder) if name.endswith(_A)}
    return LoraSettings(
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config.get("lora_dropout", 0.0),
        rslora=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
        targets=tuple(name for name in MATRICES if name in tuned) if tuned < set(MATRICES) else (),
    )


def stored_in(folder: Path) -> dict[str, Tensor]:
    """An adapter's tensors, by our names."""
    return {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(folder / ADAPTER_WEIGHTS).items()}


def put_into(model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Give a model to which adapters were added what an adapter's file holds."""
    own = as_stored(model.state_dict())
    if absent := sorted(stored.keys() - own.keys()):
        raise CheckpointMismatch(f"{len(absent)} tensors of the adapter have no place here, such as {absent[0]}.")
    with torch.no_grad():
        for name, tensor in stored.items():
            own[name].copy_(tensor)


def merged(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the base, by our names, with the adapter in `folder`, which fits them, added to them."""
    return with_updates(tensors, stored_in(folder), settings_of(folder).scale)


def with_updates(
    tensors: Iterable[tuple[str, Tensor]], stored: Mapping[str, Tensor], scale: float
) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a model, by our names, with the updates of low rank in `stored` added, and what it holds whole in the
    place of the model's."""
    for name, tensor in tensors:
        stem = name.removesuffix(".weight")
        if name in stored:
            yield name, stored[name]
        elif stem + _A in stored:
            update: Tensor = scale * (stored[stem + _B].float() @ stored[stem + _A].float())
            whole = tensor.float() + update
            if stem + _MAGNITUDE in stored:
                whole *= (stored[stem + _MAGNITUDE].float() / whole.norm(dim=1))[:, None]
            yield name, whole.to(tensor.dtype)
        else:
            yield name, tensor


def require_fit(folder: Path, base: Mapping[str, Sequence[int]]) -> None:
    """Raise CheckpointMismatch where the adapter in `folder` is damaged, or of another model than one with such weights; no
    weights are read."""
    stored, config = _headers(folder), _read_config(folder)
    rank = config["r"]
    wanted: dict[str, tuple[int, ...]] = {name: tuple(base[name]) for name in stored if name in base}
    for name, shape in base.items():
        stem = name.removesuffix(".weight")
        if stem + _A in stored or stem + _B in stored:
            wanted |= {stem + _A: (rank, shape[1]), stem + _B: (shape[0], rank)}
            wanted |= {stem + _MAGNITUDE: (shape[0],)} if config.get("use_dora") else {}
    if strange := stored.keys() - wanted.keys():
        raise CheckpointMismatch(
            f"{len(strange)} tensors of the adapter in {folder.name} fit nothing in its base, such as {min(strange)}; "
            "it belongs to another model."
        )
    for name, shape in wanted.items():
        if name not in stored:
            raise CheckpointMismatch(f"{ADAPTER_WEIGHTS} in {folder.name} lacks {name}; get it again.")
        if stored[name].shape != shape:
            raise CheckpointMismatch(
                f"{name} of the adapter in {folder.name} is {list(stored[name].shape)}, its base takes {list(shape)}."
            )


def _headers(folder: Path) -> dict[str, Header]:
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        refuse_pickles(folder)
        raise CheckpointNotFound(f"{ADAPTER_WEIGHTS} is missing from {folder.name}; get a whole copy.")
    return {name.removeprefix(_PREFIX): header for name, header in header_of(file).items()}


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / ADAPTER_CONFIG)
    numbers = config.get("r"), config.get("lora_alpha")
    is_lora = config.get("peft_type") == "LORA" and all(isinstance(number, int | float) for number in numbers)
    if not is_lora or not config.get("base_model_name_or_path"):
        raise CheckpointNotFound(f"{folder.name} holds no LoRA adapter that names its base model.")
    if single := [name for name in _OF_SINGLE_LAYERS if config.get(name)]:
        raise CheckpointMismatch(
            f"The adapter in {folder.name} has a {single[0]}, which is unknown here; merge it with peft, and load that."
        )
    return config
