"""SigLIP (arXiv 2303.15343): transformers' own, read at a layer of choice.

Shape letters: I pictures, C colours, H and W pixels, P patches, D vision width.
"""

from torch import Tensor
from transformers import SiglipVisionModel


class SiglipTower(SiglipVisionModel):
    """SigLIP's vision part. Positions are interpolated where a picture is not of the size it was trained on."""

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        """(I, C, H, W) in [-1, 1] -> (I, P, D)."""
        features_IPD: Tensor = self.embeddings(pixel_values_ICHW, interpolate_pos_encoding=True)
        for layer in self.encoder.layers[:layers]:
            features_IPD = layer(features_IPD, None)
        return features_IPD
