"""The words of ten languages: every thing has its forms, every family its wordings, and nothing stands twice."""

import re
from collections import Counter

import pytest

from maya_core.languages import CODES, get_language
from training.photo_vqa.phrases import A_SIDE, COLOURS, FAMILIES, ONE_THING, SIDES, TWO_THINGS, load_phrases
from training.photo_vqa.things import FORMS, KINDS, load_names, load_things

# Fewest wordings that are trained, and that are held back.
LARGE, SMALL, SMALLEST = (60, 8), (22, 4), (18, 3)
SIZES = dict.fromkeys(FAMILIES, LARGE) | {
    family: SMALL for family in FAMILIES if family.startswith("follow_") or family in ("breed", "larger")
} | dict.fromkeys(("left", "right", "above", "below"), SMALLEST)  # fmt: skip
SCRIPTS = {
    "zh": r"[\u4e00-\u9fff]",
    "ru": r"[\u0400-\u04ff]",
    "hi": r"[\u0900-\u097f]",
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
    "ar": r"[\u0600-\u06ff]",
    "bn": r"[\u0980-\u09ff]",
    "ur": r"[\u0600-\u06ff]",
}
GENDERS = {"es": "m f", "ru": "m f n pl", "hi": "m f", "ar": "m f", "ur": "m f"}
languages = pytest.mark.parametrize("code", CODES)


def slots(wording):
    return set(re.findall(r"\{(\w+)\}", wording))


def comparable(wording):
    return re.sub(r"[\s?？.。!！؟।,،…]+$", "", re.sub(r"\s+", " ", wording.casefold())).strip()


def test_the_things_are_told_apart_and_known_by_something():
    things = load_things()
    assert len(things) >= 350
    for thing in things.values():
        assert thing.kind in KINDS
        assert not thing.parent or things[thing.parent].kind == thing.kind
        assert thing.imagenet or thing.coco or thing.caltech or thing.emoji
    assert len({thing.coco for thing in things.values() if thing.coco}) == 80


@languages
def test_every_thing_has_all_its_forms_in_its_script(code):
    names = load_names(code)
    assert list(names) == list(load_things())
    for key, name in names.items():
        for form in FORMS[code]:
            assert name[form], (key, form)
            assert name[form] == name[form].strip(), (key, form)
        if code in GENDERS:
            assert name["gender"] in GENDERS[code].split(), key
        if code in SCRIPTS:
            assert re.search(SCRIPTS[code], name["name"]), key
    [(_, most)] = Counter(name["name"].casefold() for name in names.values()).most_common(1)
    assert most == 1


def test_urdu_is_written_in_urdu_letters():
    said = [form for name in load_names("ur").values() for form in (*name.forms.values(), *name.also)]
    asked = [wording for wordings in load_phrases("ur").asked.values() for wording in (*wordings.train, *wordings.held)]
    for text in (*said, *asked):
        assert not re.search("[\u0643\u064a\u0649\u0629]", text), text


@languages
def test_every_family_has_its_wordings_and_none_twice(code):
    phrases = load_phrases(code)
    known = {*FORMS[code], *({"the"} if code == "en" else ())} - {"gender"}
    seen = Counter()
    for family in FAMILIES:
        wordings = phrases.asked[family]
        trained, held = SIZES[family]
        assert len(wordings.train) >= trained, family
        assert len(wordings.held) >= held, family
        for wording in (*wordings.train, *wordings.held):
            seen[comparable(wording)] += 1
            found = slots(wording)
            if family in ONE_THING:
                assert found, wording
                assert found <= known, wording
            elif family in TWO_THINGS:
                assert {slot[-1] for slot in found} == {"1", "2"}, wording
                assert {slot[:-1] for slot in found} <= known, wording
            else:
                assert found == ({"side"} if family in A_SIDE else set()), wording
    assert [wording for wording, times in seen.items() if times > 1] == []


@languages
def test_questions_and_answers_are_put_together_for_every_thing(code):
    phrases, names = load_phrases(code), load_names(code)
    assert set(phrases.colours) == set(COLOURS)
    assert set(phrases.kinds) == set(KINDS)
    assert (len(phrases.places), len(phrases.sides)) == (9, len(SIDES))
    other = names["dog"]
    for name in names.values():
        texts = [phrases.named(name), phrases.counted(1, name), phrases.counted(2, name), phrases.counted(5, name)]
        texts += [phrases.sentence(said, name) for said in ("unsure", "there", "not_there", "is_not")]
        for family in FAMILIES:
            for wording in phrases.asked[family].held:
                texts.append(phrases.question(wording, name, other, side=0))
        for text in texts:
            assert text.strip()
            assert not re.search(r"[{}\[\]|]", text), text
    assert phrases.sentence("unknown")


@pytest.mark.parametrize("code", ["hi", "ur"])
def test_what_is_held_back_is_asked_in_the_same_scripts(code):
    """Latin letters, which Hindi and Urdu are typed in too, are among both parts."""
    phrases = load_phrases(code)
    latin = [part for part in ("train", "held")
             for wording in getattr(phrases.asked["what"], part) if not re.search(SCRIPTS[code], wording)]  # fmt: skip
    assert set(latin) == {"train", "held"}


def test_numbers_agree_with_their_nouns():
    def counted(code, *asked):
        phrases, names = load_phrases(code), load_names(code)
        return [phrases.counted(number, names[thing]) for number, thing in asked]

    assert counted("en", (1, "dog"), (2, "dog"), (3, "person")) == ["One dog", "Two dogs", "Three people"]
    assert counted("fr", (1, "cow"), (2, "horse")) == ["Une vache", "Deux chevaux"]
    assert counted("es", (1, "cow"), (2, "dog")) == ["Una vaca", "Dos perros"]
    assert counted("ru", (1, "dog"), (2, "dog"), (2, "horse"), (5, "dog"), (3, "scissors")) == [
        "Одна собака", "Две собаки", "Две лошади", "Пять собак", "Трое ножниц"]  # fmt: skip
    assert counted("hi", (1, "dog"), (2, "dog")) == ["एक कुत्ता", "दो कुत्ते"]
    assert counted("ur", (2, "dog")) == ["دو کتے"]
    assert counted("ja", (2, "dog")) == ["犬が2匹"]
    assert counted("zh", (1, "dog"), (2, "dog")) == ["一只狗", "两只狗"]
    assert counted("ar", (1, "dog"), (2, "dog"), (3, "dog"), (3, "car")) == [
        "كلب واحد", "كلبان", "ثلاثة كلاب", "ثلاث سيارات"]  # fmt: skip
    assert counted("bn", (1, "dog"), (2, "dog")) == ["একটি কুকুর", "দুটি কুকুর"]


def test_directions_are_those_of_the_languages():
    """A left that is written as right would be learnt as such."""
    assert len({get_language(code).code for code in CODES}) == len(CODES)
    for code in CODES:
        phrases = load_phrases(code)
        assert len(set(phrases.places)) == 9
        assert len(set(phrases.sides)) == 5
