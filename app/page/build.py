"""The page, composed of its panels."""

from contextlib import suppress

import gradio as gr

from app.answers import Answers
from app.engine import Engine
from app.guard import Listening
from app.history import History, HistoryUnavailable
from app.i18n import preferred_language
from app.lan import Lan
from app.models import Models
from app.page.asking import Asking
from app.page.browsing import Browsing
from app.page.conversation import Conversation, Told
from app.page.conversation_list import ConversationList
from app.page.head import APPLY, ASKED_FOR, CLOSE_MENU, SHOW_KEYS
from app.page.model_panel import ModelPanel
from app.page.question_box import QuestionBox
from app.page.services import Services
from app.page.settings_panel import SettingsPanel
from app.page.sheltered import Sheltered
from app.page.telephone_panel import TelephonePanel
from app.page.top_bar import TopBar
from app.page.undo_bar import UndoBar, said
from app.page.updates import HIDDEN, Updates, join
from app.page.words import Words
from app.settings import SettingsFile

UNDO_SECONDS = 600.0  # how long a deleted conversation can be brought back


def build_page(
    engine: Engine,
    models: Models,
    history: History,
    kept: SettingsFile,
    listening: Listening,
    answers: Answers,
    *,
    language: str | None = None,
    lan: Lan | None = None,
) -> gr.Blocks:
    """The whole page, over any engine. language: of the interface, whatever was chosen before. lan: its place in the local
    network, which it then tells."""
    services = Services(
        engine=engine,
        models=models,
        history=history,
        kept=kept,
        listening=listening,
        answers=answers,
        language=language,
    )
    with Sheltered(title="Maya", analytics_enabled=False, delete_cache=(60, 600), fill_width=True) as blocks:
        page = Page(services, lan)
        page.wire(blocks)
    page.shelter(blocks)
    return blocks


class Page:
    """The panels in their places, what is done across them, and the language that all of them speak."""

    def __init__(self, services: Services, lan: Lan | None = None) -> None:
        self.services, self.words, self.lan = services, Words(), lan
        with gr.Row(elem_id="maya-shell"):
            with gr.Column(elem_id="maya-side", min_width=0, scale=0):
                self._lay_out_side()
            with gr.Column(elem_id="maya-main", min_width=0):
                self._lay_out_main()
        self.asking = Asking(services, self.conversation, self.question_box)
        self.browsing = Browsing(
            services,
            conversations=self.conversations,
            top=self.top,
            undo_bar=self.undo_bar,
            conversation=self.conversation,
            question_box=self.question_box,
        )

    def _lay_out_side(self) -> None:
        with gr.Row(elem_id="maya-brand"):
            gr.HTML('<span class="maya-name">Maya</span>', elem_id="maya-name")
            self.close = gr.Button("✕", elem_id="maya-close", size="sm", min_width=0, scale=0)
        self.conversations = ConversationList(self.services, self.words)
        if self.lan:
            TelephonePanel(self.lan, self.words)
        self.model = ModelPanel(self.services, self.words)
        self.settings = SettingsPanel(self.services, self.words)
        self.keys = self.words.add(
            gr.Button(elem_id="maya-keys", size="sm"), lambda say, _: {"value": say("Keyboard shortcuts")}
        )
        self.words.add(
            gr.Markdown(elem_id="maya-about"),
            lambda say, _: {
                "value": say("The answers are made on this computer. Nothing that you show or type leaves it.")
            },
        )

    def _lay_out_main(self) -> None:
        self.top = TopBar(self.services, self.words)
        self.undo_bar = UndoBar(self.words)
        self.conversation = Conversation(self.words)
        self.question_box = QuestionBox(self.words)

    def wire(self, blocks: gr.Blocks) -> None:
        """blocks: whose loading begins a visit."""
        language, browsing = self.top.language, self.browsing
        self._wire_language(blocks)
        self.asking.wire(language, then=browsing.refreshing)
        browsing.wire()
        self.model.wire(language)
        self.settings.wire(language, renumber=browsing.relisting)
        self.question_box.wire()
        self.top.wire()
        self.close.click(None, js=CLOSE_MENU)
        self.keys.click(None, js=SHOW_KEYS)

    def shelter(self, blocks: Sheltered) -> None:
        """What an event that fails leaves behind: the question that was sent; and what one without a session is about."""
        box = self.question_box
        blocks.services, blocks.language = self.services, self.top.language
        blocks.current = self.conversation.current
        blocks.typed = ((box.asked, box.returned),)

    def _wire_language(self, blocks: gr.Blocks) -> None:
        language, listing, search = self.top.language, self.conversations.listing, self.conversations.search
        current, told, deleted = self.conversation.current, self.conversation.told, self.undo_bar.deleted
        # Sets: language, list and title are also among the components that say something.
        greeted = {language, *listing, *self.browsing.opened, *self.words.components}
        spoken = {
            *listing,
            self.top.actions,
            self.conversation.notice,
            self.conversation.figures,
            self.undo_bar.told,
            *self.words.components,
        }
        spoke = [
            blocks.load(self.greet, [self.conversations.picked], greeted, js=ASKED_FOR, **HIDDEN),
            language.input(self.speak, [language, search, current, told, deleted], spoken, **HIDDEN),
        ]
        for event in spoke:
            # The model's large libraries come last: nothing on the page waits for them.
            event.then(None, [language, self.settings.theme], js=APPLY).then(
                self.model.tell_model, [language], [self.model.now], concurrency_limit=None, **HIDDEN
            )

    def greet(self, conversation: str, request: gr.Request) -> Updates:
        """A visit begins. conversation: the one that its address names; empty where it names none."""
        settings = self.services.kept.load()
        asked = preferred_language(request.headers.get("accept-language", ""))
        code = self.services.language or settings.language or asked
        with suppress(HistoryUnavailable):  # the list tells it
            self.services.history.purge(older=UNDO_SECONDS)
        return join(
            {self.top.language: gr.update(value=code)},
            self.conversations.listed("", code),
            self.words.say_all(code, settings),
            self._opened(conversation, code, request),
        )

    def _opened(self, conversation: str, code: str, request: gr.Request) -> Updates:
        try:
            return self.browsing.open(conversation, code, request)
        except HistoryUnavailable:  # which the list tells
            return self.browsing.open(None, code, request)

    def speak(
        self, code: str, search: str, conversation: str | None, told: Told, deleted: str | None, request: gr.Request
    ) -> Updates:
        """The page in another language. deleted: a conversation that can be brought back."""
        settings = self.services.choose(language=code)
        return join(
            self.conversations.listed(search, code),
            {self.top.actions: self.top.linked(conversation, code)},
            self.asking.say_again(told, code, request),
            {self.undo_bar.told: said(self.services.history.title(deleted), code) if deleted else ""},
            self.words.say_all(code, settings),
        )
