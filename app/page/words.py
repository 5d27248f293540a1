"""What the components say, in whichever language the page speaks."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from app.i18n import Say
from app.page.updates import Updates
from app.settings import Settings

Texts = Callable[[Say, Settings], dict[str, Any]]  # a component's texts, and what is chosen in it


class Words:
    """Every component that says something, with its texts."""

    def __init__(self) -> None:
        self._texts: dict[Any, Texts] = {}

    @property
    def components(self) -> list[Any]:
        return list(self._texts)

    def add(self, component: Any, texts: Texts) -> Any:
        """The component, whose texts are said from now on."""
        self._texts[component] = texts
        return component

    def say_all(self, code: str, settings: Settings) -> Updates:
        """Every text of the page in a language, with what is chosen."""
        say = Say(code)
        return {component: gr.update(**texts(say, settings)) for component, texts in self._texts.items()}
