"""Maya as a program among others."""

import os
import sys
from xml.etree import ElementTree

import httpx
import pytest

import app.window
from app.window import ICON, Window, install, open_window


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """A browser that notes how it was called; the file it notes it in."""
    said = tmp_path / "said"
    program = tmp_path / "chromium"
    program.write_text(f'#!/bin/sh\necho "$@" > "{said}.part"; mv "{said}.part" "{said}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setattr(app.window, "BROWSERS", ("not-there", "chromium"))
    return said


def test_the_page_opens_in_a_window_of_its_own_where_a_browser_can(browser, monkeypatch):
    started = []
    popen = app.window.subprocess.Popen
    monkeypatch.setattr(app.window.subprocess, "Popen", lambda *given, **named: started.append(popen(*given, **named)))
    assert open_window("http://127.0.0.1:1/")
    assert started[0].wait(60) == 0
    assert browser.read_text() == "--app=http://127.0.0.1:1/\n"
    monkeypatch.setenv("PATH", "")
    assert not Window().open("http://127.0.0.1:1/")


def test_a_browser_can_install_the_page(site):
    with httpx.Client(base_url=site.address.rstrip("/"), timeout=60) as client:
        manifest = client.get("/manifest.json").json()
        icon = client.get(f"/{manifest['icons'][0]['src'].lstrip('/')}")
        assert (manifest["name"], manifest["display"]) == ("Maya", "standalone")
        assert icon.content == client.get("/favicon.ico").content == ICON.read_bytes()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="needs a freedesktop.org desktop")
def test_the_menu_of_programs_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", '/odd "place"/50%/python')
    entry = install()
    assert entry == tmp_path / "applications" / "maya.desktop"
    lines = dict(line.split("=", 1) for line in entry.read_text("utf-8").splitlines()[1:])
    assert lines["Exec"] == '"/odd \\\\"place\\\\"/50%%/python" -P -m app --window'
    assert lines["Icon"] == str(ICON)
    assert ElementTree.parse(ICON).getroot().get("viewBox") == "0 0 512 512"
