"""What answers. The app knows the protocol; `LocalEngine` is Maya on this computer."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from maya_core.answering.options import GenerationOptions
from maya_core.errors import GenerationError, MayaError, ModelTooLarge, is_out_of_memory
from maya_core.hardware import importing
from maya_core.model.prompt import Message

if TYPE_CHECKING:
    from maya_core.answering.footprint import Plan
    from maya_core.answering.session import ChatSession

MOST_WAITING = 16
PATIENCE = 0.2  # seconds between two looks at whether it is one's turn
TOLD_EVERY = 1.0  # seconds between two times that it is told how much of a question is read: the page has it to draw
IMPORTING = (
    threading.Lock()
)  # held to import the big libraries: of two threads that do at once, one finds them half made


class EngineBusy(MayaError):
    """So many wait already that one more would wait too long."""


class ConversationBusy(MayaError):
    """Another question of the conversation is being answered."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How far a model is loaded. share: of its weights; seconds: that four bits take as it loads, 0 where it needs none;
    passed: whole seconds since it began, which go on where the share does not."""

    share: float = 0.0
    seconds: float = 0.0
    passed: int = 0


@dataclass(frozen=True, kw_only=True)
class Queued:
    """ahead: how many questions are answered before."""

    ahead: int


@dataclass(frozen=True, kw_only=True)
class Looking:
    """pictures: how many the question brings, which the model reads before it says a word; share: how much of it it has;
    passed: seconds since it began."""

    pictures: int
    share: float = 0.0
    passed: int = 0


Wait = Loading | Queued | Looking


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is new of an answer, and how many tokens it has by now. No tokens yet: the answer is still waited for.

    left_out: turns at the conversation's beginning that were too many for the model. waits: what for, where that can be
    told.
    """

    text: str = ""
    tokens: int = 0
    left_out: int = 0
    waits: Wait | None = None


class Engine(Protocol):
    """Answers conversations."""

    def stream(
        self, messages: Sequence[Message], *, temperature: float = 0.0, most_tokens: int = 256
    ) -> Iterator[Piece]:
        """The answer to the last message, in pieces; closing the iterator stops the work. Raises MayaError."""
        ...


class OneAtATime:
    """An engine behind a queue: who asks while it answers another waits, first come first served."""

    def __init__(self, engine: Engine, *, most_waiting: int = MOST_WAITING) -> None:
        self.engine, self.most_waiting = engine, most_waiting
        self._turn = threading.Condition()
        self._queue: deque[object] = deque()

    def stream(
        self, messages: Sequence[Message], *, temperature: float = 0.0, most_tokens: int = 256
    ) -> Iterator[Piece]:
        """As the engine; raises EngineBusy where too many wait."""
        ticket = object()
        with self._turn:
            if len(self._queue) > self.most_waiting:
                raise EngineBusy(f"{len(self._queue)} questions are being answered or wait; ask again in a while.")
            self._queue.append(ticket)
        try:
            while ahead := self._ahead(ticket):
                yield Piece(waits=Queued(ahead=ahead))
            pieces = self.engine.stream(messages, temperature=temperature, most_tokens=most_tokens)
            with closing(_closable(pieces)) as closed:
                yield from closed
        finally:
            with self._turn:
                self._queue.remove(ticket)
                self._turn.notify_all()

    def _ahead(self, ticket: object) -> int:
        """How many are before it in the queue, a moment later unless it is the first."""
        with self._turn:
            self._turn.wait_for(lambda: self._queue[0] is ticket, timeout=PATIENCE)
            return self._queue.index(ticket)

    @property
    def busy(self) -> int:
        """How many are being answered or wait."""
        return len(self._queue)


def _closable(pieces: Iterator[Piece]) -> Any:
    """Engines give generators; closing one is how an answer is stopped."""
    return pieces if hasattr(pieces, "close") else (piece for piece in pieces)


class LocalEngine:
    """A model on this computer. It loads behind the page; a question that comes earlier waits for it."""

    def __init__(self, model: str | Path | None = None) -> None:
        self.model = model
        self._change = threading.Lock()
        self._loading: _Loading | None = None

    def load(self) -> None:
        """Load the model now, unless it is there. Raises CheckpointError or DownloadError."""
        self._started().result()

    def load_behind(self) -> None:
        """Begin to load the model, and return."""
        self._started()

    @property
    def loading(self) -> Loading | None:
        """How far the model is; None where it is there, or nobody has asked for it."""
        now = self._loading
        return now.progress if now and not now.is_done else None

    def use(self, model: str | Path | None) -> None:
        """Answer with another model from the next question on."""
        with self._change:
            if model != self.model:
                if self._loading is not None:
                    self._loading.leave()
                self.model, self._loading = model, None
        self.load_behind()

    def stream(
        self, messages: Sequence[Message], *, temperature: float = 0.0, most_tokens: int = 256
    ) -> Iterator[Piece]:
        loading = self._started()
        while not loading.wait(PATIENCE) or loading.is_left:
            yield Piece(waits=loading.progress)
            loading = self._started() if loading.is_left else loading
        options = GenerationOptions(temperature=temperature, max_new_tokens=most_tokens)
        reading, pictures, began = _Reading(), len(messages[-1].images), time.monotonic()
        try:
            deltas = loading.result().deltas(messages, options, on_progress=reading.go_on)
            with ThreadPoolExecutor(1, "maya-read") as beside, closing(reading):
                first = beside.submit(next, deltas, None)
                while not first.done():
                    passed = int(time.monotonic() - began)
                    yield Piece(waits=Looking(pictures=pictures, share=reading.share, passed=passed))
                    wait_for([first], TOLD_EVERY)
            for delta in chain(filter(None, [first.result()]), deltas):
                yield Piece(text=delta.text, tokens=delta.tokens, left_out=delta.left_out)
        except (RuntimeError, MemoryError) as error:  # torch's own, no memory among them: the next question loads anew
            self._forget(loading)
            kind = ModelTooLarge if is_out_of_memory(error) else GenerationError
            raise kind(f"The model stopped ({type(error).__name__}); ask again.") from error

    def _started(self) -> "_Loading":
        """The model, loading or loaded; begun anew where it failed."""
        with self._change:
            if self._loading is None or self._loading.failed:
                self._loading = _Loading(self.model)
            return self._loading

    def _forget(self, loading: "_Loading") -> None:
        with self._change:
            if self._loading is loading:
                self._loading = None


class _Left(Exception):
    """Nobody waits any more for what is being done."""


class _Reading:
    """How much of a question is read before the first word of its answer; once it is closed, no more of it."""

    def __init__(self) -> None:
        self.share, self._is_left = 0.0, False

    def go_on(self, share: float) -> None:
        self.share = share
        if self._is_left:
            raise _Left

    def close(self) -> None:
        self._is_left = True


class _Loading:
    """A model that loads in a thread of its own."""

    def __init__(self, model: str | Path | None) -> None:
        self.is_left = False
        self._began, self._progress = time.monotonic(), Loading()
        self._done = threading.Event()
        self._session: ChatSession | None = None
        self._error: MayaError | None = None
        threading.Thread(target=self._run, args=(model,), name="maya-load", daemon=True).start()

    def _run(self, model: str | Path | None) -> None:
        try:
            with IMPORTING, importing():
                from maya_core.answering.session import load_best
                from maya_core.hardware import give_back_memory
            give_back_memory()  # of the model before
            self._session = load_best(model, on_plan=self._begin, on_progress=self._go_on)
            give_back_memory()  # that loading took, and the model before where it was still answering
        except _Left:
            self._error = GenerationError("Another model was chosen.")
        except MayaError as error:
            self._error = error
        except (RuntimeError, MemoryError, OSError, ImportError) as error:
            kind = ModelTooLarge if is_out_of_memory(error) else GenerationError
            self._error = kind(f"The model could not be loaded ({type(error).__name__}).")
        finally:
            self._done.set()

    def _begin(self, plan: "Plan") -> None:
        from maya_core.answering.footprint import seconds_to_quantize

        self._progress = Loading(seconds=seconds_to_quantize(plan.to_quantize, plan.device))

    def _go_on(self, share: float) -> None:
        self._progress = replace(self._progress, share=share)
        if self.is_left:
            raise _Left

    def leave(self) -> None:
        """Load no further."""
        self.is_left = True

    @property
    def progress(self) -> Loading:
        return replace(self._progress, passed=int(time.monotonic() - self._began))

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    @property
    def failed(self) -> bool:
        return self._done.is_set() and self._session is None

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def result(self) -> "ChatSession":
        """The session, once it is there. Raises what kept it from loading."""
        self._done.wait()
        if self._session is None:
            raise self._error or GenerationError("The model could not be loaded.")
        return self._session
