"""Vision towers: what sees. `base.Tower` is what they have in common. `build_tower` is the only place that reads the
configuration."""

from transformers import SiglipVisionConfig

from maya_core.model.towers.base import Tower
from maya_core.model.towers.siglip import SiglipTower

__all__ = ["SiglipTower", "Tower", "build_tower"]


def build_tower(config: SiglipVisionConfig) -> SiglipTower:
    """The tower that `config` describes."""
    return SiglipTower(config)
