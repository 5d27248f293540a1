"""Serves the page on 127.0.0.1, guarded."""

import socket
from collections.abc import Callable
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from app.engine import Engine
from app.guard import LocalOnly
from app.ui import build_page, page_head
from maya_core.assets import asset_path
from maya_core.images import MOST_BYTES

ADDRESS = "127.0.0.1"


def serve(
    engine: Engine, *, port: int, browser: bool, announce: Callable[[str], None], block: bool = True
) -> gr.Blocks:
    """Open the page at `port` (0: any free one) and, unless `block` is false, serve it until Ctrl-C."""
    page = build_page(engine)
    gr.set_static_paths([asset_path("examples")])
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
        theme=gr.themes.Default(font=["Noto Sans", "sans-serif"], font_mono=["monospace"]),
        head=page_head(),
        app_kwargs=_app_options(),
    )
    announce(url)
    if block:
        page.block_thread()
    return page


def _app_options() -> dict[str, Any]:
    return {
        "middleware": [Middleware(LocalOnly)],
        "routes": [Mount("/fonts", StaticFiles(directory=asset_path("fonts")))],
        "docs_url": None,
        "redoc_url": None,
        "openapi_url": None,
    }


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        return int(found.getsockname()[1])
