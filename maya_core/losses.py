"""Losses. Each gives a sum and a count, so that accumulated and distributed steps divide once, by all that was learnt.

Shape letters: B batch, T positions, E width, V vocabulary, S supervised positions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK = 4096  # supervised positions whose logits exist at one time


@dataclass(frozen=True)
class LossSum:
    """total: sum of losses, a scalar with gradient. count: how many it sums, a scalar."""

    total: Tensor
    count: Tensor


def next_token_loss(hidden_BTE: Tensor, labels_BT: Tensor, head_VE: Tensor, logit_scale: float) -> LossSum:
    """Cross-entropy of the next token where a label is set (not -100).

    Logits are made only at supervised positions and a chunk at a time: with Aya's 256,000 words the logits of all
    positions are what users run out of memory on.
    """
    targets_BT = labels_BT[:, 1:]
    supervised_BT = targets_BT != -100
    hidden_SE = hidden_BTE[:, :-1][supervised_BT]
    targets_S = targets_BT[supervised_BT]
    total = hidden_SE.new_zeros((), dtype=torch.float32)
    for hidden_chunk, target_chunk in zip(torch.split(hidden_SE, CHUNK), torch.split(targets_S, CHUNK), strict=True):
        total = (
            total + checkpoint(_chunk_loss, hidden_chunk, target_chunk, head_VE, logit_scale, use_reentrant=False)
            if len(hidden_SE) > CHUNK
            else total + _chunk_loss(hidden_chunk, target_chunk, head_VE, logit_scale)
        )
    return LossSum(total, supervised_BT.sum())


def _chunk_loss(hidden_SE: Tensor, targets_S: Tensor, head_VE: Tensor, logit_scale: float) -> Tensor:
    logits_SV = functional.linear(hidden_SE, head_VE).float() * logit_scale
    return functional.cross_entropy(logits_SV, targets_S, reduction="sum")
