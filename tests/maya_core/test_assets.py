"""What comes with Maya is found wherever pip has put it, and a path is read as a person types it."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from maya_core import assets


@pytest.mark.parametrize("how", ["target", "user", "system"])
def test_what_comes_along_is_found_wherever_pip_has_put_it(tmp_path, monkeypatch, how):
    """Laid out as by `pip install --target`, by `--user`, and by a distribution that has a prefix for pip alone."""
    package = tmp_path / "target" / "maya_core"
    package.mkdir(parents=True)
    found = importlib.util.spec_from_file_location("installed", shutil.copy(assets.__file__, package))
    installed = importlib.util.module_from_spec(found)
    found.loader.exec_module(installed)
    monkeypatch.setattr(installed.site, "getuserbase", lambda: str(tmp_path / "user"))
    monkeypatch.setattr(installed.sysconfig, "get_path", lambda name: str(tmp_path / "system"))
    there = tmp_path / how / "share" / "maya" / "assets"
    there.mkdir(parents=True)
    assert installed.asset_path("maya-tiny") == there / "maya-tiny"


def test_in_the_source_tree_it_is_there():
    assert (assets.asset_path(assets.EMBEDDED) / "config.json").is_file()


def test_a_home_is_found_and_a_name_that_is_none_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME" if Path.home().drive == "" else "USERPROFILE", str(tmp_path))
    assert assets.typed_path("~/maya") == tmp_path / "maya"
    assert assets.typed_path("~nobody-of-this-name/maya") == Path("~nobody-of-this-name/maya")
