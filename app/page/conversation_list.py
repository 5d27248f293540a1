"""The list at the side: the conversations that are kept, a search in them, a new one, and one from a file.

Which one is chosen the browser shows, from what the bar above the conversation says of it.
"""

import html
import time
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import gradio as gr

from app.history import Conversation, HistoryUnavailable
from app.i18n import Say, describe_error, format_moment, format_time, group_of_days
from app.page.services import Services
from app.page.updates import Updates
from app.page.words import Words


class ConversationList:
    """listing: the components of `listed`. pick: pressed by the page's script where one is chosen; picked: its id."""

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
        self.list = gr.HTML(elem_id="maya-list")
        self.picked = gr.JSON(visible="hidden")
        self.pick = gr.Button(visible="hidden", elem_id="maya-pick")
        self.none = gr.Markdown(elem_id="maya-none")
        self.bring = words.add(
            gr.UploadButton(elem_id="maya-import", size="sm", variant="secondary"),
            lambda say, _: {"label": say("Import a conversation")},
        )
        self.listing = [self.list, self.none]

    def listed(self, search: str, code: str) -> Updates:
        """The list, and what stands there where it is empty."""
        say, native = Say(code), self.services.kept.load().native_digits
        try:
            found = self.services.history.conversations(search)
            pictures = self.services.history.first_pictures([one.id for one in found])
        except HistoryUnavailable as error:
            return {self.list: gr.skip(), self.none: gr.update(value=describe_error(error, code), visible=True)}
        nothing = "" if found else say("Nothing found.") if search.strip() else say("No conversations yet.")
        return {
            self.list: gr.update(value=_drawn(found, pictures, say, native=native), visible=bool(found)),
            self.none: gr.update(value=nothing, visible=not found),
        }


def _drawn(found: Sequence[Conversation], pictures: dict[str, Path], say: Say, *, native: bool) -> str:
    """One group of radio buttons, which is one stop of the keyboard, with the days over them."""
    now, met, parts = time.time(), Counter[tuple[str, str]](), []
    for period, conversations in groupby(
        found, lambda one: group_of_days(one.updated, say, now=now, native_digits=native)
    ):
        parts.append(f"<h2>{html.escape(period)}</h2>")
        for one in conversations:
            is_near = period in (say("Today"), say("Yesterday"))
            written = (format_time if is_near else format_moment)(one.updated, say.language, native_digits=native)
            met[one.title, written] += 1
            parts.append(_item(one, written, met[one.title, written], pictures.get(one.id)))
    name = html.escape(say("Conversations"))
    return f'<fieldset aria-label="{name}">{"".join(parts)}</fieldset>'


def _item(one: Conversation, written: str, which: int, picture: Path | None) -> str:
    """which: among those with the same title and time."""
    drawing = f'<img src="/thumbnails/{picture.name}" alt="" loading="lazy">' if picture else ""
    twin = f" · {which}" if which > 1 else ""
    return (
        f'<label><input type="radio" name="maya-conversation" value="{one.id}">{drawing}'
        f"<span><span>{html.escape(one.title)}</span><time>{html.escape(written + twin)}</time></span></label>"
    )
