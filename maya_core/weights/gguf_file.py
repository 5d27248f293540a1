"""A language model as a GGUF file, the form in which llama.cpp and what is built on it read one.

Cohere's architecture is llama.cpp's `command-r`: the same layer, the same order of numbers in queries and keys, which it
turns pair by pair as Cohere does, the head a second use of the table, `logit_scale` in the metadata. What lies in the
file follows its own converter (github.com/ggml-org/llama.cpp, conversion/command_r.py and base.py).
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import gguf
import numpy as np
import torch
from gguf.quants import dequantize, quant_shape_to_byte_shape, quantize
from torch import Tensor
from transformers import CohereConfig, PreTrainedTokenizerFast

from maya_core.errors import CheckpointError, CheckpointMismatch
from maya_core.progress import OnProgress, untold

ARCHITECTURE = "command-r"
Numbers = Literal["f16", "q8_0", "q4_0"]
ROWS = 4096  # that are brought to their numbers at a time: of the largest table 64 MiB
LARGE = 2**28  # numbers of a tensor, from which on it is read in the 16 bits that large models are computed in

_OF_A_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OWN, _LAYERS = "language_model.model.", "layers."
_TABLE, _NORM = ("embed_tokens", "token_embd"), ("norm", "output_norm")
_TYPES = gguf.GGMLQuantizationType
_MATRICES = {"f16": _TYPES.F16, "q8_0": _TYPES.Q8_0, "q4_0": _TYPES.Q4_0}
_FILE_TYPES = {
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
# what splits words as the published tokenizer does; of others llama.cpp's own tokenizer makes about the same
_COHERE_SPLIT = ("Digits", "ByteLevel")


class Stored(NamedTuple):
    """Where a tensor lies in a file. shape: as torch says it."""

    name: str
    shape: tuple[int, ...]
    type: gguf.GGMLQuantizationType
    offset: int
    nbytes: int


def what_gguf_lacks(config: CohereConfig) -> str | None:
    """Why a language model cannot be told to llama.cpp, if it cannot; it goes on `llama.cpp's command-r ...`."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = (config.rope_parameters or {}).get("rope_type", "default")
    reasons = {
        "has one table for reading and writing, this model two": not config.tie_word_embeddings,
        "does not norm queries and keys": config.use_qk_norm,
        "has no biases": config.attention_bias,
        f"computes with silu, this model with {config.hidden_act}": config.hidden_act != "silu",
        f"has no rotation of type {rope}": rope != "default",
        f"has heads that are together {config.hidden_size} wide": head_dim * config.num_attention_heads
        != config.hidden_size,
    }
    return next((reason for reason, applies in reasons.items() if applies), None)


# --- writing ---


def file_bytes(shapes: Mapping[str, Sequence[int]], numbers: Numbers) -> int:
    """About what the file takes for tensors of these shapes, by our names; words are some megabytes more."""
    return sum(
        _nbytes(shape, _type_of(name, shape, numbers)) for name, shape in shapes.items() if name.startswith(_OWN)
    )


def write_language_model(
    state: Mapping[str, Tensor],
    config: CohereConfig,
    tokenizer: PreTrainedTokenizerFast | None,
    file: Path,
    *,
    numbers: Numbers,
    name: str,
    template: str | None = None,
    on_progress: OnProgress = untold,
) -> None:
    """Write the language model of a Maya, the table and the norms more exactly where the rest is in four bits.

    state: all of the model's tensors, by our names. name: of the model. template: its prompts, in Jinja. on_progress: told
    which share of the numbers is written. Raises CheckpointError where a number is too large for 16 bits.
    """
    assert what_gguf_lacks(config) is None
    writer = gguf.GGUFWriter(file, ARCHITECTURE)
    try:
        _tell_shapes(writer, config, numbers, name)
        _tell_words(writer, config, tokenizer, template)
        tensors = {our_name: tensor for our_name, tensor in state.items() if our_name.startswith(_OWN)}
        for our_name, tensor in tensors.items():
            kind = _type_of(our_name, tensor.shape, numbers)
            writer.add_tensor_info(
                _gguf_name(our_name), tensor.shape, np.dtype(np.float32), _nbytes(tensor.shape, kind), kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.numel() for tensor in tensors.values())
        for our_name, tensor in tensors.items():
            on_progress(done / total)
            writer.write_tensor_data(_packed(our_name, tensor, _type_of(our_name, tensor.shape, numbers)))
            done += tensor.numel()
        on_progress(1.0)
    finally:
        writer.close()


def _tell_shapes(writer: gguf.GGUFWriter, config: CohereConfig, numbers: Numbers, name: str) -> None:
    writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[numbers])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_rope_freq_base((config.rope_parameters or {}).get("rope_theta", 10000.0))
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_logit_scale(config.logit_scale)
    writer.add_vocab_size(config.vocab_size)


def _tell_words(
    writer: gguf.GGUFWriter, config: CohereConfig, tokenizer: PreTrainedTokenizerFast | None, template: str | None
) -> None:
    if tokenizer is None:
        writer.add_tokenizer_model("none")
        return
    fields = _fields_of(tokenizer)
    by_id = {number: word for word, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = [_kind_of(number, by_id, added) for number in range(config.vocab_size)]
    writer.add_tokenizer_model("gpt2")  # byte-level BPE
    split = [part["type"] for part in (fields.get("pre_tokenizer") or {}).get("pretokenizers", ())]
    writer.add_tokenizer_pre(ARCHITECTURE if tuple(split) == _COHERE_SPLIT else "default")
    writer.add_token_list([by_id.get(number, f"[PAD{number}]") for number in range(config.vocab_size)])
    writer.add_token_types(kinds)
    if merges := fields["model"]["merges"]:
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    for tell, number in (
        (writer.add_bos_token_id, config.bos_token_id),
        (writer.add_eos_token_id, config.eos_token_id),
        (writer.add_pad_token_id, config.pad_token_id),
    ):
        if isinstance(number, int):
            tell(number)
    writer.add_add_bos_token(False)  # the prompts say it themselves
    if template is not None:
        writer.add_chat_template(template)


def _fields_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return fields


def _kind_of(number: int, by_id: Mapping[int, str], added: Mapping[int, Any]) -> gguf.TokenType:
    if number not in by_id:
        return gguf.TokenType.UNUSED
    if number not in added:
        return gguf.TokenType.NORMAL
    return gguf.TokenType.CONTROL if added[number].special else gguf.TokenType.USER_DEFINED


def _type_of(our_name: str, shape: Sequence[int], numbers: Numbers) -> gguf.GGMLQuantizationType:
    """As llama.cpp chooses: norms in 32 bits, rows that blocks do not fill in 16; the table, which is read for every word
    and writes each, never in four."""
    if len(shape) == 1:
        return _TYPES.F32
    kind = _MATRICES[numbers]
    if kind is _TYPES.Q4_0 and our_name == f"{_OWN}{_TABLE[0]}.weight":
        kind = _TYPES.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    return kind if shape[-1] % block == 0 else _TYPES.F16


def _nbytes(shape: Sequence[int], kind: gguf.GGMLQuantizationType) -> int:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    return prod(shape) // block * size


def _packed(our_name: str, tensor: Tensor, kind: gguf.GGMLQuantizationType) -> np.ndarray[Any, Any]:
    parts = [quantize(rows.float().numpy(), kind) for rows in torch.split(tensor.detach(), ROWS)]
    whole = np.concatenate(parts)
    if kind is _TYPES.F16 and not np.isfinite(whole).all():
        raise CheckpointError(f"{our_name} has numbers that 16 bits do not hold, or none; it cannot be exported.")
    return whole


# --- reading ---


def stored_in(file: Path) -> tuple[Stored, ...]:
    """What a file says of its tensors; none is read. Raises CheckpointMismatch where it is damaged, cut off, or of another
    architecture."""
    state = file.stat()
    return _stored_in(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)  # the words before it take a second
def _stored_in(file: Path, size: int, changed: int) -> tuple[Stored, ...]:
    try:
        reader = gguf.GGUFReader(file)
        architecture = reader.fields["general.architecture"].contents()
    except (ValueError, KeyError, IndexError, OverflowError, OSError, TypeError) as error:
        raise CheckpointMismatch(f"{file.name} is damaged or cut off ({type(error).__name__}); get it again.") from None
    if architecture != ARCHITECTURE:
        raise CheckpointMismatch(
            f"{file.name} holds a {architecture} model; Maya's language models are {ARCHITECTURE}."
        )
    return tuple(
        Stored(
            name=_our_name(tensor.name),
            shape=tuple(int(side) for side in reversed(tensor.shape)),
            type=tensor.tensor_type,
            offset=int(tensor.data_offset),
            nbytes=int(tensor.n_bytes),
        )
        for tensor in reader.tensors
    )


def numbers_in(file: Path) -> str:
    """The number format that most of a file's weights have, in llama.cpp's words. Raises what `stored_in` does."""
    numbers: Counter[str] = Counter()
    for stored in stored_in(file):
        numbers[stored.type.name] += prod(stored.shape)
    return numbers.most_common(1)[0][0] if numbers else _TYPES.F32.name


def language_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file under our names, one at a time, as plain numbers. Raises what `stored_in` does."""
    data = np.memmap(file, np.uint8, "r")
    for stored in stored_in(file):
        part = data[stored.offset : stored.offset + stored.nbytes]
        yield stored.name, _plain(part, stored)


def _plain(part: np.ndarray[Any, Any], stored: Stored) -> Tensor:
    if plain := {_TYPES.F16: np.float16, _TYPES.F32: np.float32}.get(stored.type):
        return torch.from_numpy(part.view(plain).reshape(stored.shape).copy())
    rows = part.reshape(quant_shape_to_byte_shape(stored.shape, stored.type))
    if prod(stored.shape) < LARGE:
        return torch.from_numpy(dequantize(rows, stored.type).reshape(stored.shape).copy())
    whole = torch.empty(stored.shape, dtype=torch.bfloat16)
    for start in range(0, stored.shape[0], ROWS):
        whole[start : start + ROWS] = torch.from_numpy(dequantize(rows[start : start + ROWS], stored.type))
    return whole


# --- names ---


def _gguf_name(ours: str) -> str:
    inside, _, kind = ours.removeprefix(_OWN).rpartition(".")
    if inside.startswith(_LAYERS):
        number, _, part = inside.removeprefix(_LAYERS).partition(".")
        return f"blk.{number}.{_OF_A_LAYER[part]}.{kind}"
    return f"{dict((_TABLE, _NORM))[inside]}.{kind}"


def _our_name(theirs: str) -> str:
    """Our name for a tensor; unknown ones are given back as they are."""
    inside, _, kind = theirs.rpartition(".")
    for ours, name in (_TABLE, _NORM):
        if inside == name:
            return f"{_OWN}{ours}.{kind}"
    block, _, rest = inside.removeprefix("blk.").partition(".")
    part = next((ours for ours, name in _OF_A_LAYER.items() if name == rest), None)
    return f"{_OWN}{_LAYERS}{block}.{part}.{kind}" if part and inside.startswith("blk.") else theirs


assert set(_MATRICES) == set(get_args(Numbers))
