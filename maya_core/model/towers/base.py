"""The protocol of all towers.

Shape letters: I pictures, C colours, H and W pixels, P positions (patches, and before them a class token or the like), D
vision width.
"""

from typing import ClassVar, Protocol

from torch import Tensor

Colours = tuple[float, float, float]


class Tower(Protocol):
    """Sees pictures. Its parameters keep the names that they have in transformers."""

    mean: ClassVar[Colours]  # of what it was trained on, and `std`: pixels are (value / 255 - mean) / std
    std: ClassVar[Colours]

    def features(self, pixel_values_ICHW: Tensor, *, layers: int) -> Tensor:
        """(I, C, H, W) -> (I, P, D): as the first `layers` layers leave them; those above are never run.

        H and W are any multiples of the patch; positions are interpolated.
        """
        ...

    @classmethod
    def own_name(cls, stored: str) -> str | None:
        """The parameter that a tensor of a checkpoint is for; None for one of another part (a text tower, a head)."""
        ...


class AsItsOwn:
    """Before a class of transformers that a tower is made of: its parameters begin as that class's own.

    transformers fills a class from elsewhere in another way (each layer alone, without the rule of the block it is in).
    """

    @classmethod
    def is_custom_code(cls) -> bool:
        return False
