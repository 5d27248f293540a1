"""From one conversation to another, by address, list and keys; and pictures, wherever on the page they come."""

import os
import re
import sqlite3
import time
from pathlib import Path

import pytest

from app.history import Entry
from app.i18n import LABELS, Say
from maya_core.languages import CODES
from tests.app.conftest import READY
from tests.app.test_browser import add_picture, ask, faults, finished, send, settled, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
DAY = 24 * 60 * 60
ADDRESS = "address => location.pathname === address"
SHOWS = "text => document.querySelector('#maya-conversation')?.innerText.includes(text)"
# A file given to an event of the whole page, as what is dropped or pasted there.
GIVE = """async kind => {
    const canvas = document.createElement("canvas"); canvas.width = canvas.height = 40;
    const data = new DataTransfer();
    data.items.add(new File([await new Promise(done => canvas.toBlob(done))], `${kind}.png`, { type: "image/png" }));
    const options = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
    const given = kind === "paste" ? new ClipboardEvent(kind, options) : new DragEvent(kind, options);
    const over = new DragEvent("dragover", options);
    const place = document.querySelector("#maya-side");
    if (kind === "drop") place.dispatchEvent(over);
    return [place.dispatchEvent(given), over.defaultPrevented];
}"""


def keep(site, title, *, ago=0.0, turns=1):
    """A conversation about a picture, of some seconds ago; its id."""
    key, picture = site.history.create(title), site.history.keep_picture(EXAMPLES / "1.png")
    for turn in range(turns):
        site.history.append(key, Entry(role="user", text=f"{title} {turn}", pictures=() if turn else (picture,)))
        site.history.append(key, Entry(role="assistant", text=f"Answer {turn}."))
    with sqlite3.connect(site.history.folder / "history.sqlite") as database:
        database.execute("UPDATE conversations SET updated = ? WHERE id = ?", (time.time() - ago, key))
    database.close()
    return key


def test_a_conversation_has_an_address_and_its_place_in_it_survives_a_reload(open_page, site):
    old, long = keep(site, "Old", ago=60), keep(site, "Long", turns=30)
    page = open_page(site)
    page.locator("#maya-list label").filter(has_text="Long").click()
    page.wait_for_function(ADDRESS, arg=f"/c/{long}")
    page.get_by_text("Answer 29.").wait_for()
    settled(page)
    wrap = page.locator("#maya-conversation .bubble-wrap")
    wrap.hover()
    page.mouse.wheel(0, -900)
    page.wait_for_function("Number(sessionStorage.getItem('maya-place')?.split(' ')[1]) > 0")
    settled(page)
    place = wrap.evaluate("one => one.scrollTop")
    end = wrap.evaluate("one => one.scrollHeight - one.clientHeight")
    assert 0 < place < end - 500
    page.reload()
    page.wait_for_function(READY)
    page.wait_for_function(ADDRESS, arg=f"/c/{long}")
    assert page.locator("#maya-title :is(input, textarea)").input_value() == "Long"
    page.wait_for_function(
        f"Math.abs(document.querySelector('#maya-conversation .bubble-wrap')?.scrollTop - {place}) < 40"
    )
    assert page.locator("#maya-list input:checked").get_attribute("value") == long
    page.goto(f"{site.address}c/{old}")
    page.wait_for_function(SHOWS, arg="Old 0")
    page.locator("#maya-new").click()
    page.wait_for_function(ADDRESS, arg="/")
    page.go_back()
    page.wait_for_function(SHOWS, arg="Old 0")
    site.history.delete(old)
    for address in (old, long[:20], "गलत"):  # deleted; copied in part; none that ever was
        page.goto(f"{site.address}c/{address}")
        page.get_by_text("This conversation is no longer here.").wait_for()
        page.wait_for_function(ADDRESS, arg="/")
    assert page.errors == []


def test_conversations_of_one_name_can_be_told_apart_and_days_are_grouped(open_page, site):
    for ago in (400 * DAY, 40 * DAY, 0, 0):
        keep(site, "What is this?", ago=ago)
    page = open_page(site)
    labels = page.locator("#maya-list label")
    assert page.locator("#maya-list h2").first.inner_text() == "Today"
    assert page.locator("#maya-list h2").count() == 3
    shown = labels.all_inner_texts()
    assert len(set(shown)) == 4
    assert all(re.search(r"\d", one.split("\n")[1]) for one in shown)
    page.wait_for_function(
        "[...document.querySelectorAll('#maya-list img')].every(one => one.naturalWidth > 0 && one.naturalWidth <= 96)"
    )


def test_the_list_is_one_stop_of_the_keyboard_and_arrows_go_through_it(open_page, site):
    second, first = keep(site, "Second", ago=60), keep(site, "First")
    page = open_page(site)
    page.locator("#maya-search :is(input, textarea)").focus()
    page.keyboard.press("Tab")
    focused = "document.activeElement.closest('[id^=maya-]').id"
    assert page.evaluate(focused) == "maya-list"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "maya-import"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    page.wait_for_function(ADDRESS, arg=f"/c/{first}")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(ADDRESS, arg=f"/c/{second}")
    page.wait_for_function(SHOWS, arg="Second 0")
    label = page.locator("#maya-list label").filter(has_text="Second")
    assert label.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"


def test_pictures_are_taken_wherever_on_the_page_they_come_and_stand_side_by_side(open_page, site):
    page = open_page(site)
    for number, kind in enumerate(("drop", "paste")):
        assert page.evaluate(GIVE, kind) == [False, kind == "drop"]  # taken: the browser does nothing with it
        page.locator("#maya-question .thumbnail-item").nth(number).wait_for()
    ask(page, "Which?")
    assert len(site.engine.asked[0].images) == 2
    settled(page)
    left, right = (page.locator("#maya-conversation .image-frame img").nth(number).bounding_box() for number in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]


PASTE = """async ([place, text]) => {
    const canvas = document.createElement("canvas"); canvas.width = canvas.height = 40;
    const data = new DataTransfer();
    data.items.add(new File([await new Promise(done => canvas.toBlob(done))], "image.png", { type: "image/png" }));
    data.setData("text/plain", text);
    const paste = new ClipboardEvent("paste", { bubbles: true, cancelable: true, clipboardData: data });
    const target = document.querySelector(place);
    target.focus();
    return target.dispatchEvent(paste);
}"""
BOX, SEARCH = "#maya-question textarea", "#maya-search :is(input, textarea)"


@pytest.mark.parametrize(
    ("place", "text", "words", "pictures"),
    [
        (BOX, "Which is this?\n2*3", "Which is this?\n2*3", 1),
        ("#maya-side", "Which is this?", "Which is this?", 1),
        (BOX, "", "", 1),
        (BOX, "/home/me/image.png", "", 1),  # as a file manager names what was copied
        (BOX, "https://example.invalid/cat", "", 1),  # as a browser does
        (SEARCH, "", "", 1),
        (SEARCH, "Which?", "", 0),  # the browser writes it there
    ],
)
def test_words_that_are_pasted_with_a_picture_come_too(open_page, site, place, text, words, pictures):
    page = open_page(site)
    assert page.evaluate(PASTE, [place, text]) == (pictures == 0)
    until(page, lambda: page.locator("#maya-question .thumbnail-item").count() == pictures)
    assert page.locator(BOX).input_value() == words


def test_a_picture_that_the_server_no_longer_keeps_is_sent_again(open_page, site):
    page = open_page(site)
    add_picture(page, EXAMPLES / "1.png")
    settled(page)
    for file in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.png"):  # as after ten minutes, or in a Maya started anew
        file.unlink()
    ask(page, "Which?")
    assert len(site.engine.asked[0].images) == 1


def test_where_what_had_the_keyboard_goes_away_the_question_has_it(open_page, site):
    page = open_page(site)
    focused = "document.activeElement.matches('#maya-question textarea')"
    ask(page, "first", EXAMPLES / "1.png")

    def press(button):
        button.focus()
        page.keyboard.press("Enter")

    press(page.get_by_label("Edit the question"))
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.ariaLabel") == "Edit the question"
    press(page.get_by_label("Edit the question"))
    page.keyboard.type("?")
    page.keyboard.press("Enter")
    page.wait_for_function(focused)
    finished(page)
    press(page.locator("#maya-delete"))
    page.locator("#maya-undo").wait_for()
    page.wait_for_function(focused)
    press(page.locator("#maya-undo button"))
    page.locator("#maya-undo").wait_for(state="hidden")
    page.wait_for_function(focused)


def test_a_list_closes_behind_the_tab_key(open_page, site):
    page = open_page(site)
    page.locator("#maya-language input").focus()
    page.get_by_role("option").nth(9).wait_for()
    page.keyboard.press("Tab")
    page.get_by_role("option").first.wait_for(state="hidden")
    settled(page)
    assert not page.get_by_role("option").first.is_visible()


def test_a_click_shows_a_picture_large_and_escape_gives_the_focus_back(open_page, site):
    page = open_page(site)
    ask(page, "What is this?", EXAMPLES / "1.png")
    picture = page.locator("#maya-conversation button:has(.image-frame)")
    picture.focus()
    page.keyboard.press("Enter")
    large = page.locator("#maya-large img")
    large.wait_for()
    page.wait_for_function("document.querySelector('#maya-large img').naturalWidth > 0")
    assert large.bounding_box()["width"] > 1000
    page.keyboard.press("Escape")
    large.wait_for(state="detached")
    assert picture.evaluate("one => one === document.activeElement")
    picture.click()
    page.get_by_label("Close", exact=True).click()
    large.wait_for(state="detached")


@pytest.mark.parametrize("code", ["en", "ur"])
def test_keys_do_what_their_sheet_says(open_page, site, code):
    say = Say(code)
    site.engine.rate = 20
    site.engine.answer = lambda messages: [f"word{number} " for number in range(1000)]
    page = open_page(site, code)
    add_picture(page, EXAMPLES / "1.png")
    send(page, "?")
    page.get_by_text("word5").wait_for()
    page.keyboard.press("Escape")
    assert site.engine.closed.wait(5)
    page.wait_for_selector("#maya-question .submit-button")
    until(page, lambda: len(site.history.entries(site.history.conversations()[0].id)) == 2)
    settled(page)
    page.keyboard.press("Alt+c")
    until(page, lambda: page.evaluate("navigator.clipboard.readText()").startswith("word0 word1"))
    page.locator("body").click(position={"x": 3, "y": 3})
    page.keyboard.press("Shift+?")
    sheet = page.locator("#maya-sheet")
    sheet.wait_for()
    told = [
        say(LABELS[name])
        for name in ("maya-sheet", "maya-key-new", "maya-key-search", "maya-key-copy", "maya-key-stop")
    ]
    assert all(sentence in sheet.inner_text() for sentence in told)
    assert faults(page) == []
    page.keyboard.press("Escape")
    sheet.wait_for(state="detached")
    page.keyboard.press("Alt+k")
    assert page.evaluate("document.activeElement.closest('[id^=maya-]').id") == "maya-search"
    page.keyboard.press("Alt+n")
    page.wait_for_function(ADDRESS, arg="/")
    page.wait_for_selector("#maya-conversation .placeholder-content")
    page.locator("#maya-question textarea").press("Shift+?")
    assert not sheet.is_visible()


def test_the_sheet_has_words_in_every_language():
    named = [sentence for name, sentence in LABELS.items() if name.startswith("maya-key")]
    assert len(named) == 5
    assert all(len({Say(code)(sentence) for sentence in named}) == 5 for code in CODES)
