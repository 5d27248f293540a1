"""The language model as it answers: the model's own weights, without what an answer does not need.

    norm -> [q k v gate up] in one product -> rotate q, k -> look at keys and values -> o
                                           -> act(gate) * up -> down                       -> add all

Cohere's attention and feed-forward part read the same input, so a layer is three products. Keys and values lie in one
piece of memory that is kept between turns. The model's modules share the joined weights and go on working.

Shape letters: B rows, T new positions, S columns of the cache, E width, H heads, K key-value heads, G = H / K, D head
width, X all that a layer's first product gives, V vocabulary. Of pictures: I pictures, N visual tokens, D vision width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, pad, scaled_dot_product_attention
from transformers import CohereConfig
from transformers.models.cohere.modeling_cohere import CohereDecoderLayer

from maya_core.hardware import GIB
from maya_core.model.attention import rotated, rotation
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.progress import OnProgress, untold
from maya_core.weights.quantization import FourBitHead, is_four_bit, join_four_bit, reads_table_in_four_bits

BUCKET = 256  # columns by which a cache grows at least
TABLE = 0.5  # share of the time in which a 4-bit model is made ready that bringing its table to four bits takes
HELD_TWICE = 4 * GIB  # most bytes of weights of which a second copy is kept for speed

Projection = Callable[[Tensor], Tensor]


class KeyValues:
    """Keys and values of `length` columns, with room for more; both (layers, B, K, S, D).

    gallery: what a connector keeps of the pictures, for layers that look at them. steps: what was recorded on this memory.
    """

    def __init__(self, config: CohereConfig, rows: int, *, dtype: torch.dtype, device: torch.device) -> None:
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, 0, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0
        self.gallery: Any = None
        self.steps: Any = None

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def reserve(self, columns: int) -> None:
        """Room for `columns` in all; what is there stays."""
        if columns > self.capacity:
            more = -(-columns // BUCKET) * BUCKET - self.capacity
            # zeros: what is not a number would, even unseen, spoil what is
            self.keys, self.values = pad(self.keys, (0, 0, 0, more)), pad(self.values, (0, 0, 0, more))

    def get_seq_length(self) -> int:
        """As transformers' caches say it."""
        return self.length


class Decoder:
    """The language model of `model`, as a plain loop over its layers. Build it again where weights were replaced."""

    reads_rows = True  # several conversations at once

    def __init__(
        self, model: MayaForConditionalGeneration, *, eight_bits: bool = True, on_progress: OnProgress = untold
    ) -> None:
        """eight_bits: keep a copy of 4-bit layers in eight bits where that is faster. on_progress: told which share of it is
        made."""
        decoder: Any = model.get_decoder()
        self.model = model
        self.config = model.config.text
        self.blocks = model.connector.blocks_before(len(decoder.layers))
        packed = _is_packing_worth_it(model.language_model)
        table = model.language_model.lm_head.weight
        four_bits = is_four_bit(decoder.layers[0].mlp.down_proj) and reads_table_in_four_bits(
            table.device.type, table.numel()
        )
        of_head = TABLE if four_bits else 0.0
        project = partial(joined, packed=packed, eight_bits=eight_bits)
        self.head: Projection = (
            FourBitHead(table.detach(), lambda share: on_progress(share * of_head))
            if four_bits
            else project([model.language_model.lm_head])
        )
        self.layers = []
        for number, layer in enumerate(decoder.layers):
            on_progress(of_head + (1 - of_head) * number / len(decoder.layers))
            self.layers.append(Layer(layer, self.config, project))
        self.rotary_emb = decoder.rotary_emb
        self.norm = decoder.norm

    @property
    def looks(self) -> bool:
        """Whether layers look at the pictures too, which steps that are recorded cannot."""
        return any(block is not None for block in self.blocks)

    def new_cache(self, rows: int) -> KeyValues:
        return KeyValues(self.config, rows, dtype=self.model.dtype, device=self.model.device)

    def read(
        self,
        ids_BT: Tensor,
        features_IND: Tensor | None,
        cache: KeyValues,
        *,
        may_look_BS: Tensor | None = None,
        on_progress: OnProgress = untold,
    ) -> Tensor:
        """New ids with the pictures in them -> scores (B, V) of what comes next. may_look_BS, on_progress: as in a call."""
        start, end = cache.length, cache.length + ids_BT.shape[1]
        if may_look_BS is None:
            position_BT = torch.arange(start, end, device=ids_BT.device)[None]
        else:
            position_BT = (may_look_BS.cumsum(-1) - 1).clamp(min=0)[:, start:]
        inputs = self.model.decoder_inputs(ids_BT, features_IND, cache)
        embeds_BTE = inputs.pop("inputs_embeds")
        return self(embeds_BTE, position_BT, cache, may_look_BS=may_look_BS, beside=inputs, on_progress=on_progress)

    def __call__(
        self,
        embeds_BTE: Tensor,
        position_BT: Tensor,
        cache: KeyValues,
        *,
        may_look_BS: Tensor | None = None,
        beside: dict[str, Any] | None = None,
        on_progress: OnProgress = untold,
    ) -> Tensor:
        """New positions -> scores (B, V) of the token after the last one; the cache grows by T columns.

        may_look_BS: false at columns of padding, where there are any. beside: what the connector gives with pictures.
        on_progress: told which share of the layers has read them; where it raises, the cache is as it was.
        """
        start, end = cache.length, cache.length + embeds_BTE.shape[1]
        cache.reserve(end)
        rotation_BT1C = self.rotation(embeds_BTE, position_BT)
        mask = attention_mask(start, end, may_look_BS, embeds_BTE.device)
        sight = self.model.connector.sight(embeds_BTE, position_BT, cache, beside or {})
        hidden_BTE = embeds_BTE
        for number, layer in enumerate(self.layers):
            on_progress(number / len(self.layers))
            if sight is not None and (block := self.blocks[number]) is not None:
                hidden_BTE = block(hidden_BTE, sight)
            kept = (cache.keys[number, :, :, :end], cache.values[number, :, :, :end])
            hidden_BTE = layer(hidden_BTE, rotation_BT1C, *kept, slice(start, end), mask)
        cache.length = end
        return self.scores(hidden_BTE[:, -1])

    def scores(self, last_BE: Tensor) -> Tensor:
        """What the last layer gave for the last position -> scores (B, V) of the token after it."""
        scores_BV: Tensor = self.head(self.norm(last_BE)) * self.config.logit_scale
        return scores_BV

    def rotation(self, embeds_BTE: Tensor, position_BT: Tensor) -> Tensor:
        """(B, T, 1, D/2) complex, as `attention.rotation` gives it."""
        return rotation(*self.rotary_emb(embeds_BTE, position_BT))


class Layer:
    """One decoder layer; the order of its operations is that of the module's own forward."""

    def __init__(
        self, layer: CohereDecoderLayer, config: CohereConfig, project: Callable[[Sequence[nn.Linear]], Projection]
    ) -> None:
        """project: makes one projection of several, as `joined`."""
        attention, mlp = layer.self_attn, layer.mlp
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = attention.head_dim
        self.norm = layer.input_layernorm
        self.width = (self.norm.weight.numel(),)
        self.act = mlp.act_fn
        of_input = [attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj]
        self.inward = project(of_input)
        self.o_proj, self.down_proj = (project([part]) for part in (attention.o_proj, mlp.down_proj))
        self.qk_norms = (attention.q_norm, attention.k_norm) if config.use_qk_norm else None
        looking = (self.heads + self.key_heads) * self.head_dim
        self.sizes = [looking, self.key_heads * self.head_dim, mlp.intermediate_size, mlp.intermediate_size]

    def __call__(
        self,
        hidden_BTE: Tensor,
        rotation_BT1C: Tensor,
        keys_BKSD: Tensor,
        values_BKSD: Tensor,
        columns: slice | Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E). columns: which T of the S columns of keys and values are the new ones, and written."""
        rows, new, _ = hidden_BTE.shape
        normed_BTE = layer_norm(hidden_BTE, self.width, self.norm.weight, None, self.norm.variance_epsilon)
        looking_BTX, value_BTX, gate_BTX, up_BTX = torch.split(self.inward(normed_BTE), self.sizes, dim=-1)
        looking_BTHD = looking_BTX.view(rows, new, self.heads + self.key_heads, self.head_dim)
        if self.qk_norms is not None:
            pair = torch.split(looking_BTHD, [self.heads, self.key_heads], dim=2)
            looking_BTHD = torch.cat([norm(part) for norm, part in zip(self.qk_norms, pair, strict=True)], dim=2)
        looking_BTHD = rotated(looking_BTHD, rotation_BT1C)
        query_BTHD, key_BTKD = torch.split(looking_BTHD, [self.heads, self.key_heads], dim=2)
        value_BTKD = value_BTX.view(rows, new, self.key_heads, self.head_dim)
        for kept_BKSD, new_BTKD in ((keys_BKSD, key_BTKD), (values_BKSD, value_BTKD)):
            if isinstance(columns, slice):
                kept_BKSD[:, :, columns] = new_BTKD.transpose(1, 2)
            else:
                kept_BKSD.index_copy_(2, columns, new_BTKD.transpose(1, 2))
        seen_BTX = attended(query_BTHD, keys_BKSD, values_BKSD, mask)
        return hidden_BTE + self.o_proj(seen_BTX) + self.down_proj(self.act(gate_BTX) * up_BTX)


# --- the parts of a layer ---


def attended(query_BTHD: Tensor, keys_BKSD: Tensor, values_BKSD: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T, H x D). One new token is, for each key-value head, a query of G rows, which no key needs repeating for."""
    rows, new, heads, head_dim = query_BTHD.shape
    if new == 1:
        query_BKGD = query_BTHD.view(rows, keys_BKSD.shape[1], -1, head_dim)
        return scaled_dot_product_attention(query_BKGD, keys_BKSD, values_BKSD, mask).reshape(rows, 1, -1)
    seen_BHTD = scaled_dot_product_attention(
        query_BTHD.transpose(1, 2), keys_BKSD, values_BKSD, mask, is_causal=mask is None, enable_gqa=True
    )
    return seen_BHTD.transpose(1, 2).reshape(rows, new, heads * head_dim)


def attention_mask(start: int, end: int, may_look_BS: Tensor | None, device: torch.device) -> Tensor | None:
    """(B or 1, 1, T, S), true where a position may look; None where all may look at all before them, which is faster.

    A position may always look at itself: softmax over nothing is not a number, and one that is padding is read by none.
    """
    new = end - start
    if may_look_BS is None and (new == 1 or start == 0):
        return None
    column_S = torch.arange(end, device=device)
    column_T1 = column_S[start:, None]
    may_look = column_T1 >= column_S
    if may_look_BS is not None:
        may_look = may_look & may_look_BS[:, None, :] | (column_T1 == column_S)
        return may_look[:, None]
    return may_look[None, None]


# --- projections ---


def joined(linears: Sequence[nn.Linear], *, packed: bool, eight_bits: bool) -> Projection:
    """One projection for several of the same input, their outputs one behind the other.

    packed: keep a copy of the weights in the order that the CPU's bfloat16 kernel wants. eight_bits: as in `join_four_bit`.
    """
    if all(type(part) is nn.Linear for part in linears) and len({part.bias is None for part in linears}) == 1:
        weight = _shared([part.weight for part in linears])
        biases = [part.bias for part in linears if part.bias is not None]
        bias = _shared(biases) if biases else None
        if packed:
            return partial(_packed_linear, packed_weight=torch.ops.mkldnn._reorder_linear_weight(weight, 1), bias=bias)
        return lambda inputs: linear(inputs, weight, bias)
    four_bit = join_four_bit(linears, eight_bits=eight_bits)
    return four_bit or (lambda inputs: torch.cat([part(inputs) for part in linears], dim=-1))


def _packed_linear(inputs: Tensor, packed_weight: Tensor, bias: Tensor | None) -> Tensor:
    """torch's own `linear` reorders the weights at each call, which for one row takes longer than the product."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed_weight, bias, "none", [], "")
    return product


def packs_on(device: str, dtype: torch.dtype) -> bool:
    """Whether weights in the kernel's own order are faster there; measured where processors have AVX-512."""
    has_kernel = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch._C._has_mkldnn
    return has_kernel and device == "cpu" and dtype == torch.bfloat16


def _is_packing_worth_it(language_model: nn.Module) -> bool:
    """Whether the plain weights are such as the kernel takes, and few enough to be held twice."""
    weights = [part.weight for part in language_model.modules() if type(part) is nn.Linear]
    return (
        all(packs_on(weight.device.type, weight.dtype) for weight in weights)
        and sum(weight.nbytes for weight in weights) <= HELD_TWICE
    )


def _shared(parts: Sequence[Tensor]) -> Tensor:
    """The parts in one piece of memory, which they are views of from now on."""
    if len(parts) == 1:
        return parts[0].detach()
    whole = torch.cat([part.detach() for part in parts])
    for part, view in zip(parts, torch.split(whole, [len(part) for part in parts]), strict=True):
        part.data = view
    return whole
