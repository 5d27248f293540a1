"""DINOv2 (arXiv 2304.07193), and with registers (arXiv 2309.16588): transformers' own classes. A class token, and the
registers where there are any, stand before the patches."""

import re
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import Dinov2Model, Dinov2WithRegistersModel

from maya_core.model.towers.base import AsItsOwn, Colours

# name in published checkpoints -> transformers' own
_STORED_NAMES = (
    (re.compile(r"^(dinov2|dinov2_with_registers)\."), ""),
    (re.compile(r"\.attention\.attention\.query\."), ".attention.q_proj."),
    (re.compile(r"\.attention\.attention\.key\."), ".attention.k_proj."),
    (re.compile(r"\.attention\.attention\.value\."), ".attention.v_proj."),
    (re.compile(r"\.attention\.output\.dense\."), ".attention.o_proj."),
)


class _Seeing(AsItsOwn):
    """What both kinds of DINOv2 do."""

    mean: ClassVar[Colours] = (0.485, 0.456, 0.406)  # of ImageNet
    std: ClassVar[Colours] = (0.229, 0.224, 0.225)

    embeddings: nn.Module
    encoder: Any

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        features_IPD: Tensor = self.embeddings(pixel_values_ICHW)
        for layer in self.encoder.layer[:layers]:
            features_IPD = layer(features_IPD)
        return features_IPD

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        if stored.startswith("classifier."):
            return None
        for pattern, replacement in _STORED_NAMES:
            stored = pattern.sub(replacement, stored)
        return stored


class Dinov2Tower(_Seeing, Dinov2Model):
    """DINOv2."""


class Dinov2WithRegistersTower(_Seeing, Dinov2WithRegistersModel):
    """DINOv2 with registers."""
