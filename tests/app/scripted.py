"""The double of `app.engine.Engine`: says what it is told, and notes what it was asked."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app.engine import Piece
from maya_core.model.prompt import Message


class ScriptedEngine:
    """Answers with `pieces`, or with what `answer` makes of the messages; then raises `trouble`, if there is any.

    rate: pieces a second; None is as fast as they are taken.
    """

    def __init__(
        self,
        *pieces: str,
        answer: Callable[[Sequence[Message]], Sequence[str]] | None = None,
        trouble: Exception | None = None,
        rate: float | None = None,
    ) -> None:
        self.answer = answer or (lambda _: pieces)
        self.trouble, self.rate = trouble, rate
        self.asked: Sequence[Message] = ()
        self.options: dict[str, Any] = {}
        self.running, self.most_running, self.closed = 0, 0, threading.Event()

    def stream(
        self, messages: Sequence[Message], *, temperature: float = 0.0, most_tokens: int = 256
    ) -> Iterator[Piece]:
        self.asked, self.options = messages, {"temperature": temperature, "most_tokens": most_tokens}
        self.closed.clear()
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            for number, text in enumerate(self.answer(messages), start=1):
                if self.rate:
                    time.sleep(1 / self.rate)
                yield Piece(text=text, tokens=number)
            if self.trouble:
                raise self.trouble
        finally:
            self.running -= 1
            self.closed.set()
