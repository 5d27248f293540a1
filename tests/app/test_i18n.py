"""The interface in ten languages: complete, and every trouble has its sentence."""

import string
from datetime import datetime, timedelta
from gettext import GNUTranslations
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

import maya_core.errors
from app.i18n import (
    LABELS,
    LOCALES,
    SENTENCES,
    Say,
    catalogue,
    describe_error,
    format_bytes,
    format_memory,
    format_minutes,
    format_moment,
    format_number,
    format_seconds,
    format_share,
    format_time,
    format_whole,
    group_of_days,
    language_choices,
    preferred_language,
    translate,
)
from maya_core.errors import CheckpointError, GenerationError, ImageTooLarge, MayaError, RepositoryGated
from maya_core.languages import CODES, get_language

TRANSLATED = [code for code in CODES if code != "en"]
APP = Path(__file__).parents[2] / "app"
KEYWORDS = {"say": None, "translate": None, "later": None, "number": (1, 2)}


def said_by_the_app() -> set[str | tuple[str, str]]:
    """Every English sentence that the code asks to be translated."""
    found = extract_from_dir(APP, [("**.py", "python")], keywords=KEYWORDS)
    return {message for _, _, message, _, _ in found} | set(SENTENCES.values()) | set(LABELS.values())


def written(code: str) -> Catalog:
    with (LOCALES / f"{code}.po").open("rb") as file:
        return read_po(file)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", TRANSLATED)
def test_catalogues_say_exactly_what_the_app_says(code):
    messages = [message for message in written(code) if message.id]
    assert {message.id for message in messages} == said_by_the_app()
    for message in messages:
        forms = message.string if message.pluralizable else [message.string]
        keys = message.id if message.pluralizable else [message.id]
        assert not message.fuzzy
        for form in forms:
            assert form.strip()
            assert fields(form) == fields(keys[0]) == fields(keys[-1])
            assert (form[-1] in ".。۔।") == (keys[0][-1] == ".")
    singles = [message.string for message in messages if not message.pluralizable]
    assert len(set(singles)) == len(singles)


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_plural_form_of_a_language_is_there_and_chosen_by_its_rule(code):
    expected = Catalog(locale=str(get_language(code).locale))
    plurals = [message for message in written(code) if message.pluralizable]
    assert plurals
    assert all(len(message.string) == expected.num_plurals for message in plurals)
    translations = catalogue(code)
    assert isinstance(translations, GNUTranslations)
    chosen = {translations.ngettext(*plurals[0].id, number) for number in range(200)}
    assert chosen == set(plurals[0].string)


def test_russian_counts_as_russians_do():
    words = ("{count} question is answered before yours.", "{count} questions are answered before yours.")
    shown = [Say("ru").number(*words, n, count=str(n)).split("ещё ")[1] for n in (1, 3, 5, 11, 21)]
    assert shown == ["1 вопрос.", "3 вопроса.", "5 вопросов.", "11 вопросов.", "21 вопрос."]


def test_numbers_and_days_are_written_as_the_language_does():
    assert [format_whole(1234567, code) for code in ("en", "hi", "fr")] == [
        "1,234,567",
        "12,34,567",
        "1\u202f234\u202f567",
    ]
    assert format_whole(1234567, "bn", native_digits=True) == "১২,৩৪,৫৬৭"
    assert format_whole(42, "ar", native_digits=True) == "٤٢"
    assert format_whole(42, "ur", native_digits=True) == "۴۲"
    assert format_whole(42, "ja", native_digits=True) == "42"
    assert [format_number(number, "fr") for number in (45.6, 4.56, 4.04, 4)] == ["46", "4,6", "4", "4"]
    assert [format_seconds(seconds, "en") for seconds in (2.34, 0.04)] == ["2.3 sec", "40 ms"]
    assert [format_minutes(seconds, "en") for seconds in (10.0, 640.0)] == ["1 min", "11 min"]
    assert format_minutes(640.0, "bn", native_digits=True).startswith("১১")
    assert format_share(0.45, "ur", native_digits=True) == "۴۵%"
    assert format_bytes(16_290_000_000, "en") == "16.3 GB"
    assert format_memory(8 * 1024**3, "en") == "8 GB"
    moment = datetime(2020, 2, 3, 16, 5).timestamp()
    assert [format_time(moment, code).replace("\u202f", " ") for code in ("en", "fr", "ja")] == [
        "4:05 PM",
        "16:05",
        "16:05",
    ]
    assert [format_moment(moment, code) for code in ("fr", "zh")] == ["3 févr. 2020 16:05", "2020年2月3日 16:05"]
    assert format_moment(moment, "ur", native_digits=True).startswith("۳ فروری، ۲۰۲۰")


def test_days_are_grouped_as_a_calendar_has_them():
    now = datetime(2020, 3, 1, 0, 30)
    ago = (timedelta(), timedelta(minutes=31), timedelta(days=1, minutes=31), timedelta(days=6), timedelta(days=8))
    groups = [group_of_days((now - before).timestamp(), Say("es"), now=now.timestamp()) for before in ago]
    assert groups == ["Hoy", "Ayer", "Los últimos siete días", "Los últimos siete días", "febrero de 2020"]
    assert group_of_days(now.timestamp() + 3600, Say("es"), now=now.timestamp()) == "Hoy"


def test_there_is_a_catalogue_for_each_language_and_no_other():
    assert sorted(file.stem for file in LOCALES.glob("*.po")) == sorted(TRANSLATED)


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_a_sentence_and_never_shows_its_message(code):
    kinds = [kind for kind in vars(maya_core.errors).values() if isinstance(kind, type) and issubclass(kind, MayaError)]
    assert len(kinds) > 15
    for kind in kinds:
        sentence = describe_error(kind("SECRET detail"), code)
        assert "SECRET" not in sentence
        assert "{" not in sentence
        assert sentence[-1] in ".。۔।"
    assert "20" in describe_error(ImageTooLarge(""), code)
    assert describe_error(GenerationError(""), code) == describe_error(MayaError(""), code)
    assert describe_error(RepositoryGated(""), code) != describe_error(CheckpointError(""), code)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("hi-IN,hi;q=0.9,en;q=0.5", "hi"),
        ("de, ur;q=0.7, fr;q=0.9", "fr"),
        ("zh-TW", "zh"),
        ("de", "en"),
        ("", "en"),
        ("*;q=x, ar", "ar"),
    ],
)
def test_the_browser_chooses_the_first_language(header, code):
    assert preferred_language(header) == code


def test_the_picker_shows_native_names():
    assert dict(language_choices())["اردو"] == "ur"
    assert len(language_choices()) == 10
    assert translate("Language", "en") == "Language"
