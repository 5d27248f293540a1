"""Seconds from starting `maya-app` to a page that takes a question, and to the first answer:
`python -m tests.app.cold_start`.
"""

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from app.i18n import Say
from tests.app.conftest import CHROMIUM, READY
from tests.app.screenshots import EXAMPLES
from tests.app.test_browser import ask
from tests.app.test_load import address_of, start

ROUNDS = 3


def measure(browser: Browser, home: Path) -> tuple[float, float]:
    """A fresh home, a fresh process; the browser is there already, as people's are."""
    started = time.monotonic()
    process = start(home, "--port", "0")
    page = browser.new_context(locale="en").new_page()
    page.goto(address_of(process))
    page.locator("#maya-question textarea").wait_for()
    page.wait_for_function(READY)
    usable = time.monotonic() - started
    ask(page, Say("en")("What is this?"), EXAMPLES / "1.png")
    answered = time.monotonic() - started
    page.context.close()
    process.terminate()
    process.communicate(timeout=20)
    return usable, answered


def main() -> None:
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        rounds = []
        for number in range(ROUNDS):
            home = Path(folder) / str(number)
            home.mkdir()
            rounds.append(measure(browser, home))
        browser.close()
    usable, answered = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"page usable after {usable:.1f} s, first answer after {answered:.1f} s (medians of {ROUNDS})")


if __name__ == "__main__":
    main()
