"""Browsing: from one conversation to another, and what is done with a whole one: named, deleted, put back, brought in."""

from pathlib import Path
from typing import Any

import gradio as gr

from app.i18n import Say, later
from app.page.conversation import Conversation, Told
from app.page.conversation_list import ConversationList
from app.page.figures import took_told
from app.page.head import EMPTY_BOX, PICK, PICKED
from app.page.question_box import QuestionBox
from app.page.services import Services
from app.page.top_bar import TopBar
from app.page.undo_bar import UndoBar
from app.page.updates import HIDDEN, Updates
from maya_core.errors import MayaError


class Browsing:
    """opened: the components that show another conversation than before."""

    def __init__(
        self,
        services: Services,
        *,
        conversations: ConversationList,
        top: TopBar,
        undo_bar: UndoBar,
        conversation: Conversation,
        question_box: QuestionBox,
    ) -> None:
        self.services, self.conversations, self.top, self.undo_bar = services, conversations, top, undo_bar
        self.conversation, self.question_box = conversation, question_box
        self.opened = [
            *conversation.shown,
            conversation.told,
            conversation.notice,
            conversation.figures,
            undo_bar.bar,
            *top.heading,
        ]

    @property
    def relisting(self) -> dict[str, Any]:
        """The event that writes the list anew."""
        return {
            "fn": self.conversations.listed,
            "inputs": [self.conversations.search, self.top.language],
            "outputs": self.conversations.listing,
            **HIDDEN,
        }

    @property
    def refreshing(self) -> dict[str, Any]:
        """The event that writes anew what the list and the bar above say of the conversation."""
        inputs = [*self.relisting["inputs"], self.conversation.current, self.top.title]
        outputs = [*self.conversations.listing, *self.top.heading]
        return {**self.relisting, "fn": self.refresh, "inputs": inputs, "outputs": outputs}

    def wire(self) -> None:
        side, top, undo_bar = self.conversations, self.top, self.undo_bar
        current, search, language = self.conversation.current, self.conversations.search, self.top.language
        search.change(**self.relisting)
        side.new.click(None, None, [self.question_box.question], js=EMPTY_BOX).then(
            self.start_anew, [language], self.opened, **HIDDEN
        ).then(None, js=PICKED)
        side.pick.click(None, None, [side.picked], js=PICK).then(
            self.open, [side.picked, language], self.opened, **HIDDEN
        ).then(None, js=PICKED)
        side.bring.upload(self.bring_in, [side.bring, search, language], [*side.listing, *self.opened], **HIDDEN)
        for event in (top.title.submit, top.title.blur):
            event(self.rename, [current, top.title, search, language], [*side.listing, top.title], **HIDDEN)
        top.delete.click(
            self.remove,
            [current, search, language],
            [undo_bar.deleted, undo_bar.told, *side.listing, *self.opened],
            **HIDDEN,
        )
        undo_bar.undo.click(
            self.put_back,
            [undo_bar.deleted, search, language],
            [undo_bar.deleted, *side.listing, *self.opened],
            **HIDDEN,
        )

    def refresh(self, search: str, code: str, conversation: str | None, title: str) -> Updates:
        """title: as the bar has it, where someone may be changing it; unless the conversation is gone."""
        updates = self.conversations.listed(search, code) | self.top.headed(conversation, code)
        return updates | {self.top.title: gr.skip()} if title and conversation else updates

    def open(self, conversation: str | None, code: str, request: gr.Request) -> Updates:
        """A conversation, or an empty one; an answer that is being made is left."""
        self.services.answers.leave(request.session_hash)
        is_gone = bool(conversation) and not self.services.history.is_kept(conversation or "")
        conversation = None if is_gone else conversation or None
        view = self.services.chat().view(conversation)
        notice = later("This conversation is no longer here.") if is_gone else view.notice
        native = self.services.kept.load().native_digits
        is_busy = conversation is not None and self.services.answers.is_busy(conversation)
        return {
            **self.conversation.showing(view, is_busy=is_busy),
            self.conversation.chatbot: gr.update(value=view.shown),
            self.conversation.told: Told(notice=notice, answer=view.answer),
            **self.conversation.noticed(notice, code),
            self.conversation.figures: took_told(view.answer, Say(code), native_digits=native),
            self.undo_bar.bar: gr.update(visible=False),
            **self.top.headed(conversation, code),
        }

    def start_anew(self, code: str, request: gr.Request) -> Updates:
        return self.open(None, code, request)

    def rename(self, conversation: str | None, title: str, search: str, code: str) -> Updates:
        """Nothing happens where the title is as it was: leaving its field must not bring an older list back. The field
        keeps what was typed in it; where that is nothing, the title comes back."""
        unchanged = dict.fromkeys([*self.conversations.listing, self.top.title], gr.skip())
        if not conversation or title == self.services.history.title(conversation):
            return unchanged
        if not title.strip():
            return unchanged | {self.top.title: self.services.history.title(conversation)}
        self.services.history.rename(conversation, title)
        return unchanged | self.conversations.listed(search, code)

    def remove(self, conversation: str, search: str, code: str, request: gr.Request) -> Updates:
        title = self.services.history.title(conversation)
        self.services.answers.leave(request.session_hash)
        self.services.answers.stop_of(conversation)
        self.services.history.delete(conversation)
        opened = self.open(None, code, request) | self.undo_bar.offered(conversation, title, code)
        return opened | self.conversations.listed(search, code)

    def put_back(self, deleted: str, search: str, code: str, request: gr.Request) -> Updates:
        self.services.history.undelete(deleted)
        listed = self.conversations.listed(search, code)
        return listed | self.open(deleted, code, request) | {self.undo_bar.deleted: None}

    def bring_in(self, file: str, search: str, code: str, request: gr.Request) -> Updates:
        try:
            conversation = self.services.history.from_json(Path(file).read_bytes())
        except MayaError as error:  # what is shown stays
            unchanged = dict.fromkeys([*self.conversations.listing, *self.opened], gr.skip())
            told = {self.conversation.told: Told(notice=error)}
            return unchanged | told | self.conversation.noticed(error, code)
        return self.conversations.listed(search, code) | self.open(conversation, code, request)
