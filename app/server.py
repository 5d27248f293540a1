"""Serves the page on 127.0.0.1, guarded."""

import os
import socket
import time
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from app.addresses import Addresses, thumbnails
from app.answers import Answers
from app.engine import OneAtATime
from app.exports import exporter
from app.guard import Head, Listening, LocalOnly, NotedListeners
from app.history import History, HistoryUnavailable
from app.lan import CodeFirst, Lan
from app.models import Models
from app.page.build import build_page
from app.page.head import MOST_MEGABYTES, page_head
from app.proxies import no_proxies
from app.running import ADDRESS
from app.running import PATH as RUNNING
from app.settings import SettingsFile
from app.window import ICON
from maya_core.assets import asset_path

USUAL_PORT = 7860
MOST_PORT = 65535
MOST_PAGES = 64  # of which gradio remembers what was open; without it a page that was closed takes 250 KB for an hour
LONGEST_FAREWELL = 4.0  # seconds for answers to be kept as far as they came
# gradio keeps figures of its last 10,000 events and makes a table of them all after each one; nothing here reads it.
WITHOUT_FIGURES = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}
BEING_ANSWERED = "+"


class PortTaken(Exception):
    """Another program listens at the port."""


def serve(
    engine: OneAtATime,
    models: Models,
    history: History,
    settings: SettingsFile,
    *,
    port: int,
    browser: bool,
    announce: Callable[[str], None],
    language: str | None = None,
    lan: Lan | None = None,
    token: str | None = None,
    block: bool = True,
) -> gr.Blocks:
    """Open the page at `port` (0: any free one) and, unless `block` is false, serve it until Ctrl-C. lan: its place in the
    local network; none without. token: what it answers to (`running`). Raises PortTaken."""
    if not 0 <= port <= MOST_PORT:
        raise ValueError(f"A port is 0 to {MOST_PORT}, not {port}: maya-app --port 0 takes a free one.")
    os.environ.update(WITHOUT_FIGURES)
    listening, answers = Listening(), Answers()
    page = build_page(engine, models, history, settings, listening, answers, language=language, lan=lan)
    gr.set_static_paths([asset_path("examples"), history.pictures])
    options = _app_options(history, listening, answers, lan, token)
    open_page(page, port=port, browser=browser, announce=announce, command="maya-app", app_options=options)
    if block:
        until_interrupted(page)
        answers.stop_all()
        _wait_for_silence(engine)
        with suppress(HistoryUnavailable):
            history.save()
    return page


def until_interrupted(page: gr.Blocks) -> None:
    """Serve until Ctrl-C; gradio's own `block_thread` would say in English that it came."""
    try:
        while page.is_running:
            time.sleep(0.1)
    except KeyboardInterrupt:
        page.server.close()


def open_page(
    page: gr.Blocks,
    *,
    port: int,
    browser: bool,
    announce: Callable[[str], None],
    command: str,
    app_options: dict[str, Any],
) -> None:
    """Serve a page on this computer alone, without what gradio would offer or send beside it. command: what opens it.
    app_options: with the middleware that guards it (`guarded`). Raises PortTaken."""
    port = port or free_port()
    if not _is_free(port):
        raise PortTaken(f"Port {port} is taken. Close what uses it, or choose another: {command} --port 0.")
    with no_proxies():
        _, url, _ = page.launch(
            server_name=ADDRESS,
            server_port=port,
            inbrowser=False,
            quiet=True,
            share=False,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=MOST_MEGABYTES * 1024**2,
            state_session_capacity=MOST_PAGES,
            enable_monitoring=False,
            mcp_server=False,
            run_history=False,
            ssr_mode=False,
            _frontend=False,  # or it gives up where a busy computer takes more than 3 seconds to answer itself
            footer_links=[],
            pwa=True,  # a browser can install it; no service worker, for this server is there without a network
            favicon_path=ICON,
            theme=gr.themes.Default(primary_hue="indigo", font=["Noto Sans", "sans-serif"], font_mono=["monospace"]),
            app_kwargs=app_options,
        )
    announce(url)
    if browser:
        webbrowser.open(url)


def _wait_for_silence(engine: OneAtATime) -> None:
    until = time.monotonic() + LONGEST_FAREWELL
    while engine.busy and time.monotonic() < until:
        time.sleep(0.05)


def _app_options(
    history: History, listening: Listening, answers: Answers, lan: Lan | None, token: str | None
) -> dict[str, Any]:
    routes = [
        Route("/conversations/{conversation}/revision", _reviser(history, answers)),
        Route("/conversations/{conversation}.{ending}", exporter(history)),
        Route("/drawn/{key}/{number:int}", _pacer(answers), methods=["POST"]),
        Route("/thumbnails/{file}", thumbnails(history.pictures)),
    ]
    if token:
        routes.append(Route(f"{RUNNING}/{token}", lambda _: Response(status_code=204)))
    middleware = [Middleware(Addresses), Middleware(NotedListeners, listening=listening)]
    return guarded(middleware=middleware, routes=routes, lan=lan)


def guarded(
    *, middleware: Sequence[Middleware] = (), routes: Sequence[Route] = (), lan: Lan | None = None
) -> dict[str, Any]:
    """`app_options` of a page of ours: guarded, with our style, script and fonts, and what it has beside them."""
    guards = [Middleware(LocalOnly, lan=(lan.host, lan.port) if lan else None)]
    if lan:
        guards.append(Middleware(CodeFirst, lan=lan))
    return {
        "middleware": [*guards, Middleware(Head, text=page_head()), *middleware],
        "routes": [Mount("/fonts", StaticFiles(directory=asset_path("fonts"))), *routes],
        "docs_url": None,
        "redoc_url": None,
        "openapi_url": None,
        "lifespan": lan.lifespan() if lan else None,
    }


def _reviser(history: History, answers: Answers) -> Callable[[Request], Response]:
    def revision(request: Request) -> Response:
        """What changes with a conversation, for pages that show it; a sign more while an answer is being made."""
        conversation = request.path_params["conversation"]
        try:
            now = history.revision(conversation)
        except HistoryUnavailable:
            return Response(status_code=503)
        return Response(now + BEING_ANSWERED * answers.is_busy(conversation), headers={"cache-control": "no-store"})

    return revision


def _pacer(answers: Answers) -> Callable[[Request], Response]:
    def drawn(request: Request) -> Response:
        """A page has drawn what it was given of an answer."""
        answers.drawn(request.path_params["key"], request.path_params["number"])
        return Response(status_code=204)

    return drawn


def _is_free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given back is free
        try:
            tried.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def usual_port() -> int:
    """Where the page is looked for, or where something else listens there, a free one."""
    return USUAL_PORT if _is_free(USUAL_PORT) else free_port()


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        return int(found.getsockname()[1])
