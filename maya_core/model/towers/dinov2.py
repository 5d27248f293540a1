"""DINOv2 (arXiv 2304.07193), and with registers (arXiv 2309.16588): transformers' own classes. A class token, and the
registers where there are any, stand before the patches."""

import re
from typing import ClassVar

from torch import Tensor
from transformers import Dinov2Model, Dinov2WithRegistersModel

from maya_core.model.towers.base import Colours

_MEAN: Colours = (0.485, 0.456, 0.406)  # of ImageNet
_STD: Colours = (0.229, 0.224, 0.225)
# name in published checkpoints -> transformers' own
_STORED_NAMES = (
    (re.compile(r"^(dinov2|dinov2_with_registers)\."), ""),
    (re.compile(r"\.attention\.attention\.query\."), ".attention.q_proj."),
    (re.compile(r"\.attention\.attention\.key\."), ".attention.k_proj."),
    (re.compile(r"\.attention\.attention\.value\."), ".attention.v_proj."),
    (re.compile(r"\.attention\.output\.dense\."), ".attention.o_proj."),
)


def _own_name(stored: str) -> str | None:
    if stored.startswith("classifier."):
        return None
    for pattern, replacement in _STORED_NAMES:
        stored = pattern.sub(replacement, stored)
    return stored


def _features(tower: Dinov2Model | Dinov2WithRegistersModel, pixel_values_ICHW: Tensor, layers: int) -> Tensor:
    features_IPD: Tensor = tower.embeddings(pixel_values_ICHW)
    for layer in tower.encoder.layer[:layers]:
        features_IPD = layer(features_IPD)
    return features_IPD


class Dinov2Tower(Dinov2Model):
    """DINOv2."""

    mean: ClassVar[Colours] = _MEAN
    std: ClassVar[Colours] = _STD

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        return _features(self, pixel_values_ICHW, layers)

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return _own_name(stored)


class Dinov2WithRegistersTower(Dinov2WithRegistersModel):
    """DINOv2 with registers."""

    mean: ClassVar[Colours] = _MEAN
    std: ClassVar[Colours] = _STD

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        return _features(self, pixel_values_ICHW, layers)

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return _own_name(stored)
