"""How much memory a model takes to answer, known before it is loaded, and the form in which it suits a machine."""

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import nn

from maya_core.answering.decoder import BUCKET, HELD_TWICE, packs_on
from maya_core.answering.step_graph import CHAT
from maya_core.assets import LANGUAGE_MODEL
from maya_core.errors import ModelTooLarge
from maya_core.hardware import GIB, Machine
from maya_core.llama import AT_ONCE
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration, parameter_counts
from maya_core.weights.quantization import (
    BLOCK,
    NESTED_BLOCK,
    PANEL,
    Quantization,
    four_bit_groups,
    has_kernel,
    quantized,
    reads_eight_bits,
    reads_table_in_four_bits,
)

CONVERSATION = 1024  # columns of the cache: a picture, and some turns
SMALL = 10**9  # parameters; below this a CPU computes in float32, where every processor is fast
BESIDE = GIB // 2  # of the main memory: Python, its libraries and a large tokenizer
SPARE = 0.1  # of the memory, for all else that needs some
SAMPLE = 2**22  # numbers
TABLES = 4 * (256 + 16)  # bytes of the two tables of numbers that each 4-bit matrix has


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a model is loaded. needed: bytes, with a conversation and what the process takes beside; to_quantize: numbers that
    come to four bits meanwhile. eight_bits: whether there is room for a copy of 4-bit layers in eight bits, where that is
    faster."""

    device: str
    dtype: torch.dtype
    quantization: Quantization | None
    needed: int
    to_quantize: int = 0
    eight_bits: bool = True


def best_plan(config: MayaConfig, machine: Machine, *, is_quantized: bool = False) -> Plan:
    """The most exact form that fits; on a CPU a large model in four bits, which is several times faster there.

    Raises ModelTooLarge where none fits.
    """
    parameters = _Sizes.of(config)
    if machine.device == "cpu" and parameters.all < SMALL and not is_quantized:
        forms: list[tuple[torch.dtype, Quantization | None]] = [(torch.float32, None)]
    else:
        forms = [(torch.bfloat16, None), (torch.bfloat16, "nf4")]
        if is_quantized or (machine.device == "cpu"):
            forms = forms[1:]
    if machine.device == "mps":  # bitsandbytes has no kernels there
        forms = [(torch.bfloat16, None)]
    for (dtype, quantization), eight_bits in product(forms, (True, False)):
        needed = footprint(config, dtype=dtype, quantization=quantization, device=machine.device, eight_bits=eight_bits)
        needed += 0 if machine.device == "cuda" else BESIDE
        if needed <= machine.memory * (1 - SPARE):
            to_quantize = parameters.linear if quantization and not is_quantized else 0
            return Plan(
                device=machine.device, dtype=dtype, quantization=quantization, needed=needed, to_quantize=to_quantize,
                eight_bits=eight_bits,
            )  # fmt: skip
    raise _too_large(needed, machine)


def require_memory(needed: int, machine: Machine) -> None:
    """Raise ModelTooLarge unless so many bytes fit."""
    if needed > machine.memory * (1 - SPARE):
        raise _too_large(needed, machine)


def _too_large(needed: int, machine: Machine) -> ModelTooLarge:
    return ModelTooLarge(
        f"The model needs {needed / GIB:.1f} GiB, and {machine.name} has {machine.memory / GIB:.1f}; choose a smaller one."
    )


def llama_footprint(folder: Path, config: MayaConfig) -> int:
    """Bytes that a GGUF model takes in llama.cpp's hands with a conversation: the file, which it maps or copies in an order
    of its own; keys and values in 16 bits; what it computes in; and the tower and the connector in 32 bits."""
    text = config.text
    beside = 4 * sum(count for part, count in parameter_counts(config).items() if part != "language_model")
    computing: int = AT_ONCE * (3 * text.intermediate_size + 4 * text.hidden_size) * 4
    return (
        (folder / LANGUAGE_MODEL).stat().st_size
        + _cache_bytes(config, min(CONVERSATION, text.max_position_embeddings), torch.float16)
        + computing
        + beside
        + BESIDE
    )


def footprint(
    config: MayaConfig,
    *,
    dtype: torch.dtype,
    quantization: Quantization | None = None,
    device: str = "cpu",
    columns: int | None = None,
    eight_bits: bool = True,
) -> int:
    """Bytes of weights and of a conversation of `columns` tokens and slots; if not given, as many as there is room for at
    once on a GPU, and some turns elsewhere. eight_bits: as in `Plan`."""
    if columns is None:
        columns = min(CHAT if device == "cuda" else CONVERSATION, config.text.max_position_embeddings)
    sizes, cache = _Sizes.of(config), _cache_bytes(config, columns, dtype)
    plain = sizes.linear + sizes.head  # what is plain and read for each token
    needed: float = cache + sizes.all * dtype.itemsize
    if quantization == "nf4":
        plain = sizes.head
        scales = sizes.linear / BLOCK
        needed += sizes.linear * 0.5 + scales * (1 + 4 / NESTED_BLOCK) + sizes.matrices * TABLES
        needed -= sizes.linear * dtype.itemsize
        if reads_table_in_four_bits(device, sizes.head):
            needed += sizes.head * (0.5 + (2 if device == "cpu" else 3) / BLOCK)
            plain = 0
        if device == "cuda":
            needed += scales * 2  # for a product of one row
        if device == "cpu" and sizes.fits_kernel and eight_bits and reads_eight_bits():
            needed += sizes.linear
        elif device == "cpu" and sizes.fits_kernel:
            needed += scales * 2  # for tiles
            if has_kernel():  # weights and scales in its order
                needed += sizes.linear * 0.5 + scales * 2
    if packs_on(device, dtype) and plain * dtype.itemsize <= HELD_TWICE:
        needed += plain * dtype.itemsize
    return int(needed)


def seconds_to_quantize(numbers: int, device: str) -> float:
    """About how long so many numbers take to come to four bits here: as long as a few of them, times how many there are."""
    if not numbers:
        return 0.0
    some = torch.ones(SAMPLE // BLOCK, BLOCK, dtype=torch.bfloat16)
    quantized([some[:BLOCK]], device)  # what is done once
    started = time.monotonic()
    quantized([some], device)
    return (time.monotonic() - started) * numbers / SAMPLE


def numbers_to_quantize(config: MayaConfig) -> int:
    """How many numbers of a model come to four bits: those of the decoder's linear layers."""
    return _Sizes.of(config).linear


def _cache_bytes(config: MayaConfig, columns: int, dtype: torch.dtype) -> int:
    """Of the keys and values of so many columns."""
    text = config.text
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    columns = -(-columns // BUCKET) * BUCKET
    size: int = 2 * text.num_hidden_layers * text.num_key_value_heads * head_dim * columns * dtype.itemsize
    return size


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Parameters: all; linear: of the decoder's linear layers, in so many matrices; head: of the table of words."""

    all: int
    linear: int
    matrices: int
    head: int
    fits_kernel: bool

    @classmethod
    def of(cls, config: MayaConfig) -> "_Sizes":
        with torch.device("meta"):
            model = MayaForConditionalGeneration(config)
        model.tie_weights()
        linears = [getattr(owner, name) for group in four_bit_groups(model) for owner, name in group]
        assert all(isinstance(part, nn.Linear) for part in linears)
        head: nn.Linear = model.language_model.lm_head
        return cls(
            all=sum(parameter.numel() for parameter in model.parameters()),
            linear=sum(part.weight.numel() for part in linears),
            matrices=len(linears),
            head=head.weight.numel(),
            fits_kernel=all(part.out_features % PANEL == 0 and part.in_features % BLOCK == 0 for part in linears),
        )
