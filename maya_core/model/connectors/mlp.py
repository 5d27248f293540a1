"""The paper's projector: linear layers with GELU between them (depth 2 in arXiv 2505.08910; 4 and 8 were compared)."""

from itertools import chain, pairwise

from torch import Tensor, nn
from transformers.activations import ACT2FN

from maya_core.model.connectors.base import Connector


class MLPConnector(Connector):
    """`depth` linear layers from vision_size to text_size, hidden_size wide between them (the published: text_size)."""

    def __init__(
        self, vision_size: int, text_size: int, *, depth: int, hidden_act: str, hidden_size: int | None = None
    ) -> None:
        super().__init__()
        sizes = [vision_size, *[hidden_size or text_size] * (depth - 1), text_size]
        first, *others = (nn.Linear(*shape) for shape in pairwise(sizes))
        self.layers = nn.Sequential(first, *chain.from_iterable((ACT2FN[hidden_act], layer) for layer in others))

    def forward(self, features_IND: Tensor) -> Tensor:
        """(I, N, vision_size) -> (I, N, text_size)"""
        embeds_INE: Tensor = self.layers(features_IND)
        return embeds_INE
