"""Whether everything can be read and hit, on a telephone and on a desk, in ten languages."""

from pathlib import Path

import pytest

from app.history import Entry
from maya_core.languages import CODES
from tests.app.test_browser import ask, settled, speak

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
SIZES = {1280: 24, 800: 24, 390: 44}  # px: the window -> what a control has at least
SIZES_UNDER_A_FINGER = {1280: 44, 800: 44, 390: 44}
# What is wrong with what is drawn within a part: controls that are smaller than `least`, outside of the window, covered, or
# under the arrow of their list; and words that are cut off. A label is hit for its input. What can be scrolled to is there.
WRONG = """([part, least]) => {
    const root = document.querySelector(part), wrong = [];
    const isSeen = one => one.checkVisibility({ visibilityProperty: true }) && !one.closest(".sr-only");
    const words = one => one.ariaLabel || one.textContent || one.value || one.placeholder;
    const named = one => `${one.closest("[id^=maya-]")?.id}: ${words(one)}`;
    const cuts = way => way === "hidden" || way === "clip";
    function inSight(one) {  // the part of it that can be seen as everything is scrolled now
        let { left, right, top, bottom } = one.getBoundingClientRect();
        for (let above = one.parentElement; above; above = above.parentElement) {
            if (getComputedStyle(above).overflow === "visible") continue;
            const box = above.getBoundingClientRect();
            [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
            [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
        }
        return { left, right, top: Math.max(top, 0), bottom: Math.min(bottom, innerHeight) };
    }
    function isCovered(one) {
        const { left, right, top, bottom } = inSight(one);
        if (right - left < 12 || bottom - top < 12) return false;
        return [[0.5, 0.5], [0.1, 0.5], [0.9, 0.5], [0.5, 0.15], [0.5, 0.85]].some(([x, y]) => {
            const met = document.elementFromPoint(left + x * (right - left), top + y * (bottom - top));
            return met && !one.contains(met) && !met.contains(one);
        });
    }
    function isUnderArrow(one) {
        const arrow = one.parentElement.querySelector(".icon-wrap")?.getBoundingClientRect();
        const { paddingLeft, paddingRight } = getComputedStyle(one), { left, right } = one.getBoundingClientRect();
        return arrow && arrow.left < right - parseFloat(paddingRight) && arrow.right > left + parseFloat(paddingLeft);
    }
    for (const one of root.querySelectorAll("button, a, input, textarea, summary")) {
        if (!isSeen(one) || one.type === "file") continue;
        const hit = one.closest("label:has(> input)") ?? one, { width, height, left, right } = hit.getBoundingClientRect();
        if (width < least || height < least) wrong.push(`small, ${width} x ${height}: ${named(one)}`);
        if (left < 0 || right > innerWidth) wrong.push(`outside: ${named(one)}`);
        if (isCovered(hit)) wrong.push(`covered: ${named(one)}`);
        if (!one.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea")) continue;
        if (isUnderArrow(one)) wrong.push(`under its arrow: ${named(one)}`);
        const isCutBelow = one.matches("textarea:placeholder-shown") && one.scrollHeight > one.clientHeight + 1;
        if (isCutBelow || one.scrollWidth > one.clientWidth + 1) wrong.push(`cut off: ${named(one)}`);
    }
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), range = document.createRange();
    while (walker.nextNode()) {
        const owner = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !isSeen(owner)) continue;
        range.selectNodeContents(walker.currentNode);
        let { left, right, top, bottom, width } = range.getBoundingClientRect();
        for (let above = owner; width && root.contains(above); above = above.parentElement) {
            const { overflowX, overflowY } = getComputedStyle(above), box = above.getBoundingClientRect();
            if (/auto|scroll/.test(overflowY)) // what is scrolled away can be scrolled to, where that itself is not cut off
                [top, bottom] = [top, bottom].map(edge => Math.min(box.bottom, Math.max(box.top, edge)));
            const isCut = cuts(overflowX) && (left < box.left - 1 || right > box.right + 1)
                || cuts(overflowY) && (top < box.top - 4 || bottom > box.bottom + 4);
            if (isCut) { wrong.push(`cut off by ${above.className}: ${named(owner)}`); break; }
        }
    }
    return wrong;
}"""


def wrong(page, sizes=SIZES):
    """What is wrong at each size, and with the menu on a telephone."""
    found = []
    for width, least in sizes.items():
        page.set_viewport_size({"width": width, "height": 800})
        is_desk = page.locator("#maya-side").is_visible()
        page.evaluate("new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found += page.evaluate(WRONG, ["#maya-main", least])
        if not is_desk:
            page.locator("#maya-menu").click()
            page.wait_for_function("getComputedStyle(document.querySelector('#maya-side')).visibility === 'visible'")
        found += page.evaluate(WRONG, ["#maya-side", least])
        if not is_desk:
            page.locator("#maya-close").click()
            page.wait_for_function("getComputedStyle(document.querySelector('#maya-side')).visibility === 'hidden'")
    page.set_viewport_size({"width": 1280, "height": 800})
    return found


def show_all(page):
    """A conversation with a picture, and every panel open."""
    page.emulate_media(reduced_motion="reduce")
    ask(page, "1 2 3?", EXAMPLES / "1.png")
    page.locator("#maya-delete").wait_for()
    for panel in ("model", "settings", "advanced"):
        page.locator(f"#maya-{panel} > button").click()


def test_everything_can_be_read_and_hit_in_every_language_and_size(open_page, site):
    for title in ("A title that is longer than the list is wide, and goes on", "這是什麼", "ما هذا؟"):
        site.history.append(site.history.create(title), Entry(role="user", text=title))
    page = open_page(site, "en", width=1280, height=800)
    show_all(page)
    found = {}
    for code in CODES:
        speak(page, code)
        found[code] = wrong(page)
    page.locator("#maya-delete").click()
    page.locator("#maya-undo button").wait_for()
    for code in ("ur", "ru", "hi", "fr"):  # the widest and the tallest: with the bar that brings back, and how to begin
        speak(page, code)
        found[code] += wrong(page)
    assert {code: wrongs for code, wrongs in found.items() if wrongs} == {}


def test_everything_can_be_hit_with_a_finger_on_any_screen(open_page, site):
    page = open_page(site, "en", width=1280, height=800, touch=True)
    show_all(page)
    found = {}
    for code in ("en", "ur", "ja"):  # the three heights of a line
        speak(page, code)
        found[code] = wrong(page, SIZES_UNDER_A_FINGER)
    assert {code: wrongs for code, wrongs in found.items() if wrongs} == {}


def test_what_is_closed_points_to_where_it_would_be_read_on(open_page, site):
    page = open_page(site, "en")
    icon = page.locator("#maya-settings .label-wrap .icon").first
    turned = "one => getComputedStyle(one).transform"  # of a triangle that points down
    assert icon.evaluate(turned) == "matrix(0, -1, 1, 0, 0, 0)"  # to the right
    speak(page, "ur")
    assert icon.evaluate(turned) == "matrix(0, 1, -1, 0, 0, 0)"  # to the left
    page.locator("#maya-settings > button").click()
    settled(page)
    assert icon.evaluate(turned) == "matrix(1, 0, 0, 1, 0, 0)"
