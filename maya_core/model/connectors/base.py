"""The protocol of all connectors.

Shape letters: I pictures, B rows, T text positions, N visual tokens, D vision width, E text width.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Block = Callable[[Tensor, Any], Tensor]


class Connector(nn.Module):
    """Turns features_IND, of I pictures, into embeds_INE: what fills the N slots of each picture in the prompt.

    The other methods are for connectors that show the language model more than that.
    """

    def attach(self, decoder: nn.Module) -> None:
        """Take a place in the decoder; called once, when the model is built."""

    def beside(self, features_IND: Tensor, slots_BT: Tensor) -> dict[str, Any]:
        """What the decoder gets beside the embeddings, as keyword arguments. slots_BT: true at the pictures' slots."""
        return {}

    def blocks_before(self, layers: int) -> list[Block | None]:
        """For each decoder layer what goes before it: hidden states and `sight` in, hidden states out."""
        return [None] * layers

    def sight(self, embeds_BTE: Tensor, position_BT: Tensor, cache: Any, beside: dict[str, Any]) -> Any:
        """What the blocks of one pass look at, None where there is nothing; `cache.gallery` keeps it for later passes.

        beside: what the method of that name gave. cache: has `get_seq_length()`.
        """
        return None
