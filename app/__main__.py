"""`maya-app`: opens Maya's page on this computer."""

import os
import sys
import tempfile
from dataclasses import dataclass
from typing import Annotated

import tyro


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
    """Serve the page until Ctrl-C; the model loads behind it."""
    options = tyro.cli(AppOptions, prog="maya-app")
    _stay_private(offline=options.offline or options.model is None)
    from app.engine import LocalEngine, OneAtATime
    from app.history import History
    from app.server import serve
    from app.settings import SettingsFile, data_folder, settings_file
    from maya_core.errors import MayaError
    from maya_core.languages import get_language

    engine = LocalEngine(options.model)
    engine.load_behind()
    try:
        serve(
            OneAtATime(engine),
            History(data_folder()),
            SettingsFile(settings_file()),
            port=options.port,
            browser=options.browser,
            announce=lambda address: print(f"Maya is at {address}", flush=True),
            language=get_language(options.lang).code if options.lang else None,
        )
    except (MayaError, ValueError) as error:
        sys.exit(str(error))
    except OSError:  # gradio's own advice names an environment variable
        sys.exit(f"Port {options.port} is taken. Close what uses it, or choose another: maya-app --port 0.")


def _stay_private(*, offline: bool) -> None:
    """Switch off what gradio and the hub library would send on their own; must come before their import."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="maya-"))  # mkdtemp: only this user may read it


if __name__ == "__main__":
    main()
