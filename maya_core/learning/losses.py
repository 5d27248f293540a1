"""Losses. Each gives a sum and a count, so that accumulated and distributed steps divide once, by all that was learnt.

Shape letters: B batch, T positions, E width, V vocabulary, S supervised positions, L languages (LANGUAGES).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

LANGUAGES = 128  # that a loss is told of apart
CHUNK = 2**28  # logits that exist at one time: 1 GiB in float32


@dataclass(frozen=True)
class LossSum:
    """total: sum of losses, a scalar with gradient. count: how many it sums, a scalar.

    by_language: (2, L + 1) sums and counts in the order of the collator's languages, the last for what has none; None where
    the objective knows no languages.
    """

    total: Tensor
    count: Tensor
    by_language: Tensor | None = None


@dataclass(frozen=True)
class Supervised:
    """What is learnt of a batch: the next token at S of its positions.

    positions_S: in the batch's rows laid one behind the other. targets_S: the token there. languages_S: number of its
    language, -1 where it has none; None where the batch does not say.
    """

    positions_S: Tensor
    targets_S: Tensor
    languages_S: Tensor | None = None

    @classmethod
    def of(cls, labels_BT: Tensor, languages_BT: Tensor | None = None) -> "Supervised":
        """labels_BT: each token, -100 where it is not to be learnt; a row's first never is."""
        row_S, before_S = (labels_BT[:, 1:] != -100).nonzero(as_tuple=True)
        return cls(
            positions_S=row_S * labels_BT.shape[1] + before_S,
            targets_S=labels_BT[row_S, before_S + 1],
            languages_S=None if languages_BT is None else languages_BT[row_S, before_S + 1],
        )


def next_token_loss(hidden_SE: Tensor, supervised: Supervised, head_VE: Tensor, logit_scale: float) -> LossSum:
    """Cross-entropy of the next token where one is learnt.

    Logits are made only there and a chunk at a time: with Aya's 256,000 words the logits of all positions are what users
    run out of memory on.
    """
    targets_S = supervised.targets_S
    positions = max(1, CHUNK // len(head_VE))
    whole = len(targets_S) <= positions
    chunks = zip(torch.split(hidden_SE, positions), torch.split(targets_S, positions), strict=True)
    losses = []
    for hidden_chunk, target_chunk in chunks:
        arguments = (hidden_chunk, target_chunk, head_VE, logit_scale)
        losses.append(_losses(*arguments) if whole else checkpoint(_losses, *arguments, use_reentrant=False))
    loss_S = torch.cat(losses)
    languages_S = supervised.languages_S
    by_language = None if languages_S is None else _by_language(loss_S.detach(), languages_S)
    return LossSum(loss_S.sum(), torch.tensor(len(targets_S), device=targets_S.device), by_language)


def _losses(hidden_SE: Tensor, targets_S: Tensor, head_VE: Tensor, logit_scale: float) -> Tensor:
    logits_SV = functional.linear(hidden_SE, head_VE).float() * logit_scale
    return functional.cross_entropy(logits_SV, targets_S, reduction="none")


def _by_language(loss_S: Tensor, languages_S: Tensor) -> Tensor:
    sums_2L = loss_S.new_zeros(2, LANGUAGES + 1)
    places_S = languages_S % (LANGUAGES + 1)  # -1 becomes the last
    return sums_2L.index_add_(1, places_S, torch.stack([loss_S, torch.ones_like(loss_S)]))
