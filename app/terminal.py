"""`maya chat`: the page's conversations in a terminal.

What is said is kept where the page keeps it, and goes on there. Commands are named in the person's language, and in English.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Protocol, TextIO
from urllib.parse import unquote, urlsplit

from app.chat import Chat, View
from app.engine import Loading
from app.i18n import Say, format_minutes, later, tell
from maya_core.assets import typed_path
from maya_core.commands.many import PICTURES
from maya_core.commands.progress import telling
from maya_core.errors import ImageError

LISTED = 10  # conversations
LONG = 60.0  # seconds of loading that are told before
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what would move a terminal's cursor, or worse
WORD = re.compile(r"""'[^']*'|"[^"]*"|(?:\\.|[^\s\\])+""")

# What can be typed beside questions: name -> what it does.
COMMANDS: Mapping[str, str] = {
    later("/picture"): later("Add a picture by its path; dropping it into the terminal does the same."),
    later("/new"): later("Begin a new conversation."),
    later("/list"): later("List the latest conversations."),
    later("/open"): later("Go on with a conversation, by its number in the list."),
    later("/help"): later("Tell what can be typed."),
    later("/quit"): later("Leave; what was said stays in the list, here and on the page."),
}


class Lines(Protocol):
    """Where what a person types comes from. Raises EOFError at its end, KeyboardInterrupt for Ctrl-C."""

    def __call__(self, begun: str = "") -> str:
        """The next line. begun: what stands in it already."""
        ...


class TerminalChat:
    """One person's chat. chat: engine, history and what is chosen; loading: how far its model is; out: where answers go,
    err: where all else does."""

    def __init__(
        self, chat: Chat, say: Say, *, loading: Callable[[], Loading | None] = lambda: None, out: TextIO, err: TextIO
    ) -> None:
        self.chat, self.say, self._loading, self._out, self._err = chat, say, loading, out, err
        self.conversation: str | None = None
        self._pictures: list[str] = []
        self._begun = ""
        self._listed: list[str] = []

    def run(self, lines: Lines) -> None:
        """Answer line after line, until there is none or the person leaves."""
        self._tell(
            self.say("Type or drop a picture's path, and ask about it. {help} tells more.", help=self.say("/help"))
        )
        while True:
            begun, self._begun = self._begun, ""
            try:
                line = lines(begun).strip()
            except KeyboardInterrupt:
                self._tell(self.say("Ctrl-D leaves."))
                continue
            except EOFError:
                return
            name, _, rest = line.partition(" ")
            if (command := self._command(name)) == "/quit":
                return
            if command:
                self._do(command, rest.strip())
            elif line:
                self._say(line)

    # --- commands ---

    def _command(self, name: str) -> str | None:
        """Which command is meant, by its name in the person's language or in English."""
        return next((command for command in COMMANDS if name in (command, self.say(command))), None)

    def _do(self, command: str, rest: str) -> None:
        if command == "/picture":
            self._add(rest)
        elif command == "/new":
            self.conversation, self._pictures = None, []
        elif command == "/list":
            self._list()
        elif command == "/open":
            self._open(rest)
        else:
            self._tell(*(f"{self.say(name)}: {self.say(does)}" for name, does in COMMANDS.items()))
            self._tell(self.say("Ctrl-C stops an answer, Ctrl-D leaves."))

    def _add(self, path: str) -> None:
        found, _ = pictures_in(path)
        found = found or [str(typed_path(path))]
        if os.path.isfile(found[0]):
            self._pictures += found
            self._tell(self.say("This goes with your next question."))
        else:
            self._tell(self.say("There is no file {path}.", path=path))

    def _list(self) -> None:
        conversations = self.chat.history.conversations(most=LISTED)
        self._listed = [conversation.id for conversation in conversations]
        for number, conversation in enumerate(conversations, start=1):
            self._tell(f"{number}  {conversation.title}")
        if not conversations:
            self._tell(self.say("No conversations yet."))

    def _open(self, number: str) -> None:
        if not self._listed:
            self._listed = [conversation.id for conversation in self.chat.history.conversations(most=LISTED)]
        at = int(number) - 1 if number.isdecimal() else -1  # of any script's digits
        if not 0 <= at < len(self._listed):
            self._tell(self.say("There is no conversation with this number."))
            return
        self.conversation, self._pictures = self._listed[at], []
        for entry in self.chat.history.entries(self.conversation):
            self._tell(*(f"[{self.say('Picture')}]" for _ in entry.pictures))
            self._tell(f"{'> ' if entry.role == 'user' else ''}{entry.text}")

    # --- questions ---

    def _say(self, line: str) -> None:
        """What a person said that is no command: pictures, a question, or both."""
        found, question = pictures_in(line)
        self._pictures += found
        if not question:
            self._tell(self.say("This goes with your next question."))
        elif question.startswith("/") and not found and " " not in question:
            self._tell(
                self.say("There is no command {name}. {help} tells more.", name=question, help=self.say("/help"))
            )
        elif missing := next((word for word in question.split() if _names_a_picture(word) or _is_folder(word)), None):
            self._tell(self.say("There is no file {path}.", path=missing))
            self._begun, self._pictures = line, []
        else:
            self._ask(question)

    def _ask(self, question: str) -> None:
        pictures, self._pictures = self._pictures, []
        views = self.chat.ask(self.conversation, {"text": question, "files": pictures})
        with closing(views), stoppable() as is_stopped:
            view = self._stream(views, is_stopped)
        if is_stopped():
            self._tell(self.say("Stopped. What was said is kept."))
        if view is None:
            return
        self.conversation = view.conversation
        self._begun, self._pictures = view.typed.get("text") or "", list(view.typed.get("files") or ())
        if isinstance(view.notice, ImageError):  # it would be one again
            self._pictures = []
        if view.notice:
            self._tell(tell(view.notice, self.say.language))

    def _stream(self, views: Iterator[View], is_stopped: Callable[[], bool]) -> View | None:
        """Write the answer as it comes, and before its first word what is waited for; the last view."""
        written, view = "", None
        with ExitStack() as waiting:
            show = waiting.enter_context(telling())
            self._tell_of_loading()
            for view in views:
                self.conversation = view.conversation
                if (now := self._loading()) is not None:
                    show(self.say("The model is loading"), now.share)
                else:
                    show(self.say("Looking at the picture and reading the question"))
                said = view.answer.text if view.answer and view.underway else ""
                if said != written:
                    waiting.close()
                    self._write(said[len(written) :])
                    written = said
                if is_stopped():
                    break
        if written:
            self._write("\n")
        return view

    def _tell_of_loading(self) -> None:
        now = self._loading()
        if now and now.seconds >= LONG:
            minutes = format_minutes(now.seconds, self.say.language)
            told = "It comes to four bits meanwhile, which takes about {minutes} on this computer."
            self._tell(self.say(told, minutes=minutes))

    def _write(self, text: str) -> None:
        self._out.write(UNSEEN.sub("", text))
        self._out.flush()

    def _tell(self, *lines: str) -> None:
        self._err.write("".join(f"{UNSEEN.sub('', line)}\n" for line in lines))
        self._err.flush()


def pictures_in(line: str) -> tuple[list[str], str]:
    """The pictures whose paths stand in a line, as a terminal writes them when they are dropped there, and the words
    beside them."""
    found: list[str] = []

    def taken(word: re.Match[str]) -> str:
        path = next((path for path in _readings(word[0]) if _is_picture(path)), None)
        if path is None:
            return word[0]
        found.append(path)
        return ""

    rest = WORD.sub(taken, line)
    return found, " ".join(rest.split()) if found else line


def _readings(word: str) -> Iterator[str]:
    """What path a word may be: itself, without quotes and backslashes, or of an address."""
    yield str(typed_path(word))
    try:
        plain = "".join(shlex.split(word))
    except ValueError:
        return
    yield str(typed_path(plain))
    if plain.startswith("file://"):
        yield unquote(urlsplit(plain).path)


def _is_picture(path: str) -> bool:
    return _names_a_picture(path) and os.path.isfile(path)


def _is_folder(word: str) -> bool:
    """By its path, of more than the root's alone."""
    return os.sep in word and len(word) > 1 and os.path.isdir(typed_path(word))


def _names_a_picture(word: str) -> bool:
    return Path(word).suffix.lower() in PICTURES


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Meanwhile Ctrl-C is noted, and what is done looks at it; pressed again, it interrupts."""
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


# --- where lines come from ---


def lines_of(stream: Iterable[str]) -> Lines:
    """Lines that come through a pipe."""
    coming = iter(stream)

    def line(begun: str = "") -> str:
        for found in coming:
            return found
        raise EOFError

    return line


def lines_typed(say: Say) -> Lines:
    """Lines that a person types, with a line editor: arrows, what was typed before, completion of commands and paths."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    class Typed(Completer):
        """A command's name while there is one word, and else paths, of its last word."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            line = document.text_before_cursor
            if " " not in line and (found := [name for name in names if line and name.startswith(line)]):
                return [Completion(name, start_position=-len(line)) for name in found]
            word = line.rpartition(" ")[2]
            return PathCompleter(expanduser=True).get_completions(Document(word), complete_event) if word else []

    names = dict.fromkeys(name for command in COMMANDS for name in (say(command), command))
    session: PromptSession[str] = PromptSession("> ", completer=Typed(), complete_while_typing=False)
    return lambda begun="": session.prompt(default=begun)


def is_typed() -> bool:
    """Whether a person sits at a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()
