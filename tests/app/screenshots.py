"""Pictures of the page with a real conversation, in ten languages, light and dark, on a desk and on a telephone:
`python -m tests.app.screenshots DIR`.
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
from tests.app.conftest import CHROMIUM, Site, serve_site
from tests.app.test_browser import MESSAGES, ask

SIZES = {"desk": (1200, 820), "telephone": (390, 800)}
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
QUESTIONS = ("What is this?", "What colour is the background?")


def draw(site: Site, browser: Any, code: str, *, size: str, dark: bool, out: Path) -> None:
    """A new page, a conversation about the first example, and its picture."""
    site.settings.change(language=None)
    width, height = SIZES[size]
    context = browser.new_context(
        locale=code, viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(site.address)
    page.wait_for_function("document.querySelector('#maya-new')?.textContent.trim() && document.documentElement.dir")
    for number, question in enumerate(QUESTIONS):
        ask(page, Say(code)(question), *([] if number else [EXAMPLES / "1.png"]))
    page.locator(MESSAGES.format("bot")).last.scroll_into_view_if_needed()
    page.wait_for_timeout(600)
    page.screenshot(path=out / f"{code}-{size}-{'dark' if dark else 'light'}.png")
    context.close()


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for site in serve_site(LocalEngine(), Path(tempfile.mkdtemp())):
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for code, size, dark in product(CODES, SIZES, (False, True)):
                draw(site, browser, code, size=size, dark=dark, out=out)
            browser.close()
    print(f"{len(list(out.glob('*.png')))} pictures in {out}")


if __name__ == "__main__":
    main()
