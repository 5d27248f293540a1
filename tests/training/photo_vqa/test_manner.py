"""Manners: what people say around a question, one word for another, slips."""

import random

import pytest

from maya_core.languages import CODES
from training.photo_vqa.manner import MARKS, PLAIN, Manner, _manners
from training.photo_vqa.phrases import FAMILIES, load_phrases


def worded(wording, language="en", tries=60, **chances):
    manner = Manner(**chances)
    return {manner.worded(wording, language, random.Random(seed)) for seed in range(tries)}


@pytest.mark.parametrize("code", CODES)
def test_every_language_has_its_manners_and_none_is_one_that_is_held_back(code):
    manners = _manners()[code]
    assert min(len(manners["before"]), 2 * len(manners["after"])) >= 10
    assert all(len(set(manners[when])) == len(manners[when]) for when in ("before", "after"))
    assert all(text[-1] in ",:،，、：.。।۔?？!！" for text in manners["before"])
    assert all(len(set(words)) == len(words) > 1 for words in manners["alike"])
    for family in FAMILIES:
        for wording in load_phrases(code).asked[family].held:
            assert not any(wording.startswith(text) for text in manners["before"]), wording
            assert not any(wording.endswith(text) for text in manners["after"]), wording


def test_plainly_a_wording_stays_as_it_is():
    for code in CODES:
        for wording in load_phrases(code).asked["exists"].train:
            rng = random.Random(0)
            assert PLAIN.typed(PLAIN.worded(wording, code, rng), rng) == wording
            assert rng.random() == random.Random(0).random()


@pytest.mark.parametrize(
    ("code", "wording", "some"),
    [
        ("en", "Is there {a} here?", "Hi, is there {a} here?"),
        ("en", "Is there {a} here?", "Look at this. Is there {a} here?"),
        ("en", "A {name}?", "Hi, a {name}?"),
        ("en", "I see {a}?", "Hi, I see {a}?"),
        ("fr", "Y a-t-il {un} ici ?", "Une question : y a-t-il {un} ici ?"),
        ("es", "¿Hay {un} aquí?", "Por favor, ¿hay {un} aquí?"),
        ("ja", "{name}はありますか？", "すみません、{name}はありますか？"),
        ("ur", "کیا یہاں {name} ہے؟", "بھائی، کیا یہاں {name} ہے؟"),
    ],
)
def test_something_is_said_before(code, wording, some):
    assert some in worded(wording, code, opened=1.0, tries=300)


@pytest.mark.parametrize(
    ("code", "wording"),
    [("bn", "কী দেখা যায় এখানে?"), ("ur", "اس pic میں {side} کیا ہے؟"), ("ur", "اور {side} کیا نظر آ رہا ہے")],
)
def test_no_exchange_of_words_makes_a_wording_that_is_held_back(code, wording):
    held = {wording.strip(MARKS) for asked in load_phrases(code).asked.values() for wording in asked.held}
    found = {text.strip(MARKS) for text in worded(wording, code, alike=1.0, tries=400)}
    assert not found & held


def test_something_is_said_after():
    assert "What is this? Thanks!" in worded("What is this?", closed=1.0)
    assert "これは何？ありがとう。" in worded("これは何？", "ja", closed=1.0)


def test_one_word_stands_for_another_and_slots_stay():
    found = worded("Is the {photo} in the photo?", alike=0.5)
    assert "Is the {photo} in the picture?" in found
    assert all(text.startswith("Is the {photo} in the ") for text in found)
    assert len(found) > 3
    assert worded("photographer", alike=1.0) == {"photographer"}
    assert "画像に何がある？" in worded("写真に何がある？", "ja", alike=0.5)


def test_a_vowel_sign_does_not_end_a_word():
    """Hindi "यह" stands in "यही", which is another word."""
    assert worded("यही?", "hi", alike=1.0) == {"यही?"}
    assert worded("यह?", "hi", alike=1.0) == {"यह?", "ये?"}


@pytest.mark.parametrize(
    ("code", "wording", "right"),
    [
        ("en", "I can't see it.", {"I can't see it."}),
        (
            "en",
            "A picture? I see a picture.",
            {f"A picture? I see a {word}." for word in ("photo", "picture", "pic", "photograph")},
        ),
        (
            "fr",
            "Que montre l'image ?",
            {f"Que montre {words} ?" for words in ("la photo", "l'image", "la photographie")},
        ),
    ],
)
def test_words_change_places_only_where_the_sentence_stays_right(code, wording, right):
    assert worded(wording, code, alike=1.0) == right


def test_fingers_slip_by_one_letter():
    found = {Manner(slipped=1.0).typed("a cat", random.Random(seed)) for seed in range(60)}
    assert found == {"a at", "a ccat", "a act", "a ct", "a caat", "a cta"}
    assert Manner(slipped=1.0).typed("यह", random.Random(0)) != "यह"
    assert Manner(slipped=1.0).typed("?", random.Random(0)) == "?"
