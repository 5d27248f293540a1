"""From what the page shows to what the model reads, and back. No layout and no torch here."""

import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from app.engine import Engine, Wait
from app.history import ConversationGone, Entry, History, PictureGone, TurnGone, shortened, there
from app.i18n import later
from app.plain import shown_plain
from app.settings import Settings
from maya_core.answering.language import AnswerLanguage, answer_language
from maya_core.errors import MayaError
from maya_core.model.images import of_each, open_image
from maya_core.model.prompt import Message, clean_text

Shown = list[dict[str, Any]]  # gradio's messages: {"role": ..., "content": text or {"path": ...}}
Typed = Mapping[str, Any]  # of the question box: {"text": str, "files": [path, ...]}

EMPTY: Typed = {"text": "", "files": []}
NOTHING_SAID = Entry(role="assistant", text="")
KEPT_SECONDS = 2.0  # between two times that what has come of an answer is kept
GONE = "\U0001f5bc\ufe0f ✕"  # in place of a picture whose file is not there


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows: the conversation, a notice, and the entry whose figures it gives.

    conversation: its id; None before the first question. typed: a question that comes back, because of trouble.
    turns: the id of each shown entry's turn; 0 where it has none yet. revision: of what is shown, in the history.
    half: whether the last answer can be gone on with, or its question be answered after all.
    notice: a sentence of the interface, or the trouble; said in the language that the page speaks when it shows it. One
        that tells the answer's language is said in that.
    underway: the answer that is being made. waits: what its first word waits for, where that can be told.
    """

    conversation: str | None
    typed: Typed = field(default_factory=lambda: EMPTY)
    shown: Shown = field(default_factory=list)
    turns: tuple[int, ...] = ()
    revision: str = ""
    half: bool = False
    notice: str | MayaError = ""
    answer: Entry | None = None
    underway: "Underway | None" = None
    waits: Wait | None = None


class Underway:
    """An answer that is being made. It is ended once, by its maker or by who stops it, and then kept as far as it came."""

    def __init__(
        self, history: History, asked: View, question: int, answer: Entry, branch_of: str | None = None
    ) -> None:
        """asked: the conversation up to the question, whose id is `question`. answer: as far as it is there already.
        branch_of: the conversation from whose middle this one goes on."""
        assert asked.conversation
        self.history, self.conversation, self.asked = history, asked.conversation, asked
        self.question, self.answer, self.branch_of = question, answer, branch_of
        self.trouble: MayaError | None = None  # with keeping it
        self._ended = False
        self._change = threading.Lock()

    def grow(self, text: str, **changes: Any) -> bool:
        """Whether it goes on."""
        with self._change:
            if not self._ended:
                self.answer = replace(self.answer, text=self.answer.text + text, **changes)
            return not self._ended

    def keep(self) -> None:
        """Keep what has come so far, which a crash would lose."""
        with self._change, suppress(MayaError):  # its end tells it
            if self.answer.text and not self._ended:
                self.history.keep_answer(self.conversation, self.question, replace(self.answer, half=True))

    def end(self, *, half: bool) -> bool:
        """Keep what has come; whether it had not ended before. A question without a word of an answer stays, to be answered
        another time."""
        with self._change:
            if self._ended:
                return False
            self._ended, self.answer = True, replace(self.answer, half=half)
            try:
                if self.answer.text:
                    self.history.keep_answer(self.conversation, self.question, self.answer)
                else:
                    self.history.leave_unanswered(self.conversation, self.question)
            except MayaError as error:
                self.trouble = error
            return True

    def take_back(self) -> bool:
        """Take the question out again, with the conversation that was begun for it, if any; unless it has come to an end, or
        to a word. Whether that was done."""
        with self._change:
            if self._ended or self.answer.text:
                return False
            with suppress(MayaError):  # then the question stays
                if self.branch_of:
                    self.history.forget(self.conversation)
                else:
                    self.history.take_back(self.conversation, self.question)
                self._ended = True
            return self._ended


@dataclass(frozen=True, kw_only=True)
class Chat:
    """An engine, and where what it says is kept. interface: the language that the page speaks. is_heard: whether who asked
    is still there to take back a question that could not be answered."""

    engine: Engine
    history: History
    settings: Settings
    interface: str | None = None
    is_heard: Callable[[], bool] = lambda: True

    def ask(self, conversation: str | None, typed: Typed) -> Generator[View]:
        """A question, and its answer as it comes. Trouble is told, and what was typed goes back into the box; where nobody
        is there to take it back, it is kept as far as it can be."""
        try:
            text = clean_text(typed.get("text") or "")
            pictures = tuple(of_each(self.history.keep_picture, typed.get("files") or ()))
            if not pictures and not self._has_picture(conversation):
                yield self._refused(conversation, typed, later("Add a picture first."))
                return
            key = conversation or self.history.create(text)
            question = self.history.append(key, Entry(role="user", text=text, pictures=pictures))
        except ConversationGone as error:
            yield View(conversation=None, typed=typed, notice=error)
            return
        except MayaError as error:
            yield self._refused(conversation, typed, error)
            return
        yield from self._answer(key, question, typed)

    def _refused(self, conversation: str | None, typed: Typed, notice: str | MayaError) -> View:
        """What was typed, with why, to who asked; words of one who has left are kept, with the pictures that can be."""
        text = (typed.get("text") or "").strip()
        if not text or self.is_heard():
            return replace(self.view(conversation), typed=typed, notice=notice)
        kept = []
        for path in typed.get("files") or ():
            with suppress(MayaError):
                kept.append(self.history.keep_picture(path))
        key = conversation or self.history.create(text)
        self.history.append(key, Entry(role="user", text=text, pictures=tuple(kept)))
        return replace(self.view(key), notice=notice)

    def ask_again(
        self, conversation: str, turn: int, text: str | None = None, *, seen: Collection[int] | None = None
    ) -> Generator[View]:
        """The question of a turn anew, in other words where `text` is given. The answer that it had is forgotten with the
        first word of the new one; seen: the turns that the page shows, for one that it does not is never forgotten. Where
        other questions came after it, the conversation stays as it was, and a new one goes on from before the turn."""
        typed = {"text": text or "", "files": []}
        try:
            entries = self.history.entries(conversation)
            at = next((at for at, entry in enumerate(entries) if entry.id == turn and entry.role == "user"), None)
            if at is None:
                raise TurnGone("The question is not there any more; look at the conversation as it is now.")
            question = entries[at] if text is None else replace(entries[at], text=clean_text(text))
            if any(entry.role == "user" for entry in entries[at + 1 :]):
                title = self._title_of_branch(conversation, entries[0], question)
                key = self.history.begin(title, [*entries[:at], question])
                asked, branch_of = self.history.entries(key)[-1].id, conversation
            else:
                known = [entry.id for entry in entries] if seen is None else seen
                asked = self.history.append(conversation, question, instead_of=turn, seen=known)
                key, branch_of = conversation, None
        except MayaError as error:
            yield replace(self.view(conversation), typed=typed if text else EMPTY, notice=error)
            return
        yield from self._answer(key, asked, typed if text else EMPTY, branch_of=branch_of)

    def _title_of_branch(self, conversation: str, first: Entry, question: Entry) -> str:
        """The conversation's, but where that is its first question, and this one stands in its place."""
        title = self.history.title(conversation)
        return question.text if first.id == question.id and title == shortened(first.text) else title

    def go_on(self, conversation: str) -> Generator[View]:
        """With the last answer, where it is half; or with the last question, where it has none."""
        entries = self.history.entries(conversation)
        if not _is_half(entries):
            yield self.view(conversation)
            return
        question = next(entry for entry in reversed(entries) if entry.role == "user")
        begun = entries[-1] if entries[-1].role == "assistant" else NOTHING_SAID
        yield from self._answer(conversation, question.id, None, begun)

    def _answer(
        self,
        conversation: str,
        question: int,
        typed: Typed | None,
        begun: Entry = NOTHING_SAID,
        branch_of: str | None = None,
    ) -> Generator[View]:
        """The answer to the last question. What has come of it is kept, even if it is stopped or breaks off; a question that
        got no word of an answer because of trouble goes back to who asked it. typed: the question; None: one that was there
        before, and stays. branch_of: as of `Underway`."""
        entries = self.history.entries(conversation)
        asked = entries[:-1] if begun.text else entries
        view = replace(self._view(conversation, asked), half=False)
        underway = Underway(self.history, view, question, begun, branch_of)
        branched = later("The conversation as it was stays in the list; this is a new one.") if branch_of else ""
        view = replace(view, underway=underway, notice=branched)
        note: str | MayaError = branched
        started, waited = time.monotonic(), 0.0
        kept = started
        most = self.settings.most_tokens
        try:
            yield _grown(view, begun)
            languages = answer_languages(asked, self.settings.answer_language, self.interface)
            note = branched or languages[len(asked) - 1].notice
            view = replace(view, notice=note)
            messages = to_messages(asked, languages)
            if begun.text:
                messages = (*messages, Message(role="assistant", text=begun.text, is_half=True))
            pieces = self.engine.stream(messages, temperature=self.settings.temperature, most_tokens=most)
            tokens = 0
            with closing(_closable(pieces)) as closed:
                for piece in closed:
                    now = time.monotonic()
                    tokens, seconds = piece.tokens, now - started
                    waited = waited or (seconds if piece.text else 0.0)
                    figures = {
                        "tokens": begun.tokens + tokens,
                        "seconds": begun.seconds + seconds,
                        "waited": begun.waited + waited,
                    }
                    if not underway.grow(piece.text, **figures):
                        return
                    if now > kept + KEPT_SECONDS:
                        underway.keep()
                        kept = now
                    if piece.left_out and not branched:
                        note = later("This conversation is long; the model no longer sees its beginning.")
                    yield replace(_grown(view, underway.answer), waits=piece.waits)
            underway.end(half=tokens >= most)
        except MayaError as error:
            if typed is not None and self.is_heard() and underway.take_back():
                yield replace(self.left(branch_of or conversation), typed=typed, notice=error)
                return
            note = error
        finally:
            underway.end(half=True)
        yield self.ended(underway, note)

    def ended(self, underway: Underway, note: str | MayaError = "") -> View:
        """A conversation after an answer has ended, also where what is kept cannot be read just now."""
        try:
            view = self.view(underway.conversation)
        except MayaError as error:
            view, note = _grown(underway.asked, underway.answer), underway.trouble or error
        answer = underway.answer if underway.answer.text else None
        return replace(view, answer=answer, notice=underway.trouble or note or view.notice, underway=underway)

    def left(self, conversation: str) -> View:
        """A conversation after a question was taken out again; none where it was the first."""
        view = self.view(conversation)
        return view if view.shown else View(conversation=None)

    def view(self, conversation: str | None) -> View:
        """A conversation as it is kept."""
        if not conversation:
            return View(conversation=None)
        revision = self.history.revision(conversation)  # first: what changes in between is seen as a change
        return replace(self._view(conversation, self.history.entries(conversation)), revision=revision)

    def changed_view(self, conversation: str) -> View:
        """As `view`, of one that has changed behind the page; empty where it is gone, which is told."""
        if self.history.revision(conversation):
            return self.view(conversation)
        return replace(self.view(None), notice=later("This conversation is no longer here."))

    def _view(self, conversation: str | None, entries: Sequence[Entry]) -> View:
        shown = list(_with_turns(entries))
        gone = any(len(there(entry)) < len(entry.pictures) for entry in entries)
        return View(
            conversation=conversation,
            shown=[entry for entry, _ in shown],
            turns=tuple(entries[turn].id for _, turn in shown),
            half=_is_half(entries),
            answer=next((entry for entry in entries[-1:] if entry.role == "assistant"), None),
            notice=PictureGone("A picture's file is gone; add it again.") if gone else "",
        )

    def shown(self, conversation: str | None) -> Shown:
        """A conversation as gradio shows it: pictures, then words."""
        return self.view(conversation).shown

    def question_of(self, conversation: str, turn: int) -> int | None:
        """The id of the question that is, or is answered by, the turn of the id `turn`; None where it is not there."""
        question = None
        for entry in self.history.entries(conversation):
            question = entry.id if entry.role == "user" else question
            if entry.id == turn:
                return question
        return None

    def _has_picture(self, conversation: str | None) -> bool:
        return bool(conversation) and any(entry.pictures for entry in self.history.entries(conversation or ""))


def _is_half(entries: Sequence[Entry]) -> bool:
    """Whether the last answer was stopped, or never begun."""
    return bool(entries) and (entries[-1].role == "user" or entries[-1].half)


def _grown(asked: View, answer: Entry) -> View:
    """The view of a question with its answer, where that has come to a word."""
    if not answer.text:
        return replace(asked, answer=answer)
    shown = [*asked.shown, {"role": "assistant", "content": answer.text}]
    return replace(asked, answer=answer, shown=shown, turns=(*asked.turns, 0))


def _with_turns(entries: Sequence[Entry]) -> Iterator[tuple[dict[str, Any], int]]:
    for turn, entry in enumerate(entries):
        kept = there(entry)
        for picture in entry.pictures:
            yield {"role": entry.role, "content": {"path": str(picture)} if picture in kept else GONE}, turn
        yield {"role": entry.role, "content": shown_plain(entry.text) if entry.role == "user" else entry.text}, turn


def _closable(pieces: Iterator[Any]) -> Any:
    """Engines give generators; closing one is how an answer is stopped."""
    return pieces if hasattr(pieces, "close") else (piece for piece in pieces)


def answer_languages(
    entries: Sequence[Entry], chosen: str | None = None, interface: str | None = None
) -> dict[int, AnswerLanguage]:
    """In which language each question is answered, by its turn. chosen: for all answers, whatever the questions are in."""
    languages: dict[int, AnswerLanguage] = {}
    before: str | None = None
    for turn, entry in enumerate(entries):
        if entry.role == "user":
            languages[turn] = answer_language(entry.text, chosen=chosen, conversation=before, interface=interface)
            before = languages[turn].code
    return languages


def to_messages(entries: Sequence[Entry], languages: Mapping[int, AnswerLanguage] | None = None) -> tuple[Message, ...]:
    """The turns since the newest pictures, each answer after its question; earlier pictures are not shown again.

    A question that was stopped before the first word of its answer is left out; its pictures go with the next one.
    languages: in which to answer the questions, by turn; none given: as they stand. Raises ImageError, and PictureGone.
    """
    starts = [turn for turn, entry in enumerate(entries) if entry.pictures]
    first = starts[-1] if starts else 0
    recent = entries[first:]
    kept = [turn for turn, entry in enumerate(recent) if entry.role == "assistant" or _is_answered(recent, turn)]
    messages: list[Message] = []
    for number, turn in enumerate(kept):
        entry = recent[turn]
        pictures = entry.pictures if number else recent[0].pictures
        if not all(picture.is_file() for picture in pictures):
            raise PictureGone("A picture of the conversation is not on the disk any more; add it again.")
        message = Message(role=entry.role, text=entry.text, images=tuple(map(open_image, pictures)))
        language = (languages or {}).get(first + turn)
        if messages and messages[-1].role == "assistant" == message.role:
            messages[-1] = replace(messages[-1], text=f"{messages[-1].text}\n\n{message.text}")
        else:
            messages.append(language.asked(message) if language else message)
    return tuple(messages)


def _is_answered(entries: Sequence[Entry], turn: int) -> bool:
    """Whether an answer follows, or is to follow now."""
    return turn + 1 == len(entries) or entries[turn + 1].role == "assistant"
