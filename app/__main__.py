"""`maya-app`: opens Maya's page on this computer."""

import os
import signal
import sys
import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NoReturn

import tyro

from app.settings import cache_folder
from app.uploads import own_folder
from maya_core.commands.streams import end_quickly, prepare_streams, tell, until_nobody_reads
from maya_core.errors import MayaError, refused_by_the_system

if TYPE_CHECKING:
    from app.lan import Lan
    from app.running import Running


MENDABLE, INTERRUPTED = 2, 130  # exit statuses, as the maya command's


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """Open Maya's page on this computer."""

    model: Annotated[
        str | None,
        tyro.conf.arg(help="a model's folder, or a repository on the hub to download; the embedded Maya if not given"),
    ] = None
    lang: Annotated[
        str | None, tyro.conf.arg(help="the page's language, as en or ur; the one chosen last, or the browser's")
    ] = None
    port: Annotated[
        int | None,
        tyro.conf.arg(help="of the page, on 127.0.0.1 only; 0 takes a free one. 7860, or a free one, if not given"),
    ] = None
    new: Annotated[
        bool, tyro.conf.arg(help="open another Maya beside one that runs; else that one's page is opened")
    ] = False
    lan: Annotated[
        bool,
        tyro.conf.arg(
            help="also open the page to this computer's local network, such as a telephone, for who types the code that is "
            "shown"
        ),
    ] = False
    browser: Annotated[bool, tyro.conf.arg(help="open the page in the browser")] = True
    window: Annotated[
        bool, tyro.conf.arg(help="open it in a window of its own, where there is Chromium or a browser of its kind")
    ] = False
    install: Annotated[bool, tyro.conf.arg(help="put Maya into the desktop's menu of programs, and end")] = False
    offline: Annotated[bool, tyro.conf.arg(help="never use the network, even if --model names a repository")] = False


def main() -> None:
    """Serve the page until Ctrl-C; the model loads behind it as soon as it is open."""
    prepare_streams()  # of a program without a terminal there may be none
    end_quickly()
    with until_nobody_reads():
        options = tyro.cli(AppOptions, prog="maya-app")
        if options.install:
            _install()
            return
    if options.window:
        from app.window import Window

        webbrowser.register("maya-window", None, Window(), preferred=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: answers are kept as far as they came
    try:
        stay_private(offline=options.offline or options.model is None)
        _serve(options)
    except KeyboardInterrupt:  # while it starts; later the page ends with it, in order
        sys.exit(INTERRUPTED)
    except MayaError as error:
        refuse(error)
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        refuse(refused_by_the_system(error, "Maya cannot write to its folders"))


def _install() -> None:
    from app.window import install

    try:
        print(f"Maya is in your menu of programs now: {install()}")
    except MayaError as error:
        refuse(error)


def _serve(options: AppOptions) -> None:
    from app.running import Running
    from app.settings import data_folder

    running = Running(data_folder())
    if address := _shown_instead(options, running):
        unheard = " and ".join(f"--{name}" for name in ("model", "lang") if getattr(options, name) is not None)
        without = f", without {unheard}" if unheard else ""
        _tell(f"Maya is at {address} already{without}. Another one opens with: maya-app --new")
        if options.browser:
            webbrowser.open(address)
        return
    try:
        _open(options, running)
    finally:
        running.end()


def _shown_instead(options: AppOptions, running: "Running") -> str | None:
    """The address of the Maya that runs, unless another one is asked for: as such, or at another port."""
    if options.new or options.lan:
        running.claim()
        return None
    if options.port is None:
        return running.other()
    address = running.other(patience=0)
    return address if address and address.endswith(f":{options.port}/") else None


def _open(options: AppOptions, running: "Running") -> None:
    from app.engine import LocalEngine, OneAtATime
    from app.history import History
    from app.models import Models, check_place, place_of
    from app.proxies import no_proxies

    with no_proxies():
        from app.server import PortTaken, serve, usual_port
    from app.lan import Lan, local_address
    from app.settings import SettingsFile, data_folder, settings_file
    from maya_core.languages import get_language

    settings = SettingsFile(settings_file())
    model = options.model or settings.load().model
    engine = LocalEngine(place_of(model))
    try:
        check_place(options.model)
        language = get_language(options.lang).code if options.lang else None
        port = usual_port() if options.port is None else options.port
        lan = Lan(local_address(), port) if options.lan else None

        def announce(address: str) -> None:
            _tell(f"Maya is at {address}")
            running.listens_at(int(address.rstrip("/").rsplit(":", 1)[1]))
            if lan:
                _tell_of(lan, language or settings.load().language)

        serve(
            OneAtATime(engine),
            Models(
                engine.use,
                prepare=engine.load_behind,
                loading=lambda: engine.loading,
                model=model,
                offline=options.offline,
            ),
            History(data_folder()),
            settings,
            port=port,
            browser=options.browser,
            announce=announce,
            language=language,
            lan=lan,
            token=running.token,
        )
    except (MayaError, PortTaken, ValueError) as error:
        refuse(error)


def _tell(*lines: str) -> None:
    """In the terminal; where nobody reads there any more, the page opens all the same."""
    with until_nobody_reads():
        print(*lines, sep="\n", flush=True)


def refuse(reason: str | Exception) -> NoReturn:
    """What the person can mend; once more in the terminal's language, where it is known there."""
    from app.command import reworded  # only now: the page is to be there soon

    tell(reason)
    if isinstance(reason, MayaError) and (own := reworded(reason)):
        tell(own)
    sys.exit(MENDABLE)


def _tell_of(lan: "Lan", language: str | None) -> None:
    """How to come to the page from a telephone, in the terminal; as the page says it."""
    from app.i18n import SOURCE, Say
    from app.lan import qr_code_for_terminal
    from app.page.telephone_panel import told
    from maya_core.commands.manner import spoken

    if sys.stdout.isatty():
        _tell(qr_code_for_terminal(lan.link))
    _tell(*told(lan, Say(language or spoken() or SOURCE)))


def stay_private(*, offline: bool) -> None:
    """Switch off what gradio and the hub library would send on their own; must come before their import."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(own_folder(cache_folder() / "uploads"))


if __name__ == "__main__":
    main()
