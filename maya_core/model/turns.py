"""Conversations and pictures as transformers' users write them -> `Message`s and `Picture`s."""

import os
from base64 import b64decode
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from maya_core.errors import ImageCountMismatch, ImageTypeUnsupported, ImageUnreadable, PromptError
from maya_core.model.images import as_rgb, open_image
from maya_core.model.prompt import IMAGE, Message, Picture

_ROLES = ("system", "user", "assistant")
_UNSEEN = Path(IMAGE)  # a picture of which only the place is wanted


def conversations_of(given: Any, *, with_pictures: bool) -> tuple[list[list[Message]], bool]:
    """The messages of one conversation or of several, and whether there are several.

    with_pictures: False where only the places of pictures are wanted; none is opened then, and none need be given.
    Raises PromptError, and ImageError for pictures.
    """
    is_batch = isinstance(given, list | tuple) and bool(given) and not isinstance(given[0], Mapping)
    conversations = given if is_batch else [given]
    if not all(isinstance(one, list | tuple) for one in conversations):
        raise PromptError(
            "A conversation is a list of turns, each with role and content; several are a list of such lists."
        )
    turns = [[message_of(turn, with_pictures=with_pictures) for turn in one] for one in conversations]
    return turns, is_batch


def message_of(turn: Any, *, with_pictures: bool = True) -> Message:
    """A turn as transformers writes it; its pictures come before its words, as in training. Only where pictures stand
    between words all keep their order, and each part has a line of its own.

    Raises PromptError for what is no turn and for parts that are neither words nor pictures, and ImageError.
    """
    role, parts = _parts_of(turn)
    said, shown = (
        [part for part in parts if part["type"] == "text"],
        [part for part in parts if part["type"] != "text"],
    )
    images = tuple(_picture_of(part) if with_pictures else _UNSEEN for part in shown)
    runs_of_words = [is_text for is_text, _ in groupby(part["type"] == "text" for part in parts)].count(True)
    if runs_of_words < 2:
        return Message(role=role, text="\n".join(part["text"] for part in said), images=images)
    text, places = "", []
    for part in parts:
        if part["type"] == "text":
            text += part["text"] + "\n"
        else:
            places.append(len(text))
    return Message(role=role, text=text if parts[-1] in shown else text[:-1], images=images, places=tuple(places))


def _parts_of(turn: Any) -> tuple[Any, list[Any]]:
    """Role and parts of a turn; each part is of a known type, and text has words."""
    if not isinstance(turn, Mapping) or turn.get("role") not in _ROLES:
        what = f"has the role {turn.get('role')!r}" if isinstance(turn, Mapping) else f"is a {type(turn).__name__}"
        raise PromptError(f"A turn {what}; give role and content, where the role is one of {', '.join(_ROLES)}.")
    content = turn.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list | tuple):
        raise PromptError(f"A turn's content is a {type(content).__name__}; give its words, or a list of parts.")
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind not in ("text", "image", "image_url") or (kind == "text" and not isinstance(part.get("text"), str)):
            raise PromptError(
                f"A turn has a part of type {kind!r} that Maya does not know; give words as type text, under text, and "
                "pictures as type image."
            )
    return turn["role"], list(parts)


def _picture_of(part: Mapping[str, Any]) -> Picture:
    names = ("image", "path", "url", "base64", "image_url")
    picture = next((part[name] for name in names if part.get(name) is not None), None)
    if isinstance(picture, Mapping):  # as OpenAI writes an address
        picture = picture.get("url")
    if picture is None:
        raise PromptError("A part of type image has no picture; give it as image, path, url or base64.")
    return _opened(picture)


def flat_pictures(images: Any) -> list[Picture]:
    """Pictures from a picture, or lists of them: opened, a numpy array (H, W, 3) of uint8, or a file's path, an address on
    the web or base64. Raises ImageError for anything else."""
    if images is None:
        return []
    if isinstance(images, list | tuple):
        return list(chain.from_iterable(map(flat_pictures, images)))
    return [_opened(images)]


def pictures_by_text(images: Any, places: Sequence[int]) -> list[list[Picture]]:
    """The pictures of each of several texts, which have so many places for them. images: a list for each text, or all in
    the order of the places. Raises ImageCountMismatch and ImageError."""
    is_dealt = isinstance(images, list | tuple) and any(isinstance(some, list | tuple) for some in images)
    if is_dealt and len(images) == len(places):
        dealt = [flat_pictures(some) for some in images]
        for number, (some, wanted) in enumerate(zip(dealt, places, strict=True), start=1):
            if len(some) != wanted:
                raise ImageCountMismatch(
                    f"Text {number} has {wanted} times {IMAGE}, and {len(some)} pictures were given for it."
                )
        return dealt
    pictures = flat_pictures(images)
    if is_dealt and len(places) > 1:
        raise ImageCountMismatch(f"There are {len(places)} texts, and {len(images)} lists of pictures.")
    if sum(places) != len(pictures):
        raise ImageCountMismatch(f"The text has {sum(places)} times {IMAGE}, and {len(pictures)} pictures were given.")
    rest = iter(pictures)
    return [[next(rest) for _ in range(wanted)] for wanted in places]


def _opened(picture: Any) -> Picture:
    if isinstance(picture, Path):
        return picture
    if isinstance(picture, str):
        return Path(picture) if os.path.isfile(picture) else _fetched(picture)
    try:
        return as_rgb(picture if isinstance(picture, Image.Image) else Image.fromarray(picture))
    except (AttributeError, TypeError):
        raise ImageTypeUnsupported(
            f"A picture was given as {type(picture).__name__}; give it opened by Pillow, as a numpy array (height, width, "
            "3) of uint8, as a path, an address or base64."
        ) from None


def _fetched(source: str) -> Image.Image:
    try:
        if source.startswith(("http://", "https://")):
            data = httpx2.get(source, follow_redirects=True).raise_for_status().content
        else:
            data = b64decode(
                "".join(source.rpartition(",")[2].split()), validate=True
            )  # behind `data:image/png;base64,`
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        raise ImageUnreadable(f"{source[:80]!r} is neither a file, nor an address, nor a picture in base64.") from None
    return open_image(data)
