"""The answers that are being made, one at a time of a conversation, each in a thread of its own: it goes on when the page
that asked for it is loaded anew or closed, and every page that shows the conversation can follow it.

gradio's own `cancels` is not used: it closes the browser's event stream while messages are on their way in it, and the
page then shows an error in place of the conversation.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from app.chat import Underway, View
from app.engine import ConversationBusy
from maya_core.errors import MayaError

DELIVERY_SECONDS = 2.0  # a view that takes longer to be sent goes to a browser that has left
DRAWING_SECONDS = 1.0  # after which a page that has not told that a view is drawn gets another
LOG = logging.getLogger(__name__)


class Running:
    """An answer that is being made: the latest view of it, and what ends it.

    asked: the conversation that it was asked for in; None for a new one. views: as `Chat` gives them. ended: the
    conversation after an answer has ended. leave: told when it has.
    """

    def __init__(
        self,
        asked: str | None,
        views: Generator[View],
        ended: Callable[[Underway], View],
        leave: Callable[["Running"], None],
    ) -> None:
        self._asked, self._views, self._ended_view, self._leave = asked, views, ended, leave
        self.stopped = self.ended = False
        self._view: View | None = None
        self._number = 0
        self._change = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="maya-answer", daemon=True)

    def _run(self) -> None:
        try:
            with closing(self._views) as views:
                for view in views:
                    self._publish(view)
                    if self.stopped:
                        break
        except MayaError as error:
            self._tell(error)
        except Exception as error:  # noqa: BLE001 - the page must hear of it, whatever it is
            LOG.error("An answer ended by %s.", type(error).__name__)
            self._tell(MayaError("The model could not answer; ask again."))
        if self.stopped:
            self.stop()  # which found no question yet to end
        else:
            self._end()

    def _tell(self, trouble: MayaError) -> None:
        """Trouble that `Chat` did not expect."""
        with self._change:
            before = self._view or View(conversation=None)
        self._publish(replace(before, notice=trouble))

    def _publish(self, view: View) -> None:
        with self._change:
            if not self.ended:
                self._view, self._number = view, self._number + 1
                self._change.notify_all()

    def stop(self) -> None:
        """Let it end with what has come. It is kept at once, also where the model cannot be stopped before it has read a
        picture; before the question itself is kept, it is stopped as soon as it is."""
        self.stopped = True
        is_own = threading.current_thread() is self.thread
        with self._change:
            view = self._view
            if self.ended or (view is None and not is_own):
                return
        if view and view.underway:
            if not view.underway.end(half=True) and not is_own:
                return  # its maker has ended it, and tells how: the question may come back
            last = self._ended_view(view.underway)
            self._publish(replace(last, notice=last.notice or view.notice))
        self._end()

    def _end(self) -> None:
        with self._change:
            self.ended = True
            self._change.notify_all()
        self._leave(self)

    @property
    def conversation(self) -> str | None:
        """In which it is made: another than it was asked for in, where that stays as it was; None before the first question
        of a new one is kept."""
        return self._view.conversation if self._view else self._asked

    def newer(self, number: int, seconds: float, following: "Following | None" = None) -> tuple[View | None, int, bool]:
        """The view after the one of this number, as soon as it is there, its number, and whether it is the last. None: there
        is none yet. following: a page which is to get it, and gets none but the last while it still draws the one before."""

        def is_wanted() -> bool:
            return self._number > number and not (following and following.is_drawing)

        with self._change:
            self._change.wait_for(
                lambda: self.ended or is_wanted() or bool(following and following.left), timeout=seconds
            )
            if self.ended or is_wanted():
                return (self._view if self._number > number else None), self._number, self.ended
            return None, number, False

    def look(self) -> None:
        """Who waits for a newer view looks whether it may have it."""
        with self._change:
            self._change.notify_all()


class Following:
    """A page and the answer that it is being given. language: of the page. heard: whether it has begun to listen. left:
    nobody looks at it any more. key: by which the page tells what it has drawn."""

    def __init__(self, language: str, running: Running) -> None:
        self.language, self.running, self.key = language, running, uuid.uuid4().hex
        self.left = self.heard = False
        self._drawing, self._drawing_since = 0, 0.0
        self._change = threading.Lock()
        self._sent = threading.Event()
        self._sent.set()

    def draws(self, number: int) -> str:
        """The page is given the view of this number; what it tells as soon as it has drawn it."""
        self._drawing, self._drawing_since = number, time.monotonic()
        return f"{self.key}/{number}"

    def drawn(self, number: int) -> None:
        if number == self._drawing:
            self._drawing = 0
            self.running.look()

    @property
    def is_drawing(self) -> bool:
        """A slow browser takes long for a view: all that are made would wait there, and what its person does with them."""
        return bool(self._drawing) and time.monotonic() < self._drawing_since + DRAWING_SECONDS

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
            self.left = True
        self.running.look()
        self._sent.wait(DELIVERY_SECONDS)


class Answers:
    """Those that are being made, by conversation; and who follows them, by gradio's session, which is one opened page."""

    def __init__(self) -> None:
        self._begun: set[Running] = set()
        self._following: dict[str, Following] = {}
        self._change = threading.Lock()

    def begin(
        self,
        session: str,
        language: str,
        conversation: str | None,
        views: Generator[View],
        ended: Callable[[Underway], View],
    ) -> Following | None:
        """A new answer, which the page follows; None while it is being given one that goes on. Raises ConversationBusy while
        another page's question is being answered in the conversation."""
        with self._change:
            before = self._following.get(session)
            if before and not (before.left or before.running.stopped or before.running.ended):
                return None
            if conversation and self._of(conversation):
                raise ConversationBusy("Another question of this conversation is being answered; ask when it has been.")
            running = Running(conversation, views, ended, self._end)
            self._begun.add(running)
            following = self._following[session] = Following(language, running)
        if before:
            before.leave()
        running.thread.start()
        return following

    def follow(self, session: str, language: str, conversation: str) -> Following | None:
        """The conversation's answer, from now on also for this page; None where none is being made, or the page has it."""
        with self._change:
            running, before = self._of(conversation), self._following.get(session)
            if running is None or (before and before.running is running and not before.left):
                return None
            following = self._following[session] = Following(language, running)
        if before:
            before.leave()
        return following

    def _of(self, conversation: str) -> Running | None:
        return next((one for one in self._begun if one.conversation == conversation and not one.ended), None)

    def is_busy(self, conversation: str) -> bool:
        """Whether an answer of the conversation is being made."""
        with self._change:
            return self._of(conversation) is not None

    def _end(self, running: Running) -> None:
        with self._change:
            self._begun.discard(running)

    def done(self, session: str, following: Following) -> None:
        """The page follows it no longer."""
        with self._change:
            if self._following.get(session) is following:
                del self._following[session]

    def is_awaited(self, session: str) -> bool:
        """Whether the page has asked for an answer and not begun to listen to it yet."""
        following = self._following.get(session)
        return following is not None and not following.heard

    def drawn(self, key: str, number: int) -> None:
        """A page has drawn a view that it was given (`Following.draws`)."""
        with self._change:
            following = next((one for one in self._following.values() if one.key == key), None)
        if following:
            following.drawn(number)

    def stop(self, session: str) -> None:
        """Let the page's answer end with what has come of it."""
        if following := self._following.get(session):
            following.running.stop()

    def stop_of(self, conversation: str) -> None:
        """Let the conversation's answer end with what has come of it."""
        with self._change:
            running = self._of(conversation)
        if running:
            running.stop()

    def leave(self, session: str) -> None:
        """The page is to show something else. An answer that no other page follows ends with what has come of it."""
        following = self._following.get(session)
        if following is None:
            return
        following.leave()
        with self._change:
            others = [one for one in self._following.values() if one.running is following.running and not one.left]
        if not others:
            following.running.stop()

    def speak(self, session: str, language: str) -> bool:
        """The page speaks another language; whether it is being given an answer, which goes on in it."""
        if following := self._following.get(session):
            following.language = language
        return following is not None

    def stop_all(self) -> None:
        """Let all end with what has come of them."""
        with self._change:
            begun = list(self._begun)
        for running in begun:
            running.stop()
