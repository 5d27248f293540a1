"""From messages to prompt pieces. A piece is text, a control token or an image; which of them are learnt is said here.

`maya-v1` is the Vicuna style that the published weights were trained with (LLaVA's `v1` conversation, with Cohere's end
of turn). `chat` is Cohere's own turn format, for new training. `caption` is stage 1's: pictures, then the caption and a
line end, whatever was asked. What a user types is always text: a control token's name
in it is tokenised as ordinary characters.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image

from maya_core.errors import ImageCountMismatch, PromptEmpty, PromptError, TextTooLong
from maya_core.languages import get_language

Role = Literal["system", "user", "assistant"]
PromptFormat = Literal["maya-v1", "chat", "caption"]
Picture = Image.Image | Path

MAX_CHARACTERS = 8000

BOS = "<BOS_TOKEN>"
START_OF_TURN = "<|START_OF_TURN_TOKEN|>"
END_OF_TURN = "<|END_OF_TURN_TOKEN|>"
ROLE_TOKENS: dict[Role, str] = {
    "system": "<|SYSTEM_TOKEN|>",
    "user": "<|USER_TOKEN|>",
    "assistant": "<|CHATBOT_TOKEN|>",
}
IMAGE = "<image>"
ANSWERS = " ASSISTANT:"  # before an answer, in `maya-v1`

MAYA_V1_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn: who speaks, the words, and the pictures shown with them.

    images: RGB pictures from `images.open_image`, or files, which are opened when their pixels are needed.
    places: how many characters of the text stand before each picture; none given: pictures before the words, as in
        training.
    is_half: of the assistant's last turn: it was stopped, and what is answered next goes on with it.
    answer_in: of a user's turn: the language, one of the ten, in which it is to be answered, where somebody has decided it.
    """

    role: Role
    text: str
    images: tuple[Picture, ...] = ()
    places: tuple[int, ...] = ()
    is_half: bool = False
    answer_in: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not isinstance(self.images, tuple | list):
            raise PromptError(
                f"A message has {type(self.text).__name__} for text and {type(self.images).__name__} for images; give a str "
                "and a tuple of pictures."
            )
        if len(self.places) not in (0, len(self.images)):
            raise ImageCountMismatch(
                f"A message has {len(self.images)} pictures and {len(self.places)} places for them."
            )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a prompt. kind: `text`, `control` (one control token, by name) or `image` (all slots of one picture).

    learnt: whether the model is trained to write this piece.
    """

    kind: Literal["text", "control", "image"]
    text: str = ""
    learnt: bool = False


def answered_in(message: Message, language: str) -> Message:
    """A user's message that asks for an answer in `language`, whatever language it is in itself."""
    return replace(message, text=f"{message.text}\n{get_language(language).request}", answer_in=language)


def prompt_pieces(messages: Sequence[Message], prompt_format: PromptFormat, *, answer_next: bool) -> tuple[Piece, ...]:
    """The pieces of a conversation, neighbouring text joined where both are learnt or both are not.

    answer_next: end where the assistant is to speak, or to go on with its half answer. Raises PromptError where turns are
    out of order.
    """
    _check_turns(messages, answer_next=answer_next)
    pieces = {"maya-v1": _maya_v1, "chat": _chat, "caption": _caption}[prompt_format](messages, answer_next)
    return tuple(_joined(pieces))


def _maya_v1(messages: Sequence[Message], answer_next: bool) -> Iterator[Piece]:
    system = messages[0].text if messages[0].role == "system" else MAYA_V1_SYSTEM
    yield Piece(kind="control", text=BOS)
    yield Piece(kind="text", text=f"{system} ")
    for message in messages:
        if message.role == "user":
            yield Piece(kind="text", text="USER: ")
            yield from _said(message)
            yield Piece(kind="text", text=ANSWERS)
        elif message.role == "assistant":
            yield Piece(kind="text", text=f" {message.text}", learnt=True)
            if not message.is_half:
                yield Piece(kind="control", text=END_OF_TURN, learnt=True)


def _chat(messages: Sequence[Message], answer_next: bool) -> Iterator[Piece]:
    yield Piece(kind="control", text=BOS)
    for message in messages:
        learnt = message.role == "assistant"
        yield from _turn_start(message.role)
        yield from _said(message, learnt=learnt)
        if not message.is_half:
            yield Piece(kind="control", text=END_OF_TURN, learnt=learnt)
    if answer_next and not messages[-1].is_half:
        yield from _turn_start("assistant")


def _caption(messages: Sequence[Message], answer_next: bool) -> Iterator[Piece]:
    yield Piece(kind="control", text=BOS)
    for message in messages:
        if message.role == "user":
            yield from (Piece(kind="image") for _ in message.images)
        elif message.role == "assistant":
            yield Piece(kind="text", text=message.text if message.is_half else f"{message.text}\n", learnt=True)


def _turn_start(role: Role) -> Iterator[Piece]:
    yield Piece(kind="control", text=START_OF_TURN)
    yield Piece(kind="control", text=ROLE_TOKENS[role])


def _said(message: Message, *, learnt: bool = False) -> Iterator[Piece]:
    """Words and pictures of a turn; a line ends after each picture."""
    start = 0
    for place in message.places or (0,) * len(message.images):
        if place > start:
            yield Piece(kind="text", text=message.text[start:place], learnt=learnt)
        yield Piece(kind="image")
        yield Piece(kind="text", text="\n")
        start = place
    yield Piece(kind="text", text=message.text[start:], learnt=learnt)


def _joined(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Text is tokenised in the longest runs there are, as the original code did, so that no merge is lost."""
    held: Piece | None = None
    for piece in pieces:
        if held and held.kind == piece.kind == "text" and held.learnt == piece.learnt:
            held = Piece(kind="text", text=held.text + piece.text, learnt=held.learnt)
            continue
        if held:
            yield held
        held = piece
    if held:
        yield held


def _check_turns(messages: Sequence[Message], *, answer_next: bool) -> None:
    turns = [message for message in messages if message.role != "system"]
    if not turns:
        raise PromptEmpty("There is nothing to answer; pass at least one user message.")
    if any(message.role == "system" for message in messages[1:]):
        raise PromptError("A system message stands after the first place; put it first.")
    for number, message in enumerate(turns):
        expected = "assistant" if number % 2 else "user"
        if message.role != expected:
            raise PromptError(
                f"Turn {number + 1} is from the {message.role} but should be from the {expected}; "
                "user and assistant take turns, the user first."
            )
    if shows := [message.role for message in messages if message.images and message.role != "user"]:
        raise PromptError(f"There are pictures in a turn of the {shows[0]}; only a user shows pictures.")
    if any(message.is_half for message in turns[:-1]) or (turns[-1].is_half and not answer_next):
        raise PromptError("A half answer can only be the last turn, and be gone on with.")
    last = "user" if answer_next and not turns[-1].is_half else "assistant"
    if turns[-1].role != last:
        raise PromptError(f"The conversation ends with the {turns[-1].role}; it should end with the {last}.")


# Letters that no one types on purpose and that change what others see: controls but tab and newline, noncharacters,
# lone surrogates, invisible tag letters. Joiners (ZWJ, ZWNJ) stay: Hindi, Bengali, Urdu and emoji are spelt with them.
_UNWANTED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\U000e0000-\U000e007f\ufeff"
    + "".join(chr(plane * 0x10000 + 0xFFFE) + chr(plane * 0x10000 + 0xFFFF) for plane in range(17))
    + "]"
)
_BIDI_OPENERS = {"\u202a": "\u202c", "\u202b": "\u202c", "\u202d": "\u202c", "\u202e": "\u202c"} | dict.fromkeys(
    ("\u2066", "\u2067", "\u2068"), "\u2069"
)


def clean_text(text: str) -> str:
    """A user's text as it enters a prompt: NFC (never NFKC, which would make control tokens out of full-width
    letters), line ends as \\n, invisible and illegal characters removed, bidi controls closed.

    Idempotent. Raises PromptEmpty where nothing is left and TextTooLong above MAX_CHARACTERS.
    """
    if not isinstance(text, str):
        raise PromptError(f"The question is a {type(text).__name__}; give it as a str.")
    if len(text) > MAX_CHARACTERS:
        raise TextTooLong(f"The text has {len(text)} characters, more than {MAX_CHARACTERS}; shorten it.")
    text = _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _closed_bidi(unicodedata.normalize("NFC", text)).strip()
    if all(letter.isspace() or unicodedata.category(letter) == "Cf" for letter in text):
        raise PromptEmpty("The question is empty; type some words.")
    return text


def _closed_bidi(text: str) -> str:
    """Drop closers that close nothing and add those that are missing, so that no direction leaks out of the text."""
    open_closers: list[str] = []
    kept: list[str] = []
    for letter in text:
        if letter in _BIDI_OPENERS:
            open_closers.append(_BIDI_OPENERS[letter])
        elif letter in "\u202c\u2069":
            if not open_closers or open_closers[-1] != letter:
                continue
            open_closers.pop()
        kept.append(letter)
    return "".join(kept) + "".join(reversed(open_closers))
