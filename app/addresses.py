"""A conversation has an address of its own, `/c/ID`, at which the page opens with it; and its pictures have small ones."""

import re
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from app.guard import App, Receive, Scope, Send
from maya_core.errors import ImageError
from maya_core.model.images import open_image

ADDRESS = re.compile(r"/c/[^/]*")  # of a conversation, or of none: the page says so
CONVERSATION = re.compile(r"[0-9a-f]{32}")
PICTURE = re.compile(r"[0-9a-f]{32}\.(?:png|jpg)")
SIDE = 96  # px of a small picture


def is_conversation(name: str) -> bool:
    """Whether it is of the form of a conversation's id."""
    return bool(CONVERSATION.fullmatch(name))


class Addresses:
    """ASGI middleware: serves the page at the address of a conversation too, or of what is left of one; the page's script
    reads which it is."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ADDRESS.fullmatch(scope["path"]):
            scope = {**scope, "path": "/", "raw_path": b"/"}
        await self.app(scope, receive, send)


def thumbnails(pictures: Path) -> Callable[[Request], Response]:
    """The endpoint of `/thumbnails/{file}`: the pictures of a folder, small."""

    def thumbnail(request: Request) -> Response:
        file = pictures / request.path_params["file"]
        if not PICTURE.fullmatch(file.name) or not file.is_file():
            return Response(status_code=404)
        try:
            small = _small(file)
        except ImageError:
            return Response(status_code=404)
        return Response(small, media_type="image/jpeg", headers={"cache-control": "no-store"})

    return thumbnail


@lru_cache(maxsize=1024)
def _small(file: Path) -> bytes:
    made = BytesIO()
    picture = open_image(file)
    picture.thumbnail((SIDE, SIDE))
    picture.save(made, "JPEG", quality=80)
    return made.getvalue()
