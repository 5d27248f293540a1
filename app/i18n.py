"""The interface in ten languages: gettext catalogues in `locales/`, with the English sentence as the key."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path

from babel import dates
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.units import format_unit

from app.engine import ConversationBusy, EngineBusy
from app.history import (
    ConversationGone,
    HistoryDamaged,
    HistoryForbidden,
    HistoryFull,
    HistoryLocked,
    HistoryUnavailable,
    NotAConversation,
    PictureGone,
    TurnGone,
)
from app.settings import SettingsUnsaved
from maya_core.errors import (
    CheckpointError,
    CheckpointNotFound,
    DestinationError,
    DiskFull,
    DownloadDamaged,
    DownloadError,
    FileMissing,
    HubBusy,
    HubUnreachable,
    ImageAnimated,
    ImageError,
    ImageShapeUnsupported,
    ImageTooLarge,
    ImageTypeUnsupported,
    ImageUnreadable,
    MayaError,
    ModelTooLarge,
    NotTheHub,
    PromptEmpty,
    PromptTooLong,
    ProxyRefused,
    RepositoryGated,
    SignInNeeded,
    TextTooLong,
    TokenizerMissing,
    TooManyPictures,
)
from maya_core.languages import CODES, get_language
from maya_core.model.images import MOST_BYTES, MOST_PIXELS
from maya_core.model.prompt import MAX_CHARACTERS

SOURCE = "en"
LOCALES = Path(__file__).parent / "locales"
ISOLATED = "\u2068{}\u2069"  # what has a direction of its own, as a file's name in an Arabic sentence


class Unexpected(MayaError):
    """Something that nobody thought of."""


# Each kind of trouble as a person reads it; a class that is not here is told by its nearest base.
SENTENCES: Mapping[type[MayaError], str] = {
    ImageUnreadable: "This file is not a picture that can be read. Choose another one.",
    FileMissing: "There is no file of this name. Check the path.",
    ImageTypeUnsupported: "This kind of picture is not supported. Save it as JPEG or PNG.",
    ImageTooLarge: "This picture is too large. Save it with less than {megabytes} MB and {megapixels} megapixels.",
    ImageShapeUnsupported: "This picture is too long and narrow. Cut a part out of it.",
    ImageAnimated: "This picture moves or has several pages. Save one of them as a picture.",
    PromptEmpty: "Type a question first.",
    PromptTooLong: "This question is too long. Shorten it.",
    CheckpointNotFound: "There is no model there. Check the folder or the name.",
    CheckpointError: "The model's files are damaged or of another kind. Fetch them again.",
    ModelTooLarge: "There is not enough free memory for this model. Close other programs, or choose a smaller model.",
    TokenizerMissing: "This model has no tokenizer and can neither read nor write. Choose another one, or put tokenizer.json"
    " beside it.",
    DestinationError: "The model could not be written. Look for free space on the disk, for the right to write there,"
    " and for what lies there already.",
    RepositoryGated: "This model asks you to accept its licence on its page first.",
    SignInNeeded: "The hub must know who you are. Sign in in the browser, or paste an access token of yours.",
    HubUnreachable: "The hub cannot be reached. Connect to the network and try again.",
    ProxyRefused: "The proxy of this computer does not let Maya through. Check its settings.",
    NotTheHub: "Something else answers in the hub's place, perhaps the login page of this network. Sign in to the network"
    " and try again.",
    HubBusy: "The hub does not answer just now. What has come is kept; try again later.",
    DownloadDamaged: "What came was damaged and is removed. Try again, best over another network.",
    DownloadError: "The download stopped. What has come is kept; try again to go on.",
    DiskFull: "There is not enough space on the disk for this model. Make room and try again.",
    TextTooLong: "This question is too long. Shorten it to {characters} characters.",
    TooManyPictures: "These are too many pictures. The model takes at most {pictures} in a question.",
    EngineBusy: "Many questions are waiting. Ask again in a moment.",
    HistoryUnavailable: "The conversation could not be saved. Look for free space on the disk.",
    HistoryLocked: "Another program holds Maya's conversations. Close it; what is shown here is kept as soon as that can"
    " be.",
    HistoryFull: "The disk is full. Make room; what is shown here is kept as soon as that can be.",
    HistoryForbidden: "Maya may not write into its folder for conversations. Give yourself the right to write there, and try"
    " again.",
    HistoryDamaged: "The file of your conversations is damaged. End Maya, then put a copy of yours in its place or move it"
    " elsewhere.",
    ConversationGone: "This conversation was deleted. Ask in a new one.",
    ConversationBusy: "This conversation is being answered in another window. Ask when that answer has ended, or stop it.",
    TurnGone: "This conversation was changed in another window. Look at it as it is now, and ask again.",
    PictureGone: "A picture of this conversation is no longer on the disk. Add it again.",
    SettingsUnsaved: "Your choice holds until Maya ends, but cannot be saved. Look for free space on the disk, and for the"
    " right to write there.",
    Unexpected: "Something went wrong. Try again, or load the page anew.",
    NotAConversation: "This file is not a conversation that Maya saved. Choose another one.",
    MayaError: "The model could not answer. Ask again, or start Maya anew.",
}

# What gradio calls its own parts, mostly for those who cannot see them, and the script ours -> our sentence for it.
LABELS: Mapping[str, str] = {
    "Upload a file": "Add pictures",
    "Click to upload or drop files": "Add pictures",
    "File upload": "Add pictures",
    "Multimedia input field": "Question",
    "chatbot conversation": "Conversation",
    "Copy message": "Copy the message",
    "Copied message": "Copied",
    "Edit": "Edit the question",
    "Retry": "Ask again",
    "Submit": "Send",
    "Stop": "Stop",
    "Remove": "Remove",
    "Clear": "Remove",
    "Fullscreen": "Show large",
    "Exit fullscreen mode": "Cancel",
    "Cancel": "Cancel",
    "Scroll to bottom": "To the end of the conversation",
    "Scroll down": "To the end of the conversation",
    "Click to Access Webcam": "Allow the camera",
    "capture photo": "Take a picture",
    "picture": "Picture",
    "example": "Example",
    "lost": "Maya does not answer any more. Start it anew; what you typed stays here.",
    "failed": "Something went wrong. Try again, or load the page anew.",
    "too large": "This file is too large. Choose one of less than {megabytes} MB.",
    "user": "You",
    "maya-menu": "Open the menu",
    "maya-close": "Close the menu",
    "Remove file": "Remove",
    "Uploaded files": "Pictures",
    "File thumbnail": "Picture",
    "maya-close-large": "Close",
    "maya-sheet": "Keyboard shortcuts",
    "maya-key-new": "New conversation",
    "maya-key-search": "Search conversations",
    "maya-key-copy": "Copy the last answer",
    "maya-key-stop": "Stop the answer",
    "maya-key-sheet": "Show these shortcuts",
}

# The first of a script's ten digits, for languages that have digits of their own (Unicode CLDR, native numbering systems).
NATIVE_ZERO = {"hi": "\u0966", "bn": "\u09e6", "ar": "\u0660", "ur": "\u06f0"}


@cache
def catalogue(language: str) -> NullTranslations:
    """The language's sentences; for English the key itself."""
    if language == SOURCE:
        return NullTranslations()
    with (LOCALES / f"{language}.po").open("rb") as file:
        sentences = read_po(file)
    compiled = BytesIO()
    write_mo(compiled, sentences)
    compiled.seek(0)
    return GNUTranslations(compiled)


@dataclass(frozen=True)
class Say:
    """Says sentences of the interface in a language."""

    language: str

    def __call__(self, sentence: str, **values: str) -> str:
        said = catalogue(self.language).gettext(sentence)
        return said.format(**values) if values else said

    def number(self, singular: str, plural: str, number: int, **values: str) -> str:
        """The form that the language has for `number`."""
        return catalogue(self.language).ngettext(singular, plural, number).format(**values)


def later(sentence: str) -> str:
    """Marks a sentence of the interface, for the catalogues, that is said when its language is known."""
    return sentence


def translate(sentence: str, language: str) -> str:
    """A sentence of the interface in one of the ten languages."""
    return Say(language)(sentence)


# --- numbers and days ---


def in_digits(text: str, language: str, *, native_digits: bool) -> str:
    """A formatted number in the language's own digits, where it has them and they are wanted."""
    if not native_digits or language not in NATIVE_ZERO:
        return text
    zero = ord(NATIVE_ZERO[language])
    return text.translate({ord("0") + digit: zero + digit for digit in range(10)})


def format_whole(number: float, language: str, *, native_digits: bool = False) -> str:
    """12345 -> 12,345, 12 345 or 12.345"""
    written = format_decimal(number, locale=get_language(language).locale)
    return in_digits(written, language, native_digits=native_digits)


def format_number(number: float, language: str, *, native_digits: bool = False) -> str:
    """45.6 -> 46, 4.56 -> 4.6 or 4,6"""
    return format_whole(round(number, 1 if number < 10 else None), language, native_digits=native_digits)


def format_seconds(seconds: float, language: str, *, native_digits: bool = False) -> str:
    """2.34 -> 2.3 s, 0.04 -> 40 ms, or as the language shortens it"""
    locale = get_language(language).locale
    amount, unit = (round(seconds * 1000), "millisecond") if seconds < 1 else (round(seconds, 1), "second")
    written = format_unit(amount, f"duration-{unit}", length="short", locale=locale)
    return in_digits(written, language, native_digits=native_digits)


def format_minutes(seconds: float, language: str, *, native_digits: bool = False) -> str:
    """640.0 -> 11 min, or as the language shortens it"""
    minutes = max(1, round(seconds / 60))
    written = format_unit(minutes, "duration-minute", length="short", locale=get_language(language).locale)
    return in_digits(written, language, native_digits=native_digits)


def format_share(share: float, language: str, *, native_digits: bool = False) -> str:
    """0.45 -> 45%"""
    written = format_percent(share, locale=get_language(language).locale)
    return in_digits(written, language, native_digits=native_digits)


def format_bytes(number: int, language: str, *, native_digits: bool = False) -> str:
    """16290000000 -> 16.3 GB"""
    return _in_gigabytes(number / 1e9, language, native_digits)


def format_memory(number: int, language: str, *, native_digits: bool = False) -> str:
    """8589934592 -> 8 GB, as memory is sold: a gigabyte of 1024 to the third"""
    return _in_gigabytes(round(number / 1024**3), language, native_digits)


def _in_gigabytes(giga: float, language: str, native_digits: bool) -> str:
    locale = get_language(language).locale
    written = format_unit(round(giga, 1 if giga < 100 else None), "digital-gigabyte", length="short", locale=locale)
    return in_digits(written, language, native_digits=native_digits)


def format_time(seconds: float, language: str, *, native_digits: bool = False) -> str:
    """A moment in seconds since 1970 -> 10:42 or 10:42 AM, as the language writes it"""
    locale = get_language(language).locale
    return in_digits(
        dates.format_time(datetime.fromtimestamp(seconds), "short", locale=locale),
        language,
        native_digits=native_digits,
    )


def format_moment(seconds: float, language: str, *, native_digits: bool = False) -> str:
    """A moment in seconds since 1970 -> its day and time, as the language writes them in short"""
    moment, locale = datetime.fromtimestamp(seconds), get_language(language).locale
    is_this_year = moment.year == datetime.now().year
    day = dates.format_skeleton("MMMd" if is_this_year else "yMMMd", moment, locale=locale)
    written = str(dates.get_datetime_format("short", locale=locale)).replace("{1}", day)
    time = dates.format_time(moment, "short", locale=locale)
    return in_digits(written.replace("{0}", time), language, native_digits=native_digits)


def group_of_days(seconds: float, say: Say, *, now: float, native_digits: bool = False) -> str:
    """What the days are called among which a moment is: today, yesterday, the last seven days, or its month"""
    moment = datetime.fromtimestamp(seconds)
    days = (datetime.fromtimestamp(now).date() - moment.date()).days
    if days <= 0:
        return say("Today")
    if days == 1:
        return say("Yesterday")
    if days < 7:
        return say("The last seven days")
    month = dates.format_skeleton("yMMMM", moment, locale=get_language(say.language).locale)
    return in_digits(month, say.language, native_digits=native_digits)


def kind_of(error: MayaError) -> type[MayaError]:
    """The nearest of its classes that has a sentence."""
    return next(kind for kind in type(error).__mro__ if kind in SENTENCES)


def describe_error(error: MayaError, language: str) -> str:
    """What went wrong and what to do, in the user's language; chosen by class, the message is never shown. Of several
    pictures it says which."""
    limits = {
        "megabytes": MOST_BYTES // 1024**2,
        "megapixels": MOST_PIXELS // 10**6,
        "characters": MAX_CHARACTERS,
        "pictures": getattr(error, "most", 0),
    }
    told = translate(SENTENCES[kind_of(error)], language).format(**limits)
    name = error.name if isinstance(error, ImageError) else ""
    return f"{ISOLATED.format(name)}: {told}" if name else told


def tell(notice: str | MayaError, language: str) -> str:
    """A sentence of the interface, or trouble, in the user's language; nothing where there is none."""
    if isinstance(notice, MayaError):
        return describe_error(notice, language)
    return notice and translate(notice, language)


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
