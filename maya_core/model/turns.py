"""Conversations as transformers writes them -> `Message`s and pictures."""

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.image_utils import load_image

from maya_core.errors import ImageTypeUnsupported, ImageUnreadable, PromptError
from maya_core.model.images import as_rgb
from maya_core.model.prompt import Message, Picture


def message_of(turn: Mapping[str, Any]) -> Message:
    """A turn as transformers writes it. Raises PromptError for parts that are neither words nor pictures."""
    content = turn["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    unknown = {part.get("type") for part in parts} - {"text", "image"}
    if turn.get("role") not in ("system", "user", "assistant") or unknown:
        raise PromptError(
            f"A turn has role {turn.get('role')!r} and parts of type {', '.join(map(repr, unknown)) or 'text'}; Maya knows "
            "the roles system, user and assistant, and the types text and image."
        )
    words = "\n".join(part["text"] for part in parts if part["type"] == "text")
    pictures = tuple(_picture_of(part) for part in parts if part["type"] == "image")
    return Message(role=turn["role"], text=words, images=pictures)


def _picture_of(part: Mapping[str, Any]) -> Picture:
    picture = next((part[name] for name in ("image", "path", "url", "base64") if part.get(name) is not None), None)
    if picture is None:
        raise PromptError("A part of type image has no picture; give it as image, path, url or base64.")
    return flat_pictures(picture)[0]


def flat_pictures(images: Any) -> list[Picture]:
    """Pictures from a picture, or lists of them: opened, a numpy array (H, W, 3) of uint8, or a file's path, an address on
    the web or base64. Raises ImageError for anything else."""
    if images is None:
        return []
    if isinstance(images, list | tuple):
        return list(chain.from_iterable(map(flat_pictures, images)))
    if isinstance(images, Path):
        return [images]
    if isinstance(images, str):
        return [Path(images) if os.path.isfile(images) else _fetched(images)]
    try:
        opened = images if isinstance(images, Image.Image) else Image.fromarray(images)
    except (AttributeError, TypeError):
        raise ImageTypeUnsupported(
            f"A picture was given as {type(images).__name__}; give it opened by Pillow, as a numpy array (height, width, 3) "
            "of uint8, as a path, an address or base64."
        ) from None
    return [as_rgb(opened)]


def _fetched(source: str) -> Image.Image:
    try:
        fetched: Image.Image = load_image(source)
    except ValueError:
        raise ImageUnreadable(f"{source[:80]!r} is neither a file, nor an address, nor a picture in base64.") from None
    return fetched
