"""Asking: a question, or one anew, and its answer as it comes."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import gradio as gr

from app.chat import Typed, View
from app.i18n import Say
from app.page.conversation import Conversation
from app.page.question_box import BUSY, IDLE, QuestionBox
from app.page.services import Services
from app.page.updates import HIDDEN, Updates

DEAF_SECONDS = 3.0  # how long an answer is made for a browser that does not listen


class Asking:
    """seen: the components in which a view of an answer is shown."""

    def __init__(self, services: Services, conversation: Conversation, question_box: QuestionBox) -> None:
        self.services, self.conversation, self.question_box = services, conversation, question_box
        self.seen = [
            question_box.question,
            conversation.chatbot,
            conversation.notice,
            conversation.current,
            question_box.statistics,
        ]

    def wire(self, language: Any, then: dict[str, Any]) -> None:
        """then: the event after each answer."""
        question, current, chatbot = self.question_box.question, self.conversation.current, self.conversation.chatbot
        # Whether a page may be given an answer is decided by `answers`: gradio would pass over a question that comes while
        # an answer that was stopped has not ended yet.
        answering: dict[str, Any] = {
            "outputs": self.seen,
            "concurrency_limit": None,
            "trigger_mode": "multiple",
            **HIDDEN,
        }
        asked, again = [question, current, language], [current, language]
        taken = chatbot.example_select(self.conversation.take_example, [language], [question], **HIDDEN)
        answers = [
            question.submit(self.ask, asked, **answering),
            chatbot.retry(self.retry, again, **answering),
            chatbot.edit(self.edit, again, **answering),
            taken.then(self.ask, asked, **answering),
        ]
        for answer in answers:
            answer.then(**then)
        question.stop(self.stop, outputs=[question], **HIDDEN)

    def ask(self, typed: Typed, conversation: str | None, code: str, request: gr.Request) -> Iterator[Updates]:
        yield from self._show(self.services.chat(code).ask(conversation, typed), code, request)

    def retry(self, conversation: str | None, code: str, which: gr.RetryData, request: gr.Request) -> Iterator[Updates]:
        yield from self._show(self._ask_again(conversation, code, which.index, None), code, request)

    def edit(self, conversation: str | None, code: str, which: gr.EditData, request: gr.Request) -> Iterator[Updates]:
        yield from self._show(self._ask_again(conversation, code, which.index, str(which.value)), code, request)

    def stop(self, request: gr.Request) -> Any:
        self.services.answers.stop(request.session_hash)
        return gr.update(**IDLE)

    def _ask_again(self, conversation: str | None, code: str, index: Any, text: str | None) -> Generator[View]:
        if conversation:
            chat = self.services.chat(code)
            turn = chat.question_of(conversation, index if isinstance(index, int) else index[0])
            yield from chat.ask_again(conversation, turn, text)

    def _show(self, views: Generator[View], code: str, request: gr.Request) -> Iterator[Updates]:
        """Each view, as long as someone listens and nobody stops it."""
        say, heard, last = Say(code), time.monotonic(), None
        with self.services.answers.begin(request.session_hash) as answering, closing(views) as closed:
            for view in closed if answering else ():
                assert answering is not None
                last = view
                if request.session_hash in self.services.listening:
                    heard = time.monotonic()
                elif time.monotonic() - heard > DEAF_SECONDS:
                    return
                if answering.stopped:
                    break
                with answering.sending():
                    yield self._seen(view, BUSY, self.question_box.figures(view.answer, code) or say("Thinking…"))
        if answering and answering.left:
            yield dict.fromkeys(self.seen, gr.skip())  # gradio sends the last values once more as the stream ends
        elif last and answering:
            yield self._seen(last, IDLE, self.question_box.figures(last.answer, code))

    def _seen(self, view: View, buttons: Mapping[str, bool], figures: str) -> Updates:
        return {
            self.question_box.question: gr.update(value=view.typed, **buttons),
            self.conversation.chatbot: view.shown,
            self.conversation.notice: view.notice,
            self.conversation.current: view.conversation,
            self.question_box.statistics: figures,
        }
