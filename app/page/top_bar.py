"""The bar above the conversation: its title, links to save it, a button to delete it; and the language of the page."""

import html

import gradio as gr

from app.i18n import Say, language_choices
from app.page.head import OPEN_MENU
from app.page.services import Services
from app.page.updates import Updates
from app.page.words import Words


class TopBar:
    """heading: the components of `headed`. language: what nearly every event takes, as a code."""

    def __init__(self, services: Services, words: Words) -> None:
        self.services = services
        with gr.Row(elem_id="maya-top"):
            self.menu = gr.Button("☰", elem_id="maya-menu", size="sm", min_width=0, scale=0)
            self.title = words.add(
                gr.Textbox(elem_id="maya-title", show_label=False, container=False, max_lines=1, visible=False),
                lambda say, _: {"label": say("Title"), "placeholder": say("Title")},
            )
            self.actions = gr.HTML(elem_id="maya-actions")
            self.delete = words.add(
                gr.Button(elem_id="maya-delete", size="sm", min_width=0, scale=0, visible=False),
                lambda say, _: {"value": say("Delete")},
            )
            self.language = words.add(
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
        self.heading = [self.title, self.actions, self.delete]

    def headed(self, conversation: str | None, code: str) -> Updates:
        """Title, links and button of a conversation; nothing where there is none."""
        there = conversation is not None
        title = self.services.history.title(conversation) if conversation else ""
        return {
            self.title: gr.update(value=title, visible=there),
            self.actions: self.linked(conversation, code),
            self.delete: gr.update(visible=there),
        }

    def linked(self, conversation: str | None, code: str) -> str:
        """Which conversation is shown, for the page's script, and how to save it; where there is none, nothing."""
        return f'<span data-conversation="{conversation or ""}"></span>' + (
            _links(conversation, code) if conversation else ""
        )

    def wire(self) -> None:
        self.menu.click(None, js=OPEN_MENU)


def _links(conversation: str, code: str) -> str:
    """A button, and what it offers; the browser opens and closes it."""
    say = Say(code)
    save, print_it = map(html.escape, (say("Save"), say("Print or save as PDF")))
    named = {"zip": say("Save as Markdown"), "json": say("Save as JSON")}
    links = "".join(
        f'<a class="maya-link" download href="/conversations/{conversation}.{ending}?language={code}">'
        f"{html.escape(name)}</a>"
        for ending, name in named.items()
    )
    return (
        f'<button class="maya-link" popovertarget="maya-save">{save}</button><div id="maya-save" popover>{links}'
        f'<button class="maya-link" onclick="print()">{print_it}</button></div>'
    )
