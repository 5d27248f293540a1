"""From what the page shows to what the model reads, and back. No layout and no torch here."""

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from app.engine import Engine
from app.history import Entry, History
from app.i18n import later
from app.plain import shown_plain
from app.settings import Settings
from maya_core.answering.language import AnswerLanguage, answer_language
from maya_core.errors import MayaError
from maya_core.model.images import open_image
from maya_core.model.prompt import Message, clean_text

Shown = list[dict[str, Any]]  # gradio's messages: {"role": ..., "content": text or {"path": ...}}
Typed = Mapping[str, Any]  # of the question box: {"text": str, "files": [path, ...]}

EMPTY: Typed = {"text": "", "files": []}


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows: the conversation, a notice, and the entry whose figures it gives.

    conversation: its id; None before the first question. typed: a question that comes back, because of trouble.
    notice: a sentence of the interface, or the trouble; said in the language that the page speaks when it shows it. One
        that tells the answer's language is said in that.
    """

    conversation: str | None
    typed: Typed = field(default_factory=lambda: EMPTY)
    shown: Shown = field(default_factory=list)
    notice: str | MayaError = ""
    answer: Entry | None = None


@dataclass(frozen=True, kw_only=True)
class Chat:
    """An engine, and where what it says is kept. interface: the language that the page speaks."""

    engine: Engine
    history: History
    settings: Settings
    interface: str | None = None

    def ask(self, conversation: str | None, typed: Typed) -> Generator[View]:
        """A question, and its answer as it comes. Trouble is told, and what was typed goes back into the box."""
        before = View(conversation=conversation, typed=typed, shown=self.shown(conversation))
        try:
            text = clean_text(typed.get("text") or "")
            pictures = tuple(self.history.keep_picture(path) for path in typed.get("files") or ())
            if not pictures and not self._has_picture(conversation):
                yield replace(before, notice=later("Add a picture first."))
                return
            key = conversation or self.history.create(text)
            self.history.append(key, Entry(role="user", text=text, pictures=pictures))
        except MayaError as error:
            yield replace(before, notice=error)
            return
        yield from self._answer(key, typed)

    def ask_again(self, conversation: str, turn: int, text: str | None = None) -> Generator[View]:
        """The question of a turn anew, in other words where `text` is given; what came after it is forgotten."""
        entries = self.history.entries(conversation)
        question = entries[turn]
        assert question.role == "user"
        before = View(conversation=conversation, shown=self.shown(conversation))
        try:
            if text is not None:
                question = replace(question, text=clean_text(text))
            self.history.append(conversation, question, keep=turn)
        except MayaError as error:
            yield replace(before, notice=error)
            return
        yield from self._answer(conversation, {"text": question.text, "files": list(map(str, question.pictures))})

    def _answer(self, conversation: str, typed: Typed) -> Generator[View]:
        """The answer to the last turn. What has come of it is kept, even if it is stopped or breaks off; a question that
        got no word of an answer because of trouble goes back into the box."""
        asked = self.shown(conversation)
        view = View(conversation=conversation, shown=asked)
        yield view
        answer, note = Entry(role="assistant", text=""), ""
        trouble: MayaError | None = None
        started = time.monotonic()
        try:
            entries = self.history.entries(conversation)
            languages = answer_languages(entries, self.settings.answer_language, self.interface)
            note = languages[len(entries) - 1].notice
            view = replace(view, notice=note)
            messages = to_messages(entries, languages)
            pieces = self.engine.stream(
                messages, temperature=self.settings.temperature, most_tokens=self.settings.most_tokens
            )
            with closing(_closable(pieces)) as closed:
                for piece in closed:
                    answer = replace(
                        answer,
                        text=answer.text + piece.text,
                        tokens=piece.tokens,
                        seconds=time.monotonic() - started,
                    )
                    if piece.left_out:
                        note = later("This conversation is long; the model no longer sees its beginning.")
                    shown = [*asked, {"role": "assistant", "content": answer.text}] if answer.text else asked
                    yield replace(view, shown=shown, answer=answer)
        except MayaError as error:
            trouble = error
        finally:
            if answer.text:
                self.history.append(conversation, answer)
        if trouble and not answer.text:
            self.history.cut(conversation, len(self.history.entries(conversation)) - 1)
            yield View(conversation=conversation, typed=typed, shown=self.shown(conversation), notice=trouble)
        else:
            yield View(conversation=conversation, shown=self.shown(conversation), notice=trouble or note, answer=answer)

    def shown(self, conversation: str | None) -> Shown:
        """A conversation as gradio shows it: pictures, then words."""
        return [entry for entry, _ in _with_turns(self.history.entries(conversation))] if conversation else []

    def question_of(self, conversation: str, index: int) -> int:
        """The turn of the question that is, or is answered by, the shown entry `index`."""
        entries = self.history.entries(conversation)
        turns = [turn for _, turn in _with_turns(entries)]
        turn = turns[min(index, len(turns) - 1)]
        while turn and entries[turn].role != "user":
            turn -= 1
        return turn

    def question(self, conversation: str, number: int) -> int | None:
        """The turn of what a person said, by its number among all that is shown of them; None where there is none."""
        said = [turn for shown, turn in _with_turns(self.history.entries(conversation)) if shown["role"] == "user"]
        return said[number] if 0 <= number < len(said) else None

    def _has_picture(self, conversation: str | None) -> bool:
        return bool(conversation) and any(entry.pictures for entry in self.history.entries(conversation or ""))


def _with_turns(entries: Sequence[Entry]) -> Iterator[tuple[dict[str, Any], int]]:
    for turn, entry in enumerate(entries):
        for picture in entry.pictures:
            yield {"role": entry.role, "content": {"path": str(picture)}}, turn
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
    languages: in which to answer the questions, by turn; none given: as they stand. Raises ImageError.
    """
    starts = [turn for turn, entry in enumerate(entries) if entry.pictures]
    first = starts[-1] if starts else 0
    recent = entries[first:]
    kept = [turn for turn, entry in enumerate(recent) if entry.role == "assistant" or _is_answered(recent, turn)]
    messages = []
    for number, turn in enumerate(kept):
        entry = recent[turn]
        pictures = entry.pictures if number else recent[0].pictures
        message = Message(role=entry.role, text=entry.text, images=tuple(map(open_image, pictures)))
        language = (languages or {}).get(first + turn)
        messages.append(language.asked(message) if language else message)
    return tuple(messages)


def _is_answered(entries: Sequence[Entry], turn: int) -> bool:
    """Whether an answer follows, or is to follow now."""
    return turn + 1 == len(entries) or entries[turn + 1].role == "assistant"
