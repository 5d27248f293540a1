"""The bar that says what was deleted and brings it back."""

import gradio as gr

from app.i18n import Say
from app.page.updates import Updates
from app.page.words import Words
from app.plain import shown_plain


class UndoBar:
    """deleted: the id of the conversation that can be brought back, of each open page."""

    def __init__(self, words: Words) -> None:
        self.deleted = gr.State(None)
        with gr.Row(elem_id="maya-undo", visible=False) as self.bar:
            self.told = gr.Markdown()
            self.undo = words.add(gr.Button(size="sm", min_width=0, scale=0), lambda say, _: {"value": say("Undo")})

    def offered(self, conversation: str, title: str, code: str) -> Updates:
        """To bring back a conversation that was deleted."""
        return {self.deleted: conversation, self.told: said(title, code), self.bar: gr.update(visible=True)}


def said(title: str, code: str) -> str:
    """That a conversation was deleted; whatever direction its title has, it keeps it to itself."""
    say = Say(code)
    return say("“{title}” was deleted.", title=f"<bdi>{shown_plain(title)}</bdi>")
