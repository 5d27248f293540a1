"""Answers, drawn token by token. `tokens` is the primitive: one step of a batch; everything else is built on it.

Shape letters: B batch, T positions, V vocabulary.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import DynamicCache

from maya_core.config import GenerationOptions
from maya_core.errors import GenerationError, PromptTooLong
from maya_core.model import MayaForConditionalGeneration
from maya_core.processor import MayaProcessor
from maya_core.prompt import Message

GREEDY = GenerationOptions()


class ChatSession:
    """A model with its processor, ready to answer."""

    def __init__(self, model: MayaForConditionalGeneration, processor: MayaProcessor) -> None:
        self.model = model
        self.processor = processor

    def stream(
        self,
        messages: Sequence[Message],
        options: GenerationOptions = GREEDY,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[str]:
        """The answer to the last message, in pieces of whole characters; ends within one token of `cancel`.

        Raises PromptError for what cannot be asked, GenerationError where the model gives NaN.
        """
        return (delta.text for delta in self.deltas(messages, options, cancel=cancel) if delta.text)

    def deltas(
        self,
        messages: Sequence[Message],
        options: GenerationOptions = GREEDY,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator["Delta"]:
        """As `stream`, but one for each token: its text is empty while a character's bytes are not all there."""
        inputs = self.processor([messages])
        steps = tokens(self.model, inputs, options)
        uncancelled = takewhile(lambda _: cancel is None or not cancel.is_set(), steps)
        backend = self.processor.require_tokenizer().backend_tokenizer
        pieces = text_pieces((int(token_B[0]) for token_B in uncancelled), backend)
        # a maya-v1 answer starts with the space that parts it from `ASSISTANT:`
        return (Delta(text, number) for number, text in enumerate(without_leading_space(pieces), start=1))

    def answer(self, messages: Sequence[Message], options: GenerationOptions = GREEDY) -> str:
        """The whole answer to the last message."""
        return "".join(self.stream(messages, options))


class Delta(NamedTuple):
    """What a token adds to an answer. tokens: how many there are by now."""

    text: str
    tokens: int


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


def generate_batch(
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    conversations: Sequence[Sequence[Message]],
    options: GenerationOptions = GREEDY,
) -> list[str]:
    """The answers to many conversations at once, each the same as it would be alone."""
    if not conversations:
        return []
    steps = list(tokens(model, processor(conversations), options))
    backend = processor.require_tokenizer().backend_tokenizer
    ids_BT = torch.stack(steps, dim=1).tolist() if steps else [[] for _ in conversations]
    return ["".join(without_leading_space(text_pieces(ids, backend))) for ids in ids_BT]


@torch.inference_mode()
def tokens(
    model: MayaForConditionalGeneration, inputs: dict[str, Tensor], options: GenerationOptions
) -> Iterator[Tensor]:
    """New tokens (B,), a step at a time, until all rows have ended or max_new_tokens; ended rows give the pad id.

    inputs: input_ids and attention_mask (B, T), left-padded, and pixel_values where there are pictures.
    The end token itself is not given. Raises PromptTooLong where no position is left for an answer.
    """
    device = model.device
    prompt_BT = inputs["input_ids"].to(device)
    mask_BT = inputs["attention_mask"].to(device)
    pixels = inputs.get("pixel_values")
    room = model.config.text.max_position_embeddings - prompt_BT.shape[1]
    if room < 1:
        raise PromptTooLong(
            f"The conversation takes {prompt_BT.shape[1]} of the model's "
            f"{model.config.text.max_position_embeddings} tokens and leaves none for an answer; start anew."
        )
    draw = Sampler(options, model, prompt_BT.shape[0])
    step: dict[str, Any] = {"input_ids": prompt_BT}
    if pixels is not None:
        step["pixel_values"] = pixels.to(device, model.dtype)
    cache = DynamicCache(config=model.config.text)
    position_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    for _ in range(min(options.max_new_tokens, room)):
        logits_BV = model(
            **step,
            attention_mask=mask_BT,
            position_ids=position_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        token_B = draw(logits_BV)
        if draw.all_ended:
            return
        yield token_B
        step = {"input_ids": token_B[:, None]}
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(mask_BT), 1)], dim=1)
        position_BT = position_BT[:, -1:] + 1


class Sampler:
    """Chooses the next token of each row, and remembers which rows have ended."""

    def __init__(self, options: GenerationOptions, model: MayaForConditionalGeneration, rows: int) -> None:
        self.options = options
        self.pad = model.config.text.pad_token_id or 0
        end = model.config.text.eos_token_id
        self.end_ids = torch.tensor(end if isinstance(end, list) else [end], device=model.device)
        # an image slot is no word: it can be read but never said
        self.unsayable = model.config.image_token_id
        self.ended_B = torch.zeros(rows, dtype=torch.bool, device=model.device)
        self.said_BV: Tensor | None = None
        self.generator = torch.Generator(device=model.device)
        if options.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(options.seed)

    @property
    def all_ended(self) -> bool:
        return bool(self.ended_B.all())

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """(B, V) scores -> (B,) ids. Raises GenerationError where a score is NaN."""
        scores_BV = logits_BV.float()
        if scores_BV.isnan().any():
            raise GenerationError("The model gave NaN instead of scores; its weights are damaged. Load it again.")
        scores_BV[:, self.unsayable] = -torch.inf
        scores_BV = self._penalised(scores_BV)
        token_B = scores_BV.argmax(-1) if self.options.temperature == 0 else self._drawn(scores_BV)
        self.ended_B |= torch.isin(token_B, self.end_ids)
        token_B = token_B.masked_fill(self.ended_B, self.pad)
        if self.said_BV is not None:
            self.said_BV.scatter_(1, token_B[:, None], True)
        return token_B

    def _penalised(self, scores_BV: Tensor) -> Tensor:
        """Divide positive and multiply negative scores of what was said (CTRL, arXiv 1909.05858, section 4.1)."""
        penalty = self.options.repetition_penalty
        if penalty == 1:
            return scores_BV
        if self.said_BV is None:
            self.said_BV = torch.zeros_like(scores_BV, dtype=torch.bool)
        weaker_BV = torch.where(scores_BV > 0, scores_BV / penalty, scores_BV * penalty)
        return torch.where(self.said_BV, weaker_BV, scores_BV)

    def _drawn(self, scores_BV: Tensor) -> Tensor:
        """Nucleus sampling (arXiv 1904.09751): from the likeliest tokens that together hold top_p."""
        probabilities_BV = torch.softmax(scores_BV / self.options.temperature, dim=-1)
        sorted_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True)
        outside_BV = sorted_BV.cumsum(-1) - sorted_BV >= self.options.top_p
        rank_B1 = torch.multinomial(sorted_BV.masked_fill(outside_BV, 0), 1, generator=self.generator)
        return order_BV.gather(1, rank_B1)[:, 0]
