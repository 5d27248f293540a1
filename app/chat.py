"""From what the page shows to what the model reads, and back. No layout and no torch here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from app.engine import Engine
from app.i18n import describe_error, translate
from maya_core.errors import MayaError
from maya_core.images import open_image
from maya_core.prompt import Message, clean_text

History = list[dict[str, Any]]  # gradio's messages: {"role": ..., "content": text or {"path": ...} or a list of parts}
Typed = Mapping[str, Any]  # of the question box: {"text": str, "files": [path, ...]}

EMPTY: Typed = {"text": "", "files": []}


def respond(
    engine: Engine, typed: Typed, history: Sequence[dict[str, Any]], language: str
) -> Iterator[tuple[Typed, History, str]]:
    """What the question box, the conversation and the notice show, each time a piece of the answer comes.

    Trouble is told in `language`; the question then goes back into the box and the conversation is as it was.
    """
    before: History = list(history)
    try:
        asked = [*before, *_asked(typed)]
        messages = to_messages(asked)
        if not any(message.images for message in messages):
            yield typed, before, translate("Add a picture first.", language)
            return
        yield EMPTY, asked, ""
        answer = ""
        with closing(_closable(engine.stream(messages))) as pieces:
            for piece in pieces:
                answer += piece
                yield EMPTY, [*asked, {"role": "assistant", "content": answer}], ""
    except MayaError as error:
        yield typed, before, describe_error(error, language)


def _closable(pieces: Iterator[str]) -> Any:
    """Engines give generators; closing one is how an answer is stopped."""
    return pieces if hasattr(pieces, "close") else (piece for piece in pieces)


def _asked(typed: Typed) -> History:
    """The user's entries for the conversation: the pictures, then the words. Raises PromptEmpty or PromptTooLong."""
    text = clean_text(typed.get("text") or "")
    pictures = [{"role": "user", "content": {"path": path}} for path in typed.get("files") or ()]
    return [*pictures, {"role": "user", "content": text}]


def to_messages(history: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The turns since the newest picture, each answer after its question; earlier pictures are not shown again.

    An answer that was stopped before its first word is left out with its question. Raises ImageError.
    """
    turns: list[tuple[str, list[str], list[str]]] = []  # role, words, paths of pictures
    for entry in history:
        words, paths = _parts(entry["content"])
        if turns and turns[-1][0] == entry["role"]:
            turns[-1][1].extend(words)
            turns[-1][2].extend(paths)
        else:
            turns.append((entry["role"], words, paths))
    starts = [number for number, (role, _, paths) in enumerate(turns) if role == "user" and paths]
    recent = turns[starts[-1] :] if starts else turns
    return tuple(
        Message(
            role="user" if role == "user" else "assistant",
            text=words[-1] if words else "",
            images=tuple(open_image(path) for path in paths[-1:]),
        )
        for role, words, paths in recent
    )


def _parts(content: Any) -> tuple[list[str], list[str]]:
    """The texts and the picture paths of a message's content, in any of the forms gradio gives it."""
    if isinstance(content, str):
        return [content], []
    if isinstance(content, Mapping):
        if content.get("type") == "text":
            return [content["text"]], []
        file = content.get("file", content)
        return [], [file["path"]]
    words: list[str] = []
    paths: list[str] = []
    for part in content:
        more_words, more_paths = _parts(part)
        words += more_words
        paths += more_paths
    return words, paths
