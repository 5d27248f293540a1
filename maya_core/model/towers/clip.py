"""CLIP (arXiv 2103.00020): transformers' own class. A class token stands before the patches."""

from typing import ClassVar

from torch import Tensor
from transformers import CLIPVisionModel

from maya_core.model.towers.base import AsItsOwn, Colours

_OTHER_PARTS = ("text_model.", "text_projection.", "visual_projection.", "logit_")


class ClipTower(AsItsOwn, CLIPVisionModel):
    """CLIP's vision part."""

    mean: ClassVar[Colours] = (0.48145466, 0.4578275, 0.40821073)
    std: ClassVar[Colours] = (0.26862954, 0.26130258, 0.27577711)

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        features_IPD: Tensor = self.pre_layrnorm(self.embeddings(pixel_values_ICHW, interpolate_pos_encoding=True))
        for layer in self.encoder.layers[:layers]:
            features_IPD = layer(features_IPD, None)
        return features_IPD

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        return None if stored.startswith(_OTHER_PARTS) else stored.removeprefix("vision_model.")
