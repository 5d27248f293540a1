"""The protocol of all connectors.

Shape letters: I pictures, B rows, T text positions, N visual tokens, D vision width, E text width.
"""

from typing import Any

from torch import Tensor, nn


class Connector(nn.Module):
    """Turns features_IND, of I pictures, into embeds_INE: what fills the N slots of each picture in the prompt.

    The two methods are for connectors that show the language model more than that.
    """

    def attach(self, decoder: nn.Module) -> None:
        """Take a place in the decoder; called once, when the model is built."""

    def beside(self, features_IND: Tensor, slots_BT: Tensor) -> dict[str, Any]:
        """What the decoder gets beside the embeddings, as keyword arguments. slots_BT: true at the pictures' slots."""
        return {}
