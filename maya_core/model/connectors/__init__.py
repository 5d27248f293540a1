"""Connectors: what stands between the vision tower and the language model.

`base.Connector` is what they have in common. `build_connector` is the only place that reads the configuration.
"""

from typing import Any

from maya_core.model.config import ConnectorConfig
from maya_core.model.connectors.base import Connector
from maya_core.model.connectors.cross_attention import CrossAttentionConnector
from maya_core.model.connectors.layers import Learned
from maya_core.model.connectors.mlp import MLPConnector
from maya_core.model.connectors.qformer import QFormerConnector

__all__ = [
    "Connector",
    "CrossAttentionConnector",
    "Learned",
    "MLPConnector",
    "QFormerConnector",
    "build_connector",
]


def build_connector(config: ConnectorConfig, *, vision_size: int, text_size: int, text_layers: int) -> Connector:
    """The connector that `config` describes, from features `vision_size` wide to a language model `text_size` wide."""
    if config.kind == "mlp":
        return MLPConnector(
            vision_size,
            text_size,
            depth=config.depth,
            hidden_act=config.hidden_act,
            hidden_size=config.hidden_size,
        )
    shape: dict[str, Any] = {
        "depth": config.depth,
        "heads": config.num_attention_heads,
        "head_dim": config.head_dim,
        "hidden_act": config.hidden_act,
    }
    if config.kind == "qformer":
        return QFormerConnector(
            vision_size,
            text_size,
            num_query_tokens=config.num_query_tokens,
            cross_attention_frequency=config.cross_attention_frequency,
            **shape,
        )
    return CrossAttentionConnector(
        vision_size,
        text_size,
        num_latents=config.num_latents,
        num_blocks=text_layers // config.cross_attn_every_n_layers,
        cross_attn_every_n_layers=config.cross_attn_every_n_layers,
        **shape,
    )
