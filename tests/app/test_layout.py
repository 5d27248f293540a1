"""Whether everything can be read and hit, on a telephone and on a desk, in ten languages."""

from pathlib import Path

import pytest

from maya_core.languages import CODES
from tests.app.test_browser import ask, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
# What is smaller than it takes to hit it: where and what it is, width, height. A label is hit for its input.
SMALL = """least => [...document.querySelectorAll("button, a, input, textarea")]
    .filter(one => one.checkVisibility({ visibilityProperty: true }) && one.type !== "file")
    .map(one => [one, (one.closest("label:has(> input)") ?? one).getBoundingClientRect()])
    .filter(([one, box]) => box.width < least || box.height < least)
    .map(([one, box]) => [one.closest("[id^=maya-]")?.id, one.ariaLabel ?? one.textContent, box.width, box.height])"""


@pytest.mark.parametrize("code", CODES)
def test_on_a_telephone_the_title_is_seen_and_everything_can_be_hit(open_page, site, code):
    page = open_page(site, code, width=390, height=800)
    ask(page, "1 2 3?", EXAMPLES / "1.png")
    page.locator("#maya-delete").wait_for()
    settled(page)
    assert page.evaluate(SMALL, 44) == []
    assert page.locator("#maya-title :is(input, textarea)").bounding_box()["width"] > 120
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#maya-delete").click()
    undo = page.locator("#maya-undo button")
    undo.wait_for()
    settled(page)
    assert undo.evaluate("one => one.scrollWidth <= one.clientWidth")
    page.locator("#maya-menu").click()
    for panel in ("model", "settings", "advanced"):
        page.locator(f"#maya-{panel} > button").click()
    settled(page)
    assert page.evaluate(SMALL, 44) == []


@pytest.mark.parametrize("code", ["en", "ur", "hi"])
def test_on_a_desk_everything_can_be_hit(open_page, site, code):
    page = open_page(site, code)
    ask(page, "1 2 3?", EXAMPLES / "1.png")
    page.locator("#maya-delete").wait_for()
    for panel in ("model", "settings", "advanced"):
        page.locator(f"#maya-{panel} > button").click()
    settled(page)
    assert page.evaluate(SMALL, 24) == []
    page.locator("#maya-delete").click()
    page.locator("#maya-undo button").wait_for()
    settled(page)
    assert page.evaluate(SMALL, 24) == []
