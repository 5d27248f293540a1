"""Cross-attention to pictures, as in Flamingo (arXiv 2204.14198): the language model stays as it is, and looks.

    features_IND -> resampler -> latents_ILD
                                     |
    hidden_BTE -> gated block (looks at the latents) -> decoder layer -> ... -> gated block -> decoder layer -> ...

A picture takes one slot in the prompt, filled with a learned vector. A position looks at the last picture that was shown
in its conversation up to there; one before any picture looks at nothing and is left as it is. The gates are closed at
the start: the model then is its language model.

`attach` puts the blocks before decoder layers, by hooks: the decoder takes the keyword argument `pictures`, its layers
take `sight`. What was shown is kept with the decoder's cache, as `cache.gallery`, so that the next tokens see it too.

Shape letters: I pictures, N patches, L latents, D vision width, B rows, T text positions, P pictures of a row,
K latents of a row (P x L), E text width.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from maya_core.model.connectors.base import Block, Connector
from maya_core.model.connectors.layers import Attention, Gate, LearnedVectors, feed_forward

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]

NEVER = torch.iinfo(torch.int64).max


class CrossAttentionConnector(Connector):
    """One slot a picture; decoder layers look at its latents.

    num_latents: vectors that a picture is resampled to. depth: blocks of the resampler.
    num_blocks: gated blocks; the last of every `cross_attn_every_n_layers` decoder layers has one before it.
    """

    def __init__(
        self,
        vision_size: int,
        text_size: int,
        *,
        num_latents: int,
        depth: int,
        num_blocks: int,
        cross_attn_every_n_layers: int,
        heads: int,
        head_dim: int,
        hidden_act: str,
    ) -> None:
        super().__init__()
        shape: dict[str, Any] = {"heads": heads, "head_dim": head_dim, "hidden_act": hidden_act}
        self.cross_attn_every_n_layers = cross_attn_every_n_layers
        self.slot = LearnedVectors(1, text_size)
        self.resampler = Resampler(vision_size, num_latents=num_latents, depth=depth, **shape)
        self.blocks = nn.ModuleList(GatedBlock(text_size, vision_size, **shape) for _ in range(num_blocks))

    def forward(self, features_IND: Tensor) -> Tensor:
        """(I, N, D) -> (I, 1, E), which says only that there is a picture."""
        embeds_I1E: Tensor = self.slot(len(features_IND))
        return embeds_I1E

    def beside(self, features_IND: Tensor, slots_BT: Tensor) -> Keywords:
        return {"pictures": Pictures(self.resampler(features_IND), slots_BT)}

    def blocks_before(self, layers: int) -> list[Block | None]:
        step = self.cross_attn_every_n_layers
        return [self.blocks[at // step] if at % step == step - 1 else None for at in range(layers)]

    def sight(self, embeds_BTE: Tensor, position_BT: Tensor, cache: Any, beside: Keywords) -> "Sight | None":
        gallery, past = _gallery(beside.get("pictures"), cache)
        if gallery is None:
            return None
        cache.gallery = gallery
        column_T = torch.arange(past, past + embeds_BTE.shape[1], device=embeds_BTE.device)
        return Sight.of(gallery, column_T, position_BT)

    def attach(self, decoder: nn.Module) -> None:
        decoder.register_forward_pre_hook(_before_decoder, with_kwargs=True)
        decoder.register_forward_hook(_after_decoder, with_kwargs=True)
        step = self.cross_attn_every_n_layers
        layers = decoder.get_submodule("layers")
        assert isinstance(layers, nn.ModuleList)
        for block, layer in zip(self.blocks, layers[step - 1 :: step], strict=True):
            assert isinstance(block, GatedBlock)
            layer.register_forward_pre_hook(block.before_layer, with_kwargs=True)  # a method, so that copies keep apart


# --- the parts that learn ---


class Resampler(nn.Module):
    """The perceiver resampler: learned latents read the patches of a picture, as many as there are."""

    def __init__(self, size: int, *, num_latents: int, depth: int, heads: int, head_dim: int, hidden_act: str) -> None:
        super().__init__()
        self.latents = LearnedVectors(num_latents, size)
        self.blocks = nn.ModuleList(
            ResamplerBlock(size, heads=heads, head_dim=head_dim, hidden_act=hidden_act) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, features_IND: Tensor) -> Tensor:
        """(I, N, D) -> (I, L, D)"""
        latents_ILD = self.latents(len(features_IND))
        for block in self.blocks:
            latents_ILD = block(latents_ILD, features_IND)
        normed_ILD: Tensor = self.norm(latents_ILD)
        return normed_ILD


class ResamplerBlock(nn.Module):
    """The latents look at the patches and at each other, and pass a feed-forward part."""

    def __init__(self, size: int, *, heads: int, head_dim: int, hidden_act: str) -> None:
        super().__init__()
        self.features_norm = nn.LayerNorm(size)
        self.latents_norm = nn.LayerNorm(size)
        self.attention = Attention(size, size, heads=heads, head_dim=head_dim)
        self.feed_forward = feed_forward(size, hidden_act)

    def forward(self, latents_ILD: Tensor, features_IND: Tensor) -> Tensor:
        """(I, L, D) and (I, N, D) -> (I, L, D)"""
        normed_ILD = self.latents_norm(latents_ILD)
        context_IKD = torch.cat([self.features_norm(features_IND), normed_ILD], dim=1)
        latents_ILD = latents_ILD + self.attention(normed_ILD, context_IKD)
        thought_ILD: Tensor = self.feed_forward(latents_ILD)
        return latents_ILD + thought_ILD


class GatedBlock(nn.Module):
    """Cross-attention and a feed-forward part before a decoder layer, each behind a gate."""

    def __init__(self, size: int, context_size: int, *, heads: int, head_dim: int, hidden_act: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.attention = Attention(size, context_size, heads=heads, head_dim=head_dim)
        self.attention_gate = Gate()
        self.feed_forward = feed_forward(size, hidden_act)
        self.feed_forward_gate = Gate()

    def forward(self, hidden_BTE: Tensor, sight: "Sight") -> Tensor:
        """(B, T, E) -> (B, T, E); positions that look at nothing keep their values to the bit."""
        latents_BKD = sight.gallery.latents_BPLD.flatten(1, 2)
        looked_BTE = self.attention_gate(self.attention(self.norm(hidden_BTE), latents_BKD, sight.mask_B1TK))
        hidden_BTE = hidden_BTE + looked_BTE.masked_fill(sight.blind_BT1, 0)
        thought_BTE: Tensor = self.feed_forward_gate(self.feed_forward(hidden_BTE))
        return hidden_BTE + thought_BTE.masked_fill(sight.blind_BT1, 0)

    def before_layer(self, layer: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        """A decoder layer's hook: its hidden states have looked before it gets them."""
        sight = kwargs.pop("sight", None)
        if sight is None:
            return args, kwargs
        hidden_BTE, *others = args
        return (self(hidden_BTE, sight), *others), kwargs


# --- who looks where ---


class Pictures(NamedTuple):
    """What one pass shows. latents_ILD: in the order of their slots, row by row. slots_BT: true where those stand."""

    latents_ILD: Tensor
    slots_BT: Tensor


class Gallery(NamedTuple):
    """All pictures of a batch of conversations so far, those of each row in the order of their slots.

    latents_BPLD: zeros where a row has fewer than P. column_BP: of the slot, counted from the start of the cache; NEVER
    where there is no picture.
    """

    latents_BPLD: Tensor
    column_BP: Tensor

    @classmethod
    def of(cls, pictures: Pictures, past: int) -> "Gallery":
        """The pictures of a pass whose first position is column `past`."""
        latents_ILD, slots_BT = pictures
        rows, most = len(slots_BT), int(slots_BT.sum(1).max())
        row_I, column_I = slots_BT.nonzero(as_tuple=True)
        at = (row_I, slots_BT.cumsum(1)[row_I, column_I] - 1)
        return cls(
            latents_ILD.new_zeros(rows, most, *latents_ILD.shape[1:]).index_put(at, latents_ILD),
            column_I.new_full((rows, most), NEVER).index_put(at, column_I + past),
        )

    def until(self, past: int) -> "Gallery":
        """What a cache of `past` columns holds, which may have been cut since."""
        return Gallery(self.latents_BPLD, self.column_BP.masked_fill(self.column_BP >= past, NEVER))

    def then(self, later: "Gallery") -> "Gallery":
        return Gallery(*(torch.cat(pair, dim=1) for pair in zip(self, later, strict=True)))


class Sight(NamedTuple):
    """What each position of a pass looks at.

    mask_B1TK: true at the latents that it looks at. blind_BT1: true where it looks at nothing; what it then takes from
    the latents is dropped, and its mask is all true, because softmax over nothing is not a number.
    """

    gallery: Gallery
    mask_B1TK: Tensor
    blind_BT1: Tensor

    @classmethod
    def of(cls, gallery: Gallery, column_T: Tensor, position_ids_BT: Tensor | None) -> "Sight":
        """Each position looks at the last picture at or before it; position 0 starts a conversation, which sees none
        of those before it (packed conversations lie one behind the other in a row)."""
        column_BTP = gallery.column_BP[:, None, :]
        behind_BTP = column_BTP <= column_T[:, None]
        if position_ids_BT is not None:
            start_BT = column_T.where(position_ids_BT == 0, 0).cummax(-1).values
            behind_BTP = behind_BTP & (column_BTP >= start_BT[..., None])
        last_BT1 = column_BTP.where(behind_BTP, -1).amax(-1, keepdim=True)
        blind_BT1 = last_BT1 < 0
        looks_BTP = (column_BTP == last_BT1) | blind_BT1
        return cls(gallery, looks_BTP.repeat_interleave(gallery.latents_BPLD.shape[2], dim=-1)[:, None], blind_BT1)


def _before_decoder(decoder: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
    """The decoder's hook: its layers get a `sight` where pictures are shown now, or were and are in the cache."""
    pictures: Pictures | None = kwargs.pop("pictures", None)
    gallery, past = _gallery(pictures, kwargs.get("past_key_values"))
    if gallery is None:
        return args, kwargs
    embeds_BTE = kwargs["inputs_embeds"]
    column_T = torch.arange(past, past + embeds_BTE.shape[1], device=embeds_BTE.device)
    return args, kwargs | {"sight": Sight.of(gallery, column_T, kwargs.get("position_ids"))}


def _gallery(pictures: Pictures | None, cache: Cache | None) -> tuple[Gallery | None, int]:
    """All pictures so far, and how many columns the cache has."""
    past = 0 if cache is None else cache.get_seq_length()
    held: Gallery | None = getattr(cache, "gallery", None)
    earlier = None if held is None else held.until(past)
    if pictures is None:
        return earlier, past
    new = Gallery.of(pictures, past)
    return (new if earlier is None else earlier.then(new)), past


def _after_decoder(decoder: nn.Module, args: Arguments, kwargs: Keywords, output: Any) -> None:
    """The decoder's other hook: what was shown lives as long as the cache that this pass filled."""
    if "sight" in kwargs and output.past_key_values is not None:
        output.past_key_values.gallery = kwargs["sight"].gallery
