"""What a person types or has just opened is theirs: nothing that the page shows in the meantime takes it away."""

import time
from pathlib import Path

import pytest

from app.history import Entry
from app.i18n import Say, translate
from maya_core.errors import GenerationError
from maya_core.languages import CODES
from tests.app.test_browser import MESSAGES, add_picture, ask, choose, finished, is_well, send, settled, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
WORDS = [f"{number} " for number in range(100, 1000)]  # of no language
BOX = "#maya-question textarea"
TITLE = "#maya-title :is(input, textarea)"


def slow_down(site, monkeypatch, seconds=0.4):
    """Let every reply take its time, so that a person can type before it comes."""
    load = site.settings.load
    monkeypatch.setattr(type(site.settings), "load", lambda _: (time.sleep(seconds), load())[1])


def slow_answer(site, *words, rate=20):
    site.engine.rate = rate
    site.engine.answer = lambda messages: words or WORDS


def typed(page):
    return page.locator(BOX).input_value()


def test_what_is_typed_while_an_answer_comes_and_as_it_ends_stays(open_page, site):
    slow_answer(site, *WORDS[:40])
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "What is this?")
    page.keyboard.type("And what else is there in the picture?", delay=60)
    assert site.queue.busy
    page.keyboard.press("Enter")  # too early: it waits in the box
    page.keyboard.type(" Tell me", delay=20)
    finished(page)
    page.keyboard.type(" everything.", delay=50)
    settled(page)
    assert typed(page) == "And what else is there in the picture? Tell me everything."
    [conversation] = site.history.conversations()
    assert len(site.history.entries(conversation.id)) == 2
    slow_answer(site, "Done.")
    page.keyboard.press("Enter")
    page.get_by_text("Done.").wait_for()
    finished(page)
    assert (typed(page), is_well(page)) == ("", True)


@pytest.mark.parametrize(
    "way", ["ask", "new", "other", "delete", "undo", "import", "language", "retry", "edit", "example"]
)
def test_what_is_typed_right_after_stays(open_page, site, tmp_path, monkeypatch, way):
    key = site.history.create("Before")
    site.history.append(key, Entry(role="user", text="Before"))
    saved = tmp_path / "saved.json"
    saved.write_text(site.history.to_json(key), "utf-8")
    page = open_page(site, "en")
    if way != "example":
        ask(page, "What is this?", EXAMPLES / "1.png")
    if way == "undo":
        page.locator("#maya-delete").click()
        page.locator("#maya-undo button").wait_for()
    if way == "language":
        page.locator("#maya-language input").click()
    if way == "edit":
        ask(page, "And that?")
        page.locator(MESSAGES.format("user")).last.hover()
        page.get_by_label("Edit the question").last.click()
        page.locator("#maya-conversation textarea").fill("Other words")
    settled(page)
    slow_down(site, monkeypatch)
    {
        "ask": lambda: send(page, "And now?"),
        "new": page.locator("#maya-new").click,
        "other": page.locator("#maya-list label").filter(has_text="Before").click,
        "delete": page.locator("#maya-delete").click,
        "undo": page.locator("#maya-undo button").click,
        "import": lambda: choose(page, saved),
        "language": page.get_by_role("option", name="Español").click,
        "retry": page.get_by_label("Ask again").last.click,
        "edit": page.get_by_label("Send").first.click,
        "example": page.get_by_text("What colour is the background?").click,
    }[way]()
    page.locator(BOX).focus()
    page.keyboard.type("What is typed afterwards", delay=30)
    page.wait_for_timeout(1500)
    settled(page)
    assert typed(page) == "What is typed afterwards"
    assert page.evaluate("document.activeElement.closest('#maya-question') !== null")


def test_new_empties_the_box_at_once_and_nothing_comes_back(open_page, site, monkeypatch):
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    page.locator(BOX).fill("Never sent")
    slow_down(site, monkeypatch)
    page.locator("#maya-new").click()
    assert typed(page) == ""
    assert page.locator("#maya-question .thumbnail-item").count() == 0
    page.wait_for_timeout(1000)
    assert typed(page) == ""


def test_a_question_comes_back_in_trouble_but_not_over_what_is_typed(open_page, site):
    site.engine.rate, site.engine.trouble = 2, GenerationError("NaN")
    site.engine.answer = lambda messages: [""]
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "What is this?")
    page.get_by_text("The model could not answer.").wait_for()
    finished(page)
    page.wait_for_function("document.querySelector('#maya-question textarea').value === 'What is this?'")
    assert page.locator("#maya-question .thumbnail-item").count() == 1
    page.locator(BOX).press("Enter")
    page.wait_for_timeout(50)  # a person's fingers are no faster
    page.keyboard.type("Something else", delay=30)
    finished(page)
    settled(page)
    assert typed(page) == "Something else"


def test_a_question_that_did_not_reach_the_server_comes_back(open_page, site):
    page = open_page(site, "en")
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={}))
    send(page, "What is this?")
    page.wait_for_function("document.querySelector('#maya-question textarea').value === 'What is this?'")


def test_a_title_can_be_changed_while_an_answer_comes_and_ends(open_page, site):
    page = open_page(site, "en")
    ask(page, "What is this?", EXAMPLES / "1.png")
    slow_answer(site, *WORDS[:20])
    send(page, "Talk")
    page.get_by_text("105").wait_for()
    page.locator(TITLE).fill("")
    page.keyboard.type("A title that takes its time to type", delay=80)
    finished(page)
    settled(page)
    assert page.locator(TITLE).input_value() == "A title that takes its time to type"
    assert page.evaluate("document.activeElement.closest('#maya-title') !== null")
    page.keyboard.press("Enter")
    until(page, lambda: site.history.conversations()[0].title == "A title that takes its time to type")
    page.keyboard.type(" and more", delay=20)
    settled(page)
    assert page.locator(TITLE).input_value() == "A title that takes its time to type and more"


def speak(page, name):
    """Choose a language at a person's pace."""
    page.locator("#maya-language input").click()
    page.wait_for_timeout(300)
    page.get_by_role("option", name=name).hover()
    page.wait_for_timeout(200)
    page.get_by_role("option", name=name).click()


SENTENCES = ("New conversation", "Settings", "Language", "Thinking…", "Search conversations", "Delete", "Save as JSON")


def test_another_language_can_be_chosen_while_an_answer_comes_which_goes_on(open_page, site):
    slow_answer(site)
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "1 2 3?")
    for code, name in (("hi", "हिन्दी"), ("ru", "Русский"), ("ur", "اردو")):
        speak(page, name)
        page.wait_for_function(f"document.documentElement.lang === '{code}'")
        page.wait_for_timeout(500)
        said = {language: {Say(language)(sentence) for sentence in SENTENCES} for language in CODES}
        others = set().union(*said.values()) - said[code]
        shown = page.locator("body").inner_text()
        assert not [sentence for sentence in others if sentence in shown]
        assert Say(code)("New conversation") in shown
        per_second = Say(code).number(
            "{count} token, {rate} a second, {seconds}",
            "{count} tokens, {rate} a second, {seconds}",
            100,
            count="",
            rate="|",
            seconds="",
        )
        assert per_second.split("|")[1].strip() in page.locator("#maya-statistics").inner_text()
        answer = page.locator(MESSAGES.format("bot")).inner_text()
        until(page, lambda before=answer: len(page.locator(MESSAGES.format("bot")).inner_text()) > len(before))
        assert site.queue.busy == 1
    page.locator("#maya-question .stop-button").click()
    finished(page)
    assert is_well(page)


def test_what_is_told_is_told_in_the_language_that_is_chosen_afterwards(open_page, site):
    page = open_page(site, "en")
    send(page, "?")
    page.get_by_text("Add a picture first.").wait_for()
    speak(page, "বাংলা")
    page.get_by_text(translate("Add a picture first.", "bn")).wait_for()
    ask(page, "?", EXAMPLES / "1.png")
    page.locator("#maya-delete").click()
    page.locator("#maya-undo button").wait_for()
    speak(page, "Français")
    page.get_by_text(translate("“{title}” was deleted.", "fr").format(title="?")).wait_for()
