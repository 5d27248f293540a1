"""What stands behind the page."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from app.answers import Answers
from app.chat import Chat
from app.engine import Engine
from app.guard import Listening
from app.history import History
from app.i18n import SOURCE, describe_error
from app.models import Models
from app.page.updates import ours
from app.settings import Settings, SettingsFile, SettingsUnsaved


@dataclass(frozen=True, kw_only=True)
class Services:
    """One of each, for all panels. language: of the interface, whatever was chosen before; None where none was given."""

    engine: Engine
    models: Models
    history: History
    kept: SettingsFile
    listening: Listening
    language: str | None = None
    answers: Answers = field(default_factory=Answers)

    def choose(self, **changes: Any) -> Settings:
        """What is chosen from now on. Where that cannot be saved, it is told beside whatever else the event does."""
        try:
            return self.kept.change(**changes)
        except SettingsUnsaved as error:
            said = describe_error(error, self.kept.load().language or self.language or SOURCE)
            gr.Warning(ours(said), title="Maya")
            return self.kept.load()

    def chat(self, interface: str | None = None) -> Chat:
        """With what is chosen at this moment. interface: the language that the page speaks."""
        return Chat(engine=self.engine, history=self.history, settings=self.kept.load(), interface=interface)
