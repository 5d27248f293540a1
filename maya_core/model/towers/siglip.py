"""SigLIP (arXiv 2303.15343), and SigLIP 2 of fixed resolution (arXiv 2502.14786): transformers' own class."""

from typing import ClassVar

from torch import Tensor
from transformers import SiglipVisionModel

from maya_core.model.towers.base import AsItsOwn, Colours

_OTHER_PARTS = ("text_model.", "logit_")


class SiglipTower(AsItsOwn, SiglipVisionModel):
    """SigLIP's vision part."""

    mean: ClassVar[Colours] = (0.5, 0.5, 0.5)
    std: ClassVar[Colours] = (0.5, 0.5, 0.5)

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        features_IPD: Tensor = self.embeddings(pixel_values_ICHW, interpolate_pos_encoding=True)
        for layer in self.encoder.layers[:layers]:
            features_IPD = layer(features_IPD, None)
        return features_IPD

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return None if stored.startswith(_OTHER_PARTS) else stored.removeprefix("vision_model.")
