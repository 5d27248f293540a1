"""What is told of an answer: what it waits for, and what it took."""

import re

import pytest

from app.engine import Loading, Looking, Queued
from app.history import Entry
from app.i18n import Say
from app.page.figures import took_told, waiting_told
from maya_core.languages import CODES

ANSWER = Entry(role="assistant", text="It's a red cup.", tokens=9, seconds=2.8, waited=0.8)


def shown(answer, code="en", *, native=False):
    """The line that is there, and those that can be opened."""
    told, more = re.fullmatch(
        "<details><summary>(.*)</summary><p>(.*)</p></details>", took_told(answer, Say(code), native_digits=native)
    ).groups()
    return [told, *re.findall("<span>(.*?)</span>", more)]


def test_an_answer_tells_when_its_first_word_came_and_how_fast_the_others():
    assert shown(ANSWER) == ["Answered in 2.8 sec", "First word after 800 ms", "Words a second: 2", "Tokens: 9"]
    one_word = Entry(role="assistant", text="Cup", tokens=1, seconds=0.8, waited=0.8)
    assert shown(one_word) == ["Answered in 800 ms", "First word after 800 ms", "Tokens: 1"]
    older = Entry(role="assistant", text="A cup.", tokens=3, seconds=0.8)
    assert shown(older) == ["Answered in 800 ms", "Tokens: 3"]
    assert took_told(Entry(role="assistant", text="Imported."), Say("en"), native_digits=False) == ""


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("赤いカップです。", "3,5"),
        ("这是红色杯子", "3"),
        ("یہ کتاب‌خانہ ہے۔", "1,5"),
        ("यह लाल कप है।", "2"),
        ("l'eau", None),
    ],
)
def test_words_are_counted_as_those_count_who_write_them(text, rate):
    told = shown(Entry(role="assistant", text=text, tokens=5, seconds=3.0, waited=1.0), "fr")
    assert [one for one in told if "Mots" in one] == ([f"Mots par seconde : {rate}"] if rate else [])


@pytest.mark.parametrize("code", CODES)
def test_what_is_waited_for_is_told_in_every_language(code):
    waits = [None, Loading(share=0.37), Queued(ahead=1), Queued(ahead=3), Looking(pictures=1), Looking(pictures=2)]
    told = [waiting_told(wait, Say(code), native_digits=True) for wait in waits]
    assert len(set(told)) >= len(waits) - (code in ("zh", "ja"))  # which do not tell one picture from two
    assert len(shown(ANSWER, code, native=True)) == 4
    assert waiting_told(Looking(pictures=1, share=0.4), Say(code), native_digits=False).startswith(told[4])
    assert "40" in waiting_told(Looking(pictures=0, share=0.4), Say(code), native_digits=False)
    slowly = waiting_told(Looking(pictures=1, share=0.4, passed=37), Say(code), native_digits=False)
    assert slowly.startswith(told[4])
    assert "40" in slowly
    assert "37" in slowly
    assert waiting_told(Looking(pictures=1, passed=1), Say(code), native_digits=False) == told[4]
