"""Four bits for the language model's linear layers (NF4 with double quantisation, arXiv 2305.14314).

What is quantised is decided by where a module hangs, never by its name: the linear layers of the decoder, and nothing
else. Tower, connector, norms and the tied table of words stay as they are.

The layers of one input (q, k, v, gate, up) are quantised as one: their blocks of 64 are what they would be alone, and
only then can they be read as one again, because the second quantisation has one offset for all that it is given.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from maya_core.model import MayaForConditionalGeneration

BLOCK = 64  # numbers that share a scale
NESTED_BLOCK = 256  # scales that share a scale
TILE_BYTES = 2**23  # of dequantised weights at a time: memory that an allocator keeps, instead of fresh pages each time
PANEL = 32  # rows that bitsandbytes' CPU kernel takes together
FEW_ROWS = 96  # up to here that kernel is faster than dequantising and multiplying

Group = list[tuple[nn.Module, str]]


def quantize(model: MayaForConditionalGeneration, *, device: str | torch.device) -> None:
    """Replace the decoder's linear layers by 4-bit ones on `device`, a group at a time; then move the rest there."""
    for group in four_bit_groups(model):
        linears = [getattr(owner, name) for owner, name in group]
        replace_group(group, [part.weight.detach() for part in linears], [part.bias for part in linears], device)
    model.to(device)


def four_bit_groups(model: MayaForConditionalGeneration) -> Iterator[Group]:
    """(owner, attribute) of every linear layer of the decoder; those of the same input together."""
    decoder: Any = model.get_decoder()
    for layer in decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        yield [
            (attention, "q_proj"),
            (attention, "k_proj"),
            (attention, "v_proj"),
            (mlp, "gate_proj"),
            (mlp, "up_proj"),
        ]
        yield [(attention, "o_proj")]
        yield [(mlp, "down_proj")]


def replace_group(
    group: Group, weights: Sequence[Tensor], biases: Sequence[Tensor | None], device: str | torch.device
) -> None:
    """Quantise the weights of a group on `device` and put 4-bit layers in their place."""
    from bitsandbytes.functional import quantize_4bit  # it takes seconds to import

    whole = torch.cat([weight.to(device) for weight in weights])
    data, state = quantize_4bit(whole, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
    row = 0
    for (owner, name), weight, bias in zip(group, weights, biases, strict=True):
        rows = slice(row, row := row + len(weight))
        part = (
            sliced(data, state, rows)
            if _is_whole_blocks(weight.shape)
            else quantize_4bit(whole[rows], blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
        )
        setattr(owner, name, four_bit_linear(part[0], part[1], bias))


def four_bit_linear(data: Tensor, state: Any, bias: Tensor | None) -> nn.Linear:
    """bitsandbytes' layer over weights that are quantised already."""
    import bitsandbytes as bnb

    rows, columns = state.shape
    layer: nn.Linear = bnb.nn.Linear4bit(
        columns,
        rows,
        bias=bias is not None,
        compute_dtype=torch.bfloat16,  # its default would compute in float32
        compress_statistics=state.nested,
        quant_type="nf4",
        device="meta",
    )
    layer.weight = bnb.nn.Params4bit(
        data,
        requires_grad=False,
        quant_state=state,
        blocksize=state.blocksize,
        compress_statistics=state.nested,
        quant_type="nf4",
        bnb_quantized=True,
        module=layer,
    )
    layer.quant_state = state
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().to(data.device), requires_grad=False)
    return layer


def is_four_bit(layer: Any) -> bool:
    """Whether this is a 4-bit layer as it is stored, which no forward pass has repacked."""
    return type(layer).__name__ == "Linear4bit" and not getattr(
        layer.weight.quant_state, "packing_format_for_cpu", False
    )


# --- parts of a quantised matrix ---


def _is_whole_blocks(shape: torch.Size) -> bool:
    """Whether a matrix fills blocks of scales, so that it can be cut from and joined to others without a change."""
    return shape.numel() % (BLOCK * NESTED_BLOCK) == 0


def sliced(data: Tensor, state: Any, rows: slice) -> tuple[Tensor, Any]:
    """Some rows of a quantised matrix; they share its memory."""
    columns = state.shape[1]

    def cut(tensor: Tensor, numbers_each: int) -> Tensor:
        return tensor[rows.start * columns // numbers_each : rows.stop * columns // numbers_each]

    part, part.state2 = copy(state), copy(state.state2)
    part.shape = torch.Size([rows.stop - rows.start, columns])
    part.absmax = cut(state.absmax, BLOCK)
    part.state2.absmax = cut(state.state2.absmax, BLOCK * NESTED_BLOCK)
    return cut(data, 2), part


def join_four_bit(layers: Sequence[Any]) -> Callable[[Tensor], Tensor] | None:
    """One projection for several 4-bit layers of the same input, whose weights become views of it; None where their
    shapes or kinds do not allow it."""
    if not all(is_four_bit(layer) for layer in layers):
        return None
    states = [layer.weight.quant_state for layer in layers]
    fits_kernel = all(rows % PANEL == 0 and columns % BLOCK == 0 for rows, columns in (state.shape for state in states))
    if not fits_kernel or len({layer.bias is None for layer in layers}) > 1:
        return None
    data = torch.cat([layer.weight.data for layer in layers])
    parts = torch.split(data, [len(layer.weight.data) for layer in layers])
    for layer, part in zip(layers, parts, strict=True):
        layer.weight.data = part
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    kind = FourBitOnCPU if data.device.type == "cpu" else FourBit
    return kind(data, _joined_state(states), bias)


def _joined_state(states: Sequence[Any]) -> Any:
    """The state of matrices that lie one below the other: nested where they were quantised as one, else plain."""
    from bitsandbytes.functional import dequantize_blockwise

    whole = copy(states[0])
    whole.shape = torch.Size([sum(state.shape[0] for state in states), states[0].shape[1]])
    if all(state.nested and _is_whole_blocks(state.shape) and state.offset == whole.offset for state in states):
        whole.absmax = torch.cat([state.absmax for state in states])
        whole.state2 = copy(whole.state2)
        whole.state2.absmax = torch.cat([state.state2.absmax for state in states])
        return whole
    scales = [
        dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
        for state in states
    ]
    whole.absmax, whole.nested, whole.state2, whole.offset = torch.cat(scales).float(), False, None, None
    return whole


# --- products ---


class FourBit:
    """A 4-bit projection on a GPU, by bitsandbytes' own kernels."""

    def __init__(self, data: Tensor, state: Any, bias: Tensor | None) -> None:
        self.data, self.state, self.bias = data, state, bias

    def __call__(self, inputs: Tensor) -> Tensor:
        from bitsandbytes import matmul_4bit

        product: Tensor = matmul_4bit(inputs, self.data, self.state, bias=self.bias)
        return product


class FourBitOnCPU:
    """A 4-bit projection on the CPU, in bfloat16 as bitsandbytes does it.

    Few rows go through its kernel, for which the weights are kept in that kernel's order; many are multiplied by tiles of
    dequantised weights. Where the processor has no such kernel all are.
    """

    def __init__(self, data: Tensor, state: Any, bias: Tensor | None) -> None:
        from bitsandbytes.functional import _convert_weight_packed_for_cpu, dequantize_blockwise, has_avx512bf16

        rows, columns = state.shape
        self.shape, self.code, self.bias = state.shape, state.code, bias
        self.data_NK = data.view(rows, columns // 2)
        scales = state.absmax
        if state.nested:
            scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
        self.scales_NS = scales.view(rows, columns // BLOCK).bfloat16()  # as the kernel reads them
        self.tile = max(PANEL, TILE_BYTES // (2 * columns) // PANEL * PANEL)
        self.packed = _convert_weight_packed_for_cpu(data, copy(state)) if has_avx512bf16() else None

    def __call__(self, inputs: Tensor) -> Tensor:
        flat_MK = inputs.reshape(-1, inputs.shape[-1]).bfloat16()
        product_MN = self._by_kernel(flat_MK) if self.packed and len(flat_MK) <= FEW_ROWS else self._by_tiles(flat_MK)
        if self.bias is not None:
            product_MN = product_MN + self.bias
        return product_MN.to(inputs.dtype).view(*inputs.shape[:-1], -1)

    def _by_kernel(self, flat_MK: Tensor) -> Tensor:
        assert self.packed is not None
        packed, state = self.packed
        product: Tensor = torch.ops.bitsandbytes.gemv_4bit(flat_MK, packed, self.shape, state.absmax, self.code, BLOCK)
        return product

    def _by_tiles(self, flat_MK: Tensor) -> Tensor:
        rows, columns = self.shape
        product_MN = flat_MK.new_empty(len(flat_MK), rows)
        for start in range(0, rows, self.tile):
            some = slice(start, start + self.tile)
            data, scales = self.data_NK[some], self.scales_NS[some].float().view(-1)
            weight_NK = torch.ops.bitsandbytes.dequantize_4bit(
                data.reshape(-1, 1), scales, BLOCK, "nf4", (len(data), columns), torch.bfloat16
            )
            product_MN[:, some] = linear(flat_MK, weight_NK)
        return product_MN
