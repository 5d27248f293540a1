"""The ten languages."""

import pytest

from maya_core.answering.language import answer_language
from maya_core.languages import CODES, LANGUAGES, PRETRAINED_CODES, get_language


def test_ten_of_which_eight_are_pretrained():
    assert CODES == ("en", "zh", "fr", "es", "ru", "hi", "ja", "ar", "bn", "ur")
    assert set(CODES) - set(PRETRAINED_CODES) == {"bn", "ur"}


def test_names_and_directions():
    assert {language.code: language.native_name for language in LANGUAGES} == {
        "en": "English", "zh": "中文", "fr": "Français", "es": "Español", "ru": "Русский",
        "hi": "हिन्दी", "ja": "日本語", "ar": "العربية", "bn": "বাংলা", "ur": "اردو",
    }  # fmt: skip
    assert [language.code for language in LANGUAGES if language.direction == "rtl"] == ["ar", "ur"]


def test_each_says_its_sentences_in_its_own_words():
    for sentences in ([one.request for one in LANGUAGES], [one.unknown for one in LANGUAGES]):
        assert len(set(sentences)) == len(LANGUAGES)
        assert all(sentence[-1] in ".。۔।" for sentence in sentences)
    for language in LANGUAGES:
        assert answer_language(language.unknown).code == language.code


@pytest.mark.parametrize(
    ("tag", "code"), [("zh-HK", "zh"), ("bn_BD.UTF-8", "bn"), ("ur-PK", "ur"), ("EN", "en"), ("es-419", "es")]
)
def test_tags_find_their_language(tag, code):
    assert get_language(tag).code == code


@pytest.mark.parametrize("tag", ["", "de", "xx-YY", "zhh"])
def test_other_tags_are_refused(tag):
    with pytest.raises(ValueError, match="choose one of en, zh"):
        get_language(tag)


def test_plurals_follow_cldr():
    assert [get_language("ar").plural(number) for number in (0, 1, 2, 3, 11, 100)] == [
        "zero", "one", "two", "few", "many", "other",
    ]  # fmt: skip
    assert [get_language("ru").plural(number) for number in (1, 2, 5, 21)] == ["one", "few", "many", "one"]
