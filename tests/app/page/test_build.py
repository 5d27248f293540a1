"""What the page's panels owe to each other: that they do not know of each other, and that no event leaves a part undone."""

from types import SimpleNamespace

import pytest

from app.guard import Listening
from app.history import Entry, History
from app.models import Models
from app.page.services import Services
from app.page.updates import join
from app.settings import SettingsFile
from tests.app.conftest import COMPUTER, in_a_loop
from tests.app.scripted import ScriptedEngine
from tests.test_layering import ROOT, imported

pytestmark = pytest.mark.filterwarnings("default")  # what gradio warns about is its own
FOUNDATIONS = {"head", "services", "updates", "words"}
ACROSS = {"__init__", "asking", "browsing", "build"}
REQUEST = SimpleNamespace(session_hash="visit", headers={"accept-language": "ur"})


@pytest.fixture
def built(tmp_path):
    """The page, the gradio blocks that it is made of, and the history behind it."""
    import gradio as gr

    from app.page.build import Page

    history, kept = History(tmp_path / "data"), SettingsFile(tmp_path / "settings.json")
    models = Models(lambda model: None, look=lambda: COMPUTER)
    engine = ScriptedEngine("An ", "answer.")
    services = Services(engine=engine, models=models, history=history, kept=kept, listening=Listening())

    def build():
        with gr.Blocks(analytics_enabled=False) as blocks:
            page = Page(services)
            page.wire(blocks)
        return page, blocks, history

    return in_a_loop(build)


def named(blocks, event):
    """The components that an event says it changes."""
    [outputs] = {frozenset(one.outputs) for one in blocks.fns.values() if one.name == event}
    return outputs


def test_panels_do_not_know_each_other():
    panels = {file for file in (ROOT / "app" / "page").glob("*.py") if file.stem not in ACROSS}
    assert len(panels) > len(FOUNDATIONS)
    for file in panels:
        met = {name.split(".")[2] for name in imported(file) if name.startswith("app.page.")}
        assert met <= FOUNDATIONS, f"{file.name} imports {met - FOUNDATIONS}"


def test_every_event_says_what_becomes_of_all_that_it_names(built, tmp_path):
    page, blocks, history = built
    key = history.create("Before")
    history.append(key, Entry(role="user", text="Before"))
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    saved = tmp_path / "saved.json"
    saved.write_text(history.to_json(key))
    browsing, asking = page.browsing, page.asking
    changed = [
        ("greet", page.greet(REQUEST)),
        ("speak", page.speak("ur", "", key)),
        ("refresh", browsing.refresh("", "en", key)),
        ("listed", page.conversations.listed("nothing like it", "en", None)),
        ("open", browsing.open(key, "en", REQUEST)),
        ("start_anew", browsing.start_anew("en", REQUEST)),
        ("rename", browsing.rename(key, "After", "", "en")),
        ("remove", browsing.remove(key, "", "en", REQUEST)),
        ("put_back", browsing.put_back(key, "", "en", REQUEST)),
        ("bring_in", browsing.bring_in(str(broken), "", "en", REQUEST)),
        ("bring_in", browsing.bring_in(str(saved), "", "en", REQUEST)),
        ("choose", page.model.choose("published", "en")),
        ("use_model", page.model.use_model("folder", str(tmp_path), "en")),
        ("take_photo", page.question_box.take_photo("photo.png", {"text": "", "files": []})),
        *(("ask", view) for view in asking.ask({"text": "?", "files": []}, None, "en", REQUEST)),
    ]
    for event, updates in changed:
        assert set(updates) == named(blocks, event), event


def test_a_visit_begins_in_the_language_of_the_browser_with_every_text(built):
    page, _, _ = built
    greeted = page.greet(REQUEST)
    assert greeted[page.top.language]["value"] == "ur"
    assert greeted[page.top.language]["label"] == "زبان"
    assert set(page.words.components) <= set(greeted)


def test_joined_updates_of_a_component_are_one():
    assert join({"a": {"value": 1}, "b": 2}, {"a": {"label": "x", "value": 3}}) == {
        "a": {"value": 3, "label": "x"},
        "b": 2,
    }
