"""What answers. The app knows the protocol; `LocalEngine` is Maya on this computer."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from maya_core.prompt import Message

if TYPE_CHECKING:
    from maya_core.generation import ChatSession


class Engine(Protocol):
    """Answers conversations."""

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """The answer to the last message, in pieces; closing the iterator stops the work. Raises MayaError."""
        ...


class LocalEngine:
    """A model on this computer, loaded at the first question; one answer at a time."""

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model
        self._lock = threading.Lock()
        self._session: ChatSession | None = None

    def load(self) -> None:
        """Load the model now, unless it is there. Raises CheckpointError or DownloadError."""
        with self._lock:
            self._ready()

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        with self._lock:
            yield from self._ready().stream(messages)

    def _ready(self) -> "ChatSession":
        if self._session is None:
            from maya_core.checkpoint import load_best

            self._session = load_best(self.model)
        return self._session
