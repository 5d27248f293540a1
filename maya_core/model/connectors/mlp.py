"""The paper's projector: linear layers with GELU between them (depth 2 in arXiv 2505.08910; 4 and 8 were compared)."""

from itertools import chain

from torch import Tensor, nn
from transformers.activations import ACT2FN

from maya_core.model.connectors.base import Connector


class MLPConnector(Connector):
    """`depth` linear layers; the first widens vision_size to text_size, the others keep it."""

    def __init__(self, vision_size: int, text_size: int, *, depth: int, hidden_act: str) -> None:
        super().__init__()
        more = ((ACT2FN[hidden_act], nn.Linear(text_size, text_size)) for _ in range(depth - 1))
        self.layers = nn.Sequential(nn.Linear(vision_size, text_size), *chain.from_iterable(more))

    def forward(self, features_IND: Tensor) -> Tensor:
        """(I, N, vision_size) -> (I, N, text_size)"""
        embeds_INE: Tensor = self.layers(features_IND)
        return embeds_INE
