"""Four bits for the language model's linear layers (NF4 with double quantisation, arXiv 2305.14314).

What is quantised is decided by where a module hangs, never by its name: the linear layers of the decoder, and nothing
else. Tower, connector, norms and the tied table of words stay as they are.
"""

from collections.abc import Iterator

import torch
from torch import nn

from maya_core.model import MayaForConditionalGeneration


def quantize(model: MayaForConditionalGeneration, *, device: str | torch.device) -> None:
    """Replace the decoder's linear layers by 4-bit ones on `device`, one at a time, in place; then move the rest there."""
    import bitsandbytes as bnb  # it takes seconds to import

    for owner, name, linear in list(_decoder_linears(model)):
        four_bit = bnb.nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=torch.bfloat16,  # its default would compute in float32
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        four_bit.weight = bnb.nn.Params4bit(
            linear.weight.detach(), requires_grad=False, compress_statistics=True, quant_type="nf4", module=four_bit
        )
        if linear.bias is not None:
            four_bit.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
        setattr(owner, name, four_bit.to(device))
    model.to(device)


def _decoder_linears(model: MayaForConditionalGeneration) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """(owner, attribute, layer) of every linear layer of the decoder."""
    for owner in model.get_decoder().modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.Linear):
                yield owner, name, child
