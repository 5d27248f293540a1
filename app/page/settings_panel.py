"""What a person can choose: the answers' language, the look, the digits, how answers are drawn."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.i18n import language_choices
from app.page.head import APPLY
from app.page.services import Services
from app.page.updates import HIDDEN
from app.page.words import Words
from app.settings import MOST_TEMPERATURE, MOST_TOKENS, THEMES
from maya_core.languages import CODES

SAME_LANGUAGE = ""  # in the picker of the answer's language


class SettingsPanel:
    """Every choice is kept as it is made."""

    def __init__(self, services: Services, words: Words) -> None:
        self.services = services
        with words.add(gr.Accordion(open=False, elem_id="maya-settings"), lambda say, _: {"label": say("Settings")}):
            self.answer_language = words.add(
                gr.Dropdown(elem_id="maya-answer-language", min_width=0, filterable=False),
                lambda say, now: {
                    "label": say("Answer in"),
                    "choices": [(say("The question's language"), SAME_LANGUAGE), *language_choices()],
                    "value": now.answer_language or SAME_LANGUAGE,
                },
            )
            self.theme = words.add(
                gr.Radio(elem_id="maya-theme", min_width=0, value=services.kept.load().theme),
                lambda say, now: {
                    "label": say("Appearance"),
                    "choices": list(zip((say("Like the system"), say("Light"), say("Dark")), THEMES, strict=True)),
                    "value": now.theme,
                },
            )
            self.digits = words.add(
                gr.Checkbox(elem_id="maya-digits", min_width=0),
                lambda say, now: {"label": say("Numbers in the language's own digits"), "value": now.native_digits},
            )
            self._lay_out_advanced(words)

    def _lay_out_advanced(self, words: Words) -> None:
        with words.add(gr.Accordion(open=False, elem_id="maya-advanced"), lambda say, _: {"label": say("Advanced")}):
            self.temperature = words.add(
                gr.Slider(0, MOST_TEMPERATURE, step=0.1, min_width=0, buttons=[]),
                lambda say, now: {
                    "label": say("Temperature"),
                    "info": say("0 gives the likeliest answer, more gives more varied ones."),
                    "value": now.temperature,
                },
            )
            self.length = words.add(
                gr.Slider(*MOST_TOKENS, step=32, min_width=0, buttons=[]),
                lambda say, now: {"label": say("Longest answer, in tokens"), "value": now.most_tokens},
            )

    def wire(self, language: Any, renumber: dict[str, Any]) -> None:
        """renumber: the event that writes the page's numbers anew."""
        self.answer_language.input(self.keep_answer_language, [self.answer_language], **HIDDEN)
        self.theme.input(self.keeps("theme"), [self.theme], **HIDDEN).then(None, [language, self.theme], js=APPLY)
        self.digits.input(self.keeps("native_digits"), [self.digits], **HIDDEN).then(**renumber)
        self.temperature.release(self.keeps("temperature"), [self.temperature], **HIDDEN)
        self.length.release(self.keeps("most_tokens"), [self.length], **HIDDEN)

    def keeps(self, name: str) -> Callable[[Any], None]:
        """A handler that keeps what was chosen as the setting `name`."""

        def keep(value: Any) -> None:
            self.services.choose(**{name: value})

        return keep

    def keep_answer_language(self, code: str) -> None:
        self.services.choose(answer_language=code if code in CODES else None)
