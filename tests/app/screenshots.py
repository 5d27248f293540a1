"""Pictures of the page with a real conversation, in ten languages, light and dark, on a desk and on a telephone; for each
what axe has against it (WCAG 2, A and AA), and at the end every request that did not go to the page's own server:
`python -m tests.app.screenshots DIR`; or some of them, by name: `python -m tests.app.screenshots DIR hi-desk-light`.
"""

import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from app.engine import LocalEngine
from app.i18n import Say
from maya_core.languages import CODES
from tests.app.conftest import CHROMIUM, LONGEST, READY, Site, serve_site
from tests.app.test_browser import MESSAGES, ask, faults, settled

SIZES = {"desk": (1200, 820), "telephone": (390, 800)}
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
QUESTIONS = {"What is this?": "1.png", "What colour is the background?": "3.png"}
# How many px of a message are scrolled away above what is shown.
CUT = """() => {
    const top = document.querySelector("#maya-conversation .bubble-wrap").getBoundingClientRect().top;
    const rows = [...document.querySelectorAll("#maya-conversation .message-row")];
    const places = rows.map((row) => row.getBoundingClientRect());
    const cut = places.find((place) => place.top < top && place.bottom > top);
    return cut ? Math.ceil(top - cut.top) : 0;
}"""


def named(code: str, size: str, dark: bool) -> str:
    return f"{code}-{size}-{'dark' if dark else 'light'}"


def draw(site: Site, browser: Any, code: str, *, size: str, dark: bool, out: Path) -> list[str]:
    """A new page, a conversation about two of the examples, and its picture; the requests that left the machine."""
    site.settings.change(language=None)
    width, height = SIZES[size]
    context = browser.new_context(
        locale=code, viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    requested: list[str] = []
    context.on("request", lambda request: requested.append(request.url))
    page = context.new_page()
    page.set_default_timeout(LONGEST)
    page.goto(site.address)
    page.wait_for_function(READY)
    for question, picture in QUESTIONS.items():
        ask(page, Say(code)(question), EXAMPLES / picture)
    page.locator(MESSAGES.format("bot")).last.scroll_into_view_if_needed()
    settled(page)
    page.set_viewport_size({"width": width, "height": height + page.evaluate(CUT)})
    page.evaluate("document.querySelector('#maya-conversation .bubble-wrap').scrollTop = 1e6")
    settled(page)
    name = named(code, size, dark)
    page.screenshot(path=out / f"{name}.png")
    print(f"{name}: axe found {faults(page) or 'nothing'}", flush=True)
    context.close()
    return [url for url in requested if not url.startswith((site.address, "data:", "blob:"))]


def main() -> None:
    out, names = Path(sys.argv[1]), sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    outside: list[str] = []
    engine = LocalEngine()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for code in CODES:
            wanted = [one for one in product(SIZES, (False, True)) if not names or named(code, *one) in names]
            for site in serve_site(engine, Path(tempfile.mkdtemp())) if wanted else ():
                for size, dark in wanted:
                    outside += draw(site, browser, code, size=size, dark=dark, out=out)
        browser.close()
    print(f"{len(list(out.glob('*.png')))} pictures in {out}; requests that left this machine: {outside or 'none'}")


if __name__ == "__main__":
    main()
