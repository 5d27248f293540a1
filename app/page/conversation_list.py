"""The list at the side: the conversations that are kept, a search in them, a new one, and one from a file."""

import gradio as gr

from app.i18n import Say, format_day
from app.page.services import Services
from app.page.updates import Updates
from app.page.words import Words


class ConversationList:
    """listing: the components of `listed`."""

    def __init__(self, services: Services, words: Words) -> None:
        self.services = services
        self.new = words.add(
            gr.Button(elem_id="maya-new", size="md", variant="primary"),
            lambda say, _: {"value": say("New conversation")},
        )
        self.search = words.add(
            gr.Textbox(elem_id="maya-search", show_label=False, container=False, max_lines=1),
            lambda say, _: {"placeholder": say("Search conversations"), "label": say("Search conversations")},
        )
        self.list = words.add(
            gr.Radio([], elem_id="maya-list", show_label=False, container=False),
            lambda say, _: {"label": say("Conversations")},
        )
        self.none = gr.Markdown(elem_id="maya-none")
        self.bring = words.add(
            gr.UploadButton(elem_id="maya-import", size="sm", variant="secondary", file_types=[".json"]),
            lambda say, _: {"label": say("Import a conversation")},
        )
        self.listing = [self.list, self.none]

    def listed(self, search: str, code: str, conversation: str | None) -> Updates:
        """The list, in which `conversation` is chosen, and what stands there where it is empty."""
        settings = self.services.kept.load()
        found = self.services.history.conversations(search)
        choices = [
            (f"{one.title}\n{format_day(one.updated, code, native_digits=settings.native_digits)}", one.id)
            for one in found
        ]
        known = conversation if any(one.id == conversation for one in found) else None
        say = Say(code)
        nothing = "" if found else say("Nothing found.") if search.strip() else say("No conversations yet.")
        return {
            self.list: gr.update(choices=choices, value=known, visible=bool(found)),
            self.none: gr.update(value=nothing, visible=not found),
        }
