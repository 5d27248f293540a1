"""What is taken as a translation, and what is not."""

import contextlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maya_core.languages import CODES
from tests.tiny import SENTENCES
from training.engine import ReplyUnusable
from training.translate.checks import fault, tidied
from training.translate.prompts import load_candidates, prompt, replies
from training.translate.texts import cut

ANY_TEXT = settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DOG = "What is in the picture? A dog."


@pytest.mark.parametrize(("language", "said"), [pair for pair in zip(CODES, SENTENCES, strict=True) if pair[0] != "en"])
def test_good_translations_are_taken_and_those_into_another_language_are_not(language, said):
    assert fault(DOG, said, language) == ""
    others = [code for code in CODES if code not in ("en", language)]
    assert {fault(DOG, said, other) for other in others} == {"language"}
    assert fault(DOG, DOG, language) in ("untranslated", "language")


@pytest.mark.parametrize(
    ("source", "said", "language", "reason"),
    [
        (DOG, "", "fr", "empty"),
        (DOG, "Qu'y a-t-il sur l'image ? Un chi\ufffdn.", "fr", "bad-letters"),
        (DOG, "Qu'y a-t-il sur l'image ?\0 Un chien.", "fr", "bad-letters"),
        (DOG, "Qu'y a-t-il sur l'image ? \ud83d Un chien.", "fr", "bad-letters"),
        (DOG, "I'm sorry, but I can't translate this.", "fr", "refusal"),
        (DOG, "Je suis désolé, je ne peux pas.", "fr", "refusal"),
        (DOG, "申し訳ありませんが、翻訳できません。", "ja", "refusal"),
        ("I'm sorry that the dog ran away.", "Je suis désolé que le chien se soit enfui.", "fr", ""),
        (DOG, "Voici la traduction :\nQu'y a-t-il sur l'image ? Un chien.", "fr", "more-lines"),
        (DOG, "Oui.", "fr", ""),
        (DOG * 4, "Un chien est là.", "fr", "length"),
        (DOG, "Qu'y a-t-il sur l'image ? Un chien. " * 6, "fr", "length"),
        ("Compare <image> with the other one.", "Comparez avec l'autre image.", "fr", "placeholders"),
        ("Compare <image> with the other one.", "Comparez <image> avec <image> l'autre.", "fr", "placeholders"),
        ("Compare <image> with the other one.", "<image> Comparez avec l'autre.", "fr", "image-moved"),
        ("Compare <image> with the other one.", "Comparez <image> avec l'autre.", "fr", ""),
        (
            "Say {name} and see https://example.org/a",
            "Dites {nom} et voyez https://example.org/a",
            "fr",
            "placeholders",
        ),
        ("The bus number 42 is red.", "Le bus numéro 24 est rouge.", "fr", "numbers"),
        ("The bus number 42 is red.", "Le bus est rouge et grand.", "fr", "numbers"),
        ("There are 3 dogs in the garden.", "Il y a trois chiens dans le jardin.", "fr", ""),
        ("There are 3 dogs in the garden.", "Il y a 4 chiens dans le jardin.", "fr", "numbers"),
        ("The car costs 10,000 dollars.", "La voiture coûte 10 000 dollars.", "fr", ""),
        ("It is 3.5 metres long.", "Il mesure 3,5 mètres de long.", "fr", ""),
        ("In 2019 300 people came here.", "En 2019 300 personnes sont venues ici.", "fr", ""),
        ("The bus number 42 is red.", "बस नंबर ४२ लाल है।", "hi", ""),
        ("The bus number 42 is red.", "الحافلة رقم ٤٢ حمراء.", "ar", ""),
        ("Paris", "Paris", "fr", ""),
        ("A red bus", "A red bus", "fr", "language"),
        ("We saw the red car yesterday.", "We saw the red car yesterday.", "es", "untranslated"),
    ],
)
def test_what_models_do_wrong_is_seen(source, said, language, reason):
    assert fault(source, said, language) == reason


@pytest.mark.parametrize(
    "said",
    [
        "می\u200cخواهم یہ کتاب اردو میں ہے",
        "क\u094d\u200dष में यह एक बड़ा घर है",
        "Une famille 👩\u200d👩\u200d👧 dans la maison",
    ],
)
def test_joiners_stay_as_they_are(said):
    assert tidied(f" {said}\n", "x") == said


def test_a_reply_is_in_nfc_and_without_quotes_that_nobody_asked_for():
    assert tidied("« L'e\u0301te\u0301 »", "Summer") == "L'été"
    assert tidied('"Summer" and "winter"', "x") == '"Summer" and "winter"'
    assert tidied('"Bonjour"', '"Hello"') == '"Bonjour"'


@ANY_TEXT
@given(st.text())
def test_any_text_is_cut_and_put_together_again(text):
    piece = cut(text)
    assert "".join(piece) == text
    assert piece.words == piece.words.strip()
    assert not piece.words.startswith("<image>")
    assert not piece.words.endswith("<image>")


@ANY_TEXT
@given(st.text(), st.text())
def test_no_reply_breaks_the_checks(source, said):
    assert isinstance(fault(source, tidied(said, source), "hi"), str)


@ANY_TEXT
@given(st.lists(st.text(), min_size=2, max_size=6), st.text())
def test_any_reply_to_several_texts_is_read_or_unusable(texts, said):
    listed = json.dumps([{"id": number, "text": text} for number, text in enumerate(texts, start=1)])
    assert replies(listed, len(texts)) == dict(enumerate(texts))
    with contextlib.suppress(ReplyUnusable):
        assert replies(said, len(texts)).keys() <= set(range(len(texts)))


def test_every_candidate_says_into_which_language_and_holds_the_text():
    candidates = load_candidates()
    assert len(candidates) == 6
    for text in candidates.values():
        asked = prompt({"*": text}, "ur", ["A red bus."])
        assert asked.endswith("\n\nA red bus.")
        assert "Urdu" in asked
        assert "{language}" not in asked
