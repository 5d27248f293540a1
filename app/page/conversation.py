"""The conversation: what was asked and answered, how to begin, and notices."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.chat import Typed
from app.history import Entry
from app.i18n import Say
from app.page.words import Words
from maya_core.assets import asset_path
from maya_core.errors import MayaError


@dataclass(frozen=True, kw_only=True)
class Told:
    """A notice, and the answer whose figures are given; whatever the language."""

    notice: str | MayaError = ""
    answer: Entry | None = None


NOTHING = Told()


class Conversation:
    """current: the id of the conversation that is shown, of each open page; None before the first question. told: what is
    said of it, to say it again in another language."""

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
        self.notice = gr.Markdown(elem_id="maya-notice")

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
