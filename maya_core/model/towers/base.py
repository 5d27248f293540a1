"""The protocol of all towers.

Shape letters: I pictures, C colours, H and W pixels, P patches, D vision width.
"""

from typing import Protocol

from torch import Tensor


class Tower(Protocol):
    """Sees pictures. Its parameters keep the names that they have in checkpoints."""

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        """(I, C, H, W) -> (I, P, D): each patch as the first `layers` layers leave it; those above are never run.

        H and W are any multiples of the patch.
        """
        ...
