"""The page on which people review translations, in Chromium: by keyboard, from right to left, several people, on and on."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from app.i18n import Say
from app.review.__main__ import ReviewOptions, main, open_review
from maya_core.languages import CODES
from maya_core.reviews import Item, load_reviews, write_items
from tests.app.conftest import in_a_loop
from tests.tiny import SENTENCES

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("default"),  # what the server's libraries warn about is theirs
]
BOX = "#maya-translation textarea"


def items(language: str, count: int = 4) -> list[Item]:
    said = SENTENCES[CODES.index(language)]
    return [
        Item(
            id=f"s{number}",
            language=language,
            source=f"What is in picture {number}? A dog.",
            translation=f"{said} {number}",
            back_translation=f"What does picture {number} show? <b>A dog</b>.",
            similarity=70.0,
        )
        for number in range(1, count + 1)
    ]


@pytest.fixture
def review(tmp_path: Path):
    """Opened pages over one folder, each with its address."""
    write_items(tmp_path, [*items("ar"), *items("hi"), *items("fr")])
    pages = []

    def opened(**options):
        found = []
        started = ReviewOptions(folder=tmp_path, port=0, browser=False, **options)
        pages.append(in_a_loop(lambda: open_review(started, announce=found.append)))
        return SimpleNamespace(address=found[0], folder=tmp_path, visits=[])

    yield opened
    for page in pages:
        page.close(verbose=False)


def shows(page, number: int) -> None:
    """Wait until the page shows an item, its translation too."""
    page.wait_for_function(
        "number => document.querySelector('#maya-source p')?.textContent.includes(`picture ${number}?`) && "
        f"document.querySelector('{BOX}').value.includes(number)",
        arg=str(number),
    )


@pytest.fixture
def visited(chromium):
    contexts = []

    def opened(site, language="en", **size):
        context = chromium.new_context(locale=language, viewport={"width": 1000, "height": 820} | size)
        contexts.append(context)
        page = context.new_page()
        page.errors, page.foreign = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on(
            "request",
            lambda sent: (
                None if sent.url.startswith((site.address, "data:", "blob:")) else page.foreign.append(sent.url)
            ),
        )
        page.goto(site.address)
        page.wait_for_function(
            "document.querySelector('#maya-accept')?.textContent.trim() && document.documentElement.dir"
        )
        page.wait_for_selector("#maya-source p")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.long(12)
def test_translations_are_reviewed_by_keyboard_and_nothing_is_lost(review, visited):
    site = review(reviewer="Asha")
    page = visited(site)
    shows(page, 1)
    page.keyboard.press("a")
    shows(page, 2)
    page.keyboard.press("e")
    page.keyboard.press("End")
    page.keyboard.type(" ar e")  # letters, while one writes
    page.keyboard.press("Control+Enter")
    shows(page, 3)
    page.locator(BOX).evaluate("box => box.blur()")
    page.keyboard.press("r")
    shows(page, 4)
    page.keyboard.press("ArrowLeft")
    shows(page, 3)
    page.wait_for_function("document.querySelector('#maya-statistics').textContent.includes('rejected')")
    said = {one.item: one for one in load_reviews(site.folder)}
    assert {name: one.verdict for name, one in said.items()} == {"s1": "accept", "s2": "edit", "s3": "reject"}
    assert said["s2"].text == items("ar")[1].translation + " ar e"
    assert page.locator("#maya-back b").count() == 0  # text, not markup
    assert (page.errors, page.foreign) == ([], [])
    page.reload()
    page.wait_for_selector("#maya-source p")
    shows(page, 4)  # where Asha stopped


@pytest.mark.long(12)
def test_each_person_goes_on_where_that_person_stopped(review, visited):
    site = review()
    page = visited(site, "hi")
    page.keyboard.press("a")
    page.wait_for_function(
        f"document.querySelector('#maya-notice').textContent.includes('{Say('hi')('Your name')[4:]}')"
    )
    assert load_reviews(site.folder) == []
    for name in ("Asha", "Ben"):
        page.locator("#maya-reviewer :is(input, textarea)").fill(name)
        page.keyboard.press("Enter")
        page.wait_for_function("document.querySelector('#maya-notice').textContent.trim() === ''")
        shows(page, 1)
        page.locator("#maya-reviewer :is(input, textarea)").evaluate("box => box.blur()")
        page.keyboard.press("a")
        shows(page, 2)
    assert {(one.reviewer, one.item) for one in load_reviews(site.folder)} == {("Asha", "s1"), ("Ben", "s1")}


@pytest.mark.parametrize(("language", "direction", "key"), [("ur", "rtl", "ArrowLeft"), ("hi", "ltr", "ArrowRight")])
def test_the_page_and_the_translation_have_their_own_directions(review, visited, language, direction, key):
    page = visited(review(lang=language))
    assert page.evaluate("document.documentElement.dir") == direction
    page.wait_for_function(f"getComputedStyle(document.querySelector('{BOX}')).direction === 'rtl'")  # Arabic
    assert page.evaluate("getComputedStyle(document.querySelector('#maya-source p')).direction") == "ltr"
    shows(page, 1)
    page.keyboard.press(key)  # on, as one reads
    shows(page, 2)


def test_what_cannot_be_reviewed_is_told_in_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main([str(tmp_path), "--no-browser", "--port", "0"])
    assert left.value.code == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "items.jsonl" in said


def test_a_foreign_page_cannot_reach_it(review):
    import urllib.error
    import urllib.request

    address = review().address
    asked = urllib.request.Request(address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(asked)
