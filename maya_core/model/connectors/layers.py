"""What the Q-Former and the cross-attention connector are built of.

Shape letters: I pictures, Q queries, K things looked at, S width of the queries, C width of the context, H heads,
F head width, L learned vectors.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import initialization
from transformers.activations import ACT2FN


class Attention(nn.Module):
    """Attention with many heads (arXiv 1706.03762), from queries `size` wide to a context `context_size` wide."""

    def __init__(self, size: int, context_size: int, *, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(size, heads * head_dim)
        self.key = nn.Linear(context_size, heads * head_dim)
        self.value = nn.Linear(context_size, heads * head_dim)
        self.output = nn.Linear(heads * head_dim, size)

    def forward(self, queries_BQS: Tensor, context_BKC: Tensor, mask_B1QK: Tensor | None = None) -> Tensor:
        """(B, Q, S) and (B, K, C) -> (B, Q, S). mask_B1QK: true where a query may look; every query needs one such."""
        query_BHQF = self._heads(self.query(queries_BQS))
        key_BHKF, value_BHKF = self._heads(self.key(context_BKC)), self._heads(self.value(context_BKC))
        seen_BHQF = scaled_dot_product_attention(query_BHQF, key_BHKF, value_BHKF, attn_mask=mask_B1QK)
        output_BQS: Tensor = self.output(seen_BHQF.transpose(1, 2).flatten(2))
        return output_BQS

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:2], self.heads, -1).transpose(1, 2)


def feed_forward(size: int, hidden_act: str) -> nn.Sequential:
    """Norm, four times wider, activation, back to `size`."""
    return nn.Sequential(nn.LayerNorm(size), nn.Linear(size, 4 * size), ACT2FN[hidden_act], nn.Linear(4 * size, size))


class Learned(nn.Module):
    """A parameter that is no layer's weight; transformers knows how layers begin, this says how it does."""

    def init_parameters(self, spread: float) -> None:
        """The first values. spread: standard deviation that weights start with."""
        raise NotImplementedError


class LearnedVectors(Learned):
    """`count` vectors, the same for every picture."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(count, size))

    def init_parameters(self, spread: float) -> None:
        initialization.normal_(self.vectors, std=spread)

    def forward(self, pictures: int) -> Tensor:
        """I -> (I, L, S)"""
        return self.vectors.expand(pictures, -1, -1)


class Gate(Learned):
    """A factor tanh(openness); closed (0) at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.openness = nn.Parameter(torch.zeros(1))

    def init_parameters(self, spread: float) -> None:
        initialization.zeros_(self.openness)

    def forward(self, update: Tensor) -> Tensor:
        """What passes; of the same shape."""
        return self.openness.tanh() * update
