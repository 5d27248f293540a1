"""The `maya` command as it is installed: what `maya_core` does, and `maya chat`, which shares the page's conversations."""

import sys
from dataclasses import replace
from typing import Annotated

import tyro

from maya_core import cli
from maya_core.commands.arguments import Model
from maya_core.commands.manner import spoken
from maya_core.errors import MayaError


def chat(
    model: Model = None,
    lang: Annotated[str | None, tyro.conf.arg(help="of what is told beside the answers; the terminal's")] = None,
    answer_in: str | None = None,
) -> None:
    """Talk about pictures in the terminal. Conversations are those of the page; pictures are typed or dropped as paths.

    Args:
        answer_in: language of the answers, one of en, zh, fr, es, ru, hi, ja, ar, bn, ur; each question's if not given
    """
    from app.chat import Chat
    from app.engine import LocalEngine
    from app.history import History
    from app.i18n import SOURCE, Say
    from app.models import place_of
    from app.settings import SettingsFile, data_folder, settings_file
    from app.terminal import TerminalChat, is_typed, lines_of, lines_typed
    from maya_core.commands.opening import here
    from maya_core.languages import get_language

    settings = SettingsFile(settings_file()).load()
    try:
        code = get_language(lang).code if lang else settings.language or spoken() or SOURCE
        wished = get_language(answer_in).code if answer_in else settings.answer_language
    except ValueError as error:
        raise MayaError(str(error)) from None
    engine = LocalEngine(here(place_of(model or settings.model)))
    engine.load_behind()
    kept = Chat(
        engine=engine,
        history=History(data_folder()),
        settings=replace(settings, answer_language=wished),
        interface=code,
    )
    say = Say(code)
    lines = lines_typed(say) if is_typed() else lines_of(sys.stdin)
    TerminalChat(kept, say, loading=lambda: engine.loading, out=sys.stdout, err=sys.stderr).run(lines)


cli.add(chat)


def main() -> None:
    """Run a command; see `maya_core.cli.main`."""
    cli.main(reworded)


def reworded(error: MayaError) -> str:
    """What the page says of it in the terminal's language, beside the exact sentence, which is English; nothing where the
    terminal speaks English, or of what the page does not know."""
    if (code := spoken()) in (None, "en") or type(error) is MayaError:
        return ""
    from app.i18n import describe_error, kind_of

    return "" if kind_of(error) is MayaError else describe_error(error, code)
