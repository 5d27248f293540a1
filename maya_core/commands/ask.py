"""`maya ask`. Heavy libraries are imported late, after what can be wrong with its words has been told."""

import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from maya_core.commands.arguments import Model
from maya_core.commands.progress import here
from maya_core.errors import MayaError

if TYPE_CHECKING:
    from maya_core.answering.session import Delta

PIPE = "-"  # in place of a file or a question: what comes through the pipe


def ask(
    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE... QUESTION")],
    model: Model = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    answer_in: str | None = None,
    json: bool = False,
) -> None:
    """Ask a question about a picture or several; the answer comes in the question's language or another, word by word.

    Args:
        words: the pictures' files, then the question, in one of Maya's ten languages; `-` for what is piped in
        max_new_tokens: longest answer
        temperature: 0 gives the likeliest answer, more gives more varied ones
        answer_in: language of the answer, one of en, zh, fr, es, ru, hi, ja, ar, bn, ur; the question's if not given
        json: one JSON object: text, language, tokens, and seconds to the first word and to the last
    """
    pictures, question = _asked(words)
    from maya_core.answering.language import answer_language
    from maya_core.answering.session import load_best
    from maya_core.languages import get_language
    from maya_core.model.config import GenerationOptions
    from maya_core.model.images import open_image

    if not math.isfinite(temperature):
        raise MayaError(f"temperature must be a finite number, not {temperature}.")
    try:
        options = GenerationOptions(max_new_tokens=max_new_tokens, temperature=temperature)
        chosen = get_language(answer_in).code if answer_in is not None else None
    except ValueError as error:
        raise MayaError(str(error)) from None
    images = [open_image(picture) for picture in pictures]
    session = load_best(here(model))
    message = session.processor.user_message(question, images)
    language = answer_language(question, chosen=chosen, interface=spoken())
    if language.notice:
        print(language.notice, file=sys.stderr)
    messages = [language.asked(message)]
    if json:
        print(_as_json(session.deltas(messages, options), language.code))
        return
    for piece in session.stream(messages, options):
        print(piece, end="", flush=True)
    print()


def _asked(words: Sequence[str]) -> tuple[list[Path | bytes], str]:
    """Pictures and question, before anything heavy is loaded: a path, or the bytes that come through the pipe."""
    if len(words) < 2:
        raise MayaError("Give a picture and a question: maya ask PICTURE... QUESTION.")
    *names, question = words
    if list(words).count(PIPE) > 1:
        raise MayaError("Only one thing can come through the pipe; name the other.")
    for name in names:
        if name != PIPE and not Path(name).is_file():
            raise MayaError(f"There is no file {name}; check the path.")
    if question == PIPE:
        question = sys.stdin.read().strip()
    return [sys.stdin.buffer.read() if name == PIPE else Path(name) for name in names], question


def _as_json(deltas: Iterable["Delta"], language: str) -> str:
    started = time.monotonic()
    text, tokens, first = "", 0, None
    for delta in deltas:
        text, tokens = text + delta.text, delta.tokens
        if text.strip() and first is None:
            first = round(time.monotonic() - started, 3)
    seconds = round(time.monotonic() - started, 3)
    fields = {"text": text, "language": language, "tokens": tokens, "seconds_to_first_word": first, "seconds": seconds}
    return json.dumps(fields, ensure_ascii=False)


def spoken() -> str | None:
    """Which of the ten languages the terminal speaks, by its locale; None where it is none of them."""
    from babel import default_locale

    from maya_core.languages import get_language

    try:
        return get_language(default_locale("LC_MESSAGES") or "").code
    except ValueError:
        return None
