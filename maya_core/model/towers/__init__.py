"""Vision towers: what sees. `base.Tower` is what they have in common; which one it is, the configuration's type says."""

from typing import Any

from transformers import PreTrainedConfig

from maya_core.model.towers.base import Tower
from maya_core.model.towers.clip import ClipTower
from maya_core.model.towers.dinov2 import Dinov2Tower, Dinov2WithRegistersTower
from maya_core.model.towers.photograph import PhotographTower
from maya_core.model.towers.siglip import SiglipTower

__all__ = [
    "ClipTower",
    "Dinov2Tower",
    "Dinov2WithRegistersTower",
    "PhotographTower",
    "SiglipTower",
    "Tower",
    "build_tower",
    "tower_class",
]

_CLASSES = (
    SiglipTower,
    ClipTower,
    Dinov2Tower,
    Dinov2WithRegistersTower,
    PhotographTower,
)


def tower_class(config: PreTrainedConfig) -> Any:
    """The class of the tower that `config` describes; its instances are a `Tower` and a `PreTrainedModel`."""
    return next(kind for kind in _CLASSES if type(config) is kind.config_class)


def build_tower(config: PreTrainedConfig) -> Any:
    """The tower that `config` describes, untrained."""
    return tower_class(config)(config)
