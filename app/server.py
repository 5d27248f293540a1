"""Serves the page on 127.0.0.1, guarded."""

import socket
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.engine import Engine
from app.guard import Head, LocalOnly
from app.history import History
from app.i18n import Say, preferred_language
from app.settings import SettingsFile
from app.ui import build_page, page_head
from maya_core.assets import asset_path
from maya_core.images import MOST_BYTES
from maya_core.prompt import Role

ADDRESS = "127.0.0.1"
KINDS = {"md": "text/markdown; charset=utf-8", "json": "application/json"}


def serve(
    engine: Engine,
    history: History,
    settings: SettingsFile,
    *,
    port: int,
    browser: bool,
    announce: Callable[[str], None],
    language: str | None = None,
    block: bool = True,
) -> gr.Blocks:
    """Open the page at `port` (0: any free one) and, unless `block` is false, serve it until Ctrl-C."""
    page = build_page(engine, history, settings, language=language)
    gr.set_static_paths([asset_path("examples"), history.pictures])
    _, url, _ = page.launch(
        server_name=ADDRESS,
        server_port=port or free_port(),
        inbrowser=browser,
        quiet=True,
        share=False,
        prevent_thread_lock=True,
        show_error=False,
        max_file_size=MOST_BYTES,
        enable_monitoring=False,
        mcp_server=False,
        run_history=False,
        ssr_mode=False,
        footer_links=[],
        theme=gr.themes.Default(primary_hue="indigo", font=["Noto Sans", "sans-serif"], font_mono=["monospace"]),
        app_kwargs=_app_options(history),
    )
    announce(url)
    if block:
        page.block_thread()
    return page


def _app_options(history: History) -> dict[str, Any]:
    return {
        "middleware": [Middleware(LocalOnly), Middleware(Head, text=page_head())],
        "routes": [
            Mount("/fonts", StaticFiles(directory=asset_path("fonts"))),
            Route("/conversations/{conversation}.{ending}", _exporter(history)),
        ],
        "docs_url": None,
        "redoc_url": None,
        "openapi_url": None,
    }


def _exporter(history: History) -> Callable[[Request], Response]:
    def export(request: Request) -> Response:
        """A conversation as a file to keep."""
        conversation, ending = request.path_params["conversation"], request.path_params["ending"]
        if ending not in KINDS or not history.title(conversation):
            return Response(status_code=404)
        say = Say(preferred_language(request.query_params.get("language", "")))
        names: dict[Role, str] = {"user": say("You"), "assistant": "Maya", "system": "Maya"}
        text = history.to_json(conversation) if ending == "json" else history.to_markdown(conversation, names)
        headers = {"content-disposition": f'attachment; filename="maya.{ending}"', "cache-control": "no-store"}
        return Response(text, media_type=KINDS[ending], headers=headers)

    return export


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        return int(found.getsockname()[1])
