"""The interface in ten languages: gettext catalogues in `locales/`, with the English sentence as the key."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po

from maya_core.errors import (
    ImageAnimated,
    ImageShapeUnsupported,
    ImageTooLarge,
    ImageTypeUnsupported,
    ImageUnreadable,
    MayaError,
    PromptEmpty,
    PromptTooLong,
)
from maya_core.images import MOST_BYTES, MOST_PIXELS
from maya_core.languages import CODES, get_language

SOURCE = "en"
LOCALES = Path(__file__).parent / "locales"

# Each kind of trouble as a person reads it; a class that is not here is told by its nearest base.
SENTENCES: Mapping[type[MayaError], str] = {
    ImageUnreadable: "This file is not a picture that can be read. Choose another one.",
    ImageTypeUnsupported: "This kind of picture is not supported. Save it as JPEG or PNG.",
    ImageTooLarge: "This picture is too large. Save it with less than {megabytes} MB and {megapixels} megapixels.",
    ImageShapeUnsupported: "This picture is too long and narrow. Cut a part out of it.",
    ImageAnimated: "This picture moves or has several pages. Save one of them as a picture.",
    PromptEmpty: "Type a question first.",
    PromptTooLong: "The conversation is too long. Start a new one.",
    MayaError: "The model could not answer. Ask again, or start Maya anew.",
}


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """English sentence -> the language's; empty for English."""
    if language == SOURCE:
        return {}
    with (LOCALES / f"{language}.po").open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id}


def translate(sentence: str, language: str) -> str:
    """A sentence of the interface in one of the ten languages."""
    return sentence if language == SOURCE else catalogue(language)[sentence]


def describe_error(error: MayaError, language: str) -> str:
    """What went wrong and what to do, in the user's language; chosen by class, the message is never shown."""
    kind = next(kind for kind in type(error).__mro__ if kind in SENTENCES)
    limits = {"megabytes": MOST_BYTES // 1024**2, "megapixels": MOST_PIXELS // 10**6}
    return translate(SENTENCES[kind], language).format(**limits)


def preferred_language(accept_language: str) -> str:
    """The first of the ten that a browser's Accept-Language names, by its weights; English where none."""
    wanted = []
    for position, part in enumerate(accept_language.split(",")):
        tag, _, weight = part.strip().partition(";q=")
        wanted.append((-_weight(weight), position, tag))
    for _, _, tag in sorted(wanted):
        try:
            return get_language(tag).code
        except ValueError:
            continue
    return SOURCE


def _weight(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0


def language_choices() -> list[tuple[str, str]]:
    """(native name, code) of the ten languages."""
    return [(get_language(code).native_name, code) for code in CODES]
