"""Keeps the page to the person at this computer, or who has its code (`lan`): no foreign names, pages or content.

A page on the web can make its own name point to 127.0.0.1 (DNS rebinding) or post a form across sites; both would reach
a server that answers to anything. Content-Security-Policy keeps an answer from loading anything from elsewhere.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "base-uri 'self'",
        "form-action 'self'",
        "object-src 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
NOT_OFFERED = ("/gradio_api/openapi.json",)  # what gradio serves and we do not
REFUSAL = "This page belongs to another computer."
OWN_NAMES = ("127.0.0.1", "localhost")
READING = ("GET", "HEAD")  # what changes nothing


class LocalOnly:
    """ASGI middleware: exact Host, exact Origin, no cross-site requests, and strict headers on every answer."""

    def __init__(self, app: App, lan: tuple[str, int] | None = None) -> None:
        """lan: host and port in the local network where it is asked too."""
        self.app, self.lan = app, lan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        changes = scope.get("method", "GET") not in READING
        host, port = scope["server"]
        names = (host,) if (host, port) == self.lan else OWN_NAMES
        if not is_own(Headers(scope=scope), port=port, changes=changes, names=names):
            await PlainTextResponse(REFUSAL, status_code=403)(scope, receive, send)
            return
        if scope["path"] in NOT_OFFERED:
            await PlainTextResponse("Not found.", status_code=404)(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await self.app(scope, receive, send_with_headers)


def is_own(headers: Headers, *, port: int, changes: bool = False, names: Sequence[str] = OWN_NAMES) -> bool:
    """Whether a request asks for us by our own name and came from our own page; or from no page at all, where it changes
    nothing: with what does, a browser always says where it comes from."""
    hosts = {f"{name}:{port}" for name in names}
    if headers.get("host", "").lower() not in hosts:
        return False
    origin = headers.get("origin")
    if origin is None and changes:
        return False
    if origin is not None and origin.lower() not in {f"http://{host}" for host in hosts}:
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    # A link from another page may open ours, but nothing else.
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


class Head:
    """ASGI middleware: puts `text` first into the head of every page, before anything that the page loads."""

    def __init__(self, app: App, text: str) -> None:
        self.app, self.text = app, text.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[MutableMapping[str, Any]] = []  # the start of a page, until its length is known

        async def send_with_head(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                if Headers(raw=message["headers"]).get("content-type", "").startswith("text/html"):
                    held.append(message)
                    return
            elif held and message["type"] == "http.response.body":
                body = message.get("body", b"").replace(b"<head>", b"<head>" + self.text, 1)
                start = held.pop()
                if not message.get("more_body"):
                    MutableHeaders(raw=start["headers"])["content-length"] = str(len(body))
                await send(start)
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, send_with_head)


class Listening:
    """Which browser sessions listen for what the server sends them. Who asks and never listens is not answered."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def starts(self, session: str) -> None:
        self._open[session] += 1

    def ends(self, session: str) -> None:
        self._open[session] -= 1
        if not self._open[session]:
            del self._open[session]

    def __contains__(self, session: str) -> bool:
        return session in self._open


class NotedListeners:
    """ASGI middleware: notes in `listening` who has gradio's event stream open."""

    def __init__(self, app: App, listening: Listening) -> None:
        self.app, self.listening = app, listening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = ""
        if scope["type"] == "http" and scope["path"].endswith("/queue/data"):
            session = QueryParams(scope["query_string"]).get("session_hash", "")
        if not session:
            await self.app(scope, receive, send)
            return
        self.listening.starts(session)
        try:
            await self.app(scope, receive, send)
        finally:
            self.listening.ends(session)
