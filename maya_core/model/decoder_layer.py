"""Cohere's decoder layer as it learns: without what no loss asks for.

Of the last layer only supervised positions are read, so that only they pass its output projection and feed-forward part:
with a picture of 256 tokens and an answer of 30, a tenth. Norm, rotation and gate are one operation each, where
transformers' own are up to eight, each of which keeps its input for the gradients.

Shape letters: B rows, T positions, S supervised positions, E width, H heads, K key-value heads, D head width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import layer_norm, silu
from transformers.activations import SiLUActivation
from transformers.models.cohere.modeling_cohere import CohereDecoderLayer, CohereLayerNorm, CohereMLP

from maya_core.model.attention import rotated, rotation, unpadded_attention


def as_ours(decoder: nn.Module) -> None:
    """The layers of transformers' decoder become `DecoderLayer`s; their parameters, and the names of these, stay."""
    for layer in decoder.get_submodule("layers").children():
        layer.__class__ = DecoderLayer


class DecoderLayer(CohereDecoderLayer):
    """transformers' layer to the bit, until it is given `supervised`."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_embeddings: tuple[Tensor, Tensor],
        supervised: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E), or of the last layer (1, S, E) where positions `supervised` (S,) are given."""
        if supervised is not None:
            return self._forward_to(supervised, hidden_states, attention_mask, position_embeddings, **options)
        whole: Tensor = super().forward(
            hidden_states, attention_mask, position_embeddings=position_embeddings, **options
        )
        return whole

    def _forward_to(
        self,
        supervised_S: Tensor,
        hidden_BTE: Tensor,
        attention_mask: Tensor | None,
        position_embeddings: tuple[Tensor, Tensor],
        *,
        sequence_starts: Tensor | None = None,
        longest: int | None = None,
        **_: Any,
    ) -> Tensor:
        attention = self.self_attn
        normed_BTE = _normed(hidden_BTE, self.input_layernorm)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        query_BTHD, key_BTKD, value_BTKD = (
            project(normed_BTE).unflatten(-1, (-1, attention.head_dim)) for project in projections
        )
        if attention.use_qk_norm:
            query_BTHD, key_BTKD = attention.q_norm(query_BTHD), attention.k_norm(key_BTKD)
        turn_BT1C = rotation(*position_embeddings)
        seen_BTHD, _weights = unpadded_attention(
            attention,
            rotated(query_BTHD, turn_BT1C).transpose(1, 2),
            rotated(key_BTKD, turn_BT1C).transpose(1, 2),
            value_BTKD.transpose(1, 2),
            attention_mask,
            sequence_starts=sequence_starts,
            longest=longest,
            scaling=attention.scaling,
        )
        seen_BTX = seen_BTHD.flatten(2)
        if attention.layer_idx == attention.config.num_hidden_layers - 1:
            hidden_BTE, normed_BTE, seen_BTX = (
                tensor.flatten(0, 1)[None, supervised_S] for tensor in (hidden_BTE, normed_BTE, seen_BTX)
            )
        learnt: Tensor = hidden_BTE + attention.o_proj(seen_BTX) + _fed_forward(normed_BTE, self.mlp)
        return learnt


def _normed(hidden: Tensor, norm: CohereLayerNorm) -> Tensor:
    """Computed in float32; given in what products are computed in, so that the five that read it share one copy."""
    weight, device = norm.weight.float(), hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return layer_norm(hidden.float(), weight.shape, weight, None, norm.variance_epsilon).to(dtype)


def _fed_forward(normed: Tensor, mlp: CohereMLP) -> Tensor:
    if not isinstance(mlp.act_fn, SiLUActivation):
        other: Tensor = mlp(normed)
        return other
    gated = _SiLUGate.apply(mlp.gate_proj(normed), mlp.up_proj(normed))  # type: ignore[no-untyped-call]
    fed: Tensor = mlp.down_proj(gated)
    return fed


class _SiLUGate(torch.autograd.Function):
    """silu(gate) * up, which keeps nothing but the two: silu(gate) is made again, as it costs less than it takes to hold."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_gate = gradient * up
        torch.ops.aten.silu_backward(of_gate, gate, grad_input=of_gate)
        return of_gate, silu(gate).mul_(gradient)
