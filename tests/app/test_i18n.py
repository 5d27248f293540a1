"""The interface in ten languages: complete, and every trouble has its sentence."""

import ast
import string
from pathlib import Path

import pytest

import maya_core.errors
from app.i18n import LOCALES, SENTENCES, catalogue, describe_error, language_choices, preferred_language, translate
from maya_core.errors import GenerationError, ImageTooLarge, MayaError, RepositoryGated
from maya_core.languages import CODES

TRANSLATED = [code for code in CODES if code != "en"]
APP = Path(__file__).parents[2] / "app"


def said_by_the_app() -> set[str]:
    """Every English sentence that the code asks to be translated."""
    found = set(SENTENCES.values())
    for file in APP.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "translate"
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(node.args[0].value)
    from app.ui import ABOUT, EXAMPLE_QUESTIONS

    return found | set(EXAMPLE_QUESTIONS) | set(ABOUT)


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("code", TRANSLATED)
def test_catalogues_say_exactly_what_the_app_says(code):
    assert set(catalogue(code)) == said_by_the_app()
    for sentence, translation in catalogue(code).items():
        assert translation.strip()
        assert fields(translation) == fields(sentence)
    assert len(set(catalogue(code).values())) == len(catalogue(code))


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
    assert describe_error(GenerationError(""), code) == describe_error(RepositoryGated(""), code)


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
