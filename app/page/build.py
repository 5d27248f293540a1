"""The page: layout and wiring only."""

import html
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from app.answers import Answers
from app.chat import EMPTY, Chat, Typed, View
from app.engine import Engine
from app.guard import Listening
from app.history import Entry, History
from app.i18n import (
    LABELS,
    Say,
    describe_error,
    format_bytes,
    format_day,
    format_memory,
    format_seconds,
    format_whole,
    language_choices,
    preferred_language,
)
from app.models import ADVISED_MEMORY, LICENCE, PUBLISHED_BYTES, Models
from app.settings import MOST_TEMPERATURE, MOST_TOKENS, THEMES, Settings, SettingsFile
from maya_core.assets import PUBLISHED, asset_path
from maya_core.errors import DownloadError, MayaError
from maya_core.languages import CODES

THEME = Path(__file__).parents[1] / "theme"
SAME_LANGUAGE = ""  # in the picker of the answer's language
EMBEDDED, FOLDER = "embedded", "folder"
CHOICES = (EMBEDDED, PUBLISHED, FOLDER)
MOST_PICTURES = 4  # in a turn
DEAF_SECONDS = 3.0  # how long an answer is made for a browser that does not listen
UNDO_SECONDS = 600.0  # how long a deleted conversation can be brought back
HIDDEN = {"show_progress": "hidden"}
IDLE = {"submit_btn": True, "stop_btn": False}  # the question box while no answer is made
BUSY = {"submit_btn": False, "stop_btn": True}
APPLY = "(code, theme) => { window.mayaSetLanguage(code); window.mayaSetTheme(theme); }"
Words = Callable[[Say, Settings], dict[str, Any]]


def build_page(
    engine: Engine,
    models: Models,
    history: History,
    kept: SettingsFile,
    listening: Listening,
    *,
    language: str | None = None,
) -> gr.Blocks:
    """The whole page, over any engine. language: of the interface, whatever was chosen before."""
    with gr.Blocks(title="Maya", analytics_enabled=False, delete_cache=(60, 600), fill_width=True) as page:
        _Page(engine, models, history, kept, listening, language)
    return page


class _Page:
    """Components by name; what each says in a language; what happens when it is used."""

    def __init__(
        self,
        engine: Engine,
        models: Models,
        history: History,
        kept: SettingsFile,
        listening: Listening,
        language: str | None,
    ) -> None:
        self.engine, self.models, self.history, self.kept = engine, models, history, kept
        self.listening, self.given_language = listening, language
        self.answers = Answers()
        self.words: dict[Any, Words] = {}  # component -> its texts
        self.conversation = gr.State(None)
        self.deleted = gr.State(None)
        with gr.Row(elem_id="maya-shell"):
            with gr.Column(elem_id="maya-side", min_width=0, scale=0):
                self._side()
            with gr.Column(elem_id="maya-main", min_width=0):
                self._main()
        self._wire()

    def _says(self, component: Any, words: Words) -> Any:
        self.words[component] = words
        return component

    # --- layout ---

    def _side(self) -> None:
        settings = self.kept.load()
        with gr.Row(elem_id="maya-brand"):
            gr.HTML('<span class="maya-name">Maya</span>', elem_id="maya-name")
            self.close = self._says(
                gr.Button("✕", elem_id="maya-close", size="sm", min_width=0, scale=0), lambda say, _: {}
            )
        self.new = self._says(
            gr.Button(elem_id="maya-new", size="md", variant="primary"),
            lambda say, _: {"value": say("New conversation")},
        )
        self.search = self._says(
            gr.Textbox(elem_id="maya-search", show_label=False, container=False, max_lines=1),
            lambda say, _: {"placeholder": say("Search conversations"), "label": say("Search conversations")},
        )
        self.list = self._says(
            gr.Radio([], elem_id="maya-list", show_label=False, container=False),
            lambda say, _: {"label": say("Conversations")},
        )
        self.none = gr.Markdown(elem_id="maya-none")
        self.bring = self._says(
            gr.UploadButton(elem_id="maya-import", size="sm", variant="secondary", file_types=[".json"]),
            lambda say, _: {"label": say("Import a conversation")},
        )
        with self._says(gr.Accordion(open=False, elem_id="maya-model"), lambda say, _: {"label": say("Model")}):
            self._model()
        with self._says(gr.Accordion(open=False, elem_id="maya-settings"), lambda say, _: {"label": say("Settings")}):
            self._settings(settings)
        self._says(
            gr.Markdown(elem_id="maya-about"),
            lambda say, _: {
                "value": "\n\n".join(
                    (
                        say("The answers are made on this computer. Nothing that you show or type leaves it."),
                        say("The small model that comes with Maya knows drawings of everyday things, not photographs."),
                    )
                )
            },
        )

    def _model(self) -> None:
        self.model_now = gr.Markdown(elem_id="maya-model-now")
        self.choice = self._says(
            gr.Radio(elem_id="maya-choice", show_label=False, container=False, min_width=0),
            lambda say, _: {
                "label": say("Model"),
                "choices": list(zip(_model_names(say), CHOICES, strict=True)),
                "value": _choice_of(self.models.model),
            },
        )
        self.folder = self._says(
            gr.Textbox(elem_id="maya-folder", max_lines=1, min_width=0),
            lambda say, _: {"label": say("Folder of the model"), "visible": _choice_of(self.models.model) == FOLDER},
        )
        self.use = self._says(gr.Button(elem_id="maya-use", size="sm"), lambda say, _: {"value": say("Use this model")})
        self.model_notice = gr.Markdown(elem_id="maya-model-notice")
        with gr.Column(elem_id="maya-fetching", visible=False) as self.fetching:
            self.fetched = gr.Markdown(elem_id="maya-fetched")
            self.fetch = self._says(
                gr.Button(elem_id="maya-fetch", size="sm"), lambda say, _: {"value": say("Fetch Maya 8B")}
            )
            self.pause = self._says(gr.Button(elem_id="maya-pause", size="sm"), lambda say, _: {"value": say("Pause")})

    def _settings(self, settings: Settings) -> None:
        self.answer_language = self._says(
            gr.Dropdown(elem_id="maya-answer-language", min_width=0, filterable=False),
            lambda say, now: {
                "label": say("Answer in"),
                "choices": [(say("The question's language"), SAME_LANGUAGE), *language_choices()],
                "value": now.answer_language or SAME_LANGUAGE,
            },
        )
        self.theme = self._says(
            gr.Radio(elem_id="maya-theme", min_width=0, value=settings.theme),
            lambda say, now: {
                "label": say("Appearance"),
                "choices": list(zip((say("Like the system"), say("Light"), say("Dark")), THEMES, strict=True)),
                "value": now.theme,
            },
        )
        self.digits = self._says(
            gr.Checkbox(elem_id="maya-digits", min_width=0),
            lambda say, now: {"label": say("Numbers in the language's own digits"), "value": now.native_digits},
        )
        with self._says(gr.Accordion(open=False, elem_id="maya-advanced"), lambda say, _: {"label": say("Advanced")}):
            self.temperature = self._says(
                gr.Slider(0, MOST_TEMPERATURE, step=0.1, min_width=0, buttons=[]),
                lambda say, now: {
                    "label": say("Temperature"),
                    "info": say("0 gives the likeliest answer, more gives more varied ones."),
                    "value": now.temperature,
                },
            )
            self.length = self._says(
                gr.Slider(*MOST_TOKENS, step=32, min_width=0, buttons=[]),
                lambda say, now: {"label": say("Longest answer, in tokens"), "value": now.most_tokens},
            )

    def _main(self) -> None:
        with gr.Row(elem_id="maya-top"):
            self.menu = gr.Button("☰", elem_id="maya-menu", size="sm", min_width=0, scale=0)
            self.title = self._says(
                gr.Textbox(elem_id="maya-title", show_label=False, container=False, max_lines=1, visible=False),
                lambda say, _: {"label": say("Title"), "placeholder": say("Title")},
            )
            self.actions = gr.HTML(elem_id="maya-actions")
            self.delete = self._says(
                gr.Button(elem_id="maya-delete", size="sm", min_width=0, scale=0, visible=False),
                lambda say, _: {"value": say("Delete")},
            )
            self.language = self._says(
                gr.Dropdown(
                    language_choices(),
                    elem_id="maya-language",
                    min_width=0,
                    scale=0,
                    filterable=False,
                    container=False,
                    show_label=False,
                ),
                lambda say, _: {"label": say("Language")},
            )
        with gr.Row(elem_id="maya-undo", visible=False) as self.undo_bar:
            self.told = gr.Markdown()
            self.undo = self._says(gr.Button(size="sm", min_width=0, scale=0), lambda say, _: {"value": say("Undo")})
        self.chatbot = self._says(
            gr.Chatbot(
                elem_id="maya-conversation",
                show_label=False,
                height="100%",
                buttons=["copy"],
                editable="user",
                allow_tags=False,
                latex_delimiters=[],
                feedback_options=None,
                layout="bubble",
            ),
            lambda say, _: {
                "label": say("Conversation"),
                "placeholder": _welcome(say),
                "examples": _examples(say),
            },
        )
        self.notice = gr.Markdown(elem_id="maya-notice")
        self.question = self._says(
            gr.MultimodalTextbox(
                elem_id="maya-question",
                show_label=False,
                file_count="multiple",
                sources=["upload"],
                max_plain_text_length=8000,
                autofocus=True,
                stop_btn=False,
            ),
            lambda say, _: {"placeholder": say("Add a picture and type a question"), "label": say("Question")},
        )
        with gr.Row(elem_id="maya-foot"):
            self.statistics = gr.Markdown(elem_id="maya-statistics")
            with self._says(
                gr.Accordion(open=False, elem_id="maya-camera"), lambda say, _: {"label": say("Take a picture")}
            ):
                self.camera = gr.Image(
                    sources=["webcam"], type="filepath", show_label=False, height=240, buttons=[], format="png"
                )

    # --- what is said ---

    def _say_all(self, code: str) -> list[Any]:
        """Every text of the page in a language, with what is chosen."""
        say, settings = Say(code), self.kept.load()
        return [gr.update(**words(say, settings)) for words in self.words.values()]

    def _listed(self, search: str, code: str, chosen: str | None) -> tuple[Any, Any]:
        """The list of conversations, and what stands there where it is empty."""
        settings = self.kept.load()
        found = self.history.conversations(search)
        choices = [
            (f"{one.title}\n{format_day(one.updated, code, native_digits=settings.native_digits)}", one.id)
            for one in found
        ]
        known = chosen if any(one.id == chosen for one in found) else None
        say = Say(code)
        nothing = "" if found else say("Nothing found.") if search.strip() else say("No conversations yet.")
        return gr.update(choices=choices, value=known, visible=bool(found)), gr.update(value=nothing, visible=not found)

    def _headed(self, conversation: str | None, code: str) -> tuple[Any, Any, Any]:
        """Title, links and button above a conversation."""
        there = conversation is not None
        title = self.history.title(conversation) if conversation else ""
        links = _links(conversation, code) if conversation else ""
        return gr.update(value=title, visible=there), links, gr.update(visible=there)

    def _figures(self, answer: Entry | None, code: str) -> str:
        if answer is None:
            return ""
        say, native = Say(code), self.kept.load().native_digits
        if not answer.tokens:
            return say("Thinking…")
        seconds = max(answer.seconds, 0.01)
        return say.number(
            "{count} token, {rate} a second, {seconds}",
            "{count} tokens, {rate} a second, {seconds}",
            answer.tokens,
            count=format_whole(answer.tokens, code, native_digits=native),
            rate=format_whole(round(answer.tokens / seconds), code, native_digits=native),
            seconds=format_seconds(seconds, code, native_digits=native),
        )

    def _model_told(self, say: Say, now: Settings) -> str:
        """What this computer has, and what answers on it."""
        computer, code = self.models.look(), say.language
        memory = format_memory(computer.memory, code, native_digits=now.native_digits)
        has = say("This computer: {device}, {memory} of memory.", device=computer.device or "CPU", memory=memory)
        model = self.models.model
        if model is None:
            answers = say("The small model that comes with Maya knows drawings of everyday things, not photographs.")
        elif model == PUBLISHED:
            answers = say("Answers come from Maya 8B.")
        else:
            answers = say("Answers come from the model in your folder.")
        least = format_memory(ADVISED_MEMORY, code, native_digits=now.native_digits)
        could = {
            "fast": say("Maya 8B knows photographs, and this computer can run it."),
            "slow": say("Maya 8B knows photographs. Without a graphics processor it answers slowly here."),
            None: say(
                "Maya 8B knows photographs. It needs a graphics processor with {memory} of memory.", memory=least
            ),
        }[computer.pace]
        return "\n\n".join((has, answers) if model == PUBLISHED else (has, answers, could))

    def _fetch_told(self, code: str) -> str:
        """How far fetching Maya 8B is, or what it would take."""
        say, native = Say(code), self.kept.load().native_digits
        now, computer = self.models.download, self.models.look()
        done, size = (format_bytes(number, code, native_digits=native) for number in (now.done, now.size))
        if computer.fetched or now.state == "done":
            return say("Fetched and checked. You can use it now.")
        if now.state == "running":
            return say("Fetched: {done} of {size}.", done=done, size=size)
        if now.state == "paused":
            return say("Paused at {done} of {size}. Nothing is lost.", done=done, size=size)
        if now.state == "failed":
            return describe_error(DownloadError(), code)
        return say(
            "To fetch: {size}. Free on the disk: {free}. Licence: {licence}.",
            size=format_bytes(PUBLISHED_BYTES, code, native_digits=native),
            free=format_bytes(computer.free, code, native_digits=native),
            licence=LICENCE,
        )

    # --- what happens ---

    def _chat(self, code: str) -> Chat:
        return Chat(engine=self.engine, history=self.history, settings=self.kept.load(), language=code)

    def greet(self, request: gr.Request) -> list[Any]:
        settings = self.kept.load()
        asked = preferred_language(request.headers.get("accept-language", ""))
        code = self.given_language or settings.language or asked
        self.history.purge(older=UNDO_SECONDS)
        return [code, *self._listed("", code, None), *self._say_all(code)]

    def tell_model(self, code: str) -> str:
        """The page is there: now the model may load behind it, and this computer be looked at."""
        self.models.prepare()
        return self._model_told(Say(code), self.kept.load())

    def speak(self, code: str, search: str, conversation: str | None) -> list[Any]:
        self.kept.change(language=code)
        return [
            *self._listed(search, code, conversation),
            *self._headed(conversation, code),
            *self._say_all(code),
        ]

    def show(self, views: Generator[View], code: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Each view as the values of `seen`, as long as someone listens and nobody stops it."""
        heard, last = time.monotonic(), None
        with self.answers.begin(request.session_hash) as answering, closing(views) as closed:
            for view in closed if answering else ():
                assert answering is not None
                last = view
                if request.session_hash in self.listening:
                    heard = time.monotonic()
                elif time.monotonic() - heard > DEAF_SECONDS:
                    return
                if answering.stopped:
                    break
                with answering.sending():
                    yield (
                        gr.update(value=view.typed, **BUSY),
                        view.shown,
                        view.notice,
                        view.conversation,
                        self._figures(view.answer or Entry(role="assistant", text=""), code),
                    )
        if answering and answering.left:
            yield (gr.skip(),) * 5  # gradio sends the last values once more as the stream ends
        elif last and answering:
            yield (
                gr.update(value=last.typed, **IDLE),
                last.shown,
                last.notice,
                last.conversation,
                self._figures(last.answer, code) if last.answer and last.answer.tokens else "",
            )

    def stop(self, request: gr.Request) -> Any:
        self.answers.stop(request.session_hash)
        return gr.update(**IDLE)

    def ask(self, typed: Typed, conversation: str | None, code: str, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        yield from self.show(self._chat(code).ask(conversation, typed), code, request)

    def retry(
        self, conversation: str | None, code: str, which: gr.RetryData, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        yield from self.show(self._again(conversation, code, which.index, None), code, request)

    def edit(
        self, conversation: str | None, code: str, which: gr.EditData, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        yield from self.show(self._again(conversation, code, which.index, str(which.value)), code, request)

    def _again(self, conversation: str | None, code: str, index: Any, text: str | None) -> Generator[View]:
        if conversation:
            chat = self._chat(code)
            turn = chat.question_of(conversation, index if isinstance(index, int) else index[0])
            yield from chat.ask_again(conversation, turn, text)

    def open(self, conversation: str | None, code: str, request: gr.Request) -> tuple[Any, ...]:
        """A conversation, or an empty one, as the values of `opened`; an answer that is being made is left."""
        self.answers.leave(request.session_hash)
        shown = self._chat(code).shown(conversation)
        headed = self._headed(conversation, code)
        return gr.update(**IDLE), conversation, shown, "", "", gr.update(visible=False), *headed

    def start_anew(self, code: str, request: gr.Request) -> tuple[Any, ...]:
        _, *rest = self.open(None, code, request)
        return gr.update(value=None), gr.update(value=EMPTY, **IDLE), *rest

    def take_example(self, code: str, chosen: gr.SelectData) -> Typed:
        number = chosen.index if isinstance(chosen.index, int) else chosen.index[0]
        example = _examples(Say(code))[number]
        return {"text": example["text"], "files": example["files"]}

    def remove(self, conversation: str, search: str, code: str, request: gr.Request) -> tuple[Any, ...]:
        title = self.history.title(conversation)
        self.history.delete(conversation)
        say = Say(code)
        told = say("“{title}” was deleted.", title=_plain(title))
        box, none, shown, notice, figures, _, *headed = self.open(None, code, request)
        opened = box, none, shown, notice, figures, gr.update(visible=True), *headed
        return conversation, told, *self._listed(search, code, None), *opened

    def put_back(self, deleted: str, search: str, code: str, request: gr.Request) -> tuple[Any, ...]:
        self.history.undelete(deleted)
        return None, *self._listed(search, code, deleted), *self.open(deleted, code, request)

    def rename(self, conversation: str | None, title: str, search: str, code: str) -> tuple[Any, ...]:
        if conversation:
            self.history.rename(conversation, title)
        return *self._listed(search, code, conversation), *self._headed(conversation, code)

    def bring_in(self, file: str, search: str, code: str, request: gr.Request) -> tuple[Any, ...]:
        try:
            conversation = self.history.from_json(Path(file).read_bytes())
        except MayaError as error:
            box, none, shown, _, *rest = self.open(None, code, request)
            return *self._listed(search, code, None), box, none, shown, describe_error(error, code), *rest
        return *self._listed(search, code, conversation), *self.open(conversation, code, request)

    def take_photo(self, photo: str | None, typed: Typed) -> tuple[Any, Any]:
        if not photo:
            return gr.update(), gr.update()
        files = [*(typed.get("files") or ()), photo][-MOST_PICTURES:]
        return {"text": typed.get("text") or "", "files": files}, None

    # --- wiring ---

    def _wire(self) -> None:
        listed = [self.list, self.none]
        headed = [self.title, self.actions, self.delete]
        texts = list(self.words)
        opened = [self.question, self.conversation, self.chatbot, self.notice, self.statistics, self.undo_bar, *headed]
        seen = [self.question, self.chatbot, self.notice, self.conversation, self.statistics]
        page = gr.context.Context.root_block
        assert page is not None

        # The model's large libraries come last: nothing on the page waits for them.
        telling = {"fn": self.tell_model, "inputs": [self.language], "outputs": [self.model_now], **HIDDEN}
        page.load(self.greet, None, [self.language, *listed, *texts], **HIDDEN).then(
            None, [self.language, self.theme], None, js=APPLY
        ).then(**telling)
        self.language.input(
            self.speak, [self.language, self.search, self.conversation], [*listed, *headed, *texts], **HIDDEN
        ).then(None, [self.language, self.theme], None, js=APPLY).then(**telling)

        # Whether a page may be given an answer is decided by `answers`: gradio would pass over a question that comes while
        # an answer that was stopped has not ended yet.
        answering: dict[str, Any] = {"outputs": seen, "concurrency_limit": None, "trigger_mode": "multiple", **HIDDEN}
        asked = [self.question, self.conversation, self.language]
        again = [self.conversation, self.language]
        answers = [
            self.question.submit(self.ask, asked, **answering),
            self.chatbot.retry(self.retry, again, **answering),
            self.chatbot.edit(self.edit, again, **answering),
            self.chatbot.example_select(self.take_example, [self.language], [self.question], **HIDDEN).then(
                self.ask, asked, **answering
            ),
        ]
        for answer in answers:
            answer.then(self.refresh, [self.search, self.conversation, self.language], [*listed, *headed], **HIDDEN)
        self.question.stop(self.stop, outputs=[self.question], **HIDDEN)

        closing_menu = {"fn": None, "js": "() => window.mayaMenu(false)"}
        self.new.click(self.start_anew, [self.language], [self.list, *opened], **HIDDEN).then(**closing_menu)
        self.list.input(self.open, [self.list, self.language], opened, **HIDDEN).then(**closing_menu)
        self.search.change(self._listed, [self.search, self.language, self.conversation], listed, **HIDDEN)
        renaming = [self.conversation, self.title, self.search, self.language]
        for event in (self.title.submit, self.title.blur):
            event(self.rename, renaming, [*listed, *headed], **HIDDEN)
        self.delete.click(
            self.remove,
            [self.conversation, self.search, self.language],
            [self.deleted, self.told, *listed, *opened],
            **HIDDEN,
        )
        self.undo.click(
            self.put_back, [self.deleted, self.search, self.language], [self.deleted, *listed, *opened], **HIDDEN
        )
        self.bring.upload(self.bring_in, [self.bring, self.search, self.language], [*listed, *opened], **HIDDEN)
        self.camera.change(self.take_photo, [self.camera, self.question], [self.question, self.camera], **HIDDEN)
        self.menu.click(None, js="() => window.mayaMenu(true)")
        self.close.click(None, js="() => window.mayaMenu(false)")
        self._wire_settings()

    def _wire_settings(self) -> None:
        def keeps(name: str) -> Callable[[Any], None]:
            def keep(value: Any) -> None:
                self.kept.change(**{name: value})

            return keep

        self.answer_language.input(
            lambda code: keeps("answer_language")(code if code in CODES else None), [self.answer_language], **HIDDEN
        )
        self.theme.input(keeps("theme"), [self.theme], **HIDDEN).then(None, [self.language, self.theme], None, js=APPLY)
        self.digits.input(keeps("native_digits"), [self.digits], **HIDDEN).then(
            self._listed, [self.search, self.language, self.conversation], [self.list, self.none], **HIDDEN
        )
        self.choice.input(
            self.choose, [self.choice, self.language], [self.folder, self.fetching, self.fetched], **HIDDEN
        )
        self.use.click(
            self.use_model, [self.choice, self.folder, self.language], [self.model_now, self.model_notice], **HIDDEN
        )
        self.fetch.click(self.follow_fetch, [self.language], [self.fetched], concurrency_limit=None, **HIDDEN)
        self.pause.click(self.pause_fetch, [self.language], [self.fetched], **HIDDEN)
        self.temperature.release(keeps("temperature"), [self.temperature], **HIDDEN)
        self.length.release(keeps("most_tokens"), [self.length], **HIDDEN)

    def choose(self, choice: str, code: str) -> tuple[Any, Any, str]:
        """Show what a kind of model still needs: a folder, or to be fetched."""
        fetch = choice == PUBLISHED and not self.models.offline
        return gr.update(visible=choice == FOLDER), gr.update(visible=fetch), self._fetch_told(code) if fetch else ""

    def use_model(self, choice: str, folder: str, code: str) -> tuple[str, str]:
        """The conversation stays; the next question is answered by the chosen model."""
        say, now = Say(code), self.kept.load()
        model = {EMBEDDED: None, PUBLISHED: PUBLISHED}.get(choice, (folder or "").strip())
        try:
            if model == PUBLISHED and not self.models.look().fetched:
                return self._model_told(say, now), say("Fetch this model first.")
            self.models.use(model)
        except MayaError as error:
            return self._model_told(say, now), describe_error(error, code)
        return self._model_told(say, self.kept.change(model=model)), ""

    def follow_fetch(self, code: str) -> Iterator[str]:
        """Begin or go on, and tell how far it is until it ends."""
        self.models.fetch()
        while self.models.download.state == "running":
            yield self._fetch_told(code)
            time.sleep(0.5)
        yield self._fetch_told(code)

    def pause_fetch(self, code: str) -> str:
        self.models.pause()
        return self._fetch_told(code)

    def refresh(self, search: str, conversation: str | None, code: str) -> tuple[Any, ...]:
        return *self._listed(search, code, conversation), *self._headed(conversation, code)


def _model_names(say: Say) -> tuple[str, str, str]:
    return say("The small Maya that comes with the app"), "Maya 8B", say("A folder on this computer")


def _choice_of(model: str | None) -> str:
    return EMBEDDED if model is None else model if model == PUBLISHED else FOLDER


def _examples(say: Say) -> list[dict[str, Any]]:
    pictures = sorted(asset_path("examples").glob("*.png"))
    questions = (
        say("What is this?"),
        say("How many things are in the picture?"),
        say("What colour is the background?"),
    )
    return [{"text": question, "files": [str(picture)]} for question, picture in zip(questions, pictures, strict=False)]


def _welcome(say: Say) -> str:
    title = say("Ask Maya about a picture")
    how = say("Add a picture with the clip, drop it here, or paste it.")
    return f"# {title}\n\n{how}"


def _links(conversation: str, code: str) -> str:
    say = Say(code)
    named = {"md": say("Save as Markdown"), "json": say("Save as JSON")}
    return "".join(
        f'<a class="maya-link" download href="/conversations/{conversation}.{ending}?language={code}">'
        f"{html.escape(name)}</a>"
        for ending, name in named.items()
    )


def _plain(text: str) -> str:
    """Text that Markdown takes as it is."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()<>#+-.!|~$&" else letter for letter in text)


def page_head() -> str:
    """Style and script of the page, from files; inline, because gradio rewrites what it is given as css, and first of all,
    because gradio chooses its words as it loads."""
    style = (THEME / "style.css").read_text("utf-8")
    script = (THEME / "page.js").read_text("utf-8")
    labels: Mapping[str, Mapping[str, str]] = {
        code: {label: Say(code)(sentence) for label, sentence in LABELS.items()} for code in CODES
    }
    data = json.dumps(labels, ensure_ascii=False).replace("<", "\\u003c")
    return f"<style>{style}</style><script>window.mayaLabels = {data};</script><script>{script}</script>"
