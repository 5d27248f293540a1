"""Chromium, and a page of our own to drive with it."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from app.engine import Engine, OneAtATime
from app.history import History
from app.lan import Lan
from app.models import Computer, Models
from app.settings import SettingsFile
from tests.app.scripted import ScriptedEngine

# The first has no window to draw: a page opens in two thirds of the time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
# As on a computer without a network: there is nobody else to ask. All tests of the page pass so.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
READY = (
    "document.querySelector('#maya-new')?.textContent.trim() && document.documentElement.dir"  # the page has its words
)
LONGEST = 60_000  # ms, for whatever a page does on a busy machine


COMPUTER = Computer(kind="cpu", device="", memory=16 * 10**9, free=100 * 10**9, fetched=False)
# The `maya` command as a program that does nothing: a hub where one token is good and nobody types the code, a download
# that hangs before the last of ten pieces.
MAYA = """
import json, sys, time
if "--by-code" in sys.argv:
    print(json.dumps({"address": "https://hub.invalid/device", "code": "ABCD-1234"}), flush=True)
    time.sleep(60)
if sys.argv[1] == "login" and input() != "hf_good":
    print(json.dumps({"error": "SignInNeeded"}))
    sys.exit(2)
if sys.argv[1] == "download":
    for done in range(1, 10):
        print(json.dumps({"done": done * 10**9, "size": 10 * 10**9}), flush=True)
        time.sleep(0.2)
    time.sleep(60)
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A page that is being served, and what is behind it."""

    address: str
    engine: Any
    queue: OneAtATime
    models: Models
    history: History
    settings: SettingsFile
    visits: list[Any] = field(default_factory=list)  # contexts of the browser

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rsplit(":", 1)[1])


@pytest.fixture(scope="session", autouse=True)
def uploads() -> Iterator[None]:
    """A folder of this worker's own. gradio names an upload by its content and deletes it when its server closes: in one
    that is shared, from under another server's question."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", folder)
        yield


def serve_site(engine: Engine, folder: Path, *, lan: Lan | None = None) -> Iterator[Site]:
    from app.server import serve

    history, settings = History(folder / "data"), SettingsFile(folder / "settings.json")
    queue, found = OneAtATime(engine), []
    models = Models(lambda model: None, look=lambda: COMPUTER, command=[sys.executable, "-c", MAYA])
    page = in_a_loop(
        lambda: serve(
            queue, models, history, settings, port=0, browser=False, announce=found.append, lan=lan, block=False
        )
    )
    site = Site(address=found[0], engine=engine, queue=queue, models=models, history=history, settings=settings)
    yield site
    for context in site.visits:  # a server waits for its visitors to leave
        context.close()
    page.close(verbose=False)


def in_a_loop(start: Callable[[], Any]) -> Any:
    """What `start` gives. Where no event loop runs, gradio makes one for each of its locks and closes none."""
    try:
        asyncio.get_running_loop()  # playwright's
    except RuntimeError:

        async def started() -> Any:
            return start()

        return asyncio.run(started())
    return start()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A page over a scripted engine, which a test may give other words to say."""
    yield from serve_site(ScriptedEngine("An ", "answer."), tmp_path)


@pytest.fixture(scope="module")  # playwright's event loop runs as long, and no other can
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", OFFLINE, *CAMERA])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Any]:
    """open_page(site, "ur") -> the page in a browser that speaks Urdu. All that it asks of other computers is in
    `page.foreign`, all that goes wrong in it in `page.errors`."""
    contexts = []

    def opened(
        site: Site,
        language: str = "en",
        *,
        width: int = 1200,
        height: int = 860,
        dark: bool = False,
        touch: bool = False,
    ) -> Any:
        context = chromium.new_context(
            locale=language,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
            is_mobile=touch,
            permissions=["clipboard-read", "clipboard-write", "camera"],
        )
        contexts.append(context)
        site.visits.append(context)
        page = context.new_page()
        page.set_default_timeout(LONGEST)
        page.foreign, page.errors = [], []
        page.on("request", lambda sent: None if is_own(sent.url) else page.foreign.append(sent.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(site.address)
        page.wait_for_function(READY)
        return page

    yield opened
    for context in contexts:
        context.close()


def is_own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))
