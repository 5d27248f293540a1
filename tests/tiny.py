"""Tiny random models for tests: the real architecture, made in milliseconds."""

from typing import Any

import torch
from torch import nn

from maya_core.config import MayaConfig
from maya_core.model import MayaForConditionalGeneration

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {
    "vocab_size": 512,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "logit_scale": 0.0625,
    "eos_token_id": 300,
}


def tiny_config(*, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **changes: Any) -> MayaConfig:
    fields = {"vision_config": VISION | (vision or {}), "text_config": TEXT | (text or {}), "image_token_id": 511}
    return MayaConfig(**(fields | changes))


def tiny_model(*, seed: int = 0, spread: float = 0.3, **changes: Any) -> MayaForConditionalGeneration:
    """A random model in eval mode; weights are spread so that different inputs give clearly different answers."""
    torch.manual_seed(seed)
    model = MayaForConditionalGeneration(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, spread)
    return model


def parameters(module: nn.Module) -> int:
    """How many numbers a module holds, a shared tensor once."""
    return sum(parameter.numel() for parameter in module.parameters())
