"""Choices are kept; a file that someone broke takes nobody's app away."""

import json

import pytest

from app.settings import Settings, SettingsFile


def test_choices_are_kept(tmp_path):
    file = SettingsFile(tmp_path / "folder" / "settings.json")
    assert file.load() == Settings()
    file.change(language="ur", temperature=0.7)
    assert SettingsFile(file.file).load() == Settings(language="ur", temperature=0.7)
    assert [one.name for one in file.file.parent.iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", "\x00", '{"language": "xx", "theme": 5, "temperature": "hot"}']
)
def test_what_is_wrong_in_the_file_is_left_out(tmp_path, text):
    file = SettingsFile(tmp_path / "settings.json")
    file.file.write_text(text)
    assert file.load() == Settings()
    file.file.write_text(
        json.dumps({"language": "hi", "theme": "pink", "most_tokens": True, "native_digits": 1, "new": 1})
    )
    assert file.load() == Settings(language="hi")


@pytest.mark.parametrize("wrong", [{"language": "xx"}, {"theme": "pink"}, {"temperature": 9.0}, {"most_tokens": 1}])
def test_a_wrong_choice_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="must be"):
        SettingsFile(tmp_path / "settings.json").change(**wrong)
