"""Tokens drawn from a decoder one after the other, and the text that becomes readable with each.

Shape letters: B batch, T positions, S columns of the cache, I pictures, N visual tokens, D vision width, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor

from maya_core.answering.decoder import Decoder, KeyValues
from maya_core.answering.options import GenerationOptions
from maya_core.answering.sampling import Sampler
from maya_core.answering.step_graph import drawn_by_graph
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.progress import OnProgress, untold


class Memory(Protocol):
    """What a decoder keeps of what it has read. length: columns; made less, those behind are forgotten."""

    length: int


class TextDecoder(Protocol):
    """A language model as it answers: ours (`decoder`), or another engine's (`llama_decoder`).

    model: whose tower and connector see for it. reads_rows: whether several conversations at once.
    """

    model: MayaForConditionalGeneration
    reads_rows: bool

    def new_cache(self, rows: int) -> Any:
        """An empty Memory."""

    def read(
        self,
        ids_BT: Tensor,
        features_IND: Tensor | None,
        cache: Any,
        *,
        may_look_BS: Tensor | None = None,
        on_progress: OnProgress = untold,
    ) -> Tensor:
        """New ids with the pictures in them -> scores (B, V) of what comes next; the Memory grows by T columns.

        may_look_BS: false at columns of padding, where there are any. on_progress: told which share is read.
        """


class Listener(Protocol):
    """Is told how answers are drawn, a row each."""

    def begin(self, read: "Reading", scores_BV: Tensor) -> None:
        """The questions are read, behind which the scores are of the first tokens."""

    def add(self, scores_BV: Tensor, token_B: Tensor, ended_B: Tensor) -> None:
        """The next tokens, the scores by which they were chosen, and which rows have ended."""

    def end(self) -> None:
        """The answers are whole; of one that is left before that it is not told."""


class Reading:
    """What a decoder has read: its cache, and for each column of a single conversation what stands there."""

    def __init__(self, decoder: TextDecoder, *, rows: int = 1, may_look_BS: Tensor | None = None) -> None:
        """may_look_BS: false at columns of padding."""
        self.decoder = decoder
        self.cache: Memory = decoder.new_cache(rows)
        self.signs: list[int] = []
        self.may_look_BS = may_look_BS

    def forget_after(self, signs: Sequence[int]) -> int:
        """Keep the beginning that is the same, and say how long it is; at least one position is left to be read."""
        del self.signs[self.cache.length :]
        pairs = enumerate(zip(self.signs, signs[:-1], strict=False))
        common = next((at for at, (mine, yours) in pairs if mine != yours), min(len(self.signs), len(signs) - 1))
        self.cache.length = common
        del self.signs[common:]
        return common

    def forget_columns(self, length: int) -> None:
        """Keep so many columns of all rows."""
        self.cache.length = length
        del self.signs[length:]
        if self.may_look_BS is not None:
            self.may_look_BS = self.may_look_BS[:, :length]

    def on(
        self,
        ids_BT: Tensor,
        features_IND: Tensor | None = None,
        signs: Sequence[int] = (),
        on_progress: OnProgress = untold,
    ) -> Tensor:
        """Read further ids, with the pictures in them, and give the scores (B, V) of what comes next.

        on_progress: told which share is read.
        """
        self.signs += signs
        if self.may_look_BS is not None:
            more = self.cache.length + ids_BT.shape[1] - self.may_look_BS.shape[1]
            self.may_look_BS = torch.nn.functional.pad(self.may_look_BS, (0, more), value=True)
        return self.decoder.read(
            ids_BT, features_IND, self.cache, may_look_BS=self.may_look_BS, on_progress=on_progress
        )


def drawn(
    read: Reading,
    scores_BV: Tensor,
    options: GenerationOptions,
    *,
    foreign_BV: Tensor | None = None,
    no_first_BV: Tensor | None = None,
    listener: Listener | None = None,
) -> Iterator[Tensor]:
    """New tokens (B,), a step at a time, until all rows have ended or max_new_tokens; ended rows give the pad id.

    The end token itself is not given. foreign_BV: true for tokens that no answer may hold;
    no_first_BV: for those with which none may begin.
    """
    config = read.decoder.model.config
    room = min(options.max_new_tokens, config.text.max_position_embeddings - read.cache.length)
    decoder, cache = read.decoder, read.cache
    is_recorded = len(scores_BV) == 1 and scores_BV.is_cuda and foreign_BV is None and listener is None
    if is_recorded and isinstance(decoder, Decoder) and not decoder.looks:
        assert isinstance(cache, KeyValues)
        for token_B in drawn_by_graph(decoder, cache, scores_BV, options, room):
            read.signs += token_B.tolist()
            yield token_B
        return
    draw = Sampler(options, config, len(scores_BV), scores_BV.device, foreign_BV=foreign_BV)
    if no_first_BV is not None:
        scores_BV = scores_BV.masked_fill(no_first_BV, -torch.inf)
    if listener:
        listener.begin(read, scores_BV)
    for left in reversed(range(room)):
        token_B = draw(scores_BV)
        if draw.all_ended:
            break
        if listener:
            listener.add(scores_BV, token_B, draw.ended_B)
        yield token_B
        if left:
            scores_BV = read.on(token_B[:, None], signs=token_B.tolist())
    if listener:
        listener.end()


# --- from tokens to text ---


def text_pieces(ids: Iterable[int], tokenizer: Tokenizer) -> Iterator[str]:
    """For each token the text that became readable with it; empty while a character's bytes are not all there."""
    decoder = DecodeStream(skip_special_tokens=True)
    for token in ids:
        yield decoder.step(tokenizer, token) or ""


def without_leading_space(pieces: Iterable[str]) -> Iterator[str]:
    """The same pieces, without the white space that their text starts with."""
    started = False
    for piece in pieces:
        shown = piece if started else piece.lstrip()
        started = started or bool(shown)
        yield shown
