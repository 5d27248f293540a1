"""Connectors: what stands between the vision tower and the language model.

A connector is an `nn.Module` that turns features_BND (batch, visual tokens, vision width) into features_BNE
(batch, visual tokens, text width). `build_connector` is the only place that reads the configuration.
"""

from torch import nn

from maya_core.config import ConnectorConfig
from maya_core.connectors.mlp import MLPConnector

__all__ = ["MLPConnector", "build_connector"]


def build_connector(config: ConnectorConfig, *, vision_size: int, text_size: int) -> nn.Module:
    """The connector that `config` describes, from features `vision_size` wide to embeddings `text_size` wide."""
    return MLPConnector(vision_size, text_size, depth=config.depth, hidden_act=config.hidden_act)
