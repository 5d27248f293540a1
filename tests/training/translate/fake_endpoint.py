"""An OpenAI-compatible endpoint on 127.0.0.1 that translates by rote, with faults as scripted.

Its languages are the ten: a text becomes that many known words of the language, its numbers and placeholders kept.
"""

import json
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from maya_core.languages import LANGUAGES

WORDS = {
    "en": "the picture shows a house and a garden in the evening",
    "zh": "图片里有一座房子和一个花园 我们在这里看到很多人 天气很好",
    "fr": "l'image montre une maison et un jardin dans la lumière du soir",
    "es": "la imagen muestra una casa y un jardín en la luz de la tarde",
    "ru": "на картинке показан дом и сад в вечернем свете",
    "hi": "इस तस्वीर में एक घर और एक बगीचा है जो शाम की रोशनी में है",
    "ja": "この 写真には 家と 庭が 写っています 夕方の 光が きれいです",
    "ar": "تظهر الصورة منزلا وحديقة في ضوء المساء",
    "bn": "ছবিতে একটি বাড়ি এবং একটি বাগান সন্ধ্যার আলোয় দেখা যাচ্ছে",
    "ur": "تصویر میں ایک گھر اور ایک باغ شام کی روشنی میں ہے",
}
CODES = {language.english_name: language.code for language in LANGUAGES}
_KEPT = re.compile(r"<[^>\s]+>|\{\w*\}|\d+")
_ASKED = re.compile("|".join(CODES))


def translate(text: str, language: str) -> str:
    """So many words of the language as the text has, with what must be kept where it was."""
    words = WORDS[language].split()
    lines = []
    for line in text.split("\n"):
        said = [words[place % len(words)] for place in range(max(3, len(line) // 8))] if line.strip() else []
        lines.append(" ".join(said + _KEPT.findall(line)))
    return "\n".join(lines)


@dataclass
class Request:
    """A request as the fake reads it. texts: what is to be translated; listed: whether it came as JSON."""

    body: dict[str, Any]
    headers: dict[str, str]
    language: str
    texts: list[str]
    listed: bool
    number: int  # from 0


@dataclass
class Reply:
    """What is sent back; the parts that a fault changes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = ""
    ending: str = "stop"
    body: bytes | None = None  # instead of a completion
    content_type: str = "application/json"
    drop: str = ""  # "before" anything, or "within" the body
    hang: str = ""  # "before" headers, "after" them, or "drip" a byte now and then
    delay: float = 0.0  # seconds


Script = Callable[[Request, Reply], Reply]


class FakeEndpoint(ThreadingHTTPServer):
    """script: may change each reply."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, script: Script = lambda request, reply: reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.paid: Counter[tuple[str, str]] = Counter()  # (language, text) of whole answers
        self.output_tokens = 0
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        pass  # clients that went away


@contextmanager
def fake_endpoint(script: Script = lambda request, reply: reply) -> Iterator[FakeEndpoint]:
    server = FakeEndpoint(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def faults(share: float, *, seed: int = 0) -> Script:
    """A fault of every kind in turn for so many of the requests."""
    generator = random.Random(seed)
    kinds = list(FAULTS.values())
    turn = iter(range(10**9))

    def script(request: Request, reply: Reply) -> Reply:
        return kinds[next(turn) % len(kinds)](reply) if generator.random() < share else reply

    return script


def _changed(**changes: Any) -> Callable[[Reply], Reply]:
    def change(reply: Reply) -> Reply:
        for name, value in changes.items():
            setattr(reply, name, value(reply) if callable(value) else value)
        return reply

    return change


FAULTS: dict[str, Callable[[Reply], Reply]] = {
    "429": _changed(status=429, headers={"Retry-After": "0"}),
    "500": _changed(status=500, body=b"oops"),
    "503": _changed(status=503),
    "529": _changed(status=529),
    "dropped": _changed(drop="before"),
    "dropped within": _changed(drop="within"),
    "html": _changed(body=b"<html>Welcome</html>", content_type="text/html"),
    "empty body": _changed(body=b""),
    "torn json": _changed(body=b'{"choices": [{"message": {"content": "ab'),
    "bad utf-8": _changed(body=b'{"choices": [{"message": {"content": "\xff"}}]}'),
    "repeated keys": _changed(body=b'{"choices": [], "choices": []}'),
    "cut off": _changed(ending="length"),
    "null": _changed(text=None),
    "refusal": _changed(text="I'm sorry, but I can't help with that."),
}


class _Handler(BaseHTTPRequestHandler):
    server: FakeEndpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = self._read()
        with self.server.lock:
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            self._answer(request, self.server.script(request, Reply(text=self._translated(request))))
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def _read(self) -> Request:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        named = _ASKED.findall(prompt)
        asked = next((name for name in named if name != "English"), "English")  # some say from which they translate
        listed = "\n\n[{" in prompt
        text = prompt[prompt.index("\n\n") + 2 :]
        texts = [entry["text"] for entry in json.loads(text)] if listed else [text]
        with self.server.lock:
            request = Request(body, dict(self.headers), CODES[asked], texts, listed, len(self.server.requests))
            self.server.requests.append(request)
        return request

    def _translated(self, request: Request) -> str:
        found = [translate(text, request.language) for text in request.texts]
        listed = [{"id": number, "text": text} for number, text in enumerate(found, start=1)]
        return json.dumps(listed) if request.listed else found[0]

    def _answer(self, request: Request, reply: Reply) -> None:
        time.sleep(reply.delay)
        if reply.hang == "before":
            self.server.released.wait(30)
        if reply.drop == "before":
            self._break()
            return
        output = len(reply.text or "")
        completion = {
            "choices": [{"message": {"role": "assistant", "content": reply.text}, "finish_reason": reply.ending}],
            "usage": {"prompt_tokens": len(request.texts), "completion_tokens": output},
        }
        body = json.dumps(completion).encode() if reply.body is None else reply.body
        self.send_response(reply.status)
        headers = {"Content-Type": reply.content_type, "Content-Length": str(len(body))} | reply.headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.hang == "after":
            self.server.released.wait(30)
        if reply.hang == "drip":
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                self.wfile.flush()
                if self.server.released.wait(0.05):
                    break
            self.close_connection = True
            return
        if reply.drop == "within":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self._break()
            return
        if reply.status == 200 and reply.body is None:
            with self.server.lock:
                self.server.paid.update((request.language, text) for text in request.texts)
                self.server.output_tokens += output
        self.wfile.write(body)

    def _break(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.wfile = open("/dev/null", "wb")  # noqa: SIM115 what the handler flushes at its end

    def log_message(self, *_: Any) -> None:
        pass
