"""The answer that each open page is being given: at most one, stopped by a note that its stream reads.

gradio's own `cancels` is not used: it closes the browser's event stream while messages are on their way in it, and the
page then shows an error in place of the conversation.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

DELIVERY_SECONDS = 2.0  # a view that takes longer to be sent goes to a browser that has left


class Answering:
    """An answer that is being made. language: of the page. stopped: nothing more is to come of it. left: nobody looks at
    it any more."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.stopped = self.left = False
        self._change = threading.Lock()
        self._sent = threading.Event()
        self._sent.set()

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """While a view is on its way to the browser, which is until gradio asks for the next one; whether it may go."""
        with self._change:
            wanted = not self.left
            if wanted:
                self._sent.clear()
        try:
            yield wanted
        finally:
            self._sent.set()

    def leave(self) -> None:
        """Nothing of it comes any more once this returns: it would come after what the page shows next."""
        with self._change:
            self.left = self.stopped = True
        self._sent.wait(DELIVERY_SECONDS)


class Answers:
    """By gradio's session, which is one opened page."""

    def __init__(self) -> None:
        self._running: dict[str, Answering] = {}
        self._change = threading.Lock()

    @contextmanager
    def begin(self, session: str, language: str) -> Iterator[Answering | None]:
        """A new answer; None while the page is being given one that goes on."""
        with self._change:
            before = self._running.get(session)
            answering = None if before and not before.stopped else Answering(language)
            if answering:
                self._running[session] = answering
        if before and answering:
            before.leave()
        try:
            yield answering
        finally:
            with self._change:
                if answering and self._running.get(session) is answering:
                    del self._running[session]

    def stop(self, session: str) -> None:
        """Let the page's answer end with what has come of it."""
        if answering := self._running.get(session):
            answering.stopped = True

    def leave(self, session: str) -> None:
        """The page is to show something else: as `stop`, and what comes of it is kept but no longer shown."""
        if answering := self._running.get(session):
            answering.leave()

    def speak(self, session: str, language: str) -> bool:
        """The page speaks another language; whether it is being given an answer, which goes on in it."""
        if answering := self._running.get(session):
            answering.language = language
        return answering is not None
