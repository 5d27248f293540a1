"""How questions are put to a model: what is asked for beside the words of the question."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maya_core.answering.options import GenerationOptions
from maya_core.errors import MayaError
from maya_core.languages import get_language

if TYPE_CHECKING:
    from maya_core.answering.language import AnswerLanguage
    from maya_core.answering.session import ChatSession
    from maya_core.model.prompt import Message

SPEAKING = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set says the language


@dataclass(frozen=True, kw_only=True)
class Manner:
    """answer_in: the answers' language, the question's if None. system: what the model is told first."""

    options: GenerationOptions
    answer_in: str | None = None
    system: str | None = None

    @classmethod
    def of(cls, *, max_new_tokens: int, temperature: float, answer_in: str | None, system: str | None) -> "Manner":
        """Raises MayaError for what cannot be asked for."""
        from maya_core.model.prompt import clean_text  # after a wrong path has been told

        if system is not None and not system.strip():
            raise MayaError("There is nothing in --system; say something in it, or leave it out.")
        try:
            chosen = get_language(answer_in).code if answer_in is not None else None
        except ValueError as error:
            raise MayaError(str(error)) from None
        try:
            options = GenerationOptions(max_new_tokens=max_new_tokens, temperature=temperature)
        except ValueError as error:  # its first word is the option
            raise MayaError(f"--{str(error).replace('_', '-')}") from None
        return cls(options=options, answer_in=chosen, system=system and clean_text(system))

    def messages(
        self, session: "ChatSession", question: str, images: Sequence[Any]
    ) -> tuple[list["Message"], "AnswerLanguage"]:
        """The conversation that asks a question about pictures, and the language of its answer. Raises MayaError."""
        from maya_core.answering.language import answer_language
        from maya_core.model.prompt import Message

        message = session.processor.user_message(question, images)
        language = answer_language(question, chosen=self.answer_in, interface=spoken())
        told = [Message(role="system", text=self.system)] if self.system else []
        return [*told, language.asked(message)], language


def spoken() -> str | None:
    """Which of the ten languages the terminal speaks, as POSIX and gettext say; None where it is none of them.

    LC_CTYPE says nothing of it: Python sets it by itself where a locale is not installed.
    """
    said = next((os.environ[name] for name in SPEAKING if os.environ.get(name)), "")
    for tag in said.split(":"):
        try:
            return get_language(tag).code
        except ValueError:
            continue
    return None
