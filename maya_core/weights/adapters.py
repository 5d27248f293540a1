"""LoRA (arXiv 2106.09685) on the language model: adding it before training, keeping it in peft's own file format, and
merging it when a model is loaded.

An adapter's folder holds what peft's does, with the connector among its tensors, as `modules_to_save` would have put it;
`peft.PeftModel.from_pretrained` reads it too.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from maya_core.errors import CheckpointMismatch, CheckpointNotFound

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


def save_adapter(trained: Mapping[str, Tensor], settings: LoraSettings, folder: Path, *, base: str) -> None:
    """Write adapters and connector. trained: by name in the model. base: folder or repository of what lies under them."""
    folder.mkdir(parents=True, exist_ok=True)
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
    """The tensors of the base, by our names, with the adapter in `folder` added to them.

    Raises CheckpointMismatch where an adapter's tensor fits nothing.
    """
    config = _read_config(folder)
    stored = {name.removeprefix(_PREFIX): tensor for name, tensor in load_file(folder / ADAPTER_WEIGHTS).items()}
    used: set[str] = set()
    for name, tensor in tensors:
        if name in stored:
            used.add(name)
            yield name, stored[name]
            continue
        stem = name.removesuffix(".weight")
        if stem + _A in stored:
            used |= {stem + _A, stem + _B}
            yield name, _with_update(tensor, stored[stem + _A], stored[stem + _B], config)
        else:
            yield name, tensor
    if stored.keys() - used:
        raise CheckpointMismatch(
            f"{len(stored.keys() - used)} tensors of the adapter in {folder.name} fit nothing in its base, such as "
            f"{min(stored.keys() - used)}; it belongs to another model."
        )


def _with_update(weight: Tensor, a_RI: Tensor, b_OR: Tensor, config: Mapping[str, Any]) -> Tensor:
    rank = config["r"]
    scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
    update: Tensor = scale * (b_OR.float() @ a_RI.float())
    if update.shape != weight.shape:
        raise CheckpointMismatch(
            f"An adapter is for weights of {list(update.shape)}, its base has {list(weight.shape)}."
        )
    return torch.add(weight.float(), update).to(weight.dtype)


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    if config.get("peft_type") != "LORA" or not config.get("base_model_name_or_path"):
        raise CheckpointNotFound(f"{folder.name} holds no LoRA adapter that names its base model.")
    return config
