"""What stands behind the page."""

from dataclasses import dataclass, field

from app.answers import Answers
from app.chat import Chat
from app.engine import Engine
from app.guard import Listening
from app.history import History
from app.models import Models
from app.settings import SettingsFile


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

    def chat(self, interface: str | None = None) -> Chat:
        """With what is chosen at this moment. interface: the language that the page speaks."""
        return Chat(engine=self.engine, history=self.history, settings=self.kept.load(), interface=interface)
