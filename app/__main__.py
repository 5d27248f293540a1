"""`maya-app`: opens Maya's page on this computer."""

import os
import signal
import sys
from dataclasses import dataclass
from typing import Annotated

import platformdirs
import tyro

from app.uploads import own_folder


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
    port: Annotated[int, tyro.conf.arg(help="of the page, on 127.0.0.1 only; 0 takes a free one")] = 7860
    browser: Annotated[bool, tyro.conf.arg(help="open the page in the browser")] = True
    offline: Annotated[bool, tyro.conf.arg(help="never use the network, even if --model names a repository")] = False


def main() -> None:
    """Serve the page until Ctrl-C; the model loads behind it as soon as it is open."""
    options = tyro.cli(AppOptions, prog="maya-app")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: answers are kept as far as they came
    try:
        stay_private(offline=options.offline or options.model is None)
        _serve(options)
    except OSError as error:
        sys.exit(
            f"Maya cannot write to its folders ({error.strerror}); look for free space and for the right to write."
        )


def _serve(options: AppOptions) -> None:
    from app.engine import LocalEngine, OneAtATime
    from app.history import History
    from app.models import Models, place_of
    from app.proxies import no_proxies

    with no_proxies():
        from app.server import PortTaken, serve
    from app.settings import SettingsFile, data_folder, settings_file
    from maya_core.errors import MayaError
    from maya_core.languages import get_language

    settings = SettingsFile(settings_file())
    model = options.model or settings.load().model
    engine = LocalEngine(place_of(model))
    try:
        serve(
            OneAtATime(engine),
            Models(engine.use, prepare=engine.load_behind, model=model, offline=options.offline),
            History(data_folder()),
            settings,
            port=options.port,
            browser=options.browser,
            announce=lambda address: print(f"Maya is at {address}", flush=True),
            language=get_language(options.lang).code if options.lang else None,
        )
    except (MayaError, PortTaken, ValueError) as error:
        sys.exit(str(error))


def stay_private(*, offline: bool) -> None:
    """Switch off what gradio and the hub library would send on their own; must come before their import."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(own_folder(platformdirs.user_cache_path("maya") / "uploads"))


if __name__ == "__main__":
    main()
