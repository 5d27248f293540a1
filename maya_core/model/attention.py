"""Attention over conversations that lie one behind the other without padding, each of which sees itself alone; and the
rotation of queries and keys.

Registered with transformers as `unpadded`: given `sequence_starts` it is that, without them it is transformers' own
`sdpa`. Padding is work that nobody asked for: with answers of one word beside answers of a page it is most of a batch.

Shape letters: B batch, H heads, K key-value heads, T positions, D head width, C = D / 2 pairs, S conversations.
"""

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

UNPADDED = "unpadded"
LONGEST_OF_PAIRS = 1024  # positions, whose pairs are kept for the gradients on a CPU
# torch 2.10 says is_causal, later versions give a window; before 2.12 every head needs keys of its own
_ARGUMENTS = inspect.signature(varlen_attn).parameters
_IS_GROUPED = "enable_gqa" in _ARGUMENTS
_OPTIONS: Any = ({"window_size": (-1, 0)} if "window_size" in _ARGUMENTS else {"is_causal": True}) | (
    {"enable_gqa": True} if _IS_GROUPED else {}
)


def unpadded_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BKTD: Tensor,
    value_BKTD: Tensor,
    attention_mask: Tensor | None,
    *,
    sequence_starts: Tensor | None = None,
    longest: int | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Causal attention within each of S conversations; (1, T, H, D).

    sequence_starts: (S + 1,) int32, where each begins and, last, T. longest: tokens of the longest, which the CPU knows.
    """
    if sequence_starts is None:
        is_short = query_BHTD.shape[2] <= LONGEST_OF_PAIRS
        if attention_mask is not None and query_BHTD.device.type == "cpu" and query_BHTD.requires_grad and is_short:
            return _by_products(query_BHTD, key_BKTD, value_BKTD, attention_mask), None
        output: tuple[Tensor, Tensor | None] = sdpa_attention_forward(
            module, query_BHTD, key_BKTD, value_BKTD, attention_mask, **options
        )
        return output
    if query_BHTD.is_cuda and query_BHTD.dtype in (torch.bfloat16, torch.float16):
        assert longest is not None
        return _by_kernel(query_BHTD, key_BKTD, value_BKTD, sequence_starts, longest), None
    return _one_by_one(query_BHTD, key_BKTD, value_BKTD, sequence_starts), None


def _by_products(query_BHTD: Tensor, key_BKTD: Tensor, value_BKTD: Tensor, visible_B1TT: Tensor) -> Tensor:
    """(B, T, H, D). Where all pairs fit into memory their products take a third of the time that torch's kernel for CPUs
    takes forwards and backwards, which skips nothing that a mask hides."""
    rows, heads, length, width = query_BHTD.shape
    with torch.autocast("cpu", enabled=False):  # it would make the softmax, the largest part, in float32
        query_BKGTD = query_BHTD.reshape(rows, key_BKTD.shape[1], -1, length, width) * width**-0.5
        scores_BKGTT = query_BKGTD @ key_BKTD[:, :, None].transpose(-1, -2)
        weights_BKGTT = scores_BKGTT.masked_fill(~visible_B1TT[:, :, None], -math.inf).softmax(-1)
        seen_BHTD: Tensor = (weights_BKGTT @ value_BKTD[:, :, None]).reshape(rows, heads, length, width)
    return seen_BHTD.transpose(1, 2)


def _one_by_one(query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, sequence_starts: Tensor) -> Tensor:
    lengths = sequence_starts.diff().tolist()
    # split, not sliced: the gradient of each slice would be a tensor of all T positions
    split = (torch.split(tensor, lengths, dim=2) for tensor in (query_1HTD, key_1KTD, value_1KTD))
    outputs = [
        scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        for query, key, value in zip(*split, strict=True)
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2)


def _by_kernel(
    query_1HTD: Tensor, key_1KTD: Tensor, value_1KTD: Tensor, sequence_starts: Tensor, longest: int
) -> Tensor:
    if not _IS_GROUPED:
        groups = query_1HTD.shape[1] // key_1KTD.shape[1]
        key_1KTD, value_1KTD = (tensor.repeat_interleave(groups, dim=1) for tensor in (key_1KTD, value_1KTD))
    query_THD, key_TKD, value_TKD = (tensor[0].transpose(0, 1) for tensor in (query_1HTD, key_1KTD, value_1KTD))
    limits = (sequence_starts, sequence_starts, longest, longest)
    output_THD = varlen_attn(query_THD, key_TKD, value_TKD, *limits, **_OPTIONS)
    assert isinstance(output_THD, Tensor)
    return output_THD[None]


AttentionInterface.register(UNPADDED, unpadded_attention)
AttentionMaskInterface.register(UNPADDED, sdpa_mask)


def no_mask(like: Tensor) -> Tensor:
    """What to pass as attention_mask with `sequence_starts`: transformers leaves a mask of four dimensions as it is,
    and without one would build (T, T) of it."""
    return torch.empty(1, 1, 0, 0, dtype=torch.bool, device=like.device)


# --- rotation (arXiv 2104.09864) ---


def rotation(cos_BTD: Tensor, sin_BTD: Tensor) -> Tensor:
    """What Cohere's rotary embedding gives -> (B, T, 1, C) complex: the turn of each pair of neighbours at each position."""
    return torch.complex(cos_BTD[..., ::2].float(), sin_BTD[..., ::2].float())[:, :, None]


def rotated(looking_BTHD: Tensor, rotation_BT1C: Tensor) -> Tensor:
    """Each pair of neighbours turned, in float32, as Cohere does it."""
    pairs = torch.view_as_complex(looking_BTHD.float().view(*looking_BTHD.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation_BT1C).flatten(-2).to(looking_BTHD.dtype)
