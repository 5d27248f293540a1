"""What a person does on the page, in Chromium."""

import random
import re
import shutil
import threading
import time
from pathlib import Path
from zipfile import ZipFile

import pytest

from app.engine import LocalEngine
from app.history import Entry
from app.i18n import LABELS, Say, translate
from app.lan import Lan
from maya_core.languages import CODES, get_language
from maya_core.model.images import open_image
from maya_core.model.prompt import Message
from tests.app.conftest import LONGEST, serve_site
from tests.app.scripted import ScriptedEngine
from training.emoji_vqa.questions import load_phrases
from training.emoji_vqa.scenes import make_scene, render

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
ROOT = Path(__file__).parents[2]
FONTS = {"hi": "Noto Sans Devanagari", "bn": "Noto Sans Bengali", "ar": "Noto Sans Arabic", "ur": "Noto Nastaliq Urdu",
         "zh": "Noto Sans SC", "ja": "Noto Sans JP", "ru": "Noto Sans", "es": "Noto Sans"}  # fmt: skip
MESSAGES = "#maya-conversation [data-testid={}]"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    yield from serve_site(LocalEngine(), tmp_path_factory.mktemp("embedded"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A folder with a picture of one thing, once for each language."""
    scene = make_scene("validation", 19, size=256)
    assert len(scene.things) == 1
    folder = tmp_path_factory.mktemp("pictures")
    for code in FONTS:
        render(scene).save(folder / f"{code}.png")
    return folder


def add_picture(page, *files):
    before = page.locator("#maya-question .thumbnail-item").count()
    page.set_input_files("#maya-question input[type=file]", list(map(str, files)))
    page.locator("#maya-question .thumbnail-item").nth(before + len(files) - 1).wait_for()


def send(page, text):
    box = page.locator("#maya-question textarea")
    box.fill(text)
    box.press("Enter")


QUIET = """() => new Promise(done => {
    const began = performance.now();
    let changed = began;
    const watch = new MutationObserver(() => { changed = performance.now(); });
    watch.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    const look = () => {
        const now = performance.now();
        const moves = document.getAnimations().some(one => one.playState === "running");
        if (moves || document.fonts.status !== "loaded") changed = now;
        if (now - changed < 200 && now - began < 5000) return requestAnimationFrame(look);
        watch.disconnect();
        done();
    };
    look();
})"""


def settled(page):
    """Wait until nothing on the page has changed for a moment: no element, no animation, no font on its way."""
    page.evaluate(QUIET)


def until(page, condition):
    """Wait for something on the server's side, or a promise of the page's, which `wait_for_function` takes for true."""
    for _ in range(1000):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it did not happen within 20 s")


def slow_down(site, monkeypatch, seconds=0.4):
    """Let every reply take its time, so that a person can type before it comes."""
    load = site.settings.load
    monkeypatch.setattr(type(site.settings), "load", lambda _: (time.sleep(seconds), load())[1])


def finished(page):
    """Wait until the box is ready for the next question."""
    page.locator("#maya-question .submit-button").wait_for()
    page.locator("#maya-question .stop-button").wait_for(state="hidden")


def ask(page, text, *files):
    """The answer's text."""
    if files:
        add_picture(page, *files)
    before = page.locator(MESSAGES.format("bot")).count()
    send(page, text)
    answer = page.locator(MESSAGES.format("bot")).nth(before)
    answer.wait_for()
    finished(page)
    return answer.inner_text().strip()


def listed(page):
    return [text.split("\n")[0] for text in page.locator("#maya-list label").all_inner_texts()]


def choose(page, file):
    """Import a file."""
    with page.expect_file_chooser() as chooser:
        page.locator("#maya-import").click()
    chooser.value.set_files(str(file))


def labels(page):
    """What those hear who cannot see the page."""
    return page.evaluate(
        """[...document.querySelectorAll('[aria-label]')]
            .filter(one => one.checkVisibility()).map(one => one.getAttribute('aria-label'))"""
    )


def direction(locator):
    return locator.evaluate("element => getComputedStyle(element).direction")


def speak(page, code):
    """Choose a language as a person does."""
    page.locator("#maya-language input").click()
    page.get_by_role("option", name=get_language(code).native_name).click()
    page.get_by_text(translate("New conversation", code)).wait_for(state="attached")
    page.wait_for_function(f"document.documentElement.lang === '{code}'")
    settled(page)


def edit(page, number, text):
    """Ask a question of the conversation in other words."""
    page.locator(MESSAGES.format("user")).nth(number).hover()
    page.get_by_label("Edit the question").nth(number).click()
    page.locator("#maya-conversation textarea").fill(text)
    page.get_by_label("Send").first.click()


def test_drop_a_picture_ask_and_ask_again_in_every_script(open_page, embedded, alone):
    embedded.settings.change(language=None)
    page = open_page(embedded, "ur")
    for number, code in enumerate(sorted(FONTS, key=lambda code: code != "ur")):
        if number:
            speak(page, code)
            page.locator("#maya-new").click()
            page.locator("#maya-conversation .placeholder-content").wait_for()
        drop_a_picture_ask_and_ask_again(page, embedded, alone, code)
    assert (page.foreign, page.errors) == ([], [])


def drop_a_picture_ask_and_ask_again(page, embedded, alone, code):
    phrases, file = load_phrases(code), alone / f"{code}.png"
    conversation = [Message(role="user", text=phrases.wordings["name"][0], images=(open_image(file),))]
    # The page is tested here, not the model: it shows what the model says to the same conversation.
    for number, kind in enumerate(("name", "colour")):
        if number:
            conversation.append(Message(role="user", text=phrases.wordings[kind][0]))
        said = "".join(piece.text for piece in embedded.engine.stream(conversation))
        assert said
        assert ask(page, conversation[-1].text, *([] if number else [file])) == said.strip()
        conversation.append(Message(role="assistant", text=said))
    asked = page.locator("#maya-conversation p").filter(has_text=phrases.wordings["name"][0]).first
    assert direction(asked) == get_language(code).direction
    assert direction(page.locator("#maya-question textarea")) == get_language(code).direction
    fonts = page.evaluate("[...document.fonts].filter(font => font.status === 'loaded').map(font => font.family)")
    assert any(FONTS[code] in font for font in fonts)
    page.locator("#maya-figures summary").wait_for()


def test_everything_on_the_page_is_in_the_chosen_language(open_page, site):
    site.engine.answer = lambda messages: ["42"]
    page = open_page(site, "bn")
    ask(page, "1 2 3?", ROOT / "assets" / "examples" / "1.png")
    page.locator("#maya-settings > button").click()
    page.locator("#maya-advanced > button").click()
    settled(page)
    for code in sorted(CODES, key=lambda code: code != "bn"):
        if code != "bn":
            speak(page, code)
        assert page.evaluate("document.documentElement.lang") == code
        assert page.evaluate("document.documentElement.dir") == get_language(code).direction
        shown = "\n".join([*labels(page), page.locator("body").inner_text()])
        say = Say(code)
        for sentence in ("New conversation", "Settings", "Answer in", "Temperature", "Save", "Delete", "Send"):
            assert say(sentence) in shown
        if get_language(code).script != "Latn":
            # names stay: Maya, the kinds of files, and languages that are written in Latin letters
            rest = re.sub(r"Maya|JSON|Markdown|English|Français|Español", "", shown)
            assert re.findall(r"[A-Za-z]{3,}", rest) == [], code


def test_choosing_a_language_changes_everything_at_once_and_is_kept(open_page, site):
    page = open_page(site, "en")
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    page.evaluate("window.notReloaded = true")
    page.locator("#maya-language input").click()
    page.get_by_role("option", name="اردو").click()
    page.get_by_text(translate("New conversation", "ur")).wait_for()
    page.wait_for_function("document.documentElement.dir === 'rtl'")
    assert page.evaluate("window.notReloaded") is True
    assert page.locator(MESSAGES.format("bot")).inner_text().strip() == "An answer."
    assert direction(page.locator(MESSAGES.format("bot")).locator("p")) == "ltr"
    side, main = (page.locator(f"#maya-{part}").bounding_box() for part in ("side", "main"))
    assert side["x"] > main["x"]
    mine, answer = (page.locator(MESSAGES.format(who)).last.bounding_box() for who in ("user", "bot"))
    assert mine["x"] < answer["x"]  # in English the other way round
    page.reload()
    page.get_by_text(translate("New conversation", "ur")).wait_for()
    page.wait_for_function("document.documentElement.dir === 'rtl'")
    assert site.settings.load().language == "ur"


STYLE = """element => {
    const { fontFamily, lineHeight, fontSize } = getComputedStyle(element);
    return { fontFamily, lineHeight, fontSize };
}"""
MIXED = """# كتاب

This is English.

یہ اردو ہے۔

- پہلا
- دوسرا

1. one
2. two

> اقتباس

```
code here
```

| اسم | عدد |
|---|---|
| كتاب | 3 |
"""


@pytest.mark.parametrize("code", ["zh", "ja"])
def test_titles_are_drawn_in_their_own_font_however_late_it_comes(open_page, site, code):
    title = {"zh": "这是什么东西？", "ja": "これは何ですか？"}[code]
    site.history.append(site.history.create(title), Entry(role="user", text=title))
    page = open_page(site, code)
    page.wait_for_function("[...document.fonts].some(font => font.status === 'loaded' && font.family.includes('NAME'))"
                           .replace("NAME", FONTS[code]))  # fmt: skip
    settled(page)
    listed = page.locator("#maya-list label").first
    drawn = listed.screenshot()
    listed.evaluate("one => { one.style.display = 'none'; one.getBoundingClientRect(); one.style.display = ''; }")
    settled(page)
    assert listed.screenshot() == drawn


@pytest.mark.parametrize("page_language", ["en", "ar"])
def test_every_text_takes_its_direction_from_itself(open_page, site, page_language):
    site.engine.answer = lambda messages: [MIXED]
    page = open_page(site, page_language)
    ask(page, "هذا؟", ROOT / "assets" / "examples" / "1.png")
    answer = page.locator(MESSAGES.format("bot"))
    settled(page)
    expected = {"h1": "rtl", "ul": "rtl", "ol": "ltr", "blockquote": "rtl", "table": "rtl", "pre": "ltr"}
    assert {tag: direction(answer.locator(tag).first) for tag in expected} == expected
    english, urdu = (answer.locator("p").filter(has_text=text).first for text in ("English", "اردو"))
    assert (direction(english), direction(urdu)) == ("ltr", "rtl")
    nastaliq = urdu.evaluate(STYLE)
    assert nastaliq["fontFamily"].startswith('"Noto Nastaliq Urdu"')
    assert float(nastaliq["lineHeight"][:-2]) / float(nastaliq["fontSize"][:-2]) >= 2
    assert not english.evaluate(STYLE)["fontFamily"].startswith('"Noto Nastaliq')


MOSTLY_URDU, MOSTLY_ENGLISH = "Maya میں 3 + 4 کتنے ہیں؟", "کتاب is a word of Urdu"


@pytest.mark.parametrize("page_language", ["en", "ur"])
def test_words_of_two_scripts_have_the_direction_of_most_wherever_they_stand(open_page, site, page_language):
    site.engine.answer = lambda messages: [MOSTLY_URDU, "\n\n", MOSTLY_ENGLISH]
    page = open_page(site, page_language)
    add_picture(page, ROOT / "assets" / "examples" / "1.png")
    box = page.locator("#maya-question textarea")
    own = get_language(page_language).direction
    typed = {"": own, "M": "ltr", "Mم": "ltr", "Mمی": "rtl", MOSTLY_URDU: "rtl", MOSTLY_ENGLISH: "ltr", "3": own}
    for text, expected in typed.items():
        box.fill(text)
        assert (text, direction(box)) == (text, expected)
    box.fill(MOSTLY_URDU)
    assert box.evaluate(STYLE)["fontFamily"].startswith('"Noto Nastaliq Urdu"')
    box.press("Enter")
    title = page.locator("#maya-title :is(input, textarea)")
    title.wait_for()
    finished(page)
    settled(page)
    assert direction(box) == own
    for place in ("[data-testid=user] p", "[data-testid=bot] p"):
        assert direction(page.locator(f"#maya-conversation {place}").first) == "rtl"
    assert direction(page.locator(MESSAGES.format("bot")).locator("p").nth(1)) == "ltr"
    assert direction(page.locator("#maya-list span > span").first) == direction(title) == "rtl"
    page.locator("#maya-search :is(input, textarea)").fill(MOSTLY_URDU)
    assert direction(page.locator("#maya-search :is(input, textarea)")) == "rtl"
    page.locator("#maya-delete").click()
    undo = page.locator("#maya-undo p")
    undo.wait_for()
    settled(page)
    assert (direction(undo), direction(undo.locator("bdi"))) == (own, "rtl")


def test_a_word_that_urdu_and_arabic_could_both_write_is_the_pages(open_page, site):
    page = open_page(site, "ur")
    cases = (("ur", "وائلن", True), ("ur", "كتاب", False), ("ar", "وائلن", False))
    for number, (page_language, said, is_urdu) in enumerate(cases, start=1):
        site.engine.answer = lambda messages, said=said: [said]
        if page_language != page.evaluate("document.documentElement.lang"):
            speak(page, page_language)
            page.locator("#maya-new").click()
            page.locator("#maya-conversation .placeholder-content").wait_for()
        ask(page, "؟", ROOT / "assets" / "examples" / f"{number}.png")
        settled(page)
        style = page.locator(MESSAGES.format("bot")).locator("p").last.evaluate(STYLE)
        assert style["fontFamily"].startswith('"Noto Nastaliq Urdu"') == is_urdu


def test_conversations_are_listed_opened_renamed_deleted_and_brought_back(open_page, site):
    page = open_page(site, "en")
    assert page.get_by_text("No conversations yet.").is_visible()
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 1")
    page.locator("#maya-new").click()
    page.wait_for_function("document.querySelectorAll('#maya-conversation [data-testid=bot]').length === 0")
    ask(page, "یہ کیا ہے؟", ROOT / "assets" / "examples" / "2.png")
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 2")
    assert listed(page) == ["یہ کیا ہے؟", "What is this?"]
    page.locator("#maya-list label").nth(1).click()
    page.wait_for_function(
        "document.querySelector('#maya-title textarea, #maya-title input').value === 'What is this?'"
    )
    assert page.locator(MESSAGES.format("user")).last.inner_text().strip() == "What is this?"
    title = page.locator("#maya-title :is(input, textarea)")
    title.fill("My violin")
    title.press("Enter")
    page.wait_for_function("document.querySelector('#maya-list').innerText.includes('My violin')")
    page.locator("#maya-search :is(input, textarea)").fill("کیا")
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 1")
    page.locator("#maya-search :is(input, textarea)").fill("nothing like it")
    page.get_by_text("Nothing found.").wait_for()
    page.locator("#maya-search :is(input, textarea)").fill("")
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 2")
    page.locator("#maya-delete").click()
    page.get_by_text("“My violin” was deleted.").wait_for()
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 1")
    page.locator("#maya-undo button").click()
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 2")
    page.wait_for_function("document.querySelectorAll('#maya-conversation [data-testid=bot]').length === 1")
    assert page.errors == []


def test_a_conversation_goes_out_and_comes_back_in(open_page, site, tmp_path):
    page = open_page(site, "en")
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    saved = {}
    for name in ("Save as Markdown", "Save as JSON"):
        page.locator("#maya-actions").get_by_text("Save", exact=True).click()
        with page.expect_download() as started:
            page.get_by_text(name).click()
        saved[name] = tmp_path / started.value.suggested_filename
        started.value.save_as(saved[name])
    with ZipFile(saved["Save as Markdown"]) as archive:
        assert archive.namelist() == ["pictures/1.png", "What is this.md"]
        assert b"**You**" in archive.read("What is this.md")
    choose(page, saved["Save as JSON"])
    page.wait_for_function("document.querySelectorAll('#maya-list label').length === 2")
    assert listed(page) == ["What is this?"] * 2
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    for file in (wrong, saved["Save as Markdown"]):
        choose(page, file)
        page.get_by_text("This file is not a conversation that Maya saved.").wait_for()
        page.locator("#maya-new").click()
        page.get_by_text("This file is not a conversation that Maya saved.").wait_for(state="hidden")
        page.locator("#maya-list label").first.click()
        page.locator(MESSAGES.format("bot")).wait_for()
    assert page.locator(MESSAGES.format("bot")).inner_text().strip() == "An answer."  # what was shown stays
    assert len(site.history.conversations()) == 2


def test_an_answer_is_stopped_and_what_came_is_kept(open_page, site):
    site.engine.rate = 20
    site.engine.answer = lambda messages: [f"word{number} " for number in range(1000)]
    page = open_page(site, "en")
    add_picture(page, ROOT / "assets" / "examples" / "1.png")
    send(page, "Talk")
    page.get_by_text("word5").wait_for()
    page.locator("#maya-question .stop-button").click()
    assert site.engine.closed.wait(5)
    finished(page)
    [conversation] = site.history.conversations()
    until(page, lambda: len(site.history.entries(conversation.id)) == 2)
    settled(page)
    answer = site.history.entries(conversation.id)[1].text
    assert answer.startswith("word0 word1")
    shown = page.locator(MESSAGES.format("bot")).inner_text().strip()
    assert answer.startswith(shown)
    assert len(answer.split()) - len(shown.split()) <= 1
    site.engine.rate = None
    site.engine.answer = lambda messages: ["Short."]
    assert ask(page, "And now?") == "Short."


def is_well(page):
    """Whether the box takes a question, and nothing covers the page."""
    finished(page)
    covers = page.locator(".error, .toast-wrap *")
    return not any(covers.nth(number).is_visible() for number in range(covers.count()))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("way", "times"),
    [("stop", 4), ("new", 2), ("other", 2), ("delete", 2), pytest.param("stop", 100, marks=pytest.mark.slow),
     *(pytest.param(way, 20, marks=pytest.mark.slow) for way in ("new", "other", "delete"))],
)  # fmt: skip
def test_an_answer_can_be_left_at_any_moment(open_page, site, way, times):
    """At a person's pace: what gradio shows of an event that is ended from outside is a red "Error" over everything."""
    site.engine.rate = 20
    words = [f"word{number} " for number in range(1000)]
    site.engine.answer = lambda messages: words if "Talk" in messages[-1].text else ["Hello."]
    site.history.append(site.history.create("Before"), Entry(role="user", text="Before"))
    page = open_page(site, "en")
    leave = {
        "stop": page.locator("#maya-question .stop-button"),
        "new": page.locator("#maya-new"),
        "other": page.locator("#maya-list label").filter(has_text="Before"),
        "delete": page.locator("#maya-delete"),
    }[way]
    moments = random.Random(times)
    for number in range(times):
        if way == "other" and number:  # elsewhere a new conversation is open already
            page.locator("#maya-new").click()
            page.locator("#maya-conversation .placeholder-content").wait_for()
        if way != "stop" or number == 0:
            add_picture(page, ROOT / "assets" / "examples" / f"{number % 3 + 1}.png")
        if way == "delete":
            ask(page, "Hello")  # the button is there from the first answer on
        send(page, f"Talk {number}")
        page.wait_for_selector("#maya-question .stop-button")
        if way != "stop":  # which holds before its question has come to the server
            page.locator(MESSAGES.format("user")).get_by_text(f"Talk {number}").wait_for()
        page.wait_for_timeout(moments.uniform(0, 1000))
        leave.click()
        if way != "stop":
            page.wait_for_function("!document.querySelector('#maya-conversation').innerText.includes('Talk')")
        page.wait_for_timeout(400)  # for whatever may still come to cover the page
        assert is_well(page), number
        until(page, lambda: not site.queue.busy)
        if way != "stop":
            shown = page.locator("#maya-conversation [data-testid]").all_inner_texts()
            assert not any("word" in text or "Talk" in text for text in shown)
    if way == "stop":
        kept = next(one for one in site.history.conversations() if one.title == "Talk 0")
        answers = [entry.text.strip() for entry in site.history.entries(kept.id) if entry.role == "assistant"]
        assert page.locator(MESSAGES.format("bot")).all_inner_texts() == answers


def test_what_is_asked_while_a_stopped_answer_has_not_ended_is_answered(open_page, site):
    """A large model reads a picture for seconds, and cannot be stopped before it has."""
    slow, free = threading.Event(), threading.Event()

    def answer(messages):
        if messages[-1].text.splitlines()[0] == "slow":
            slow.set()
            assert free.wait(30)
        return [messages[-1].text.upper()]

    site.engine.answer = answer
    page = open_page(site, "en")
    add_picture(page, ROOT / "assets" / "examples" / "1.png")
    send(page, "slow")
    assert slow.wait(10)
    page.locator("#maya-question .stop-button").click()
    finished(page)
    send(page, "quick")
    until(page, lambda: site.queue.busy == 2)
    free.set()
    page.locator(MESSAGES.format("bot")).get_by_text("QUICK").wait_for()
    assert is_well(page)


def test_a_question_is_asked_again_edited_and_copied(open_page, site):
    site.engine.answer = lambda messages: [f"**{messages[-1].text.splitlines()[0]}** {len(messages)}"]
    page = open_page(site, "en")
    ask(page, "first", ROOT / "assets" / "examples" / "1.png")
    ask(page, "second")
    page.get_by_label("Copy the message").last.click()
    assert page.evaluate("navigator.clipboard.readText()") == "**second** 3"
    site.engine.answer = lambda messages: [f"again {messages[-1].text.splitlines()[0]}"]
    page.get_by_label("Ask again").last.click()
    page.get_by_text("again second").wait_for()
    finished(page)
    edit(page, -1, "third")
    page.get_by_text("again third").wait_for()
    finished(page)
    [conversation] = site.history.conversations()
    said = [entry.text for entry in site.history.entries(conversation.id)]
    assert said == ["first", "**first** 1", "third", "again third"]


def test_an_early_question_edited_goes_on_at_an_address_of_its_own(open_page, site):
    site.engine.answer = lambda messages: [f"to {messages[-1].text.splitlines()[0]}"]
    page = open_page(site, "en")
    ask(page, "first", ROOT / "assets" / "examples" / "1.png")
    ask(page, "second")
    before = page.url
    edit(page, 0, "other")
    page.get_by_text("to other").wait_for()
    finished(page)
    page.get_by_text("The conversation as it was stays in the list; this is a new one.").wait_for()
    assert page.locator("#maya-notice.maya-trouble").count() == 0
    assert "/c/" in before
    page.wait_for_url(lambda address: "/c/" in address and address != before)  # its event comes after the answer's
    page.locator("#maya-list label").nth(1).wait_for()
    assert page.locator("#maya-list label").count() == 2
    assert page.get_by_text("to second").count() == 0
    page.go_back()
    page.wait_for_url(before)
    page.get_by_text("to second").wait_for()


def test_several_pictures_pasted_and_taken_by_the_camera(open_page, site):
    page = open_page(site, "en")
    add_picture(page, *sorted((ROOT / "assets" / "examples").glob("*.png")))
    page.locator("#maya-question textarea").focus()
    page.evaluate(
        """async () => {
            const canvas = document.createElement("canvas"); canvas.width = canvas.height = 40;
            const blob = await new Promise(done => canvas.toBlob(done));
            const data = new DataTransfer(); data.items.add(new File([blob], "pasted.png", { type: "image/png" }));
            const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.querySelector("#maya-question textarea").dispatchEvent(paste);
        }"""
    )
    page.locator("#maya-question .thumbnail-item").nth(3).wait_for()
    page.locator("#maya-camera > button").click()
    page.get_by_text("Allow the camera").click()
    page.wait_for_function("document.querySelector('#maya-camera video')?.videoWidth > 0")  # the camera gives pictures
    page.get_by_label("Take a picture").last.click()
    page.locator("#maya-question .thumbnail-item").nth(4).wait_for()
    ask(page, "How many?")
    assert len(site.engine.asked[0].images) == 5


def test_choices_steer_the_answer_and_are_kept(open_page, site):
    page = open_page(site, "en")
    page.locator("#maya-settings > button").click()
    page.locator("#maya-answer-language input").click()
    page.get_by_role("option", name="বাংলা").click()
    page.get_by_label("Dark").click()
    page.wait_for_function("document.body.classList.contains('dark')")
    page.get_by_label("Numbers in the language's own digits").click()
    until(page, lambda: site.settings.load().native_digits)
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    assert site.engine.asked[0].text == f"What is this?\n{get_language('bn').request}"
    kept = site.settings.load()
    assert (kept.answer_language, kept.theme, kept.native_digits) == ("bn", "dark", True)
    page.reload()
    page.wait_for_function("document.body.classList.contains('dark')")


@pytest.mark.parametrize("code", ["ar", "zh"])
def test_a_file_that_is_no_picture_is_told_and_the_question_stays(open_page, site, tmp_path, code):
    page = open_page(site, code)
    file = tmp_path / "broken.png"
    file.write_bytes(b"not a picture at all")
    page.set_input_files("#maya-question input[type=file]", str(file))
    send(page, "?؟")
    told = translate("This file is not a picture that can be read. Choose another one.", code)
    notice = page.locator("#maya-notice.maya-trouble").get_by_text(told)
    notice.wait_for()
    page.wait_for_function("document.querySelector('#maya-question textarea').value === '?؟'")
    page.locator("#maya-question .delete-button").click()
    notice.wait_for(state="hidden")  # with what it was about
    add_picture(page, ROOT / "assets" / "examples" / "1.png")
    add_picture(page, shutil.copy(file, tmp_path / "_broken_too_.png"))
    page.locator("#maya-question textarea").press("Enter")
    notice.wait_for()
    assert notice.inner_text() == f"\u2068_broken_too_.png\u2069: {told}"  # which of the two


def test_trouble_goes_with_its_picture_while_the_answer_has_not_ended_yet(open_page, site, tmp_path):
    page = open_page(site, "en")
    file = tmp_path / "broken.png"
    file.write_bytes(b"not a picture at all")
    add_picture(page, file)
    send(page, "?")
    notice = page.locator("#maya-notice.maya-trouble")
    notice.wait_for()
    finished(page)
    page.evaluate("window.mayaAnswerBegins()")  # a slow browser hears of the end after the rest
    page.locator("#maya-question .delete-button").click()
    notice.wait_for(state="hidden")


def test_trouble_stays_away_while_gradio_counts_the_seconds_of_an_event(open_page, site, tmp_path, monkeypatch):
    page = open_page(site, "en")
    file = tmp_path / "broken.png"
    file.write_bytes(b"not a picture at all")
    add_picture(page, file)
    slow_down(site, monkeypatch, seconds=1.5)
    send(page, "?")
    notice = page.locator("#maya-notice.maya-trouble")
    notice.wait_for()
    page.locator("#maya-question .delete-button").click()
    notice.wait_for(state="hidden")
    page.wait_for_timeout(3000)
    assert not notice.is_visible()


def test_an_example_is_asked_with_one_click(open_page, site):
    page = open_page(site, "en")
    page.get_by_text("What colour is the background?").click()
    page.locator(MESSAGES.format("bot")).first.wait_for()
    finished(page)
    assert page.locator(MESSAGES.format("bot")).inner_text().strip() == "An answer."


@pytest.mark.parametrize("code", ["en", "ur"])
def test_it_fits_a_telephone(open_page, site, code):
    key = site.history.create("A title that is far too long for a small screen, and goes on and on")
    site.history.append(key, Entry(role="user", text="x" * 300))
    site.engine.answer = lambda messages: ["word " * 400]
    page = open_page(site, code, width=390, height=800)
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    side = page.locator("#maya-side")
    assert not side.is_visible()
    page.locator("#maya-menu").click()
    side.wait_for()
    settled(page)
    assert page.locator("#maya-list").evaluate("one => getComputedStyle(one).direction") == get_language(code).direction
    box = side.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
    page.keyboard.press("Escape")
    page.wait_for_function("getComputedStyle(document.querySelector('#maya-side')).visibility === 'hidden'")


@pytest.mark.parametrize("code", CODES)
def test_how_to_begin_begins_at_its_beginning_on_a_telephone(open_page, site, code):
    page = open_page(site, code, width=390, height=620)
    settled(page)
    title = page.locator("#maya-conversation .placeholder h1").bounding_box()
    assert title["y"] >= page.locator("#maya-conversation").bounding_box()["y"]
    last = page.locator("#maya-conversation .example").last
    last.scroll_into_view_if_needed()
    box = last.bounding_box()
    assert box["y"] + box["height"] <= page.locator("#maya-question").bounding_box()["y"]


def test_what_is_chosen_can_be_told_from_what_is_not(open_page, site):
    page = open_page(site, "ur")
    for panel in ("#maya-model", "#maya-settings"):
        page.locator(f"{panel} .label-wrap").first.click()
    settled(page)
    ground = "one => getComputedStyle(one).backgroundColor"
    for group in ("#maya-choice", "#maya-theme"):
        chosen = page.locator(f"{group} input:checked").evaluate(ground)
        others = page.locator(f"{group} input:not(:checked)").evaluate_all(f"all => all.map({ground})")
        assert len(others) == 2
        assert chosen not in others


def test_the_keyboard_reaches_everything(open_page, site):
    page = open_page(site, "en")
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    page.locator("body").click(position={"x": 5, "y": 5})
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id^=maya-]')?.id"))
    wanted = {"maya-new", "maya-search", "maya-list", "maya-import", "maya-settings", "maya-title", "maya-actions",
              "maya-delete", "maya-language", "maya-conversation", "maya-question", "maya-camera"}  # fmt: skip
    assert wanted <= reached


def faults(page):
    """What axe has against a page by WCAG 2, A and AA: the rule, and the first elements that break it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = axe.Axe().run(page, options=rules).response["violations"]
    return [(one["id"], [node["target"] for node in one["nodes"]][:5]) for one in found]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(open_page, site, dark):
    page = open_page(site, "en", dark=dark)
    settled(page)
    assert faults(page) == []
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    page.locator("#maya-settings > button").click()
    settled(page)
    for code in ("en", "ur", "hi"):
        if code != "en":
            speak(page, code)
        assert faults(page) == []


def test_gradio_still_calls_its_parts_what_we_translate(open_page, site):
    page = open_page(site, "en")
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    said = {Say("en")(sentence) for sentence in LABELS.values()}
    for label in ("Add pictures", "Send", "Copy the message", "Ask again", "Conversation", "Question"):
        assert label in labels(page)
        assert label in said


@pytest.mark.parametrize("code", ["en", "ar"])
def test_a_larger_model_is_fetched_paused_and_used(open_page, site, code):
    say = Say(code)
    page = open_page(site, code)
    page.locator("#maya-model > button").click()
    page.locator("#maya-choice label").nth(1).click()
    page.get_by_text("16.3").wait_for()
    page.locator("#maya-use").click()
    page.get_by_text(say("Fetch this model first.")).wait_for()
    page.locator("#maya-fetch").click()
    page.get_by_text(say("Accept both licences first.")).wait_for()
    page.locator("#maya-accepted input").check()
    page.locator("#maya-sign-in").click()
    page.locator("#maya-code a[href='https://hub.invalid/device']").wait_for()
    assert page.locator("#maya-code strong").inner_text() == "ABCD-1234"
    assert not page.locator("#maya-sign-in").is_visible()
    page.locator("#maya-token input").fill("hf_bad")
    page.locator("#maya-fetch").click()
    who = say("The hub must know who you are. Sign in in the browser, or paste an access token of yours.")
    page.locator("#maya-fetched").get_by_text(who).wait_for()
    page.locator("#maya-sign-in").wait_for()
    assert not page.locator("#maya-code").is_visible()
    page.locator("#maya-token input").fill("hf_good")
    page.locator("#maya-fetch").click()
    page.wait_for_function("/^\\D*[2-9]/.test(document.querySelector('#maya-fetched').innerText)")
    page.locator("#maya-pause").click()
    page.wait_for_timeout(1000)
    assert site.models.download.state == "paused"
    assert (
        say("Paused at {done} of {size}. Nothing is lost.").split("{")[0].strip()
        in page.locator("#maya-fetched").inner_text()
    )
    page.locator("#maya-choice label").nth(2).click()
    page.locator("#maya-folder :is(input, textarea)").fill("/nowhere")
    page.locator("#maya-use").click()
    page.get_by_text(say("There is no model there. Check the folder or the name.")).wait_for()
    page.locator("#maya-folder :is(input, textarea)").fill(str(ROOT / "assets" / "maya-tiny"))
    page.locator("#maya-use").click()
    page.get_by_text(say("Answers come from the model in your folder.")).wait_for()
    assert site.settings.load().model == str(ROOT / "assets" / "maya-tiny")
    assert page.foreign == []


def test_a_telephone_that_scans_the_code_or_is_typed_it_has_the_page(chromium, tmp_path):
    """127.0.0.1 at another port stands for the local network."""
    lan = Lan("127.0.0.1")
    for site in serve_site(ScriptedEngine("An ", "answer."), tmp_path, lan=lan):
        for typed in (False, True):
            context = chromium.new_context(locale="ur", viewport={"width": 390, "height": 800})
            site.visits.append(context)
            page = context.new_page()
            page.set_default_timeout(LONGEST)
            page.goto(lan.address if typed else lan.link)
            if typed:
                assert page.evaluate("document.documentElement.dir") == "rtl"
                page.locator("#code").fill(lan.spoken_code)
                page.locator("button").click()
            page.locator("#maya-shell").wait_for(state="attached")
            assert page.url == lan.address
