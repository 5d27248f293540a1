"""Choices are kept; a file that someone broke takes nobody's app away."""

import json
import os

import pytest

from app.settings import Settings, SettingsFile, SettingsUnsaved


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


def test_a_choice_that_cannot_be_written_holds_and_the_file_stays_whole(tmp_path, monkeypatch):
    file = SettingsFile(tmp_path / "settings.json")
    file.change(language="ur")

    def fail(*_):
        raise PermissionError(13, "no")

    with monkeypatch.context() as patch:
        patch.setattr("app.settings.os.replace", fail)
        patch.setattr("app.settings.time.sleep", lambda _: None)
        with pytest.raises(SettingsUnsaved, match="free space"):
            file.change(theme="dark")
    assert file.load() == Settings(language="ur", theme="dark")
    assert SettingsFile(file.file).load() == Settings(language="ur")
    assert [one.name for one in tmp_path.iterdir()] == ["settings.json"]
    file.change(temperature=0.5)
    assert SettingsFile(file.file).load() == Settings(language="ur", theme="dark", temperature=0.5)


def test_a_file_that_another_process_reads_is_waited_for(tmp_path, monkeypatch):
    """As on Windows, where a file that is open cannot be replaced."""
    file, refused, replace = SettingsFile(tmp_path / "settings.json"), [], os.replace

    def busy(source, target):
        if len(refused) < 2:
            refused.append(target)
            raise PermissionError(13, "in use")
        replace(source, target)

    monkeypatch.setattr("app.settings.os.replace", busy)
    file.change(language="hi")
    assert len(refused) == 2
    assert SettingsFile(file.file).load() == Settings(language="hi")
