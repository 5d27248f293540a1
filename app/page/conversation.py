"""The conversation: what was asked and answered, how to begin, and notices."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from app.chat import Typed, View
from app.engine import Wait
from app.history import Entry
from app.i18n import Say, tell
from app.page.updates import Updates
from app.page.words import Words
from app.plain import shown_plain
from maya_core.assets import asset_path
from maya_core.errors import ImageError, MayaError, PromptEmpty


@dataclass(frozen=True, kw_only=True)
class Told:
    """A notice, the answer whose figures are given, and what it waits for; whatever the language."""

    notice: str | MayaError = ""
    answer: Entry | None = None
    waits: Wait | None = None


NOTHING = Told()
TROUBLE = "maya-trouble"  # the style of what went wrong


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a page shows at this moment, which other pages may have changed since: the conversation's id, as of which
    revision, and each shown entry's turn; said: the places among them of what the person said. drawn: what the page tells
    the server when it has drawn it, if anything."""

    conversation: str | None = None
    revision: str = ""
    turns: tuple[int, ...] = ()
    said: tuple[int, ...] = ()
    drawn: str = ""

    @classmethod
    def of(cls, view: View, drawn: str = "") -> "Seen":
        said = tuple(number for number, entry in enumerate(view.shown) if entry["role"] == "user")
        return cls(conversation=view.conversation, revision=view.revision, turns=view.turns, said=said, drawn=drawn)

    @classmethod
    def read(cls, text: str) -> "Seen":
        """As the page gives it back; nothing before there is anything."""
        fields = json.loads(text) if text else {}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
        }
        return cls(**values)

    def turn(self, index: int) -> int | None:
        """The turn of the shown entry `index`, or of the last where there are fewer."""
        return self.turns[min(index, len(self.turns) - 1)] if self.turns else None

    def turn_said(self, number: int) -> int | None:
        """The turn of what the person said, by its number among all that is shown of them; None where there is none."""
        return self.turns[self.said[number]] if 0 <= number < len(self.said) else None


class Conversation:
    """current: the id of the conversation that is shown, of each open page; None before the first question. told: what is
    said of it, to say it again in another language. seen: `Seen`, for the page's script and back from it. figures: what the
    last answer waits for, or took. unfinished: below an answer that can be gone on with. follow, renew: pressed by the
    script when another page's question is being answered, or when that page has changed the conversation. shown: the
    components of `showing`."""

    def __init__(self, words: Words) -> None:
        self.current, self.told = gr.State(None), gr.State(NOTHING)
        self.chatbot = words.add(
            gr.Chatbot(
                elem_id="maya-conversation",
                show_label=False,
                height="100%",
                buttons=["copy"],
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
        # A question in other words, from the page's script, which knows pictures beside words; gradio's own editor does not.
        self.edited = gr.JSON(visible="hidden")
        self.edit = gr.Button(visible="hidden", elem_id="maya-edit")
        self.seen = gr.Textbox(visible="hidden", elem_id="maya-seen")
        self.follow = gr.Button(visible="hidden", elem_id="maya-follow")
        self.renew = gr.Button(visible="hidden", elem_id="maya-renew")
        self.figures = gr.HTML(elem_id="maya-figures")
        with gr.Row(elem_id="maya-unfinished", visible=False) as self.unfinished:
            words.add(gr.Markdown(), lambda say, _: {"value": say("This answer is not finished.")})
            self.go_on = words.add(
                gr.Button(elem_id="maya-go-on", size="sm", min_width=0, scale=0), lambda say, _: {"value": say("Go on")}
            )
        self.notice = gr.Markdown(elem_id="maya-notice")
        self.shown = [self.chatbot, self.seen, self.unfinished, self.current]

    def showing(self, view: View, *, is_busy: bool = False, drawn: str = "") -> Updates:
        """A conversation; is_busy: one whose answer is being made. drawn: as of `Seen`."""
        return {
            self.chatbot: view.shown,
            self.seen: json.dumps(asdict(Seen.of(view, drawn))),
            self.unfinished: gr.update(visible=view.half and not is_busy),
            self.current: view.conversation,
        }

    def noticed(self, notice: str | MayaError, code: str) -> Updates:
        """Something to know, or trouble, which looks otherwise."""
        is_trouble = isinstance(notice, MayaError) and not isinstance(notice, PromptEmpty)
        kinds = [TROUBLE] if is_trouble else []
        told = tell(notice, code)
        if isinstance(notice, ImageError):  # which may hold a file's name
            told = shown_plain(told)
        return {self.notice: gr.update(value=told, elem_classes=kinds)}

    def take_example(self, code: str, chosen: gr.SelectData) -> Typed:
        """What an example asks."""
        number = chosen.index if isinstance(chosen.index, int) else chosen.index[0]
        return _examples(Say(code))[number]


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
    facts = (
        say("Sees photographs and drawings"),
        say("Speaks ten languages"),
        say("Keeps everything on this computer"),
    )
    return "\n".join((f"# {title}", "", how, "", *(f"- {fact}" for fact in facts)))
