"""A person's way through the page, in Chromium, on the embedded model: drop a picture, choose a language, ask, ask again.

MAYA_SCREENSHOT=1 also writes the README's picture.
"""

import os
import shutil
from pathlib import Path

import pytest

from app.engine import LocalEngine
from app.i18n import translate
from app.server import serve
from maya_core.assets import asset_path
from maya_core.images import open_image
from maya_core.languages import get_language
from maya_core.prompt import Message
from training.emoji_vqa.questions import load_phrases
from training.emoji_vqa.scenes import make_scene, render

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
ROOT = Path(__file__).parents[2]
FONTS = {"hi": "Noto Sans Devanagari", "ar": "Noto Sans Arabic", "ur": "Noto Nastaliq Urdu"}


@pytest.fixture(scope="module")
def engine():
    return LocalEngine()


@pytest.fixture(scope="module")
def address(engine):
    found = []
    page = serve(engine, port=0, browser=False, announce=found.append, block=False)
    yield found[0]
    page.close()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, request):
    language = getattr(request, "param", "en")
    context = chromium.new_context(locale=language, viewport={"width": 1000, "height": 860})
    page = context.new_page()
    page.foreign = []
    page.on("request", lambda sent: page.foreign.append(sent.url) if is_foreign(sent.url) else None)
    yield page
    context.close()


def is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A picture of one thing."""
    scene = make_scene("validation", 19, size=256)
    assert len(scene.things) == 1
    file = tmp_path_factory.mktemp("pictures") / "one.png"
    render(scene).save(file)
    return str(file)


def ask(page, text: str, answers_so_far: int) -> str:
    box = page.locator("#maya-question textarea")
    box.fill(text)
    box.press("Enter")
    answer = page.locator("#maya-conversation [data-testid=bot]").nth(answers_so_far)
    answer.wait_for(timeout=60_000)
    page.wait_for_selector("#maya-question .submit-button", timeout=60_000)
    return answer.inner_text().strip()


def open_page(page, address, code):
    page.goto(address)
    page.wait_for_function(f"document.documentElement.lang === '{code}'", timeout=30_000)
    page.get_by_text(translate("Ask Maya about a picture", code)).wait_for()


@pytest.mark.parametrize(("page", "code"), [("hi", "hi"), ("ar", "ar"), ("ur", "ur")], indirect=["page"])
def test_drop_a_picture_ask_and_ask_again(page, address, engine, alone, code):
    phrases = load_phrases(code)
    open_page(page, address, code)
    page.set_input_files("#maya-question input[type=file]", alone)
    page.locator("#maya-question img").first.wait_for()
    # The page is tested here, not the model: it shows what the model says to the same conversation.
    conversation = [Message(role="user", text=phrases.wordings["name"][0], images=(open_image(alone),))]
    for number, kind in enumerate(("name", "colour")):
        if number:
            conversation.append(Message(role="user", text=phrases.wordings[kind][0]))
        said = "".join(engine.stream(conversation))
        assert said
        assert ask(page, conversation[-1].text, number) == said.strip()
        conversation.append(Message(role="assistant", text=said))
    direction = get_language(code).direction
    asked = page.locator("#maya-conversation p").filter(has_text=phrases.wordings["name"][0])
    assert asked.evaluate("element => getComputedStyle(element).direction") == direction
    assert page.evaluate("getComputedStyle(document.querySelector('#maya-question textarea')).direction") == direction
    fonts = page.evaluate("[...document.fonts].filter(font => font.status === 'loaded').map(font => font.family)")
    assert any(FONTS[code] in font for font in fonts)
    assert page.foreign == []
    if os.environ.get("MAYA_SCREENSHOT") and code == "hi":
        page.screenshot(path=ROOT / "assets" / "screenshot.png")


def test_choosing_a_language_changes_everything_and_is_kept(page, address):
    open_page(page, address, "en")
    kept = "localStorage.getItem('maya-language')"
    before = page.evaluate(kept)
    page.locator("#maya-language input").click()
    page.get_by_role("option", name="اردو").click()
    page.get_by_text(translate("New conversation", "ur")).wait_for()
    page.wait_for_function("document.documentElement.dir === 'rtl'")
    assert page.evaluate("document.documentElement.lang") == "ur"
    page.wait_for_function(f"before => {kept} !== before", arg=before)
    page.reload()
    page.get_by_text(translate("New conversation", "ur")).wait_for()
    page.wait_for_function("document.documentElement.dir === 'rtl'")


@pytest.mark.parametrize("page", ["ar"], indirect=True)
def test_a_file_that_is_no_picture_is_told_and_the_question_stays(page, address, tmp_path):
    open_page(page, address, "ar")
    file = tmp_path / "broken.png"
    file.write_bytes(b"not a picture at all")
    page.set_input_files("#maya-question input[type=file]", str(file))
    page.locator("#maya-question textarea").fill("ما هذا؟")
    page.locator("#maya-question textarea").press("Enter")
    page.get_by_text(translate("This file is not a picture that can be read. Choose another one.", "ar")).wait_for()
    assert page.locator("#maya-question textarea").input_value() == "ما هذا؟"


def test_an_example_is_asked_with_one_click(page, address):
    open_page(page, address, "en")
    page.get_by_text("What colour is the background?").click()
    answer = page.locator("#maya-conversation .bot").first
    answer.wait_for(timeout=60_000)
    assert page.foreign == []


def test_it_fits_a_telephone(page, address):
    page.set_viewport_size({"width": 390, "height": 800})
    open_page(page, address, "en")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert asset_path("examples").is_dir()
