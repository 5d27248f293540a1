"""What a person types or has just opened is theirs: nothing that the page shows in the meantime takes it away."""

import os
import threading
import time
from pathlib import Path

import gradio as gr
import pytest

from app.history import Entry
from app.i18n import Say, translate
from app.page.asking import Asking
from maya_core.errors import GenerationError
from maya_core.languages import CODES
from maya_core.model.images import open_image
from tests.app.conftest import READY
from tests.app.test_browser import (
    MESSAGES,
    add_picture,
    ask,
    choose,
    edit,
    finished,
    is_well,
    send,
    settled,
    slow_down,
    until,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
WORDS = [f"{number} " for number in range(100, 1000)]  # of no language
BOX = "#maya-question textarea"
TITLE = "#maya-title :is(input, textarea)"
# -> a promise of the names of the pictures that the browser keeps, of all its tabs
KEPT_PICTURES = """new Promise((done) => {
    const asked = indexedDB.open("maya");
    asked.onsuccess = () => {
        const all = asked.result.transaction("unsent").objectStore("unsent").getAll();
        const names = () => all.result.flatMap((one) => one.pictures.map((each) => each.name));
        all.onsuccess = () => { asked.result.close(); done(names()); };
    };
})"""


def keeps(page, *names):
    """Wait until these are the pictures that the browser keeps."""
    until(page, lambda: page.evaluate(KEPT_PICTURES) == [*names])


def shows_pictures(page, number):
    """Wait until so many are drawn in the question box."""
    page.wait_for_function(f"document.querySelectorAll('#maya-question .thumbnail-item img').length === {number}")


def page_with_a_picture(open_page, site):
    """A page in whose box a picture waits, which the browser keeps."""
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    keeps(page, "1.png")
    return page


def slow_answer(site, *words, rate=20):
    site.engine.rate = rate
    site.engine.answer = lambda messages: words or WORDS


def open_ended(site, words):
    """An answer that comes until the event that is returned is set."""
    ended = threading.Event()

    def answer(messages):
        for word in words:
            yield word
            if ended.is_set():
                return

    site.engine.rate, site.engine.answer = 20, answer
    return ended


def typed(page):
    return page.locator(BOX).input_value()


def test_what_is_typed_while_an_answer_comes_and_as_it_ends_stays(open_page, site):
    ended = open_ended(site, WORDS)
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "What is this?")
    page.keyboard.type("And what else is there in the picture?", delay=60)
    until(page, lambda: site.queue.busy)
    page.keyboard.press("Enter")  # too early: it waits in the box
    ended.set()
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
    "way",
    ["ask", "new", "other", "delete", "edit",
     *(pytest.param(way, marks=pytest.mark.slow) for way in ("undo", "import", "language", "retry", "example"))],
)  # fmt: skip
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


def test_what_is_typed_stays_when_the_page_is_loaded_anew(open_page, site):
    page = open_page(site, "en")
    ask(page, "What is this?", EXAMPLES / "1.png")
    page.locator(BOX).fill("What is typed\nstays")
    for _ in range(2):
        page.reload()
        page.wait_for_function(READY)
        settled(page)
        page.wait_for_function("document.querySelector('#maya-question textarea')?.value")
        assert typed(page) == "What is typed\nstays"
    page.locator(BOX).press("Enter")
    finished(page)
    page.reload()
    page.wait_for_function(READY)
    settled(page)
    assert typed(page) == ""


def test_pictures_that_wait_in_the_box_stay_when_the_page_is_loaded_anew(open_page, site):
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png", EXAMPLES / "2.png")
    page.locator(BOX).fill("And the other?")
    keeps(page, "1.png", "2.png")
    for file in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.png"):  # as in a Maya that was started anew
        file.unlink()
    for _ in range(2):
        page.reload()
        shows_pictures(page, 2)
        settled(page)
        keeps(page, "1.png", "2.png")
    assert typed(page) == "And the other?"
    page.locator(BOX).press("Enter")
    finished(page)
    [conversation] = site.history.conversations()
    question = site.history.entries(conversation.id)[0]
    kept = [open_image(picture).tobytes() for picture in question.pictures]
    assert kept == [open_image(EXAMPLES / f"{number}.png").tobytes() for number in (1, 2)]
    keeps(page)
    page.reload()
    page.wait_for_function(READY)
    settled(page)
    assert page.locator("#maya-question .thumbnail-item").count() == 0


def test_a_question_that_is_refused_after_its_page_was_loaded_anew_is_kept(open_page, site, tmp_path, monkeypatch):
    cut = tmp_path / "cut.png"
    cut.write_bytes((EXAMPLES / "2.png").read_bytes()[:999])
    keep, reading, go_on = site.history.keep_picture, threading.Event(), threading.Event()
    monkeypatch.setattr(
        type(site.history), "keep_picture", lambda _, source: (reading.set(), go_on.wait(60), keep(source))[-1]
    )
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png", cut)
    send(page, "Is it lost?")
    until(page, reading.is_set)
    page.reload()
    page.wait_for_function(READY)
    go_on.set()
    until(page, lambda: len(site.history.conversations()) == 1)
    [conversation] = site.history.conversations()
    until(
        page,
        lambda: (
            [(one.text, len(one.pictures)) for one in site.history.entries(conversation.id)] == [("Is it lost?", 1)]
        ),
    )


def test_a_picture_of_a_telephone_that_the_browser_cannot_show_waits_too(open_page, site, tmp_path):
    open_image(EXAMPLES / "1.png").save(tmp_path / "1.heic")  # Pillow can, once Maya has read a picture
    page = open_page(site, "en")
    add_picture(page, tmp_path / "1.heic", EXAMPLES / "2.png")
    keeps(page, "1.heic", "2.png")
    for _ in range(2):
        page.reload()
        shows_pictures(page, 2)
        settled(page)
        keeps(page, "1.heic", "2.png")


@pytest.mark.parametrize("way", ["first", "further", "edited"])
def test_what_is_sent_to_a_server_that_is_gone_comes_back(open_page, site, way):
    page = open_page(site, "en")
    if way in ("further", "edited"):
        ask(page, "before", EXAMPLES / "2.png")
    add_picture(page, EXAMPLES / "1.png")
    page.locator(BOX).fill("" if way == "edited" else "Is it lost?")
    keeps(page, "1.png")
    page.route("**/*", lambda route: route.abort())
    if way == "edited":
        edit(page, 0, "Is it lost?")
    else:
        page.locator(BOX).press("Enter")
    page.wait_for_function("document.querySelector('#maya-question textarea').value === 'Is it lost?'")
    finished(page)
    page.locator("#maya-lost").wait_for()
    with page.expect_navigation():  # gradio loads the page anew
        page.unroute("**/*")
    shows_pictures(page, 1)
    settled(page)
    assert typed(page) == "Is it lost?"
    before = len(site.history.conversations())
    page.locator(BOX).press("Enter")
    page.locator(MESSAGES.format("bot")).nth(1 if before else 0).wait_for()
    finished(page)
    [conversation] = site.history.conversations()
    question = site.history.entries(conversation.id)[-2]
    assert question.text == "Is it lost?"
    assert [open_image(one).tobytes() for one in question.pictures] == [open_image(EXAMPLES / "1.png").tobytes()]


def test_a_picture_that_waits_while_a_question_is_edited_stays_when_the_page_is_loaded_anew(open_page, site):
    page = open_page(site, "en")
    ask(page, "before", EXAMPLES / "2.png")
    add_picture(page, EXAMPLES / "1.png")
    keeps(page, "1.png")
    edit(page, 0, "other words")
    finished(page)
    settled(page)
    page.reload()
    shows_pictures(page, 1)


def test_pictures_of_a_tab_that_was_closed_yesterday_are_forgotten(open_page, site):
    page = page_with_a_picture(open_page, site)
    page.evaluate("sessionStorage.clear()")  # the next page is another tab
    page.reload()
    page.wait_for_function(READY)
    settled(page)
    assert page.locator("#maya-question .thumbnail-item").count() == 0
    assert page.evaluate(KEPT_PICTURES) == ["1.png"]
    page.evaluate("sessionStorage.clear()")
    page.add_init_script("const now = Date.now; Date.now = () => now() + 25 * 3600 * 1000")
    page.reload()
    page.wait_for_function(READY)
    keeps(page)


def test_pictures_that_cannot_be_read_as_the_page_is_left_are_still_kept(open_page, site):
    page = page_with_a_picture(open_page, site)
    page.evaluate("window.mayaKeepPictures([Promise.resolve(undefined)])")  # as a page's that is loaded anew meanwhile
    settled(page)
    page.reload()
    shows_pictures(page, 1)


def test_a_box_that_is_drawn_anew_slowly_forgets_no_picture(open_page, site):
    page = page_with_a_picture(open_page, site)
    page.evaluate("""() => {
        const deleted = IDBObjectStore.prototype.delete;
        IDBObjectStore.prototype.delete = function (key) { window.forgotten = true; return deleted.call(this, key); };
        const shown = document.querySelector("#maya-question .thumbnails"), place = shown.parentElement;
        shown.remove();
        const frame = requestAnimationFrame;
        return new Promise((done) => frame(() => frame(() => {
            window.requestAnimationFrame = (draw) => setTimeout(() => frame(draw), 1500); // as in a tab that nobody sees
            place.append(shown);
            setTimeout(done, 2500);
        })));
    }""")
    assert page.evaluate("window.forgotten") is None


LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Types a letter in every turn of the event loop from the moment that an event begins to be heard: faster than any person,
# so that what comes over them by a single turn is seen.
TYPE_AT_ONCE = """([event, letters]) => document.addEventListener(event, () => {
    const turn = new MessageChannel();
    let typed = 0;
    turn.port1.onmessage = () => {
        document.querySelector("#maya-question textarea").focus();
        document.execCommand("insertText", false, letters[typed]);
        typed += 1;
        if (typed === letters.length) { window.allTyped = true; return; }
        if (typed % 2) turn.port2.postMessage(0); else setTimeout(() => turn.port2.postMessage(0));
    };
    turn.port2.postMessage(0);
}, { capture: true, once: true })"""


@pytest.mark.parametrize(
    "way",
    ["enter", "edit", "new", *(pytest.param(way, marks=pytest.mark.slow) for way in ("button", "example", "retry"))],
)
def test_what_is_typed_in_the_very_moment_of_sending_is_neither_lost_nor_sent(open_page, site, way):
    page = open_page(site, "en")
    if way != "example":
        ask(page, "What is this?", EXAMPLES / "1.png")
    if way == "edit":
        ask(page, "And that?")
        page.locator(MESSAGES.format("user")).last.hover()
        page.get_by_label("Edit the question").last.click()
        page.locator("#maya-conversation textarea").fill("Other words")
    if way in ("enter", "button", "new"):
        add_picture(page, EXAMPLES / "2.png")
        page.locator(BOX).fill("And this?")
    settled(page)
    page.evaluate(TYPE_AT_ONCE, ["keypress" if way == "enter" else "click", LETTERS])
    {
        "enter": lambda: page.keyboard.press("Enter"),
        "button": page.locator("#maya-question .submit-button").click,
        "new": page.locator("#maya-new").click,
        "example": page.get_by_text("What colour is the background?").click,
        "retry": page.get_by_label("Ask again").last.click,
        "edit": page.get_by_label("Send").first.click,
    }[way]()
    page.wait_for_function("window.allTyped")
    settled(page)
    finished(page)
    assert typed(page) == LETTERS
    assert page.locator("#maya-question .thumbnail-item").count() == 0
    [conversation] = site.history.conversations()
    asked = {
        "enter": ["What is this?", "And this?"],
        "button": ["What is this?", "And this?"],
        "example": ["What colour is the background?"],
        "edit": ["What is this?", "Other words"],
    }.get(way, ["What is this?"])
    entries = [entry for entry in site.history.entries(conversation.id) if entry.role == "user"]
    assert [entry.text for entry in entries] == asked
    assert len(entries[-1].pictures) == (way != "edit")


def test_enter_twice_asks_once_and_the_second_question_waits(open_page, site, monkeypatch):
    page = open_page(site, "en")
    ask(page, "What is this?", EXAMPLES / "1.png")
    slow_down(site, monkeypatch)
    send(page, "And now?")
    send(page, "And then?")
    page.keyboard.press("Enter")
    until(page, lambda: len(site.history.entries(site.history.conversations()[0].id)) == 4)
    finished(page)
    settled(page)
    assert typed(page) == "And then?"
    page.keyboard.press("Enter")
    until(page, lambda: len(site.history.entries(site.history.conversations()[0].id)) == 6)
    page.keyboard.press("Enter")  # an empty box
    settled(page)
    asked = [entry.text for entry in site.history.entries(site.history.conversations()[0].id) if entry.role == "user"]
    assert asked == ["What is this?", "And now?", "And then?"]


def test_enter_asks_as_soon_as_the_box_says_so(open_page, site, monkeypatch):
    page = open_page(site, "en")
    ask(page, "What is this?", EXAMPLES / "1.png")
    [conversation] = site.history.conversations()
    slow_down(site, monkeypatch)
    for number in (1, 2):
        send(page, f"Question {number}")
        finished(page)
        until(page, lambda number=number: len(site.history.entries(conversation.id)) == 2 + 2 * number)
    assert typed(page) == ""


def test_a_question_waits_for_its_picture_and_words_typed_meanwhile_are_for_the_next(open_page, site):
    page = open_page(site, "en")
    page.route("**/upload*", lambda route: (time.sleep(1), route.continue_()))
    page.set_input_files("#maya-question input[type=file]", str(EXAMPLES / "1.png"))
    page.locator("#maya-question .loader").wait_for()
    send(page, "What is this?")
    page.keyboard.type("And then?")
    until(page, lambda: site.history.conversations())
    finished(page)
    settled(page)
    [conversation] = site.history.conversations()
    question, _ = site.history.entries(conversation.id)
    assert (question.text, len(question.pictures), typed(page)) == ("What is this?", 1, "And then?")


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
    gate = threading.Event()
    gate.set()
    site.engine.trouble = GenerationError("NaN")
    site.engine.answer = lambda messages: [""] if gate.wait(30) else []
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "What is this?")
    page.get_by_text("The model could not answer.").wait_for()
    finished(page)
    page.wait_for_function("document.querySelector('#maya-question textarea').value === 'What is this?'")
    assert page.locator("#maya-question .thumbnail-item").count() == 1
    gate.clear()
    page.locator(BOX).press("Enter")
    page.keyboard.type("Something", delay=30)
    gate.set()
    page.keyboard.type(" else", delay=30)
    finished(page)
    settled(page)
    assert typed(page) == "Something else"


def test_what_went_wrong_is_told_though_gradio_passes_over_the_view_that_tells_it(open_page, site, monkeypatch):
    site.engine.trouble = GenerationError("NaN")
    seen = Asking._seen
    monkeypatch.setattr(
        Asking,
        "_seen",
        lambda asking, *given, **named: seen(asking, *given, **named) | {asking.conversation.notice: gr.skip()},
    )
    page = open_page(site, "en")
    add_picture(page, EXAMPLES / "1.png")
    send(page, "What is this?")
    page.get_by_text("The model could not answer.").wait_for()


def test_a_question_that_did_not_reach_the_server_comes_back(open_page, site):
    page = open_page(site, "en")
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={}))
    send(page, "What is this?")
    page.wait_for_function("document.querySelector('#maya-question textarea').value === 'What is this?'")


def test_a_question_that_gradio_does_not_ask_for_comes_back_before_what_was_typed_since(open_page, site):
    page = open_page(site, "en")
    page.evaluate("window.addEventListener('keypress', event => event.stopImmediatePropagation(), true)")
    send(page, "And that?")
    page.keyboard.type("More")
    page.wait_for_function("document.querySelector('#maya-question textarea').value === 'And that?\\nMore'")


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


SENTENCES = ("New conversation", "Settings", "Language", "Thinking…", "Search conversations", "Delete", "Save")


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
        shown = [line.strip() for line in page.locator("body").inner_text().splitlines()]
        assert not [sentence for sentence in others if sentence in shown]
        assert Say(code)("New conversation") in shown
        answer = page.locator(MESSAGES.format("bot")).inner_text()
        until(page, lambda before=answer: len(page.locator(MESSAGES.format("bot")).inner_text()) > len(before))
        assert site.queue.busy == 1
    page.locator("#maya-question .stop-button").click()
    finished(page)
    page.locator("#maya-figures").get_by_text(Say("ur")("Answered in {seconds}").format(seconds="").strip()).wait_for()
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
