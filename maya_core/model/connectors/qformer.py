"""The Q-Former of BLIP-2 (arXiv 2301.12597): a few learned queries read a picture, and are its visual tokens.

The paper's norms stand after each part, as in BERT, whose weights it starts from; here they stand before, because it
starts from nothing.

Shape letters: I pictures, N patches, Q queries, D vision width, E text width.
"""

from torch import Tensor, nn

from maya_core.model.connectors.base import Connector
from maya_core.model.connectors.layers import Attention, LearnedVectors, feed_forward


class QFormerConnector(Connector):
    """`num_query_tokens` visual tokens a picture, however many patches it has.

    depth: blocks; the first, and every `cross_attention_frequency`-th after it, look at the picture.
    """

    def __init__(
        self,
        vision_size: int,
        text_size: int,
        *,
        num_query_tokens: int,
        depth: int,
        cross_attention_frequency: int,
        heads: int,
        head_dim: int,
        hidden_act: str,
    ) -> None:
        super().__init__()
        self.query_tokens = LearnedVectors(num_query_tokens, vision_size)
        self.features_norm = nn.LayerNorm(vision_size)
        self.blocks = nn.ModuleList(
            QFormerBlock(
                vision_size,
                looks=number % cross_attention_frequency == 0,
                heads=heads,
                head_dim=head_dim,
                hidden_act=hidden_act,
            )
            for number in range(depth)
        )
        self.norm = nn.LayerNorm(vision_size)
        self.to_text = nn.Linear(vision_size, text_size)

    def forward(self, features_IND: Tensor) -> Tensor:
        """(I, N, D) -> (I, Q, E)"""
        queries_IQD = self.query_tokens(len(features_IND))
        features_IND = self.features_norm(features_IND)
        for block in self.blocks:
            queries_IQD = block(queries_IQD, features_IND)
        embeds_IQE: Tensor = self.to_text(self.norm(queries_IQD))
        return embeds_IQE


class QFormerBlock(nn.Module):
    """The queries look at each other, at the picture where `looks`, and pass a feed-forward part."""

    def __init__(self, size: int, *, looks: bool, heads: int, head_dim: int, hidden_act: str) -> None:
        super().__init__()
        self.looks = looks
        self.self_norm = nn.LayerNorm(size)
        self.self_attention = Attention(size, size, heads=heads, head_dim=head_dim)
        if looks:
            self.cross_norm = nn.LayerNorm(size)
            self.cross_attention = Attention(size, size, heads=heads, head_dim=head_dim)
        self.feed_forward = feed_forward(size, hidden_act)

    def forward(self, queries_IQD: Tensor, features_IND: Tensor) -> Tensor:
        """(I, Q, D) and (I, N, D) -> (I, Q, D)"""
        normed_IQD = self.self_norm(queries_IQD)
        queries_IQD = queries_IQD + self.self_attention(normed_IQD, normed_IQD)
        if self.looks:
            queries_IQD = queries_IQD + self.cross_attention(self.cross_norm(queries_IQD), features_IND)
        thought_IQD: Tensor = self.feed_forward(queries_IQD)
        return queries_IQD + thought_IQD
