"""Four bits for the language model's linear layers (NF4 with double quantisation, arXiv 2305.14314).

What is quantised is decided by where a module hangs, never by its name: the linear layers of the decoder, and nothing
else. Tower, connector, norms and the tied table of words stay as they are.

The layers of one input (q, k, v, gate, up) are quantised as one: their blocks of 64 are what they would be alone, and
only then can they be read as one again, because the second quantisation has one offset for all that it is given.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from copy import copy
from functools import cache, partial
from itertools import accumulate, pairwise
from subprocess import CalledProcessError
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear

from maya_core.errors import CheckpointMismatch
from maya_core.hardware import has_bfloat16
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.progress import OnProgress, untold

BLOCK = 64  # numbers that share a scale
NESTED_BLOCK = 256  # scales that share a scale
TILE_BYTES = 2**23  # of dequantised weights at a time: memory that an allocator keeps, instead of fresh pages each time
PANEL = 32  # rows that bitsandbytes' CPU kernel takes together
FEW_ROWS = 96  # up to here that kernel is faster than dequantising and multiplying
FEW_ROWS_BESIDE_AMX = 16  # where the processor multiplies tiles of bfloat16 by itself
FEW_IN_BFLOAT16 = 4  # up to here a CPU without bfloat16 instructions is not slower in it: memory is what takes the time
FEW_IN_EIGHT_BITS = 12  # up to here torch's 8-bit kernel is faster than a product in float32
NUMBERS_TO_EIGHT_BITS = 2**19  # at once: they stay in the processor's memory
ANY_NUMBER = 2**31
CANDIDATES = 128  # words whose scores are taken from the table itself
MOST_COLUMNS = 2**15  # of a matrix on a GPU, of which our kernel holds a row in registers
LARGE_TABLE = 2**27  # numbers; the table of a smaller one costs little beside the layers
NUMBERS_AT_ONCE = 2**22  # that are quantised: bitsandbytes takes 34 bytes of memory for each
NUMBERS_IN_CACHE = 2**18  # that a thread quantises at once on the CPU; of fewer, threads wait for one another
SEVERAL = 255  # no code: numbers that begin with these bits have several

PARTS = 6  # tensors of a quantised matrix in a file: data, scales, their scales, two tables, and what is no tensor
# what config.json says of such a checkpoint, in transformers' words
QUANTIZATION_CONFIG: dict[str, Any] = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "llm_int8_skip_modules": ["vision_tower", "connector", "language_model.lm_head"],
}

# bitsandbytes says, as it is imported, that one kernel of its kinds is not here; `FourBitOnCPU` has no need of it
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")
)

Quantization = Literal["nf4"]
Group = list[tuple[nn.Module, str]]
Product = Callable[[Tensor, Tensor, Tensor], Tensor]

log = logging.getLogger(__name__)


def quantize(model: MayaForConditionalGeneration, *, device: str | torch.device) -> None:
    """Replace the decoder's linear layers by 4-bit ones on `device`, a group at a time; then move the rest there."""
    model.config.quantization_config = dict(QUANTIZATION_CONFIG)
    for group in four_bit_groups(model):
        linears = [getattr(owner, name) for owner, name in group]
        if any(is_four_bit(part) for part in linears):
            continue
        for place, part, (data, state) in zip(
            group, linears, quantized([p.weight for p in linears], device), strict=True
        ):
            put_weight(emptied(place, part), data, state)
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


def quantized(
    weights: Sequence[Tensor], device: str | torch.device, on_progress: OnProgress = untold
) -> list[tuple[Tensor, Any]]:
    """Weights of the same input, quantised as one where their shapes allow it: data and bitsandbytes' state of each.

    on_progress: told which share is done, where that is known; what it raises ends it.
    """
    weights = [weight.detach() for weight in weights]
    if len(weights) == 1 or not all(_is_whole_blocks(weight.shape) for weight in weights):
        return [_quantized([weight], device, on_progress) for weight in weights]
    data, state = _quantized(weights, device, on_progress)
    ends = list(accumulate(len(weight) for weight in weights))
    return [sliced(data, state, slice(*rows)) for rows in pairwise([0, *ends])]


def _quantized(
    weights: Sequence[Tensor], device: str | torch.device, on_progress: OnProgress = untold
) -> tuple[Tensor, Any]:
    """What bitsandbytes makes of the weights one below the other; a few rows at a time, because it takes many times their
    memory."""
    from bitsandbytes.functional import (  # they take seconds to import
        QuantState,
        get_4bit_type,
        quantize_4bit,
        quantize_blockwise,
    )

    columns = weights[0].shape[1]
    is_ours = torch.device(device).type == "cpu" and columns % BLOCK == 0
    at_once = NUMBERS_IN_CACHE if is_ours else NUMBERS_AT_ONCE
    rows = max(1, at_once // columns) if columns % BLOCK == 0 else len(weights[0])
    numbers = sum(weight.numel() for weight in weights)
    data = torch.empty(-(-numbers // 2), 1, dtype=torch.uint8, device=device)
    scales = torch.empty(-(-numbers // BLOCK), device=device)
    pieces = [some for weight in weights for some in torch.split(weight, rows)]

    starts = accumulate((some.numel() for some in pieces), initial=0)
    if is_ours:
        fill = partial(_fill_nf4, data.numpy(), scales.numpy())
        with ThreadPoolExecutor(torch.get_num_threads()) as workers:
            filled: Any = workers.map(fill, starts, pieces)
            with closing(filled):  # what is not begun is given up where `on_progress` raises
                for number, _ in enumerate(filled, start=1):
                    on_progress(number / len(pieces))
    else:
        for at, some in zip(starts, pieces, strict=False):
            some_data, some_state = quantize_4bit(
                some.to(device, torch.bfloat16), blocksize=BLOCK, compress_statistics=False, quant_type="nf4"
            )
            data[at // 2 :][: len(some_data)] = some_data
            scales[at // BLOCK :][: len(some_state.absmax)] = some_state.absmax
    offset = scales.mean()
    absmax, state2 = quantize_blockwise(scales - offset, blocksize=NESTED_BLOCK)
    state = QuantState(
        absmax=absmax,
        shape=torch.Size([sum(map(len, weights)), columns]),
        code=get_4bit_type("nf4", device=device),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=torch.bfloat16,
        offset=offset,
        state2=state2,
    )
    return data, state


def _fill_nf4(data: NDArray[np.uint8], scales: NDArray[np.float32], at: int, weight: Tensor) -> None:
    """Bring a piece of a matrix to four bits, bit for bit as bitsandbytes does in ten times as long. at: how many numbers
    come before it. By numpy, none of whose threads waits for another."""
    bits = weight.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16).reshape(-1, BLOCK)
    largest = (bits & 0x7FFF).max(-1)  # without signs, larger numbers have larger bits
    some_scales = (largest.astype(np.uint32) << 16).view(np.float32)
    numbers = (bits.astype(np.uint32) << 16).view(np.float32)
    numbers *= (1 / np.maximum(some_scales, np.float32(1e-38)))[:, None]
    codes = np.take(_codes(), numbers.view(np.uint16).reshape(-1)[1::2])
    several = np.flatnonzero(codes == SEVERAL)
    codes[several] = _exceeded(numbers.reshape(-1)[several])
    pairs = codes.view(np.uint16)  # the first in the lower byte
    data[at // 2 :][: len(pairs), 0] = (pairs << 4) | (pairs >> 8)
    scales[at // BLOCK :][: len(some_scales)] = some_scales


@cache
def _codes() -> NDArray[np.uint8]:
    """For the upper 16 bits of a float32 its code, where that is the same whatever the lower bits are."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    least, most = (_exceeded(bits.view(np.float32)) for bits in (upper, upper | 0xFFFF))
    return np.where(least == most, least, np.uint8(SEVERAL))


def _exceeded(numbers: NDArray[np.float32]) -> NDArray[np.uint8]:
    """How many of the bounds between two codes are less than each number, which is its code."""
    from bitsandbytes.functional import get_4bit_type

    code = get_4bit_type("nf4", device="cpu").numpy()
    exceeded: NDArray[np.uint8] = (numbers[:, None] > (code[1:] + code[:-1]) / 2).sum(-1, dtype=np.uint8)
    return exceeded


def emptied(place: tuple[nn.Module, str], linear: nn.Linear) -> Any:
    """A 4-bit layer, still without weights, in the place of a linear one."""
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=torch.bfloat16,  # its default would compute in float32
        quant_type="nf4",
        device="meta",
    )
    layer.bias = linear.bias
    layer.requires_grad_(False)
    layer.eval()
    setattr(*place, layer)
    return layer


def put_weight(layer: Any, data: Tensor, state: Any) -> None:
    """Give a 4-bit layer weights that are quantised already."""
    import bitsandbytes as bnb

    layer.weight = bnb.nn.Params4bit(
        data,
        requires_grad=False,
        quant_state=state,
        blocksize=state.blocksize,
        compress_statistics=state.nested,
        quant_type=state.quant_type,
        bnb_quantized=True,
        module=layer,
    )
    layer.quant_state = state


def is_four_bit(layer: Any) -> bool:
    """Whether this is a 4-bit layer as it is stored, which no forward pass has repacked."""
    return type(layer).__name__ == "Linear4bit" and not getattr(
        layer.weight.quant_state, "packing_format_for_cpu", False
    )


def keep_as_stored(module: nn.Module) -> None:
    """Let no forward pass repack 4-bit layers for bitsandbytes' kernel on the CPU, as one without gradients does: no
    gradient goes through that kernel, so that what is below would learn no more once something was measured."""
    stored: list[Any] = [layer for layer in module.modules() if is_four_bit(layer)]
    for layer in stored:
        layer.support_avx512bf16_for_cpu = False


# --- checkpoints ---


def stored_parts(name: str, shape: Sequence[int]) -> dict[str, tuple[int, ...] | None]:
    """Shapes of the tensors that a file holds for a quantised matrix; None where it depends on words."""
    numbers = math.prod(shape)
    scales = -(-numbers // BLOCK)
    return {
        name: (-(-numbers // 2), 1),
        f"{name}.absmax": (scales,),
        f"{name}.nested_absmax": (-(-scales // NESTED_BLOCK),),
        f"{name}.quant_map": (16,),
        f"{name}.nested_quant_map": (256,),
        f"{name}.quant_state.bitsandbytes__nf4": None,
    }


def stored_bytes(shape: Sequence[int]) -> int:
    """About how many bytes of a file a quantised matrix takes."""
    numbers = math.prod(shape)
    return numbers // 2 + numbers // BLOCK + 4 * numbers // (BLOCK * NESTED_BLOCK) + 4 * (16 + 256) + 256


class Quantized(NamedTuple):
    """A matrix in four bits. data: (N, 1) bytes; state: bitsandbytes' scales."""

    data: Tensor
    state: Any

    @property
    def shape(self) -> torch.Size:
        shape: torch.Size = self.state.shape
        return shape


def assembled(
    tensors: Iterable[tuple[str, Tensor]], device: str | torch.device
) -> Iterator[tuple[str, Tensor | Quantized]]:
    """The tensors of a checkpoint, the quantised ones put together from their parts, as soon as all are there.

    Raises CheckpointMismatch where parts are missing.
    """
    from bitsandbytes.functional import QuantState

    waiting: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in tensors:
        whole, dot, _ = name.partition(".weight.")
        whole += ".weight" if dot else ""
        if not dot and tensor.dtype != torch.uint8:
            yield name, tensor
            continue
        waiting[whole][name] = tensor
        if len(waiting[whole]) == PARTS:
            parts = waiting.pop(whole)
            yield whole, Quantized(parts.pop(whole).to(device), QuantState.from_dict(parts, torch.device(device)))
    if waiting:
        raise CheckpointMismatch(f"{next(iter(waiting))} lacks some of its {PARTS} quantised parts; get a whole copy.")


def dequantized(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a quantised checkpoint in bfloat16."""
    from bitsandbytes.functional import dequantize_4bit

    for name, tensor in assembled(tensors, "cpu"):
        yield name, dequantize_4bit(*tensor) if isinstance(tensor, Quantized) else tensor


class FourBitWeights:
    """Puts 4-bit layers in a model that is to be loaded, and takes their weights one at a time, whole or quantised."""

    def __init__(self, model: MayaForConditionalGeneration, device: str | torch.device) -> None:
        model.config.quantization_config = dict(QUANTIZATION_CONFIG)
        self._device = device
        self._layers: dict[str, Any] = {}
        self._groups: dict[str, list[str]] = {}
        self._waiting: dict[str, Tensor] = {}
        paths = {module: path for path, module in model.named_modules()}
        for group in list(four_bit_groups(model)):
            linears = [getattr(owner, name) for owner, name in group]
            names = [f"{paths[part]}.weight" for part in linears]
            layers = [emptied(place, part) for place, part in zip(group, linears, strict=True)]
            self._layers |= dict(zip(names, layers, strict=True))
            self._groups |= dict.fromkeys(names, names)

    def __contains__(self, name: str) -> bool:
        return name in self._layers

    def take(self, name: str, weight: Tensor | Quantized) -> None:
        """A weight; quantised with those of the same input as soon as they are all there."""
        if isinstance(weight, Quantized):
            layer = self._layers[name]
            if weight.shape != (layer.out_features, layer.in_features):
                raise CheckpointMismatch(
                    f"{name} is {list(weight.shape)}, should be {[layer.out_features, layer.in_features]}; get a whole copy."
                )
            put_weight(layer, *weight)
            return
        self._waiting[name] = weight
        names = self._groups[name]
        if all(each in self._waiting for each in names):
            weights = [self._waiting.pop(each) for each in names]
            for each, (data, state) in zip(names, quantized(weights, self._device), strict=True):
                put_weight(self._layers[each], data, state)


# --- parts of a quantised matrix ---


def _is_whole_blocks(shape: torch.Size) -> bool:
    """Whether a matrix fills blocks of scales, so that it can be cut from and joined to others without a change."""
    return shape.numel() % (BLOCK * NESTED_BLOCK) == 0


def sliced(data: Tensor, state: Any, rows: slice) -> tuple[Tensor, Any]:
    """Some rows of a quantised matrix, in memory of their own."""
    columns = state.shape[1]

    def cut(tensor: Tensor, numbers_each: int) -> Tensor:
        return tensor[rows.start * columns // numbers_each : rows.stop * columns // numbers_each].clone()

    part, part.state2 = copy(state), copy(state.state2)
    part.shape = torch.Size([rows.stop - rows.start, columns])
    part.absmax, part.code = cut(state.absmax, BLOCK), state.code.clone()  # files hold no tensor twice
    part.state2.absmax = cut(state.state2.absmax, BLOCK * NESTED_BLOCK)
    return cut(data, 2), part


def join_four_bit(layers: Sequence[Any], *, eight_bits: bool = True) -> Callable[[Tensor], Tensor] | None:
    """One projection for several 4-bit layers of the same input, whose weights it shares; None where their shapes or kinds
    do not allow it. eight_bits: keep a copy in eight bits where that is faster (`reads_eight_bits`)."""
    if not all(is_four_bit(layer) for layer in layers):
        return None
    states = [layer.weight.quant_state for layer in layers]
    fits_kernel = all(rows % PANEL == 0 and columns % BLOCK == 0 for rows, columns in (state.shape for state in states))
    if not fits_kernel or len({layer.bias is None for layer in layers}) > 1:
        return None
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    weights = [layer.weight.data for layer in layers]
    if weights[0].device.type == "cpu":  # they stay where they are, which may be the pages of a file
        kind = EightBitsOnCPU if eight_bits and reads_eight_bits() else FourBitOnCPU
        return kind(list(zip(weights, states, strict=True)), bias)
    data = torch.cat(weights)
    for layer, part in zip(layers, torch.split(data, list(map(len, weights))), strict=True):
        layer.weight.data = part
    return FourBit(data, _joined_state(states), bias)


def _joined_state(states: Sequence[Any]) -> Any:
    """The state of matrices that lie one below the other: nested where they were quantised as one, else plain."""
    whole = copy(states[0])
    whole.shape = torch.Size([sum(state.shape[0] for state in states), states[0].shape[1]])
    if all(state.nested and _is_whole_blocks(state.shape) and state.offset == whole.offset for state in states):
        whole.absmax = torch.cat([state.absmax for state in states])
        whole.state2 = copy(whole.state2)
        whole.state2.absmax = torch.cat([state.state2.absmax for state in states])
        return whole
    whole.absmax, whole.nested, whole.state2, whole.offset = _scales(states).float(), False, None, None
    return whole


def _scales(states: Sequence[Any]) -> Tensor:
    """Of each block of some matrices, the largest number, as it was before it was quantised itself."""
    from bitsandbytes.functional import dequantize_blockwise

    return torch.cat(
        [
            dequantize_blockwise(state.absmax, state.state2) + state.offset if state.nested else state.absmax
            for state in states
        ]
    )


# --- products ---


class FourBit:
    """A 4-bit projection on a GPU: of one row by a kernel of ours where there is one, else by bitsandbytes' own."""

    def __init__(self, data: Tensor, state: Any, bias: Tensor | None) -> None:
        self.data, self.state, self.bias = data, state, bias
        self.product = own_product(data.device, state.shape[1])
        if self.product is not None:
            self.scales_NB = _scales([state]).view(state.shape[0], -1).half()

    def __call__(self, inputs: Tensor) -> Tensor:
        from bitsandbytes import matmul_4bit

        if self.product is None or inputs.numel() != inputs.shape[-1] or inputs.dtype != torch.bfloat16:
            product: Tensor = matmul_4bit(inputs, self.data, self.state, bias=self.bias)
            return product
        product_N = self.product(inputs.reshape(-1), self.data, self.scales_NB)
        if self.bias is not None:
            product_N = product_N + self.bias
        return product_N.view(*inputs.shape[:-1], -1)


def own_product(device: torch.device, columns: int) -> Product | None:
    """`nf4_kernel`'s, where it takes so many columns and works (`_proven_product`)."""
    takes = device.type == "cuda" and columns % BLOCK == 0 and columns <= MOST_COLUMNS
    return _proven_product(device) if takes else None


@cache
def _proven_product(device: torch.device) -> Product | None:
    """None where there is no Triton, or it cannot build the kernel, for which it wants a C compiler, or what it gives there
    is not what bitsandbytes gives."""
    from bitsandbytes import matmul_4bit

    generator = torch.Generator(device).manual_seed(0)
    weight_NK = torch.randn(BLOCK, 4 * BLOCK, device=device, generator=generator)
    vector_1K = torch.randn(1, 4 * BLOCK, device=device, generator=generator).bfloat16()
    data, state = _quantized([weight_NK], device)
    expected_N = matmul_4bit(vector_1K, data, state)[0].float()
    try:
        from triton.errors import TritonError

        from maya_core.weights.nf4_kernel import product
    except ImportError:
        return None
    try:
        given_N = product(vector_1K[0], data, _scales([state]).view(BLOCK, -1).half()).float()
    except (TritonError, RuntimeError, OSError, CalledProcessError) as error:
        log.info("bitsandbytes' kernels are used: %s", error)
        return None
    is_same = bool((given_N - expected_N).norm() < 0.01 * expected_N.norm())
    return product if is_same else None


class FourBitOnCPU:
    """A 4-bit projection on the CPU, in bfloat16 as bitsandbytes does it.

    Few rows go through its kernel, for which the weights are kept in that kernel's order; many are multiplied by tiles of
    dequantised weights. Where the processor has no such kernel all are.
    """

    def __init__(
        self, matrices: Sequence[tuple[Tensor, Any]], bias: Tensor | None, *, few_rows: int | None = None
    ) -> None:
        """matrices: data and state of those that lie one below the other. few_rows: up to how many the kernel takes, if not
        given as many as it is the faster for; where it takes any, no second copy is kept for tiles."""
        states = [state for _, state in matrices]
        rows, columns = sum(state.shape[0] for state in states), states[0].shape[1]
        self.shape, self.code, self.bias = torch.Size([rows, columns]), states[0].code, bias
        scales_NS = _scales(states).view(rows, columns // BLOCK).bfloat16()  # as the kernel reads them
        faster = FEW_ROWS_BESIDE_AMX if multiplies_tiles() else FEW_ROWS
        self.few_rows = (faster if few_rows is None else few_rows) if has_kernel() else 0
        tile = max(PANEL, TILE_BYTES // (2 * columns) // PANEL * PANEL)
        tiles_NK = [some for data, _ in matrices for some in torch.split(data.view(-1, columns // 2), tile)]
        if self.few_rows:
            self.panels_NK, self.scales_SN = tiles_NK[0].new_empty(rows, columns // 2), scales_NS.T.contiguous()
            in_order = torch.split(self.panels_NK, list(map(len, tiles_NK)))
            for panels_NK, tile_NK in zip(in_order, tiles_NK, strict=True):
                panels_NK.copy_(in_panels(tile_NK))
        if self.few_rows != ANY_NUMBER:
            self.tiles_NK, self.scales_NS = tiles_NK, scales_NS

    def __call__(self, inputs: Tensor) -> Tensor:
        flat_MK = inputs.reshape(-1, inputs.shape[-1]).bfloat16()
        if len(flat_MK) <= self.few_rows:
            product_MN = self._by_kernel(flat_MK)
        else:
            in_float = len(flat_MK) > FEW_IN_BFLOAT16 and not has_bfloat16(flat_MK.device)
            product_MN = self._by_tiles(flat_MK.float() if in_float else flat_MK)
        if self.bias is not None:
            product_MN = product_MN + self.bias
        return product_MN.to(inputs.dtype).view(*inputs.shape[:-1], -1)

    def _by_kernel(self, flat_MK: Tensor) -> Tensor:
        product: Tensor = torch.ops.bitsandbytes.gemv_4bit(
            flat_MK, self.panels_NK, self.shape, self.scales_SN, self.code, BLOCK
        )
        return product

    def _by_tiles(self, flat_MK: Tensor) -> Tensor:
        product_MN, start = flat_MK.new_empty(len(flat_MK), self.shape[0]), 0
        for tile_NK in self.tiles_NK:
            some = slice(start, start + len(tile_NK))
            weight_NK = _dequantized(tile_NK, self.scales_NS[some].float(), flat_MK.dtype)
            product_MN[:, some] = linear(flat_MK, weight_NK)
            start = some.stop
        return product_MN


class EightBitsOnCPU:
    """A 4-bit projection on a CPU without that kernel, from a copy in eight bits with one scale a row.

    A token would else be dequantised weights: ten times as long, on AVX2. The copy adds 0.9 % to what four bits took from
    a product, some 9 %. Few rows go through torch's kernel, in bfloat16; many are multiplied by tiles of the copy.
    """

    def __init__(self, matrices: Sequence[tuple[Tensor, Any]], bias: Tensor | None) -> None:
        """matrices: data and state of those that lie one below the other."""
        columns = matrices[0][1].shape[1]
        scales_NS = _scales([state for _, state in matrices]).view(-1, columns // BLOCK)
        # the scale is rounded before the numbers are divided by it, which makes up for that
        self.scale_N, self.bias = (scales_NS.abs().amax(1) / 127).clamp(min=1e-30).bfloat16(), bias
        scales_NS /= self.scale_N[:, None].float()
        self.rows = max(1, NUMBERS_TO_EIGHT_BITS // columns)
        # numpy asks for large pages: to get small ones from the system takes a third of the time
        self.weight_NK, start = torch.from_numpy(np.empty((len(scales_NS), columns), np.int8)), 0
        for data, _ in matrices:
            for tile_NK in torch.split(data.view(-1, columns // 2), self.rows):
                some = slice(start, start + len(tile_NK))
                numbers_NK = _dequantized(tile_NK, scales_NS[some], torch.float32)
                self.weight_NK[some] = numbers_NK.round_()
                start = some.stop

    def __call__(self, inputs: Tensor) -> Tensor:
        flat_MK = inputs.reshape(-1, inputs.shape[-1]).bfloat16().contiguous()
        if len(flat_MK) <= FEW_IN_EIGHT_BITS:
            product_MN = torch._weight_int8pack_mm(flat_MK, self.weight_NK, self.scale_N)
        else:
            flat_MK = flat_MK if has_bfloat16(flat_MK.device) else flat_MK.float()
            tiles = torch.split(self.weight_NK, self.rows)
            product_MN = torch.cat([linear(flat_MK, tile_NK.to(flat_MK.dtype)) for tile_NK in tiles], -1) * self.scale_N
        if self.bias is not None:
            product_MN = product_MN + self.bias
        return product_MN.to(inputs.dtype).view(*inputs.shape[:-1], -1)


def _dequantized(tile_NK: Tensor, scales_NS: Tensor, dtype: torch.dtype) -> Tensor:
    """Some rows of 4-bit weights, two in each byte, with the scales of their blocks."""
    shape = (len(tile_NK), 2 * tile_NK.shape[1])
    weight_NK: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
        tile_NK.reshape(-1, 1), scales_NS.view(-1), BLOCK, "nf4", shape, dtype
    )
    return weight_NK


def in_panels(data_NK: Tensor) -> Tensor:
    """4-bit weights, two of a row in each byte, in the order of bitsandbytes' CPU kernel: of each 32 rows, column by column,
    two rows in each byte, one of the first sixteen and one of the others. The library's own way to it takes twelve times
    the memory of all weights."""
    first, other = data_NK.view(-1, 2, PANEL // 2, data_NK.shape[1]).unbind(1)
    even, odd = first >> 4 | other & 0xF0, first & 0x0F | other << 4
    pairs = torch.stack([even, odd], dim=-1).view(torch.int16)[..., 0]  # moved as one
    return pairs.transpose(1, 2).contiguous().view(torch.uint8).view(data_NK.shape)


class FourBitHead:
    """Scores of all words from a 4-bit copy of their table, and those of the likeliest from the table itself.

    A token would else read the whole table, more than a third of all bytes. The likeliest word is found as long as 4 bits
    put it among the first 128 of 256,000; its score is exact, and so are those that come near it.
    """

    def __init__(self, table_VE: Tensor, on_progress: OnProgress = untold) -> None:
        self.table_VE = table_VE
        [(data, state)] = quantized([table_VE], table_VE.device, on_progress)
        self.near = (
            FourBitOnCPU([(data, state)], None, few_rows=ANY_NUMBER)
            if table_VE.device.type == "cpu"
            else FourBit(data, state, None)
        )

    def __call__(self, last_BE: Tensor) -> Tensor:
        """(B, E) -> (B, V)"""
        scores_BV = self.near(last_BE)
        likeliest_BC = scores_BV.topk(CANDIDATES).indices
        exact_BC = (self.table_VE[likeliest_BC] @ last_BE[..., None])[..., 0]
        return scores_BV.scatter(1, likeliest_BC, exact_BC)


def reads_table_in_four_bits(device: str, numbers: int) -> bool:
    """Whether a 4-bit model's table of so many numbers is worth a 4-bit copy there."""
    return numbers >= LARGE_TABLE and (device == "cuda" or (device == "cpu" and has_kernel()))


def multiplies_tiles() -> bool:
    """Whether this processor has AMX, which multiplies many rows of bfloat16 several times faster."""
    return bool(torch.cpu._is_amx_tile_supported())


def reads_eight_bits() -> bool:
    """Whether a copy in eight bits is what the CPU is fastest with."""
    return not has_kernel() and hasattr(torch, "_weight_int8pack_mm")


def has_kernel() -> bool:
    """Whether this processor has what bitsandbytes' 4-bit kernel needs."""
    from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())
