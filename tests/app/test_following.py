"""Pages that follow each other, and answers that go on when nobody looks, in Chromium."""

import random
import threading
from pathlib import Path

import pytest

from app.i18n import Say, translate
from app.page.sheltered import SHOWS
from tests.app.conftest import LONGEST
from tests.app.test_browser import MESSAGES, add_picture, ask, finished, is_well, send, settled, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
WORDS = [f"word{number} " for number in range(1000)]


def open_first(page):
    page.locator("#maya-list label").first.click()
    page.locator(MESSAGES.format("user")).first.wait_for()


def bot(page):
    return page.locator(MESSAGES.format("bot")).last


def test_another_page_sees_the_answer_come_stops_it_and_either_goes_on(open_page, site):
    mine = open_page(site, "en")
    ask(mine, "What is this?", EXAMPLES / "1.png")
    other = open_page(site, "ur")
    open_first(other)
    site.engine.rate, site.engine.answer = 20, lambda messages: WORDS
    send(mine, "Talk")
    bot(other).get_by_text("word2 ").wait_for()
    assert other.locator("#maya-question .stop-button").is_visible()
    other.locator("#maya-question .stop-button").click()
    for page in (mine, other):
        finished(page)
        page.locator("#maya-go-on").wait_for()
    assert translate("Go on", "ur") in other.locator("#maya-go-on").inner_text()
    site.engine.rate, site.engine.answer = None, lambda messages: ["the end."]
    mine.locator("#maya-go-on").click()
    for page in (mine, other):
        bot(page).get_by_text("the end.").wait_for()
        finished(page)
        page.locator("#maya-go-on").wait_for(state="hidden")
        assert is_well(page)
    [conversation] = site.history.conversations()
    kept = [entry.text for entry in site.history.entries(conversation.id)]
    assert kept[-1].startswith("word0 word1 word2")
    assert kept[-1].endswith("the end.")
    mine.locator("#maya-delete").click()
    other.locator("#maya-conversation .placeholder-content").wait_for()
    other.get_by_text(translate("This conversation is no longer here.", "ur")).wait_for()
    other.locator("#maya-title").wait_for(state="hidden")


def test_an_answer_goes_on_behind_a_reload(open_page, site):
    is_reloaded = threading.Event()

    def answer(messages):
        yield from WORDS[:3]
        assert is_reloaded.wait(LONGEST)
        yield from WORDS[3:60]

    site.engine.answer = answer
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "Talk")
    bot(page).get_by_text("word2 ").wait_for()
    [conversation] = site.history.conversations()
    page.wait_for_function("address => location.pathname === address", arg=f"/c/{conversation.id}")
    page.get_by_role("radio", name="Talk").wait_for(state="attached")  # in the list
    page.reload()
    bot(page).get_by_text("word2 ").wait_for()
    is_reloaded.set()
    bot(page).get_by_text("word59").wait_for()
    finished(page)
    assert [entry.half for entry in site.history.entries(conversation.id)] == [False, False]


@pytest.mark.parametrize("code", ["en", "ur"])
def test_what_gradio_tells_and_a_server_that_is_gone_are_told_in_the_language_chosen(open_page, site, code):
    page = open_page(site, code)
    toast = (
        "<div class='toast-body'><span class='toast-title'>Error <!-- --></span><div class='toast-messages'>"
        "<div data-testid='toast-text' class='toast-message-text'>TEXT</div></div></div>"
    )
    for english, sentence in {
        "File size exceeds the maximum": "This file is too large. Choose one of less than {megabytes} MB.",
        "Connection errored out": "Maya does not answer any more. Start it anew; what you typed stays here.",
        "List index out of range": "Something went wrong. Try again, or load the page anew.",
    }.items():
        page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", toast.replace("TEXT", english))
        page.get_by_test_id("toast-text").last.get_by_text(
            Say(code)(sentence).replace("{megabytes}", "1024")
        ).wait_for()
    assert [title.strip() for title in page.locator(".toast-title").all_inner_texts()] == ["Maya"] * 3
    ask(page, "1 2 3?", EXAMPLES / "1.png")
    page.route("**/revision", lambda route: route.abort())
    lost = Say(code)("Maya does not answer any more. Start it anew; what you typed stays here.")
    page.locator("#maya-lost").get_by_text(lost).wait_for()
    page.unroute("**/revision")
    page.locator("#maya-lost").wait_for(state="hidden")


def test_notices_as_gradio_makes_them_are_in_the_language_chosen(open_page, site, monkeypatch):
    page = open_page(site, "hi")
    monkeypatch.setattr(site.history, "conversations", lambda _: 1 / 0)
    page.locator("#maya-search :is(input, textarea)").fill("?")
    toast = page.locator(".toast-body").first
    toast.get_by_text(Say("hi")("Something went wrong. Try again, or load the page anew.")).wait_for()
    assert toast.locator(".toast-title").inner_text().strip() == "Maya"


def test_what_the_page_shows_is_said_to_a_server_that_may_have_forgotten_it(open_page, site):
    page, said = open_page(site, "en"), []
    page.on("request", lambda one: said.append(one.headers.get(SHOWS)) if "/queue/join" in one.url else None)
    ask(page, "1 2 3?", EXAMPLES / "1.png")
    [conversation] = site.history.conversations()
    settled(page)
    said.clear()
    ask(page, "And?")
    assert set(said) == {conversation.id}


@pytest.mark.parametrize("code", ["en", "hi"])
def test_a_conversation_as_a_screen_reader_has_it(open_page, site, code):
    page, say = open_page(site, code), Say(code)
    example = page.get_by_role("button", name=f"{say('Example')} 1")
    example.wait_for()
    assert ".png" not in page.locator("#maya-conversation").aria_snapshot()
    send(page, "?")
    page.get_by_role("status").get_by_text(say("Add a picture first.")).wait_for()
    page.locator("#maya-question textarea").fill("")
    ask(page, "1 2 3?", EXAMPLES / "1.png")
    log = page.get_by_role("log")
    assert log.get_attribute("aria-live") == "polite"
    heard = log.aria_snapshot()
    assert "An answer." in heard
    assert "1 2 3?" in heard
    assert say("You") in heard


def test_long_text_that_is_pasted_is_text(open_page, site):
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    page.locator("#maya-question textarea").focus()
    page.evaluate(
        """() => {
            const data = new DataTransfer(); data.setData("text/plain", "word ".repeat(2160));
            const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            const box = document.querySelector("#maya-question textarea");
            if (box.dispatchEvent(paste)) document.execCommand("insertText", false, "word ".repeat(2160));
        }"""
    )
    settled(page)
    assert page.locator("#maya-question .thumbnail-item").count() == 1
    assert len(page.locator("#maya-question textarea").input_value()) == 10_800
    page.keyboard.press("Enter")
    page.get_by_text("Shorten it to 8000 characters.").wait_for()


# Each change of the box's two buttons: which of them can be seen from then on.
WATCH_BUTTONS = """() => {
    const seen = () => ["submit", "stop"].filter(
        (one) => document.querySelector(`#maya-question .${one}-button`)?.checkVisibility()).join(" and ");
    window.seenButtons = [seen()];
    new MutationObserver(() => { if (seenButtons.at(-1) !== seen()) seenButtons.push(seen()); })
        .observe(document.body, { subtree: true, childList: true, attributes: true });
}"""


def test_on_a_slow_device_the_button_to_stop_stays_from_the_question_to_the_end_of_its_answer(open_page, site):
    site.engine.rate = 50
    site.engine.answer = lambda messages: WORDS if messages[-1].text.startswith("Talk 1") else WORDS[:60]
    page = open_page(site, "en")
    page.context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": 6})
    add_picture(page, EXAMPLES / "1.png")
    page.evaluate(WATCH_BUTTONS)
    for number in range(3):
        send(page, f"Talk {number}")
        if number == 1:
            page.get_by_text("word5 ").last.wait_for()
            page.locator("#maya-question .stop-button").click()
        finished(page)
    assert page.evaluate("seenButtons") == ["submit", *["stop", "submit"] * 3]
    [conversation] = site.history.conversations()
    assert [entry.half for entry in site.history.entries(conversation.id)[1::2]] == [False, True, False]


def test_a_stop_that_comes_before_its_question_holds(open_page, site):
    site.engine.rate, site.engine.answer = 20, lambda messages: WORDS
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    joined = []

    def late(route):
        joined.append(route.request)
        if len(joined) == 1:
            until(page, lambda: len(joined) > 1)
        route.continue_()

    page.route("**/queue/join*", late)
    send(page, "Talk")
    page.locator("#maya-question .stop-button").click()
    finished(page)
    [conversation] = site.history.conversations()
    until(page, lambda: not site.queue.busy)
    assert len(site.history.entries(conversation.id)[-1].text.split()) < len(WORDS)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_stops_at_random_moments_lose_nothing(open_page, site):
    site.engine.rate, site.engine.answer = 50, lambda messages: WORDS
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    moments = random.Random(100)
    for number in range(100):
        send(page, f"Talk {number}")
        page.wait_for_selector("#maya-question .stop-button")
        page.wait_for_timeout(moments.uniform(0, 600))
        page.locator("#maya-question .stop-button").click()
        assert is_well(page), number
        [conversation] = site.history.conversations()
        until(page, lambda: not site.queue.busy)
    entries = site.history.entries(conversation.id)
    assert [entry.text for entry in entries if entry.role == "user"] == [f"Talk {number}" for number in range(100)]
    answers = [entry.text.strip() for entry in entries if entry.role == "assistant"]
    settled(page)
    assert page.locator(MESSAGES.format("bot")).all_inner_texts() == answers
