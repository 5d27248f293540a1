"""LoRA (arXiv 2106.09685) on the language model: adding it before training, keeping it in peft's own file format, and
merging it when a model is loaded.

An adapter's folder holds what peft's does, with the connector among its tensors, as `modules_to_save` would have put it;
`peft.PeftModel.from_pretrained` reads it too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.weights.destination import written
from maya_core.weights.files import Header, header_of, read_json, refuse_pickles

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TARGETS = r"language_model\.model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"  # every linear layer of the decoder
PARTS = ("lora_A", "lora_B")  # names of the two matrices' modules, as `TrainConfig.learning_rates` takes them
_PREFIX = "base_model.model."  # of every key that peft writes
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """rank: of the update of each matrix. alpha: the update is scaled by alpha / rank. dropout: share of its inputs that
    are left out in training. Defaults as in the published (never released) LoRA recipe."""

    rank: int = 128
    alpha: int = 256
    dropout: float = 0.05


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
        target_modules=TARGETS,
        **more,
    )


def save_adapter(
    trained: Mapping[str, Tensor], settings: LoraSettings, folder: str | Path, *, base: str, overwrite: bool = False
) -> None:
    """Write adapters and connector. trained: by name in the model. base: folder or repository of what lies under them.

    overwrite: put it in the place of another model. Raises DestinationError or DiskFull.
    """
    needed = sum(tensor.nbytes for tensor in trained.values())

    def verify(fresh: Path) -> None:
        _read_config(fresh)
        shapes = {name: header.shape for name, header in _headers(fresh).items()}
        assert shapes == {name.replace(".default.", "."): tuple(tensor.shape) for name, tensor in trained.items()}

    with written(folder, verify, overwrite=overwrite, needed=needed) as fresh:
        write_adapter(trained, settings, fresh, base=base)


def write_adapter(trained: Mapping[str, Tensor], settings: LoraSettings, folder: Path, *, base: str) -> None:
    """As `save_adapter`, into a folder that is ours already."""
    tensors = {_PREFIX + name.replace(".default.", "."): tensor.contiguous() for name, tensor in trained.items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    config = _peft_config(settings, base_model_name_or_path=base, modules_to_save=["connector"], inference_mode=True)
    config.save_pretrained(str(folder))


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> str:
    """Folder or repository of the model that an adapter belongs to."""
    return str(_read_config(folder)["base_model_name_or_path"])


def merged(folder: Path, tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the base, by our names, with the adapter in `folder`, which fits them, added to them."""
    config = _read_config(folder)
    stored = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(folder / ADAPTER_WEIGHTS).items()}
    for name, tensor in tensors:
        stem = name.removesuffix(".weight")
        if name in stored:
            yield name, stored[name]
        elif stem + _A in stored:
            yield name, _with_update(tensor, stored[stem + _A], stored[stem + _B], config)
        else:
            yield name, tensor


def require_fit(folder: Path, base: Mapping[str, Sequence[int]]) -> None:
    """Raise CheckpointMismatch where the adapter in `folder` is damaged, or of another model than one with such weights; no
    weights are read."""
    stored, rank = _headers(folder), _read_config(folder)["r"]
    wanted: dict[str, tuple[int, ...]] = {name: tuple(base[name]) for name in stored if name in base}
    for name, shape in base.items():
        stem = name.removesuffix(".weight")
        if stem + _A in stored or stem + _B in stored:
            wanted |= {stem + _A: (rank, shape[1]), stem + _B: (shape[0], rank)}
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


def _with_update(weight: Tensor, a_RI: Tensor, b_OR: Tensor, config: Mapping[str, Any]) -> Tensor:
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    update: Tensor = scale * (b_OR.float() @ a_RI.float())
    return torch.add(weight.float(), update).to(weight.dtype)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / ADAPTER_CONFIG)
    numbers = config.get("r"), config.get("lora_alpha")
    is_lora = config.get("peft_type") == "LORA" and all(isinstance(number, int | float) for number in numbers)
    if not is_lora or not config.get("base_model_name_or_path"):
        raise CheckpointNotFound(f"{folder.name} holds no LoRA adapter that names its base model.")
    return config
