"""Asking: a question, or one anew, and its answer as it comes."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import gradio as gr

from app.chat import EMPTY, Typed, View
from app.i18n import tell, translate
from app.page.conversation import Conversation, Told
from app.page.head import GIVE_BACK, TAKE_EDITED, TAKE_QUESTION
from app.page.question_box import BUSY, IDLE, QuestionBox
from app.page.services import Services
from app.page.updates import HIDDEN, Updates

DEAF_SECONDS = 3.0  # how long an answer is made for a browser that does not listen


class Asking:
    """seen: the components in which a view of an answer is shown. answered: the id of the conversation that the last view
    was of, of each open page."""

    def __init__(self, services: Services, conversation: Conversation, question_box: QuestionBox) -> None:
        self.services, self.conversation, self.question_box = services, conversation, question_box
        self.answered = gr.State(None)
        self.seen = [
            self.answered,
            question_box.question,
            question_box.returned,
            conversation.chatbot,
            conversation.current,
            conversation.told,
            conversation.notice,
            question_box.statistics,
        ]

    def wire(self, language: Any, then: dict[str, Any]) -> None:
        """then: the event after each answer."""
        box, current, chatbot = self.question_box, self.conversation.current, self.conversation.chatbot
        question = box.question
        # Whether a page may be given an answer is decided by `answers`: gradio would pass over a question that comes while
        # an answer that was stopped has not ended yet.
        answering: dict[str, Any] = {
            "outputs": self.seen,
            "concurrency_limit": None,
            "trigger_mode": "multiple",
            **HIDDEN,
        }
        taken = [
            question.submit(None, [question], [box.asked], js=TAKE_QUESTION),
            chatbot.example_select(self.conversation.take_example, [language], [box.asked], **HIDDEN),
        ]
        asked = [one.then(self.ask, [box.asked, current, language], **answering) for one in taken]
        edited = self.conversation.edited
        again = [
            chatbot.retry(self.retry, [current, language], **answering),
            self.conversation.edit.click(None, None, [edited], js=TAKE_EDITED).then(
                self.edit, [edited, current, language], **answering
            ),
        ]
        for answer in (*asked, *again):
            answer.then(None, [question, box.returned], [question, box.returned], js=GIVE_BACK)
            answer.then(
                self.settle,
                [self.answered, current, self.conversation.told, language],
                [question, chatbot, self.conversation.notice, box.statistics],
                **HIDDEN,
            )
            answer.then(**then)
        for answer in asked:  # it did not come to the server
            answer.failure(None, [question, box.asked], [question, box.asked], js=GIVE_BACK)
        question.stop(self.stop, outputs=[question], **HIDDEN)

    def ask(self, typed: Typed, conversation: str | None, code: str, request: gr.Request) -> Iterator[Updates]:
        """Nothing typed asks nothing; without a conversation it is told how to begin."""
        if conversation and not typed["text"].strip() and not typed["files"]:
            yield dict.fromkeys(self.seen, gr.skip())
            return
        yield from self._show(self.services.chat(code).ask(conversation, typed), code, request, typed)

    def retry(self, conversation: str | None, code: str, which: gr.RetryData, request: gr.Request) -> Iterator[Updates]:
        if conversation:
            chat = self.services.chat(code)
            turn = chat.question_of(conversation, which.index if isinstance(which.index, int) else which.index[0])
            yield from self._show(chat.ask_again(conversation, turn), code, request)

    def edit(
        self, edited: Mapping[str, Any], conversation: str | None, code: str, request: gr.Request
    ) -> Iterator[Updates]:
        """edited: {"number": of what the person said, "text": what they say now}"""
        chat = self.services.chat(code)
        turn = chat.question(conversation, int(edited["number"])) if conversation else None
        if conversation and turn is not None:
            yield from self._show(chat.ask_again(conversation, turn, str(edited["text"])), code, request)

    def stop(self, request: gr.Request) -> Any:
        self.services.answers.stop(request.session_hash)
        return gr.update(**IDLE)

    def settle(
        self, answered: str | None, conversation: str | None, told: Told, code: str, request: gr.Request
    ) -> Updates:
        """An answer has ended. Where the page has gone to another conversation meanwhile, a browser that is behind has drawn
        views of the answer over it: it is shown once more."""
        busy = self.services.answers.speak(request.session_hash, code)
        shown = {
            self.question_box.question: gr.update(**(BUSY if busy else IDLE)),
            self.conversation.chatbot: self.services.chat().shown(conversation),
            **self._tell(told, code, busy=busy),
        }
        return dict.fromkeys(shown, gr.skip()) if answered == conversation else shown

    def say_again(self, told: Told, code: str, request: gr.Request) -> Updates:
        """What the page tells, in another language; in which an answer that is being made goes on."""
        return self._tell(told, code, busy=self.services.answers.speak(request.session_hash, code))

    def _show(self, views: Generator[View], code: str, request: gr.Request, typed: Typed = EMPTY) -> Iterator[Updates]:
        """Each view, as long as someone listens and nobody stops it. typed: comes back where another answer goes on."""
        unchanged = dict.fromkeys(self.seen, gr.skip())
        heard, last = time.monotonic(), None
        with self.services.answers.begin(request.session_hash, code) as answering, closing(views) as closed:
            if answering is None:
                yield unchanged | {self.question_box.returned: typed}
                return
            for view in closed:
                last = view
                if request.session_hash in self.services.listening:
                    heard = time.monotonic()
                elif time.monotonic() - heard > DEAF_SECONDS:
                    return
                if answering.stopped:
                    break
                with answering.sending() as wanted:
                    yield self._seen(view, BUSY, answering.language) if wanted else unchanged
            with answering.sending() as wanted:
                seen = self._seen(last, IDLE, answering.language) if last and wanted else unchanged
                yield seen
        # gradio sends the last values once more as the stream ends: they must not bring back a conversation that was left
        # since. Of two dictionaries on their way at once it may show the second alone, so these two stay as they are.
        kept = (self.question_box.question, self.question_box.returned)
        yield unchanged | {component: seen[component] for component in kept}

    def _seen(self, view: View, buttons: Mapping[str, bool], code: str) -> Updates:
        told = Told(notice=view.notice, answer=view.answer)
        return {
            self.answered: view.conversation,
            self.question_box.question: gr.update(**buttons),
            self.question_box.returned: view.typed,
            self.conversation.chatbot: view.shown,
            self.conversation.current: view.conversation,
            self.conversation.told: told,
            **self._tell(told, code, busy=buttons is BUSY),
        }

    def _tell(self, told: Told, code: str, *, busy: bool) -> Updates:
        figures = self.question_box.figures(told.answer, code)
        return {
            self.conversation.notice: tell(told.notice, code),
            self.question_box.statistics: figures or (translate("Thinking…", code) if busy else ""),
        }
