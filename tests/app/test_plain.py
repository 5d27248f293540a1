"""What a person typed is shown as it was typed: on the page, and in a file that is saved."""

import html
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.history import Entry
from app.plain import shown_plain, written_plain
from tests.app.test_browser import MESSAGES, ask, finished, settled, until

EXAMPLE = Path(__file__).parents[2] / "assets" / "examples" / "1.png"
LINES = (
    "2*3*4*5=?",
    "# 5 is it?",
    "1. what",
    "<think>hmm</think> what",
    "~~no~~ what",
    "* * *",
    "- what",
    "> why",
    "`code` ?",
    "&lt;tag&gt; &amp;",
    "[x](http://example.invalid)",
    "a_b_c __d__",
    "    four spaces",
    "$x$ | y",
    "2) what",
    "Maya میں 3 + 4 کتنے ہیں؟",
)
MARKDOWN = MarkdownIt("commonmark", {"breaks": True}).enable(["table", "strikethrough"])


def seen(markdown):
    """What Markdown shows, without its elements."""
    shown = MARKDOWN.render(markdown)
    assert shown.startswith("<p>")
    assert shown.count("<") == 2 + shown.count("<br")
    return (
        html.unescape(shown.removeprefix("<p>").rstrip().removesuffix("</p>"))
        .replace("<br />", "")
        .replace("\xa0", " ")
    )


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_shown_as_it_was_typed(line):
    assert seen(shown_plain(line)) == line
    assert seen(written_plain(line)) == line


@given(st.lists(st.text(st.sampled_from("ab1 \\`*_{}[]()<>#+-.!|~$&:/=")), min_size=1, max_size=3))
def test_any_signs_are_shown_as_they_were_typed(words):
    line = "x" + "".join(words) + "x"
    assert seen(shown_plain(line)) == line
    assert seen(written_plain(line)) == line


def test_lines_stay_apart():
    assert seen(shown_plain("one\n# two\n- three")) == "one\n# two\n- three"
    assert seen(written_plain("one\n# two\n- three")) == "one\n# two\n- three"


@pytest.mark.browser
@pytest.mark.filterwarnings("default")  # what the server's libraries warn about is theirs
def test_it_is_shown_copied_and_changed_as_it_was_typed_beside_a_picture(open_page, site):
    page = open_page(site, "en")
    text = "\n".join(LINES)
    key = site.history.create("Before")
    site.history.append(key, Entry(role="user", text=text, pictures=(site.history.keep_picture(EXAMPLE),)))
    site.history.append(key, Entry(role="assistant", text="**Seen.**"))
    page.reload()
    page.locator("#maya-list label").filter(has_text="Before").click()
    words = page.locator(MESSAGES.format("user")).last
    words.wait_for()
    page.get_by_text("2*3*4*5").wait_for()
    assert words.inner_text().replace("\xa0", " ").strip() == text
    words.hover()
    page.get_by_label("Copy the message").first.click()
    until(page, lambda: page.evaluate("navigator.clipboard.readText()") == text)
    page.get_by_label("Edit the question").click()
    editor = page.locator("#maya-conversation textarea")
    assert editor.input_value() == text
    assert editor.bounding_box()["height"] >= 100
    assert editor.bounding_box()["width"] >= 300
    editor.press("Escape")
    assert editor.count() == 0
    words.hover()
    page.get_by_label("Edit the question").click()
    editor.press("Control+a")
    page.keyboard.type("How many *are* there?")
    assert editor.bounding_box()["height"] >= 100
    page.keyboard.press("Enter")
    until(page, lambda: [entry.text for entry in site.history.entries(key)] == ["How many *are* there?", "An answer."])
    finished(page)
    settled(page)
    question, _ = site.history.entries(key)
    assert (question.text, len(question.pictures)) == ("How many *are* there?", 1)
    assert words.inner_text().strip() == "How many *are* there?"
    assert ask(page, "And now?") == "An answer."
    page.locator("#maya-new").click()
    page.locator("#maya-conversation .placeholder-content").wait_for()
    assert page.errors == []
