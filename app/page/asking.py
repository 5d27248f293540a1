"""Asking: a question, or one anew, and its answer as it comes."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from app.answers import Following
from app.chat import EMPTY, Chat, Typed, View
from app.engine import ConversationBusy
from app.i18n import Say
from app.page.conversation import Conversation, Seen, Told
from app.page.figures import took_told, waiting_told
from app.page.head import ANSWER_BEGINS, ANSWER_ENDS, GIVE_BACK, TAKE_EDITED, TAKE_QUESTION
from app.page.question_box import QuestionBox
from app.page.services import Services
from app.page.updates import HIDDEN, Updates

DEAF_SECONDS = 3.0  # how long views are made for a browser that does not listen
LAST_LOOK = 0.5  # seconds for a question that could not be answered to come back to who has left
PATIENCE = 0.2  # seconds between two looks at whether the page still follows


class Asking:
    """seen: the components in which a view of an answer is shown. answered: the id of the conversation that the last view
    was of, of each open page."""

    def __init__(self, services: Services, conversation: Conversation, question_box: QuestionBox) -> None:
        self.services, self.conversation, self.question_box = services, conversation, question_box
        self.answered = gr.State(None)
        self.seen = [
            self.answered,
            question_box.returned,
            conversation.chatbot,
            conversation.seen,
            conversation.unfinished,
            conversation.current,
            conversation.told,
            conversation.notice,
            conversation.figures,
        ]

    def wire(self, language: Any, then: dict[str, Any]) -> None:
        """then: the event after each answer, and as another conversation than before is asked."""
        box, current, chatbot = self.question_box, self.conversation.current, self.conversation.chatbot
        question = box.question
        # Whether a page may be given an answer is decided by `answers`: gradio would pass over a question that comes while
        # an answer that was stopped has not ended yet.
        views: dict[str, Any] = {
            "outputs": self.seen,
            "concurrency_limit": None,
            "trigger_mode": "multiple",
            **HIDDEN,
        }
        answering = {**views, "js": ANSWER_BEGINS}
        taken = [
            question.submit(None, [question], [box.asked], js=TAKE_QUESTION),
            chatbot.example_select(self.conversation.take_example, [language], [box.asked], **HIDDEN),
        ]
        asked = [one.then(self.ask, [box.asked, current, language], **answering) for one in taken]
        edited = self.conversation.edited
        seen = self.conversation.seen
        again = [
            chatbot.retry(self.retry, [seen, language], **answering),
            self.conversation.edit.click(None, None, [edited], js=TAKE_EDITED).then(
                self.edit, [edited, seen, language], **answering
            ),
            self.conversation.go_on.click(self.go_on, [current, language], **answering),
            self.conversation.follow.click(self.follow, [current, language], **answering),
        ]
        for answer in (*asked, *again):  # the second, where it did not come to the server
            answer.then(None, js=ANSWER_ENDS)
            answer.failure(None, js=ANSWER_ENDS)
        for answer in (*asked, *again, self.conversation.renew.click(self.renew, [current, language], **views)):
            answer.then(None, [question, box.returned], [question, box.returned], js=GIVE_BACK)
            answer.then(
                self.settle,
                [self.answered, current, self.conversation.told, language],
                [*self.conversation.shown, self.conversation.notice, self.conversation.figures],
                **HIDDEN,
            )
            answer.then(**then)
        self.answered.change(**then)  # a new conversation has its place in the list, and its address, before its answer
        for answer in asked:  # it did not come to the server
            answer.failure(None, [question, box.asked], [question, box.asked], js=GIVE_BACK)
        question.stop(self.stop, **HIDDEN)

    def ask(self, typed: Typed, conversation: str | None, code: str, request: gr.Request) -> Iterator[Updates]:
        """Nothing typed asks nothing; without a conversation it is told how to begin."""
        if conversation and not typed["text"].strip() and not typed["files"]:
            yield self._unchanged
            return
        yield from self._begin(conversation, lambda chat: chat.ask(conversation, typed), code, request, typed)

    def retry(self, seen: str, code: str, which: gr.RetryData, request: gr.Request) -> Iterator[Updates]:
        """seen: what the page shows, of which `which` is an entry: another page may have gone on since."""
        page = Seen.read(seen)
        index = which.index if isinstance(which.index, int) else which.index[0]
        yield from self._ask_again(page, page.turn(index), code, request)

    def edit(self, edited: Mapping[str, Any], seen: str, code: str, request: gr.Request) -> Iterator[Updates]:
        """edited: {"number": of the shown entry, among those of the person, "text": what they say now}"""
        page = Seen.read(seen)
        yield from self._ask_again(page, page.turn_said(int(edited["number"])), code, request, str(edited["text"]))

    def _ask_again(
        self, page: Seen, turn: int | None, code: str, request: gr.Request, text: str | None = None
    ) -> Iterator[Updates]:
        conversation, typed = page.conversation, {"text": text or "", "files": []}
        if not conversation:
            yield self._unchanged | {self.question_box.returned: typed}
            return
        question = self.services.chat().question_of(conversation, turn) if turn else None
        views = partial(Chat.ask_again, conversation=conversation, turn=question or 0, text=text, seen=page.turns)
        yield from self._begin(conversation, views, code, request, typed)

    def go_on(self, conversation: str | None, code: str, request: gr.Request) -> Iterator[Updates]:
        """With an answer that was stopped."""
        if not conversation:
            yield self._unchanged
            return
        yield from self._begin(conversation, lambda chat: chat.go_on(conversation), code, request)

    def follow(self, conversation: str | None, code: str, request: gr.Request) -> Iterator[Updates]:
        """An answer that is being made and that the page is not given yet: another page asked for it, or this one before it
        was loaded anew."""
        following = conversation and self.services.answers.follow(request.session_hash, code, conversation)
        if following:
            yield from self._show(following, request.session_hash)
        else:  # it has ended meanwhile
            yield self.renew(conversation, code, request)

    def renew(self, conversation: str | None, code: str, request: gr.Request) -> Updates:
        """The conversation has changed behind the page: another page asked in it, named it or deleted it."""
        if not conversation or self.services.answers.speak(request.session_hash, code):
            return self._unchanged
        return self._seen(self.services.chat(code).changed_view(conversation), code)

    def _begin(
        self,
        conversation: str | None,
        views: Callable[[Chat], Generator[View]],
        code: str,
        request: gr.Request,
        typed: Typed = EMPTY,
    ) -> Iterator[Updates]:
        """A new answer, or what was typed comes back: where another answer goes on."""
        session, answers, listening = request.session_hash, self.services.answers, self.services.listening
        given: list[Following] = []  # to this page, from when it is begun

        def is_heard() -> bool:
            until = time.monotonic() + DEAF_SECONDS
            while answers.is_awaited(session) and session not in listening and time.monotonic() < until:
                time.sleep(PATIENCE)  # it may be about to listen, or have been loaded anew meanwhile
            return session in listening and not any(one.left for one in given)

        chat = replace(self.services.chat(code), is_heard=is_heard)
        returned = self._unchanged | {self.question_box.returned: typed}
        try:
            following = answers.begin(session, code, conversation, views(chat), chat.ended)
        except ConversationBusy as error:
            told = {self.conversation.told: Told(notice=error)}
            yield returned | told | self.conversation.noticed(error, code)
            return
        if following is None:
            yield returned
            return
        given.append(following)
        yield from self._show(following, session, is_own=True)

    @property
    def _unchanged(self) -> Updates:
        return dict.fromkeys(self.seen, gr.skip())

    def stop(self, request: gr.Request) -> None:
        self.services.answers.stop(request.session_hash)

    def settle(
        self, answered: str | None, conversation: str | None, told: Told, code: str, request: gr.Request
    ) -> Updates:
        """An answer has ended. Where the page has gone to another conversation meanwhile, a browser that is behind has drawn
        views of the answer over it: it is shown once more."""
        busy = self.services.answers.speak(request.session_hash, code)
        shown = {
            **self.conversation.showing(self.services.chat().view(conversation), is_busy=busy),
            **self._tell(told, code, busy=busy),
        }
        if answered != conversation:
            return shown
        # Of two updates on their way at once gradio may show the second alone: whether the answer is whole, and what is told
        # of it, is said again.
        again = (self.conversation.unfinished, self.conversation.notice)
        return dict.fromkeys(shown, gr.skip()) | {one: shown[one] for one in again}

    def say_again(self, told: Told, code: str, request: gr.Request) -> Updates:
        """What the page tells, in another language; in which an answer that is being made goes on."""
        return self._tell(told, code, busy=self.services.answers.speak(request.session_hash, code))

    def _show(self, following: Following, session: str, *, is_own: bool = False) -> Iterator[Updates]:
        """Each view, as long as someone listens; the answer goes on without. is_own: the question came from this page, to
        which it may come back."""
        heard, last, number, ended = time.monotonic(), None, 0, False
        seen = self._unchanged
        try:
            while not ended and not following.left:
                view, number, ended = following.running.newer(number, PATIENCE, following)
                if view:
                    last = view if is_own else replace(view, typed=EMPTY)
                if session in self.services.listening:
                    heard, following.heard = time.monotonic(), True
                elif time.monotonic() - heard > DEAF_SECONDS:
                    following.left = True
                    break
                if view and last and not ended:
                    with following.sending() as wanted:
                        coming = self._seen(last, following.language, busy=True, drawn=following.draws(number))
                        yield coming if wanted else self._unchanged
            if following.left and is_own and not ended:  # the question may be on its way back nevertheless
                view, _, _ = following.running.newer(number, LAST_LOOK)
                last = view or last
            with following.sending() as wanted:
                if last and wanted:
                    seen = self._seen(last, following.language)
                elif last and last.typed != EMPTY:
                    seen = self._unchanged | {self.question_box.returned: last.typed}
                yield seen
        finally:
            self.services.answers.done(session, following)
        # gradio sends the last values once more as the stream ends: they must not bring back a conversation that was left
        # since. Of two dictionaries on their way at once it may show the second alone, so what comes back stays as it is.
        yield self._unchanged | {self.question_box.returned: seen[self.question_box.returned]}

    def _seen(self, view: View, code: str, *, busy: bool = False, drawn: str = "") -> Updates:
        told = Told(notice=view.notice, answer=view.answer, waits=view.waits)
        return {
            self.answered: view.conversation,
            # what another answer of the page gives back stays, until the page's script has taken it
            self.question_box.returned: gr.skip() if view.typed == EMPTY else view.typed,
            **self.conversation.showing(view, drawn=drawn),
            self.conversation.told: told,
            **self._tell(told, code, busy=busy),
        }

    def _tell(self, told: Told, code: str, *, busy: bool) -> Updates:
        say, answer, figures = Say(code), told.answer, ""
        if not (busy and answer and answer.text):  # while words come, nothing is told
            native = self.services.kept.load().native_digits
            figures = (
                waiting_told(told.waits, say, native_digits=native)
                if busy
                else took_told(answer, say, native_digits=native)
            )
        return {self.conversation.figures: figures} | self.conversation.noticed(told.notice, code)
