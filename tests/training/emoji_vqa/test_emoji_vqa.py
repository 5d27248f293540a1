"""EmojiVQA: every question in every language is whole, and its answer follows from the scene."""

import json
import random
import re
from collections import Counter
from dataclasses import replace
from itertools import chain
from statistics import fmean
from string import Formatter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maya_core.assets import asset_path
from maya_core.languages import CODES, LANGUAGES
from tests.tiny import tiny_session
from training.embedded.tokenizer import train_tokenizer
from training.emoji_vqa.dataset import EmojiConversations, EmojiQuestions, single_questions
from training.emoji_vqa.evaluate import Scores, evaluate
from training.emoji_vqa.export import export
from training.emoji_vqa.preview import EXAMPLES, preview, save_examples
from training.emoji_vqa.questions import (
    FAMILIES,
    RELATIONS,
    Question,
    ask,
    caption,
    concept_name,
    families_for,
    load_phrases,
    name_of,
    sentences,
    thing_of,
)
from training.emoji_vqa.scenes import CELLS, SPLITS, is_held_out, make_scene, patch_labels, render
from training.emoji_vqa.vocabulary import CATEGORIES, SPRITE, VENDORS, load_sprites, load_vocabulary
from training.photo_vqa.phrases import load_phrases as answers_of
from training.photo_vqa.phrases import without_words
from training.photo_vqa.texts import is_spaced
from training.photo_vqa.things import load_things
from training.scoring import exact_match, normalise
from training.sheets import font_for, in_scripts

VOCABULARY = load_vocabulary()
SCRIPTS = {
    "zh": "CJK", "ru": "CYRILLIC", "hi": "DEVANAGARI", "ja": "CJK HIRAGANA KATAKANA", "ar": "ARABIC",
    "bn": "BENGALI", "ur": "ARABIC", "en": "LATIN", "fr": "LATIN", "es": "LATIN",
}  # fmt: skip


# --- vocabulary ---


def test_at_least_300_things_with_distinct_names_in_ten_languages():
    assert len(VOCABULARY) >= 300
    assert len({concept.id for concept in VOCABULARY}) == len(VOCABULARY)
    for code in CODES:
        assert len({normalise(concept.names[code], code) for concept in VOCABULARY}) == len(VOCABULARY)
    assert {concept.category for concept in VOCABULARY} == set(CATEGORIES)


def test_every_drawing_is_a_thing_of_the_photographs_and_called_as_that_is():
    """In each language by a name that no other drawing has: else a scene would have two right answers."""
    drawn = range(len(VOCABULARY))
    assert len({thing_of(concept) for concept in drawn}) == len(VOCABULARY)
    for code in CODES:
        assert len({normalise(concept_name(concept, code), code) for concept in drawn}) == len(VOCABULARY)
    known = {concept.id: number for number, concept in enumerate(VOCABULARY)}
    assert thing_of(known["camping"]) == "campsite"
    assert concept_name(known["ferry"], "fr") == "ferry"
    assert load_things()[thing_of(known["ferry"])].parent == "ship"
    assert name_of(known["dog2"], "es")["un"] == "un perro"


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_thing_has_a_drawing(vendor):
    sprites = load_sprites(vendor)
    assert len(sprites) == len(VOCABULARY)
    assert {sprite.size for sprite in sprites} == {(SPRITE, SPRITE)}
    assert all(np.asarray(sprite)[..., 3].mean() > 10 for sprite in sprites)
    assert len({sprite.tobytes() for sprite in sprites}) == len(sprites)


# --- scenes ---


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_repeat_and_differ(split):
    assert make_scene(split, 7) == make_scene(split, 7)
    assert render(make_scene(split, 7)).tobytes() == render(make_scene(split, 7)).tobytes()
    assert make_scene(split, 7) != make_scene(split, 8)
    others = {repr(make_scene(other, 7).things) for other in SPLITS}
    assert len(others) == len(SPLITS)


@given(st.sampled_from(SPLITS), st.integers(0, 10**9), st.sampled_from([64, 128, 200]))
@settings(max_examples=60, deadline=None)
def test_a_scene_is_a_picture_with_things_in_their_cells(split, index, size):
    scene = make_scene(split, index, size=size)
    assert 1 <= len(scene.things) <= 6
    cells = [thing.cell for thing in scene.things]
    assert len(set(cells)) == len(cells)
    assert all(0 <= cell < CELLS for cell in cells)
    if len(cells) > 1:
        assert all((int(thing.y * 3), int(thing.x * 3)) == divmod(thing.cell, 3) for thing in scene.things)
    picture = render(scene)
    assert picture.size == (size, size)
    assert picture.mode == "RGB"
    assert set(patch_labels(scene, 8).flatten()) - {-1} <= set(scene.concepts)
    assert (patch_labels(scene, 8) >= 0).any()


def test_held_out_pairs_meet_only_in_their_split():
    def meets(split):
        scenes = [make_scene(split, index) for index in range(400)]
        return [any(is_held_out(a, b) for a in scene.concepts for b in scene.concepts) for scene in scenes]

    assert all(meets("compositional"))
    assert not any(meets("train"))
    assert not any(meets("test"))
    pairs = [is_held_out(a, b) for a in range(len(VOCABULARY)) for b in range(a)]
    assert 0.05 < sum(pairs) / len(pairs) < 0.12


# --- questions ---


@pytest.mark.parametrize("language", CODES)
def test_every_language_has_the_same_questions_in_its_own_script(language):
    phrases, english = load_phrases(language), load_phrases("en")
    assert set(phrases.wordings) == set(english.wordings)
    fields = {
        kind: {field for field in ("{a}", "{b}", "{name}", "{place}") if field in english.wordings[kind][0]}
        for kind in english.wordings
    }
    for kind, wordings in phrases.wordings.items():
        assert len(wordings) >= 4
        wordings += phrases.later.get(kind, ())
        assert len(set(wordings)) == len(wordings)
        for wording in wordings:
            assert all(wording.count(field) == 1 for field in fields[kind]), wording
            assert wording.count("{") == len(fields[kind])
    answers = answers_of(language)
    for words in (answers.places, tuple(answers.colours.values()), tuple(answers.kinds.values())):
        assert len({normalise(word, language) for word in words}) == len(words)
    every = chain(*phrases.wordings.values(), *phrases.later.values())
    assert all(mostly_in(SCRIPTS[language], wording) for wording in every)
    assert {kind: len(wordings) for kind, wordings in phrases.later.items()} == {
        kind: len(wordings) for kind, wordings in english.later.items()
    }


def mostly_in(scripts: str, text: str) -> bool:
    import unicodedata

    plain = text.replace("{place}", "").replace("{name}", "").replace("{a}", "").replace("{b}", "")
    letters = [letter for letter in plain if letter.isalpha()]
    return all(unicodedata.name(letter).startswith(tuple(scripts.split())) for letter in letters)


@given(st.sampled_from(SPLITS), st.integers(0, 10**6), st.sampled_from(CODES), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_every_answer_follows_from_the_scene(split, index, language, seed):
    scene = make_scene(split, index)
    for family in families_for(scene):
        question = ask(scene, family, language, random.Random(seed))
        assert not set("{}") & set(question.text + question.answer)
        assert question.answer == answer_from(scene, question), question


def answer_from(scene, question: Question) -> str:
    """The answer, found again from the words of the question and the things in the scene."""
    language, phrases = question.language, answers_of(question.language)
    names = [concept_name(concept, language) for concept in scene.concepts]

    def named(concept):
        return phrases.named(name_of(concept, language))

    if question.family == "name":
        return named(scene.concepts[0])
    if question.family == "category":
        return phrases.as_answer(phrases.kinds[load_things()[thing_of(scene.concepts[0])].kind])
    if question.family == "colour":
        return phrases.as_answer(phrases.colours[scene.colour])
    if question.family == "count_all":
        return str(len(names))
    if question.family == "describe":
        things = sorted(scene.things, key=lambda thing: thing.x)
        return phrases.listed([phrases.indefinite(name_of(thing.concept, language)) for thing in things])
    if question.family == "place":
        [(cell, _)] = matches(
            question, {cell: {"place": place} for cell, place in enumerate(phrases.places)}, ("place",)
        )
        [thing] = [thing for thing in scene.things if thing.cell == cell]
        return named(thing.concept)
    if question.family == "where":
        every = {name: {"name": name} for name in names}
        [(asked, _)] = matches(question, every, ("where",))
        [thing] = [thing for name, thing in zip(names, scene.things, strict=True) if name == asked]
        return phrases.as_answer(phrases.places[thing.cell])
    if question.family in ("exists", "count"):
        every = {concept: {"name": concept_name(concept, language)} for concept in range(len(VOCABULARY))}
        [(asked, _)] = matches(question, every, (question.family,))
        name, number = name_of(asked, language), scene.concepts.count(asked)
        return phrases.counted(number, name) if question.family == "count" else there(phrases, name, number > 0)
    pairs = {(a, b): {"a": a, "b": b} for a in set(names) for b in set(names) if a != b}
    [((first, second), relation)] = matches(question, pairs, RELATIONS)
    one, other = (scene.things[names.index(name)] for name in (first, second))
    holds = {
        "left": one.x < other.x,
        "right": one.x > other.x,
        "above": one.y < other.y,
        "below": one.y > other.y,
        "larger": one.size > other.size,
    }
    return named(one.concept if holds[relation] else other.concept)


def there(phrases, name, is_there):
    return phrases.sentence("there" if is_there else "not_there", name)


def matches(question, candidates, kinds):
    """Which candidates, in which wording, give the question's text."""
    wordings = load_phrases(question.language).wordings
    return [
        (key, kind)
        for key, fields in candidates.items()
        for kind in kinds
        for wording in wordings[kind]
        if wording.format(**fields) == question.text
    ]


def test_the_held_out_wording_is_asked_in_its_split_alone():
    last = {wordings[-1] for wordings in load_phrases("en").wordings.values() if "{" not in wordings[-1]}
    trained = {question.text for _, question in single_questions("train", 300, ["en"])}
    asked = {question.text for _, question in single_questions("phrasing", 300, ["en"])}
    assert not trained & last
    assert last <= asked


@pytest.mark.parametrize("language", CODES)
def test_later_wordings_are_asked_in_the_last_stage_alone_and_are_never_held_out_ones(language):
    phrases = load_phrases(language)
    later = set(chain(*phrases.later.values()))
    assert not later & set(chain(*phrases.wordings.values()))
    names = set(phrases.later["name"])
    alone = [scene for scene in (make_scene("train", index) for index in range(40)) if len(scene.things) == 1]

    def asked(**options):
        rng = random.Random(0)
        return {ask(scene, "name", language, rng, **options).text for scene in alone for _ in range(20)}

    assert not asked() & names
    assert names < asked(later=True)
    assert not asked(later=True, split="phrasing") & names


def test_all_families_and_languages_are_asked():
    counts = Counter((question.language, question.family) for _, question in single_questions("test", 600))
    assert set(counts) == {(language, family) for language in CODES for family in FAMILIES}
    assert {question.language for _, question in single_questions("transfer", 20)} == {"bn", "ur"}
    answers = Counter(
        question.answer.split(",")[0]
        for _, question in single_questions("test", 400, ["en"])
        if question.family == "exists"
    )
    assert 0.4 < answers["Yes"] / answers.total() < 0.6


def test_several_answers_are_right():
    """What people call it, by its other names and by Unicode's, with an article or without; only yes or no; only a digit."""
    known = {concept.id: number for number, concept in enumerate(VOCABULARY)}
    scene = make_scene("train", 0, number=1)
    alone = replace(scene, things=(replace(scene.things[0], concept=known["iphone"]),))

    def scored(family, given, language="en"):
        question = ask(alone, family, language, random.Random(0))
        scores = Scores(split="test", scenes=1)
        scores.add(question, given)
        return question.answer, bool(sum(scores.right.values()))

    answer = "A mobile phone"
    for said in (answer, "mobile phone", "the mobile phone.", "Smartphone", VOCABULARY[known["iphone"]].names["en"]):
        assert scored("name", said) == (answer, True), said
    assert scored("name", "a camera") == (answer, False)
    assert scored("count", "One mobile phone") == ("One mobile phone", True)
    assert scored("count", "1")[1]
    assert not scored("count", "2")[1]
    answer, _ = scored("exists", "")
    assert scored("exists", answer.split(",")[0])[1]
    assert not scored("exists", "No" if answer.startswith("Yes") else "Yes")[1]
    assert scored("name", "un teléfono móvil", "es")[1]
    assert not scored("name", "a mobile phone", "es")[1]


# --- data set, export, preview ---


def test_conversations_repeat_and_show_the_picture_once():
    dataset = EmojiConversations(split="train", size=100, turns=(2, 4), seed=5)
    sample = dataset[3]
    assert sample.messages[0].images
    assert not any(message.images for message in sample.messages[1:])
    assert [message.role for message in sample.messages] == ["user", "assistant"] * (len(sample.messages) // 2)
    assert [message.text for message in sample.messages] == [message.text for message in dataset[3].messages]
    asked = [message.text for message in sample.messages if message.role == "user"]
    assert len(set(asked)) == len(asked)


def test_export_is_llava_json_with_pictures(tmp_path):
    assert export(tmp_path, "train", 12) == (12, 12)
    for name in ("pretrain", "instruct"):
        records = json.loads((tmp_path / f"{name}.json").read_text("utf-8"))
        assert len({record["id"] for record in records}) == 12
        for record in records:
            with Image.open(tmp_path / "images" / record["image"]) as picture:
                assert picture.size == (128, 128)
            turns = record["conversations"]
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
            assert [turn["value"].count("<image>") for turn in turns] == [1] + [0] * (len(turns) - 1)
            assert turns[0]["value"].startswith("<image>\n")
    captions = json.loads((tmp_path / "pretrain.json").read_text("utf-8"))
    assert captions[0]["conversations"][1]["value"] == caption(make_scene("train", 0), "en")


@pytest.mark.parametrize("language", CODES)
def test_every_letter_that_is_asked_or_answered_has_a_glyph(language):
    from fontTools.ttLib import TTFont

    known = TTFont(font_for(language, 20).path).getBestCmap()
    said = set(chain(*load_phrases(language).wordings.values(), *load_phrases(language).later.values()))
    said |= {text for concept in range(len(VOCABULARY)) for text in name_of(concept, language).forms.values()}
    letters = {letter for text in said for letter in text if not letter.isspace()} - set("{}\u200c\u200d\u200b")
    assert not {letter for letter in letters if ord(letter) not in known}


@pytest.mark.parametrize(
    ("text", "language", "parts"),
    [
        ("बिल्ली है", "hi", [("hi", "बिल्ली है")]),
        ("بلی ہے [बिल्ली]", "hi", [("ur", "بلی ہے"), ("hi", "[बिल्ली]")]),  # answered in another language than asked
        ("Кошка", "ur", [("en", "Кошка")]),
        ("kitne hain?", "hi", [("hi", "kitne hain?")]),
        ("𓃠", "ja", [("ja", "𓃠")]),  # that no font has
    ],
)
def test_a_sheet_writes_each_script_with_a_font_that_has_its_letters(text, language, parts):
    assert in_scripts(text, language) == parts


def test_the_contact_sheet_has_ink_in_every_row():
    sheet = np.asarray(preview("test").convert("L"))
    for row in np.split(sheet, 5):
        for half in np.split(row, 2, axis=1):
            assert (half[:, 300:] < 128).sum() > 300


def test_the_examples_that_come_along_are_what_is_drawn(tmp_path):
    save_examples(tmp_path)
    for number in EXAMPLES:
        with (
            Image.open(tmp_path / f"{number}.png") as drawn,
            Image.open(asset_path("examples") / f"{number}.png") as one,
        ):
            assert drawn.tobytes() == one.tobytes()


# --- scoring ---


@pytest.mark.parametrize(
    ("given_answer", "wanted", "language", "same"),
    [
        (" A Dog. ", "dog", "en", True),
        ("le chien", "chien", "fr", True),
        ("l'ours", "ours", "fr", True),
        ("la lechuza", "lechuza", "es", True),
        ("ёж", "еж", "ru", True),
        ("अंगूर।", "अंगूर", "hi", True),
        ("犬。", "犬", "ja", True),
        ("سمِّ", "سم", "ar", True),
        ("أرنب", "ارنب", "ar", True),
        ("٣", "3", "ar", True),
        ("৩", "3", "bn", True),
        ("كتاب", "کتاب", "ur", True),
        ("cat", "dog", "en", False),
        ("an", "ant", "en", False),
        ("theatre", "atre", "en", False),
        ("", "dog", "en", False),
        ("2", "3", "en", False),
        ("कुत्ता", "कुत्ते", "hi", False),
    ],
)
def test_exact_match(given_answer, wanted, language, same):
    assert exact_match(given_answer, wanted, language) is same


def test_scores_are_shares_by_language_and_family():
    scores = Scores(split="test", scenes=2)
    for language, answers in (("en", ["dog", "cat"]), ("hi", ["dog", "dog"])):
        for answer in answers:
            scores.add(Question(family="name", language=language, text="?", answer="dog"), answer)
    scores.add(Question(family="count", language="en", text="?", answer="2"), "2")
    assert scores.share("en", "name") == 0.5
    assert scores.share(None, "name") == 0.75
    assert scores.share("hi", "count") is None
    assert scores.as_json()["exact_match"]["mean"]["all"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores.as_table().row_count == 3


def test_evaluate_asks_every_question_of_a_model():
    scores = evaluate(tiny_session(), "test", 5)
    assert sum(scores.asked.values()) == len(list(single_questions("test", 5)))
    assert set(scores.languages) == {"en", "zh", "fr", "es", "ru"}


def test_the_tokenizer_reads_every_wording_that_is_trained_but_for_what_it_asks_about():
    for code in CODES:
        said = "".join(sentences(code))
        for wordings in load_phrases(code).wordings.values():
            for part in re.split(r"\{\w+\}", "|".join(wordings[:-1])):
                assert all(word in said for word in part.replace("|", " ").split())
        assert not any("{" in part for part in sentences(code))


def test_the_tokenizer_never_joins_words_of_a_list_or_wording():
    tokenizer = train_tokenizer(16384)

    def tokens(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    fish, dog = (next(c for c in VOCABULARY if c.names["en"] == name).names for name in ("fish", "dog"))
    assert tokens(f"{fish['ar']} و{dog['ar']}") == tokens(fish["ar"]) + tokens(" و") + tokens(dog["ar"])
    assert tokens(f"{fish['zh']}和{dog['zh']}") == tokens(fish["zh"]) + tokens("和") + tokens(dog["zh"])


def test_training_meets_most_tokens_of_the_wordings_that_it_never_sees():
    tokenizer = train_tokenizer(16384)
    no_fields = dict.fromkeys(("place", "name", "a", "b"), "")

    def tokens(wordings):
        texts = [wording.format(**no_fields) for wording in wordings]
        return [token for ids in tokenizer(texts, add_special_tokens=False)["input_ids"] for token in ids]

    for code in CODES:
        kinds = load_phrases(code).wordings.values()
        trained = {token for wordings in kinds for token in tokens(wordings[:-1])}
        met = fmean(token in trained for wordings in kinds for token in tokens(wordings[-1:]))
        assert met > 0.5, f"{code}: {met:.2f}"


def test_only_chinese_and_japanese_write_without_spaces():
    assert [code for code in CODES if not is_spaced(code)] == ["zh", "ja"]


@pytest.mark.parametrize("code", CODES)
def test_words_are_left_out_of_a_wording_but_never_what_it_asks_about(code):
    rng = random.Random(0)
    for wordings in load_phrases(code).wordings.values():
        for wording in wordings:
            assert without_words(wording, 0.0, rng) == wording
            fields = [f"{{{name}}}" for _, name, _, _ in Formatter().parse(wording) if name]
            assert without_words(wording, 1.0, rng).replace(" ", "") == ("".join(fields) or wording.replace(" ", ""))
            some = [without_words(wording, 0.3, rng) for _ in range(20)]
            assert all(text.count(field) == 1 for text in some for field in fields)
            assert min(map(len, some)) < len(wording)


def test_some_questions_ask_for_an_answer_in_a_language_by_name_and_get_it():
    plain = EmojiQuestions(split="train", size=20, redirected=0.0)
    redirected = EmojiQuestions(split="train", size=20, redirected=1.0)
    requests = {language.request: language for language in LANGUAGES}
    for index in range(20):
        sample = redirected[index]
        for messages, code in zip(sample.conversations, sample.languages, strict=True):
            question, answer = messages[0].text, messages[1].text
            assert requests[question.splitlines()[-1]].code == code
            assert not answer.isascii() or code in ("en", "fr", "es") or answer.isdigit()
        assert not any(text in message.text for m in plain[index].conversations for message in m for text in requests)
