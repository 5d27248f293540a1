"""A conversation with a model: `ChatSession` answers it, `load_session` and `load_best` make one.

The stream is the primitive; everything else is built on it. A conversation never pays twice: keys and values of all that
was read are kept, and an answer begins with what is new since then, also where a question was changed. A picture is seen
by the tower once.

Shape letters: B batch, T positions, S columns of the cache, I pictures, N visual tokens, D vision width, V vocabulary.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from maya_core.answering.decoder import Decoder
from maya_core.answering.doubt import Doubting, Doubts
from maya_core.answering.engines import OWN, Engine, engine_for
from maya_core.answering.footprint import Plan, best_plan, llama_footprint, require_memory
from maya_core.answering.generation import Reading, TextDecoder, drawn, text_pieces, without_leading_space
from maya_core.answering.language import plain_language
from maya_core.answering.llama_decoder import LlamaDecoder
from maya_core.answering.options import GenerationOptions
from maya_core.answering.script import Scripts
from maya_core.assets import EMBEDDED, LANGUAGE_MODEL, asset_path
from maya_core.errors import GenerationError, PromptError, PromptTooLong, TooManyPictures
from maya_core.hardware import Machine, inspect_machine
from maya_core.llama import LlamaModel
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import Encoded, MayaProcessor
from maya_core.model.prompt import Message, Picture
from maya_core.progress import OnProgress, untold
from maya_core.weights.checkpoint import is_quantized, load_beside, load_config, load_model, load_processor
from maya_core.weights.files import sound_values
from maya_core.weights.hub import local_folder
from maya_core.weights.quantization import Quantization

Conversation = Sequence[Message] | Message | str

GREEDY = GenerationOptions()
# Shares of the time to load a model: its weights come to four bits, or are read as they are stored; the rest puts
# them in order.
WEIGHTS = 0.9
WEIGHTS_AS_THEY_ARE = 0.2
PICTURES_KEPT = 32  # what the tower made of them: 0.8 MB each at the published size
ROOM = 4  # an answer gets as many tokens as were asked for, but at most the context divided by this


class Delta(NamedTuple):
    """What a token adds to an answer. tokens: how many there are by now. left_out: turns at the conversation's beginning
    that the model did not get, because it has no room for them."""

    text: str
    tokens: int
    left_out: int


class ChatSession:
    """A model with its processor, ready to answer. The model's weights must not change while its session is in use."""

    def __init__(
        self,
        model: MayaForConditionalGeneration,
        processor: MayaProcessor,
        decoder: TextDecoder | None = None,
        *,
        engine: Engine = OWN,
    ) -> None:
        """decoder: what answers in the place of the model's own language model, which then needs no weights. engine:
        which that is, and why."""
        self.model = model
        self.processor = processor
        self.engine = engine
        self._decoder = decoder
        self._seen = _Seen(model)
        config = model.config
        self._scripts = Scripts(self._tokenizer, config.text.vocab_size) if config.keeps_to_script else None
        self._doubts = Doubts(config, self._tokenizer) if config.doubts else None
        self._read: Reading | None = None

    def stream(
        self,
        messages: Conversation,
        options: GenerationOptions = GREEDY,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[str]:
        """The answer to the last message, in pieces of whole characters; ends within one token of `cancel`.

        messages: a conversation; or its only message, or its words. Raises PromptError for what cannot be asked,
        GenerationError where the model gives NaN.
        """
        return (delta.text for delta in self.deltas(messages, options, cancel=cancel) if delta.text)

    def deltas(
        self,
        messages: Conversation,
        options: GenerationOptions = GREEDY,
        *,
        cancel: threading.Event | None = None,
        on_progress: OnProgress = untold,
    ) -> Iterator[Delta]:
        """As `stream`, but one for each token: its text is empty while a character's bytes are not all there.

        on_progress: told again and again which share of the question is read, before the first; what it raises ends that,
        and what was read before stays.
        """
        prompt, left_out = self._prompt(messages, options)
        doubting = self._doubting([messages])
        with closing(self._tokens(messages, prompt, options, on_progress, doubting)) as tokens:
            uncancelled = takewhile(lambda _: cancel is None or not cancel.is_set(), tokens)
            pieces = text_pieces(uncancelled, self._tokenizer)
            if doubting:
                pieces = doubting.whole(pieces)
            if not self._messages(messages)[-1].is_half:
                # a maya-v1 answer starts with the space that parts it from `ASSISTANT:`
                pieces = without_leading_space(pieces)
            for number, text in enumerate(pieces, start=1):
                yield Delta(text, number, left_out)

    def token_ids(self, messages: Conversation, options: GenerationOptions = GREEDY) -> list[int]:
        """The ids of the answer, without the one that ends it."""
        prompt, _ = self._prompt(messages, options)
        return list(self._tokens(messages, prompt, options))

    def answer(self, messages: Conversation, options: GenerationOptions = GREEDY) -> str:
        """The whole answer to the last message."""
        return "".join(self.stream(messages, options))

    @torch.inference_mode()
    def answers(
        self,
        conversations: Sequence[Conversation],
        options: GenerationOptions = GREEDY,
        *,
        features_IND: Tensor | None = None,
    ) -> list[str]:
        """The answers to many conversations at once, each the same as it would be alone. features_IND: what the tower made
        of all their pictures, one after the other, which then are not opened."""
        if not isinstance(conversations, list | tuple):
            raise PromptError(f"Conversations are given as {type(conversations).__name__}; give a list of them.")
        if not conversations:
            return []
        if not self.decoder.reads_rows and features_IND is None:
            return [self.answer(conversation, options) for conversation in conversations]
        prompts = [self._prompt(conversation, options)[0] for conversation in conversations]
        batch = self.processor.padded(prompts, padding_side="left")
        ids_BT, may_look_BS = (batch[name].to(self.model.device) for name in ("input_ids", "attention_mask"))
        pictures = [picture for prompt in prompts for picture in prompt.pictures]
        if pictures and features_IND is None:
            features_IND = torch.stack([view.features_ND for view in self._views(pictures)])
        if features_IND is not None:
            features_IND = features_IND.to(self.model.device, self.model.dtype)
        read = Reading(self.decoder, rows=len(prompts), may_look_BS=may_look_BS.bool())
        scores_BV = read.on(ids_BT, features_IND)
        foreign_BV, no_first_BV = self._foreign(conversations), self._no_first(conversations)
        doubting = self._doubting(conversations)
        tokens = drawn(read, scores_BV, options, foreign_BV=foreign_BV, no_first_BV=no_first_BV, listener=doubting)
        steps = list(tokens)
        rows = torch.stack(steps, dim=1).tolist() if steps else [[] for _ in prompts]
        answers = ["".join(without_leading_space(text_pieces(ids, self._tokenizer))) for ids in rows]
        return doubting.said(answers) if doubting else answers

    # --- the parts of an answer ---

    @property
    def decoder(self) -> TextDecoder:
        """The language model as it answers, made when it is first asked."""
        return self.prepared()

    def prepared(self, on_progress: OnProgress = untold, *, eight_bits: bool = True) -> TextDecoder:
        """The same, made now if it is not yet. on_progress: told which share of it is; what it raises ends that.
        eight_bits: as in `Plan`."""
        if self._decoder is None:
            # outside inference mode: the model shares the weights that are joined here, and may learn again
            with torch.inference_mode(False), torch.no_grad():
                self._decoder = Decoder(self.model, eight_bits=eight_bits, on_progress=on_progress)
        return self._decoder

    @property
    def _tokenizer(self) -> Tokenizer:
        tokenizer: Tokenizer = self.processor.require_tokenizer().backend_tokenizer
        return tokenizer

    def _prompt(self, conversation: Conversation, options: GenerationOptions) -> tuple[Encoded, int]:
        """The prompt, and how many of the oldest turns had to go so that it and an answer fit.

        Raises PromptTooLong where the last question alone does not, TooManyPictures where that is for its pictures.
        """
        messages = self._messages(conversation)
        context = self.model.config.text.max_position_embeddings
        room = min(options.max_new_tokens, context // ROOM)
        starts = [at for at, message in enumerate(messages) if message.role == "user"]
        system = list(messages[: starts[0]]) if starts else []
        for left_out, start in enumerate(starts or [0]):
            kept = messages if start == 0 else [*system, *messages[start:]]
            try:
                prompt = self.processor.encode(kept, answer_next=True)
            except PromptTooLong:
                continue
            if len(prompt.input_ids) + room <= context:
                return prompt, left_out
        self._check_pictures(messages[starts[-1] if starts else 0].images, context - room)
        raise PromptTooLong(
            f"The last question alone leaves fewer than {room} of the model's {context} tokens for an answer; shorten it."
        )

    def _check_pictures(self, pictures: Sequence[Picture], room: int) -> None:
        """Raises TooManyPictures where a question's pictures alone take more than `room` tokens."""
        most = room // self.processor.image_slots
        if len(pictures) > most:
            raise TooManyPictures(f"There are {len(pictures)} pictures; the model takes at most {most}.", most)

    def _messages(self, conversation: Conversation) -> Sequence[Message]:
        """The messages of a conversation as it may be given; PromptError for what is none."""
        if isinstance(conversation, str):
            return [self.processor.user_message(conversation)]
        if isinstance(conversation, Message):
            return [conversation]
        if not isinstance(conversation, list | tuple) or not all(isinstance(one, Message) for one in conversation):
            raise PromptError(
                "A conversation is a list of messages; make them with processor.user_message(text, pictures), and with "
                'Message(role="assistant", text=...).'
            )
        return conversation

    def _foreign(self, conversations: Sequence[Conversation]) -> Tensor | None:
        """(B, V) true for tokens with letters that the answer's language does not write, where the model keeps to that."""
        if self._scripts is None:
            return None
        rows = [self._scripts.foreign(self._language(conversation)) for conversation in conversations]
        return torch.stack(rows).to(self.model.device)

    def _doubting(self, conversations: Sequence[Conversation]) -> Doubting | None:
        """What is to doubt the answers, of a model that says doubt; not the rest of one that is there already."""
        if self._doubts is None:
            return None
        are_half = (self._messages(conversation)[-1].is_half for conversation in conversations)
        codes = [None if half else self._language(one) for one, half in zip(conversations, are_half, strict=True)]
        return Doubting(self._doubts, codes)

    def _language(self, conversation: Conversation) -> str | None:
        """That in which the last question is to be answered, or which its words plainly say."""
        question = next(message for message in reversed(self._messages(conversation)) if message.role == "user")
        return question.answer_in or plain_language(question.text)

    def _no_first(self, conversations: Sequence[Conversation]) -> Tensor | None:
        """(B, V) true for tokens with which no answer may begin; where some of one is there already, any may follow."""
        if self._scripts is None:
            return None
        is_new_B = torch.tensor([not self._messages(conversation)[-1].is_half for conversation in conversations])
        return (is_new_B[:, None] & self._scripts.no_first).to(self.model.device)

    def _views(self, pictures: Sequence[Picture]) -> list["_View"]:
        return self._seen(self.processor.pixel_values([picture])[0] for picture in pictures)

    @torch.inference_mode()
    def _tokens(
        self,
        messages: Conversation,
        prompt: Encoded,
        options: GenerationOptions,
        on_progress: OnProgress = untold,
        doubting: Doubting | None = None,
    ) -> Generator[int, None, None]:
        """The answer's tokens; what was read for them is kept for the next answer, wherever this one is left."""
        on_progress(0.0)
        foreign_1V, no_first_1V = self._foreign([messages]), self._no_first([messages])
        views = self._views(prompt.pictures)
        signs = self._signs(prompt, views)
        read = self._read or Reading(self.decoder)
        self._read = None  # an answer beside this one reads for itself
        common = read.forget_after(signs)
        new_ids_1T = prompt.input_ids[None, common:].to(self.model.device)
        known = int((prompt.input_ids[:common] == self.model.config.image_token_id).sum()) // self.processor.image_slots
        new_views = [view.features_ND for view in views[known:]]
        features_IND = torch.stack(new_views) if new_views else None
        try:
            scores_1V = read.on(new_ids_1T, features_IND, signs[common:], on_progress)
            tokens = drawn(read, scores_1V, options, foreign_BV=foreign_1V, no_first_BV=no_first_1V, listener=doubting)
            yield from (int(token_1) for token_1 in tokens)
        except GenerationError:
            read.cache.length = 0  # the keys and values may not be numbers
            raise
        finally:
            self._read = read

    def _signs(self, prompt: Encoded, views: Sequence["_View"]) -> list[int]:
        """What tells one prompt from another, position by position: the id, or at a slot what picture it is of."""
        signs: list[int] = prompt.input_ids.tolist()
        slots = iter([view.sign for view in views for _ in range(self.processor.image_slots)])
        image = self.model.config.image_token_id
        return [next(slots) if sign == image else sign for sign in signs]


class _View(NamedTuple):
    """A picture as the tower sees it. sign: the same for the same pixels, and no token's id."""

    features_ND: Tensor
    sign: int


class _Seen:
    """The pictures that were seen lately; one that comes again is not encoded again."""

    def __init__(self, model: MayaForConditionalGeneration) -> None:
        self.model = model
        self._kept: OrderedDict[int, Tensor] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[Tensor]) -> list[_View]:
        """For pictures' pixels (C, H, W) what the tower makes of them, (N, D) each."""
        views = []
        for pixels_CHW in pictures:
            sign = -1 - int.from_bytes(blake2b(pixels_CHW.numpy().tobytes(), digest_size=15).digest())
            if sign not in self._kept:
                pixels_1CHW = pixels_CHW[None].to(self.model.device, self.model.dtype)
                self._kept[sign] = self.model.vision_features(pixels_1CHW)[0]
            self._kept.move_to_end(sign)
            views.append(_View(self._kept[sign], sign))
        while len(self._kept) > PICTURES_KEPT:
            self._kept.popitem(last=False)
        return views


# --- loading ---


def load_session(
    path_or_repo: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: Quantization | None = None,
    on_progress: OnProgress = untold,
) -> ChatSession:
    """A model with its processor, ready to answer; the embedded maya-tiny where none is named. on_progress: as in
    `load_model`."""
    source = asset_path(EMBEDDED) if path_or_repo is None else path_or_repo
    processor = load_processor(source)
    processor.require_tokenizer()
    model = load_model(source, dtype=dtype, device=device, quantization=quantization, on_progress=on_progress)
    return ChatSession(model, processor)


def load_best(
    path_or_repo: str | Path | None = None,
    *,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_progress: OnProgress = untold,
) -> ChatSession:
    """`load_session` on the best device of this machine, in the number format that suits it, with all that is done before a
    first answer. on_plan: told how, before it begins.

    Raises ModelTooLarge where the model does not fit in any.
    """
    folder, machine = local_folder(asset_path(EMBEDDED) if path_or_repo is None else path_or_repo), inspect_machine()
    engine = engine_for(folder, machine)
    if engine.is_llama:
        return _llama_session(folder, machine, engine, on_progress)
    with sound_values(folder):
        plan = best_plan(load_config(folder), machine, is_quantized=is_quantized(folder))
    on_plan(plan)
    weights = WEIGHTS if plan.to_quantize else WEIGHTS_AS_THEY_ARE
    session = load_session(
        folder,
        dtype=plan.dtype,
        device=plan.device,
        quantization=plan.quantization,
        on_progress=lambda share: on_progress(share * weights),
    )
    session.engine = engine
    session.prepared(lambda share: on_progress(weights + share * (1 - weights)), eight_bits=plan.eight_bits)
    on_progress(1.0)
    return session


def _llama_session(folder: Path, machine: Machine, engine: Engine, on_progress: OnProgress) -> ChatSession:
    """The tower and the connector on the CPU, where they take little; the language model in llama.cpp's hands."""
    require_memory(llama_footprint(folder, load_config(folder)), machine)
    processor = load_processor(folder)
    processor.require_tokenizer()
    model = load_beside(folder)
    decoder = LlamaDecoder(model, LlamaModel(folder / LANGUAGE_MODEL, on_progress=on_progress))
    return ChatSession(model, processor, decoder, engine=engine)
