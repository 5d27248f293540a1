"""Maya for a telephone in the same house: the page at this computer's address in the local network, for who has the code.

Nothing of the page is served there to a browser that has not brought the code once; it brings a cookie afterwards. Both
last until Maya ends.
"""

import asyncio
import hmac
import ipaddress
import secrets
import socket
import time
import unicodedata
from collections import deque
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from html import escape
from http.cookies import CookieError, SimpleCookie
from io import StringIO
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from app.guard import App, Receive, Scope, Send
from app.i18n import Say, later, preferred_language
from maya_core.errors import MayaError
from maya_core.languages import get_language

DIGITS = 8
MOST_TRIES, TRIES_SECONDS = 5, 60.0  # wrong codes, of all who try together, after which none is looked at for a while
MOST_BYTES = 256  # of what is sent with a code
PAGE = Path(__file__).parent / "theme" / "code.html"  # asks for the code
COOKIE = "maya-visit"
CODE_PATH = "/code"
FAREWELL = 1  # seconds for who is still connected when Maya ends


class NoLocalNetwork(MayaError):
    """This computer is in no local network, or its address there is open to everybody."""


class Lan:
    """The page's place in the local network. host, port: where it listens; code: what opens it."""

    def __init__(self, host: str, port: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        """port: one that is free is taken where it is not. Raises NoLocalNetwork."""
        self.socket = _listening(host, port)
        self.host, self.port = host, int(self.socket.getsockname()[1])
        self.code = "".join(secrets.choice("0123456789") for _ in range(DIGITS))
        self._visits: list[str] = []
        self._wrong: deque[float] = deque(maxlen=MOST_TRIES)
        self._clock = clock

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}/"

    @property
    def link(self) -> str:
        """The address with the code, to be scanned. Behind the # it is seen by the browser alone."""
        return f"{self.address}#{self.code}"

    @property
    def spoken_code(self) -> str:
        """The code in two parts, as people read it."""
        return f"{self.code[: DIGITS // 2]} {self.code[DIGITS // 2 :]}"

    def is_full(self) -> bool:
        """Whether so many wrong codes came lately that none is looked at."""
        return len(self._wrong) == MOST_TRIES and self._clock() - self._wrong[0] < TRIES_SECONDS

    def visit(self, typed: str) -> str | None:
        """What a browser that brought the code is known by from now on; None where the code is wrong, or not looked at."""
        if self.is_full():
            return None
        digits = "".join(str(unicodedata.digit(letter)) for letter in typed if letter.isdigit())
        if not hmac.compare_digest(digits, self.code):
            self._wrong.append(self._clock())
            return None
        self._visits.append(secrets.token_urlsafe(32))
        return self._visits[-1]

    def knows(self, headers: Headers) -> bool:
        """Whether a request is of a browser that brought the code."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        brought = cookie.value.encode() if cookie else b""
        return any(hmac.compare_digest(brought, visit.encode()) for visit in self._visits)

    def is_asked(self, scope: Scope) -> bool:
        """Whether a request came by the local network."""
        return tuple(scope.get("server") or ()) == (self.host, self.port)

    def lifespan(self) -> Callable[[Any], AbstractAsyncContextManager[None]]:
        """For the page's application: it listens here too, in its own event loop, for as long as it runs."""

        @asynccontextmanager
        async def listening(app: Any) -> AsyncIterator[None]:
            import uvicorn

            config = uvicorn.Config(
                app, lifespan="off", log_config=None, log_level="warning", timeout_graceful_shutdown=FAREWELL
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[self.socket]))
            try:
                yield
            finally:
                server.should_exit = True
                await serving

        return listening


class CodeFirst:
    """ASGI middleware: of what is asked by the local network, without the code, nothing but the page that asks for it."""

    def __init__(self, app: App, lan: Lan) -> None:
        self.app, self.lan = app, lan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asks = scope["type"] in ("http", "websocket")
        if not asks or not self.lan.is_asked(scope) or self.lan.knows(Headers(scope=scope)):
            await self.app(scope, receive, send)
            return
        await (await self._answer(scope, receive))(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        language = preferred_language(Headers(scope=scope).get("accept-language", ""))
        asked = scope["type"], scope.get("method"), scope["path"]
        if asked == ("http", "GET", "/"):
            return _page(language)
        if asked != ("http", "POST", CODE_PATH):
            return PlainTextResponse("", status_code=403)
        typed = parse_qs((await _body(receive)).decode("utf-8", "replace")).get("code", [""])[0]
        if visit := self.lan.visit(typed):
            answer: Response = RedirectResponse("/", status_code=303)
            answer.set_cookie(COOKIE, visit, httponly=True, samesite="lax")
            return answer
        if self.lan.is_full():
            return _page(language, later("Too many wrong codes. Wait a minute and try again."), status=429)
        return _page(language, later("This code is wrong. Look at the computer again."), status=403)


def local_address() -> str:
    """This computer's address in its local network. Nothing is sent to find it. Raises NoLocalNetwork."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("10.255.255.255", 1))  # by which way it would go
            address = str(asked.getsockname()[0])
        except OSError:
            address = "127.0.0.1"
    found = ipaddress.ip_address(address)
    if found.is_loopback or not found.is_private:
        raise NoLocalNetwork("This computer is in no local network; connect it to one, or start Maya without --lan.")
    return address


def qr_code(link: str) -> str:
    """A link as a picture to be scanned, in SVG."""
    import segno

    drawn: str = segno.make(link, error="m").svg_inline(scale=5, border=4, light="#fff")
    return drawn


def qr_code_for_terminal(link: str) -> str:
    """As `qr_code`, in the characters of a terminal."""
    import segno

    drawn = StringIO()
    segno.make(link, error="m").terminal(drawn, compact=True)
    return drawn.getvalue()


def _listening(host: str, port: int) -> socket.socket:
    for wished in (port, 0):
        try:
            return socket.create_server((host, wished))
        except OSError:
            continue
    raise NoLocalNetwork(f"Maya cannot listen at {host}; connect to the network again, or start Maya without --lan.")


async def _body(receive: Receive) -> bytes:
    """What is sent with a request, as far as it is looked at."""
    body = b""
    while len(body) < MOST_BYTES:
        message: MutableMapping[str, Any] = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:MOST_BYTES]


def _page(language: str, trouble: str = "", *, status: int = 200) -> Response:
    """The page that asks for the code."""
    say = Say(language)
    texts = {
        "trouble": trouble and say(trouble),
        "asks": say("Type the code that Maya shows on the computer."),
        "opens": say("Open Maya"),
    }
    filled = {name: escape(text) for name, text in texts.items()}
    page = Template(PAGE.read_text("utf-8")).substitute(
        filled, code=language, direction=get_language(language).direction, path=CODE_PATH
    )
    return HTMLResponse(page, status_code=status, headers={"cache-control": "no-store"})
