"""Which model answers, what this computer can run, fetching the large one, and keeping it in four bits."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from app.i18n import (
    Say,
    describe_error,
    format_bytes,
    format_memory,
    format_seconds,
    format_share,
    translate,
)
from app.models import ADVISED_MEMORY, LICENCES, PUBLISHED_BYTES, SMALL_BYTES, Computer, Progress
from app.page.figures import loading_told
from app.page.services import Services
from app.page.updates import HIDDEN, Updates
from app.page.words import Words
from app.settings import Settings
from maya_core.assets import PUBLISHED
from maya_core.errors import MayaError, RepositoryGated, SignInNeeded

HUB = "https://huggingface.co"
TOLD_EVERY = 0.5  # seconds
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
                with gr.Column(visible=False) as self.asking:
                    self._lay_out_asking(words)
                self.fetch = words.add(
                    gr.Button(elem_id="maya-fetch", size="sm"), lambda say, _: {"value": say("Fetch Maya 8B")}
                )
                self.pause = words.add(
                    gr.Button(elem_id="maya-pause", size="sm"), lambda say, _: {"value": say("Pause")}
                )
                self.shrink = words.add(
                    gr.Button(elem_id="maya-shrink", size="sm"), lambda say, _: {"value": say("Keep it in four bits")}
                )

    def _lay_out_asking(self, words: Words) -> None:
        """What the hub wants before it gives the model."""
        self.accepted = words.add(
            gr.Checkbox(elem_id="maya-accepted", min_width=0),
            lambda say, _: {"label": say("I have read both licences and accept them")},
        )
        with gr.Column(visible=False) as self.signing_in:
            self.by_code = words.add(
                gr.Button(elem_id="maya-sign-in", size="sm"), lambda say, _: {"value": say("Sign in in the browser")}
            )
            self.code = gr.Markdown(elem_id="maya-code", visible=False)
            words.add(
                gr.Markdown(),
                lambda say, _: {"value": _link(say("Make an access token at the hub"), "settings/tokens")},
            )
            self.token = words.add(
                gr.Textbox(elem_id="maya-token", max_lines=1, min_width=0, type="password"),
                lambda say, _: {"label": say("Access token")},
            )

    @property
    def _shown(self) -> list[Any]:
        """What changes as the large model comes."""
        signing = [self.signing_in, self.by_code, self.code, self.token]
        return [self.fetched, self.asking, *signing, self.fetch, self.pause, self.shrink]

    def wire(self, language: Any) -> None:
        self.choice.input(self.choose, [self.choice, language], [self.folder, self.fetching, *self._shown], **HIDDEN)
        self.use.click(self.use_model, [self.choice, self.folder, language], [self.now, self.notice], **HIDDEN)
        asked = [self.accepted, self.token, language]
        self.fetch.click(self.follow_fetch, asked, self._shown, concurrency_limit=None, **HIDDEN)
        self.by_code.click(self.follow_signing, [language], self._shown, concurrency_limit=None, **HIDDEN)
        self.pause.click(self.pause_fetch, [language], self._shown, **HIDDEN)
        self.shrink.click(self.follow_shrink, [language], self._shown, concurrency_limit=None, **HIDDEN)

    def tell_model(self, code: str) -> Iterator[str]:
        """The page is there: now the model may load behind it, and this computer be looked at. Tells how far it is."""
        models, say = self.services.models, Say(code)
        models.prepare()
        while loading := models.loading():
            yield loading_told(loading, say, native_digits=self.services.kept.load().native_digits)
            time.sleep(TOLD_EVERY)
        yield self._told(say, self.services.kept.load())

    def choose(self, choice: str, code: str) -> Updates:
        """Show what a kind of model still needs: a folder, or to be fetched."""
        fetch = choice == PUBLISHED and not self.services.models.offline
        return {
            self.folder: gr.update(visible=choice == FOLDER),
            self.fetching: gr.update(visible=fetch),
            **self._fetch_shown(code),
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
        return {self.now: self._told(say, self.services.choose(model=model)), self.notice: ""}

    def follow_fetch(self, accepted: bool, token: str, code: str) -> Iterator[Updates]:
        """Begin or go on, and tell how far it is until it ends."""
        models = self.services.models
        if not accepted and self._must_ask(models.look()):
            yield {**self._fetch_shown(code), self.fetched: translate("Accept both licences first.", code)}
            return
        try:
            if token.strip():
                models.sign_in(token.strip())
        except MayaError as error:
            trouble = {self.fetched: describe_error(error, code), self.code: gr.update(visible=False)}
            yield {**self._fetch_shown(code), **trouble, self.signing_in: gr.update(visible=True)}
            return
        models.fetch()
        yield {**self._fetch_shown(code), self.token: gr.update(value="")}
        while models.download.state == "running":
            time.sleep(TOLD_EVERY)
            yield self._fetch_shown(code)
        yield self._fetch_shown(code)

    def follow_signing(self, code: str) -> Iterator[Updates]:
        """Show the code that is to be typed at the hub, until that is done."""
        models = self.services.models
        models.sign_in_by_code()
        yield from _followed(lambda: models.signing, lambda: self._signing_shown(code))

    def pause_fetch(self, code: str) -> Updates:
        self.services.models.pause()
        return self._fetch_shown(code)

    def follow_shrink(self, code: str) -> Iterator[Updates]:
        """Bring what was fetched to four bits, and tell for how long it has been at it."""
        models = self.services.models
        models.shrink()
        yield from _followed(lambda: models.shrinking, lambda: self._fetch_shown(code))

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
            answers = " ".join(filter(None, (say("Answers come from the model in your folder."), self._computed(say))))
        least = format_memory(ADVISED_MEMORY, code, native_digits=now.native_digits)
        could = {
            "fast": say("Maya 8B knows far more, and this computer can run it."),
            "slow": say("Maya 8B knows far more. Without a graphics processor it answers slowly here."),
            None: say("Maya 8B knows far more. It needs a graphics processor with {memory} of memory.", memory=least),
        }[computer.pace]
        return "\n\n".join((has, answers) if model == PUBLISHED else (has, answers, could))

    def _computed(self, say: Say) -> str:
        """Which engine computes answers with a GGUF file, and why."""
        why = self.services.models.engine()
        own = say("Maya's own engine computes the answers, because it is the faster on this computer.")
        return {
            None: "",
            "plain": "",
            "nvidia": own,
            "kernel": own,
            "llama": say("llama.cpp computes the answers, because it is the faster on this computer."),
            "absent": say(
                "Maya's own engine computes the answers. llama.cpp would be faster on this computer, but it is not"
                " installed."
            ),
            "unsound": say(
                "Maya's own engine computes the answers. llama.cpp is installed, but does not compute rightly on this"
                " computer."
            ),
        }[why]

    def _must_ask(self, computer: Computer) -> bool:
        """Whether fetching has not begun, or failed by what the person can do at the hub."""
        now = self.services.models.download
        refused = isinstance(now.trouble, RepositoryGated | SignInNeeded)
        return not computer.fetched and (now.state == "none" or refused)

    def _fetch_shown(self, code: str) -> Updates:
        """What is told and offered at this moment."""
        models, computer = self.services.models, self.services.models.look()
        asks = self._must_ask(computer)
        is_running, is_shrinking = models.download.state == "running", models.shrinking.state == "running"
        return {
            self.fetched: self._fetch_told(code, computer),
            self.asking: gr.update(visible=asks),
            **self._signing_shown(code),
            self.token: gr.update(),
            self.fetch: gr.update(visible=not computer.fetched and not is_running),
            self.pause: gr.update(visible=not computer.fetched and is_running),
            self.shrink: gr.update(visible=computer.fetched and not computer.small and not is_shrinking),
        }

    def _signing_shown(self, code: str) -> Updates:
        """What is offered to who must sign in, and what comes of it."""
        models, computer = self.services.models, self.services.models.look()
        refused = isinstance(models.download.trouble, SignInNeeded) and models.signing.state != "done"
        is_signing = models.signing.state == "running"
        return {
            self.signing_in: gr.update(visible=self._must_ask(computer) and (not computer.signed_in or refused)),
            self.by_code: gr.update(visible=not is_signing),
            self.code: gr.update(value=self._code_told(code), visible=is_signing or models.signing.trouble is not None),
        }

    def _code_told(self, code: str) -> str:
        """Where a person types which code to sign in, or why that failed."""
        now, say = self.services.models.signing, Say(code)
        if now.trouble:
            return describe_error(now.trouble, code)
        if not now.code:
            return ""
        asked = say("Open the hub's page, sign in there and type this code: {code}", code=f"**{now.code}**")
        return f"{asked}\n\n<{now.address}>"

    def _fetch_told(self, code: str, computer: Computer) -> str:
        """How far fetching Maya 8B is, or what it would take; once it is here, what four bits would save."""
        say, native = Say(code), self.services.kept.load().native_digits
        now = self.services.models.download

        def size(number: int) -> str:
            return format_bytes(number, code, native_digits=native)

        if computer.fetched or now.state == "done":
            return self._kept_told(say, size, computer)
        if now.state == "running":
            return say("Fetched: {done} of {size}.", done=size(now.done), size=size(now.size))
        if now.state == "paused":
            return say("Paused at {done} of {size}. Nothing is lost.", done=size(now.done), size=size(now.size))
        if now.trouble:
            return _trouble_told(now.trouble, code)
        sizes = {"size": size(PUBLISHED_BYTES), "free": size(computer.free)}
        return "\n\n".join((say("To fetch: {size}. Free on the disk: {free}.", **sizes), _licences_told(say)))

    def _kept_told(self, say: Say, size: Callable[[int], str], computer: Computer) -> str:
        now, native = self.services.models.shrinking, self.services.kept.load().native_digits
        if now.state == "running":
            seconds = format_seconds(round(time.monotonic() - now.began), say.language, native_digits=native)
            share = format_share(now.done / (now.size or 1), say.language, native_digits=native)
            return say(
                "Maya 8B is being brought to four bits: {share} is done after {seconds}.", share=share, seconds=seconds
            )
        if now.trouble:
            return describe_error(now.trouble, say.language)
        ready = say("Fetched and checked. You can use it now.")
        if computer.small:
            return ready
        offer = say(
            "In four bits it takes {small} of the disk instead of {size}, and loads faster. Bringing it there takes minutes,"
            " once.",
            small=size(SMALL_BYTES),
            size=size(PUBLISHED_BYTES),
        )
        return f"{ready}\n\n{offer}"


def _followed(job: Callable[[], Progress], shown: Callable[[], Updates]) -> Iterator[Updates]:
    """Show how far a job is until it ends."""
    while job().state == "running":
        yield shown()
        time.sleep(TOLD_EVERY)
    yield shown()


def _model_names(say: Say) -> tuple[str, str, str]:
    return say("The small Maya that comes with the app"), "Maya 8B", say("A folder on this computer")


def _choice_of(model: str | None) -> str:
    return EMBEDDED if model is None else model if model == PUBLISHED else FOLDER


def _licences_told(say: Say) -> str:
    """Whose licences must be accepted, and where."""
    asked = say(
        "The Hugging Face hub gives Maya 8B and its language model to people who have signed in there and accepted both"
        " licences. Open each page and accept."
    )
    return "\n".join((asked, "", *(_licence_link(repository) for repository in LICENCES)))


def _licence_link(repository: str) -> str:
    return f"- {_link(repository, repository)}: {LICENCES.get(repository, '')}"


def _link(text: str, page: str) -> str:
    return f"[{text}]({HUB}/{page})"


def _trouble_told(trouble: MayaError, code: str) -> str:
    links = map(_licence_link, trouble.repositories) if isinstance(trouble, RepositoryGated) else ()
    return "\n".join((describe_error(trouble, code), "", *links))
