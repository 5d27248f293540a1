"""The page on which people accept, mend or reject translations, one after the other, by keyboard."""

import html
import time
from pathlib import Path
from typing import Any

import gradio as gr

from app.i18n import Say, format_whole, language_choices, preferred_language
from app.page.head import APPLY
from app.page.updates import HIDDEN, Updates, join
from app.page.words import Words
from app.settings import Settings
from maya_core.errors import DataError
from maya_core.languages import get_language
from maya_core.reviews import Item, Review, Verdict, add_review, checked_name, load_items, load_reviews

SOURCE_LANGUAGE = "en"


class ReviewPage:
    """items: in their order. Everything that people say goes to the folder at once, so that a page that is closed loses
    nothing and the next one goes on."""

    def __init__(self, folder: Path, *, language: str | None, reviewer: str) -> None:
        """language: of the interface, None for the browser's. Raises DataError where there is nothing to review."""
        self.folder, self.language = folder, language
        self.items: dict[str, list[Item]] = {}
        for item in load_items(folder):
            self.items.setdefault(item.language, []).append(item)
        if not self.items:
            raise DataError(f"There is no translation to review in {folder.name}; make some first.")
        self.words = Words()
        with gr.Column(elem_id="maya-review"):
            self._lay_out(reviewer)

    def _lay_out(self, reviewer: str) -> None:
        words = self.words
        with gr.Row(elem_id="maya-top"):
            gr.HTML('<span class="maya-name">Maya</span>', elem_id="maya-name")
            words.add(gr.Markdown(elem_id="maya-review-title"), lambda say, _: {"value": say("Review of translations")})
            self.interface = words.add(
                gr.Dropdown(
                    language_choices(), elem_id="maya-language", filterable=False, container=False, show_label=False
                ),
                lambda say, _: {"label": say("Language")},
            )
        with gr.Row():
            self.reviewer = words.add(
                gr.Textbox(value=reviewer, elem_id="maya-reviewer", max_lines=1),
                lambda say, _: {"label": say("Your name")},
            )
            choices = [(get_language(code).native_name, code) for code in self.items]
            self.of = words.add(
                gr.Dropdown(choices, value=choices[0][1], elem_id="maya-of", filterable=False),
                lambda say, _: {"label": say("Language of the translations")},
            )
        self.place = gr.State(0)
        self.source = gr.HTML(elem_id="maya-source")
        self.text = words.add(
            gr.Textbox(lines=3, elem_id="maya-translation"), lambda say, _: {"label": say("Translation")}
        )
        self.back = gr.HTML(elem_id="maya-back")
        with gr.Row(elem_id="maya-verdicts"):
            self.previous = words.add(gr.Button(elem_id="maya-previous"), lambda say, _: {"value": say("Previous")})
            self.accept = words.add(
                gr.Button(elem_id="maya-accept", variant="primary"), lambda say, _: {"value": say("Accept")}
            )
            self.reject = words.add(gr.Button(elem_id="maya-reject"), lambda say, _: {"value": say("Reject")})
            self.next = words.add(gr.Button(elem_id="maya-next"), lambda say, _: {"value": say("Next")})
        self.told = gr.Markdown(elem_id="maya-statistics")
        self.notice = gr.Markdown(elem_id="maya-notice", elem_classes=["maya-trouble"])
        words.add(
            gr.Markdown(elem_id="maya-about"),
            lambda say, _: {
                "value": say(
                    "Keys: A accepts, E edits, R rejects, ← and → move. While you edit, Ctrl+Enter accepts what you wrote."
                )
            },
        )

    def wire(self, blocks: gr.Blocks) -> None:
        """blocks: whose loading begins a visit."""
        shown = [self.place, self.source, self.text, self.back, self.told, self.notice]
        said: list[Any] = [self.interface, *self.words.components, *shown]
        who = [self.reviewer, self.of, self.interface]
        greeted = blocks.load(self.greet, [self.reviewer, self.of], said, **HIDDEN)
        spoken = self.interface.input(self.speak, [self.place, *who], said, **HIDDEN)
        for event in (greeted, spoken):
            event.then(None, [self.interface], js=f"(code) => ({APPLY})(code, 'system')")
        for changed in (self.reviewer.submit, self.reviewer.blur, self.of.input):
            changed(self.resume, who, shown, **HIDDEN)
        state = [self.place, *who]
        self.accept.click(self.accepted, [*state, self.text], shown, **HIDDEN)
        self.reject.click(self.rejected, state, shown, **HIDDEN)
        self.previous.click(self.back_one, state, shown, **HIDDEN)
        self.next.click(self.on_one, state, shown, **HIDDEN)

    def greet(self, reviewer: str, of: str, request: gr.Request) -> Updates:
        """A visit begins."""
        code = self.language or preferred_language(request.headers.get("accept-language", ""))
        return join(
            self.words.say_all(code, Settings()),
            {self.interface: gr.update(value=code)},
            self.resume(reviewer, of, code),
        )

    def speak(self, place: int, reviewer: str, of: str, code: str) -> Updates:
        """The page in another language."""
        return join(self.words.say_all(code, Settings()), self._shown(place, reviewer, of, code))

    def resume(self, reviewer: str, of: str, code: str) -> Updates:
        """The first translation that the reviewer has not looked at."""
        reviews = self._reviews(reviewer, of)
        items = self.items[of]
        place = next((place for place, item in enumerate(items) if item.id not in reviews), len(items) - 1)
        return self._shown(place, reviewer, of, code)

    def back_one(self, place: int, reviewer: str, of: str, code: str) -> Updates:
        return self._shown(max(0, place - 1), reviewer, of, code)

    def on_one(self, place: int, reviewer: str, of: str, code: str) -> Updates:
        return self._shown(min(len(self.items[of]) - 1, place + 1), reviewer, of, code)

    def accepted(self, place: int, reviewer: str, of: str, code: str, text: str) -> Updates:
        """What stands in the box is right: as it came, or as the reviewer wrote it."""
        item = self.items[of][place]
        written = text.strip()
        is_edited = bool(written) and written != item.translation
        return self._say(place, reviewer, of, code, "edit" if is_edited else "accept", written if is_edited else "")

    def rejected(self, place: int, reviewer: str, of: str, code: str) -> Updates:
        return self._say(place, reviewer, of, code, "reject", "")

    def _say(self, place: int, reviewer: str, of: str, code: str, verdict: Verdict, text: str) -> Updates:
        """Keep what the reviewer says, and go on."""
        say, item = Say(code), self.items[of][place]
        try:
            review = Review(
                item=item.id,
                language=of,
                reviewer=checked_name(reviewer),
                verdict=verdict,
                text=text,
                moment=time.time(),
            )
            add_review(self.folder, review)
        except DataError:
            return {
                self.notice: say("Type your name first, in letters; it keeps what you say apart from what others say.")
            }
        except OSError:
            return {self.notice: say("What you said could not be saved. Look for free space on the disk.")}
        return self.on_one(place, reviewer, of, code)

    def _reviews(self, reviewer: str, of: str) -> dict[str, Review]:
        """What the reviewer has said of the translations in a language, by item."""
        name = " ".join(reviewer.split())
        return {one.item: one for one in load_reviews(self.folder) if one.reviewer == name and one.language == of}

    def _shown(self, place: int, reviewer: str, of: str, code: str) -> Updates:
        say, items = Say(code), self.items[of]
        item, reviews = items[place], self._reviews(reviewer, of)
        own = reviews.get(item.id)
        told = {
            "accept": say("You accepted this translation."),
            "edit": say("You edited this translation."),
            "reject": say("You rejected this translation."),
        }
        reviewed = say(
            "{place} of {all}; you have looked at {done}.",
            place=format_whole(place + 1, code),
            all=format_whole(len(items), code),
            done=format_whole(len(reviews), code),
        )
        return {
            self.place: place,
            self.source: _labelled(say("English source"), item.source),
            self.text: gr.update(value=own.text if own and own.text else item.translation),
            self.back: _labelled(say("Translated back into English"), item.back_translation),
            self.told: f"{reviewed} {told[own.verdict] if own else ''}",
            self.notice: "",
        }


def build_review(folder: Path, *, language: str | None = None, reviewer: str = "") -> gr.Blocks:
    """The page over a folder of `maya_core.reviews`. Raises DataError."""
    with gr.Blocks(title="Maya", analytics_enabled=False, fill_width=True) as blocks:
        ReviewPage(folder, language=language, reviewer=reviewer).wire(blocks)
    return blocks


def _labelled(label: str, text: str) -> str:
    """An English text under its name."""
    return f'<h2>{html.escape(label)}</h2><p dir="ltr" lang="{SOURCE_LANGUAGE}">{html.escape(text)}</p>'
