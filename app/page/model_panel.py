"""Which model answers, what this computer can run, and fetching the large one."""

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app.i18n import Say, describe_error, format_bytes, format_memory
from app.models import ADVISED_MEMORY, LICENCE, PUBLISHED_BYTES
from app.page.services import Services
from app.page.updates import HIDDEN, Updates
from app.page.words import Words
from app.settings import Settings
from maya_core.assets import PUBLISHED
from maya_core.errors import DownloadError, MayaError

EMBEDDED, FOLDER = "embedded", "folder"
CHOICES = (EMBEDDED, PUBLISHED, FOLDER)


class ModelPanel:
    """The choice of a model; below it what a kind of model still needs: a folder, or to be fetched."""

    def __init__(self, services: Services, words: Words) -> None:
        self.services = services
        with words.add(gr.Accordion(open=False, elem_id="maya-model"), lambda say, _: {"label": say("Model")}):
            self.now = gr.Markdown(elem_id="maya-model-now")
            self.choice = words.add(
                gr.Radio(elem_id="maya-choice", show_label=False, container=False, min_width=0),
                lambda say, _: {
                    "label": say("Model"),
                    "choices": list(zip(_model_names(say), CHOICES, strict=True)),
                    "value": _choice_of(services.models.model),
                },
            )
            self.folder = words.add(
                gr.Textbox(elem_id="maya-folder", max_lines=1, min_width=0),
                lambda say, _: {
                    "label": say("Folder of the model"),
                    "visible": _choice_of(services.models.model) == FOLDER,
                },
            )
            self.use = words.add(
                gr.Button(elem_id="maya-use", size="sm"), lambda say, _: {"value": say("Use this model")}
            )
            self.notice = gr.Markdown(elem_id="maya-model-notice")
            with gr.Column(elem_id="maya-fetching", visible=False) as self.fetching:
                self.fetched = gr.Markdown(elem_id="maya-fetched")
                self.fetch = words.add(
                    gr.Button(elem_id="maya-fetch", size="sm"), lambda say, _: {"value": say("Fetch Maya 8B")}
                )
                self.pause = words.add(
                    gr.Button(elem_id="maya-pause", size="sm"), lambda say, _: {"value": say("Pause")}
                )

    def wire(self, language: Any) -> None:
        self.choice.input(self.choose, [self.choice, language], [self.folder, self.fetching, self.fetched], **HIDDEN)
        self.use.click(self.use_model, [self.choice, self.folder, language], [self.now, self.notice], **HIDDEN)
        self.fetch.click(self.follow_fetch, [language], [self.fetched], concurrency_limit=None, **HIDDEN)
        self.pause.click(self.pause_fetch, [language], [self.fetched], **HIDDEN)

    def tell_model(self, code: str) -> str:
        """The page is there: now the model may load behind it, and this computer be looked at."""
        self.services.models.prepare()
        return self._told(Say(code), self.services.kept.load())

    def choose(self, choice: str, code: str) -> Updates:
        """Show what a kind of model still needs: a folder, or to be fetched."""
        fetch = choice == PUBLISHED and not self.services.models.offline
        return {
            self.folder: gr.update(visible=choice == FOLDER),
            self.fetching: gr.update(visible=fetch),
            self.fetched: self._fetch_told(code) if fetch else "",
        }

    def use_model(self, choice: str, folder: str, code: str) -> Updates:
        """The conversation stays; the next question is answered by the chosen model."""
        say, now = Say(code), self.services.kept.load()
        model = {EMBEDDED: None, PUBLISHED: PUBLISHED}.get(choice, (folder or "").strip())
        try:
            if model == PUBLISHED and not self.services.models.look().fetched:
                return {self.now: self._told(say, now), self.notice: say("Fetch this model first.")}
            self.services.models.use(model)
        except MayaError as error:
            return {self.now: self._told(say, now), self.notice: describe_error(error, code)}
        return {self.now: self._told(say, self.services.kept.change(model=model)), self.notice: ""}

    def follow_fetch(self, code: str) -> Iterator[str]:
        """Begin or go on, and tell how far it is until it ends."""
        self.services.models.fetch()
        while self.services.models.download.state == "running":
            yield self._fetch_told(code)
            time.sleep(0.5)
        yield self._fetch_told(code)

    def pause_fetch(self, code: str) -> str:
        self.services.models.pause()
        return self._fetch_told(code)

    def _told(self, say: Say, now: Settings) -> str:
        """What this computer has, and what answers on it."""
        computer, code = self.services.models.look(), say.language
        memory = format_memory(computer.memory, code, native_digits=now.native_digits)
        has = say("This computer: {device}, {memory} of memory.", device=computer.device or "CPU", memory=memory)
        model = self.services.models.model
        if model is None:
            answers = say("The small model that comes with Maya knows everyday things in photographs and drawings.")
        elif model == PUBLISHED:
            answers = say("Answers come from Maya 8B.")
        else:
            answers = say("Answers come from the model in your folder.")
        least = format_memory(ADVISED_MEMORY, code, native_digits=now.native_digits)
        could = {
            "fast": say("Maya 8B knows far more, and this computer can run it."),
            "slow": say("Maya 8B knows far more. Without a graphics processor it answers slowly here."),
            None: say("Maya 8B knows far more. It needs a graphics processor with {memory} of memory.", memory=least),
        }[computer.pace]
        return "\n\n".join((has, answers) if model == PUBLISHED else (has, answers, could))

    def _fetch_told(self, code: str) -> str:
        """How far fetching Maya 8B is, or what it would take."""
        say, native = Say(code), self.services.kept.load().native_digits
        now, computer = self.services.models.download, self.services.models.look()
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


def _model_names(say: Say) -> tuple[str, str, str]:
    return say("The small Maya that comes with the app"), "Maya 8B", say("A folder on this computer")


def _choice_of(model: str | None) -> str:
    return EMBEDDED if model is None else model if model == PUBLISHED else FOLDER
