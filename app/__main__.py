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
    port: Annotated[int, tyro.conf.arg(help="of the page, on 127.0.0.1 only; 0 takes a free one")] = 7860
    browser: Annotated[bool, tyro.conf.arg(help="open the page in the browser")] = True


def main() -> None:
    """Load the model and serve the page until Ctrl-C."""
    options = tyro.cli(AppOptions, prog="maya-app")
    _stay_private(offline=options.model is None)
    from app.engine import LocalEngine
    from app.server import serve
    from maya_core.errors import MayaError

    engine = LocalEngine(options.model)
    try:
        engine.load()
    except MayaError as error:
        sys.exit(str(error))
    serve(
        engine,
        port=options.port,
        browser=options.browser,
        announce=lambda address: print(f"Maya is at {address}", flush=True),
    )


def _stay_private(*, offline: bool) -> None:
    """Switch off what gradio and the hub library would send on their own; must come before their import."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="maya-"))  # mkdtemp: only this user may read it


if __name__ == "__main__":
    main()
