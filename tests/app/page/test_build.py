"""What the page's panels owe to each other: that they do not know of each other, and that no event leaves a part undone."""

import sys
import threading
from types import SimpleNamespace

import gradio as gr
import pytest

from app.engine import Loading
from app.guard import Listening
from app.history import Entry, History
from app.i18n import format_minutes, format_share, translate
from app.models import Models
from app.page.conversation import NOTHING, Told
from app.page.services import Services
from app.page.updates import join
from app.settings import SettingsFile
from maya_core.errors import PromptEmpty
from tests.app.conftest import COMPUTER, in_a_loop
from tests.app.scripted import ScriptedEngine
from tests.test_layering import ROOT, imported
from tests.tiny import picture

pytestmark = pytest.mark.filterwarnings("default")  # what gradio warns about is its own
FOUNDATIONS = {"head", "services", "updates", "words"}
ACROSS = {"__init__", "asking", "browsing", "build"}
REQUEST = SimpleNamespace(session_hash="visit", headers={"accept-language": "ur"})


@pytest.fixture
def built(tmp_path):
    """The page, the gradio blocks that it is made of, and the history behind it."""
    from app.page.build import Page

    history, kept = History(tmp_path / "data"), SettingsFile(tmp_path / "settings.json")
    models = Models(lambda model: None, look=lambda: COMPUTER, command=[sys.executable, "-c", ""])
    engine = ScriptedEngine("An ", "answer.")
    services = Services(engine=engine, models=models, history=history, kept=kept, listening=Listening())

    def build():
        with gr.Blocks(analytics_enabled=False) as blocks:
            page = Page(services)
            page.wire(blocks)
        return page, blocks, history

    return in_a_loop(build)


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    picture().save(file)
    return str(file)


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
        ("greet", page.greet("", REQUEST)),
        ("speak", page.speak("ur", "", key, NOTHING, key, REQUEST)),
        ("refresh", browsing.refresh("", "en", key, "")),
        ("listed", page.conversations.listed("nothing like it", "en")),
        ("open", browsing.open(key, "en", REQUEST)),
        ("start_anew", browsing.start_anew("en", REQUEST)),
        ("rename", browsing.rename(key, "After", "", "en")),
        ("remove", browsing.remove(key, "", "en", REQUEST)),
        ("put_back", browsing.put_back(key, "", "en", REQUEST)),
        ("bring_in", browsing.bring_in(str(broken), "", "en", REQUEST)),
        ("bring_in", browsing.bring_in(str(saved), "", "en", REQUEST)),
        ("choose", page.model.choose("published", "en")),
        ("follow_fetch", next(page.model.follow_fetch(False, "", "en"))),
        ("pause_fetch", page.model.pause_fetch("en")),
        *(("follow_shrink", view) for view in page.model.follow_shrink("en")),
        ("use_model", page.model.use_model("folder", str(tmp_path), "en")),
        ("settle", asking.settle(key, None, NOTHING, "en", REQUEST)),
        *(("ask", view) for view in asking.ask({"text": "?", "files": []}, None, "en", REQUEST)),
    ]
    for event, updates in changed:
        assert set(updates) == named(blocks, event), event


def test_nothing_writes_into_the_question_box(built):
    """Only the browser does: it knows what is typed there at this moment."""
    page, _, history = built
    key = history.create("Before")
    browsing = page.browsing
    changed = [
        *page.asking.ask({"text": "?", "files": []}, None, "en", REQUEST),
        *page.asking.ask({"text": "?", "files": []}, key, "en", REQUEST),
        browsing.open(key, "en", REQUEST),
        browsing.start_anew("en", REQUEST),
        browsing.remove(key, "", "en", REQUEST),
        browsing.put_back(key, "", "en", REQUEST),
        page.speak("ur", "", key, NOTHING, None, REQUEST),
    ]
    for updates in changed:
        update = updates.get(page.question_box.question, {})
        assert update.get("__type__", "update") == "update"
        assert "value" not in update


def test_a_title_that_someone_may_be_changing_is_left_alone(built):
    page, _, history = built
    key = history.create("Before")
    title, browsing = page.top.title, page.browsing
    assert browsing.refresh("", "en", key, "")[title]["value"] == "Before"
    assert "value" not in browsing.refresh("", "en", key, "Bef")[title]
    assert "value" not in browsing.rename(key, "After", "", "en")[title]
    assert browsing.rename(key, " ", "", "en")[title] == "After"
    assert "value" not in page.speak("ur", "", key, NOTHING, None, REQUEST)[title]


def test_the_last_view_too_is_waited_for_and_nothing_of_the_conversation_comes_after_it(built, photo):
    page, _, history = built
    views = page.asking.ask({"text": "?", "files": [photo]}, None, "en", REQUEST)
    for view in views:
        if view[page.question_box.question].get("submit_btn"):
            break
    left = threading.Thread(target=page.services.answers.leave, args=[REQUEST.session_hash])
    left.start()
    left.join(0.1)
    assert left.is_alive()
    [after] = views
    left.join(5)
    assert not left.is_alive()
    assert after[page.conversation.chatbot] == after[page.conversation.current] == gr.skip()
    assert [entry.text for entry in history.entries(history.conversations()[0].id)] == ["?", "An answer."]


def test_a_conversation_that_was_gone_to_is_shown_once_more_when_the_answer_that_was_left_has_ended(built):
    page, _, history = built
    key = history.create("Before")
    history.append(key, Entry(role="user", text="Before"))
    settle, chatbot = page.asking.settle, page.conversation.chatbot
    assert settle("left", key, NOTHING, "en", REQUEST)[chatbot] == [{"role": "user", "content": "Before"}]
    assert settle("left", None, NOTHING, "en", REQUEST)[page.question_box.question]["submit_btn"]
    assert settle(key, key, NOTHING, "en", REQUEST)[chatbot] == gr.skip()


def test_a_question_that_comes_while_an_answer_goes_on_comes_back(built, photo):
    page, _, _ = built
    views = page.asking.ask({"text": "first", "files": [photo]}, None, "en", REQUEST)
    next(views)
    second = {"text": "second", "files": [photo]}
    [refused] = page.asking.ask(second, None, "en", REQUEST)
    assert refused[page.question_box.returned] == second
    views.close()


def test_an_answer_and_what_is_told_of_it_go_on_in_another_language(built, photo):
    page, _, _ = built
    box, spoken = page.question_box, "ur"
    views = page.asking.ask({"text": "?", "files": [photo]}, None, "en", REQUEST)
    first = next(views)
    assert first[box.statistics] == "Thinking…"
    said = page.speak(spoken, "", None, first[page.conversation.told], None, REQUEST)
    assert said[box.statistics] == translate("Thinking…", spoken)
    *_, last, _ = views
    told = last[page.conversation.told]
    assert last[box.statistics] == box.figures(told.answer, spoken) != box.figures(told.answer, "en")
    trouble = Told(notice=PromptEmpty(""))
    said = page.speak("hi", "", None, trouble, None, REQUEST)
    assert said[page.conversation.notice] == translate("Type a question first.", "hi")


def test_a_visit_begins_in_the_language_of_the_browser_with_every_text(built):
    page, _, _ = built
    greeted = page.greet("", REQUEST)
    assert greeted[page.top.language]["value"] == "ur"
    assert greeted[page.top.language]["label"] == "زبان"
    assert set(page.words.components) <= set(greeted)


def test_joined_updates_of_a_component_are_one():
    assert join({"a": {"value": 1}, "b": 2}, {"a": {"label": "x", "value": 3}}) == {
        "a": {"value": 3, "label": "x"},
        "b": 2,
    }


def test_the_page_tells_how_far_the_model_is_loaded(built, monkeypatch):
    page, _, _ = built
    stages = iter([Loading(share=0.45), Loading(share=0.5, seconds=640.0)])
    monkeypatch.setattr(page.services.models, "loading", lambda: next(stages, None))
    monkeypatch.setattr("app.page.model_panel.TOLD_EVERY", 0)
    loading, slowly, there = page.model.tell_model("fr")
    assert loading == f"Le modèle se charge : {format_share(0.45, 'fr')} est là."
    assert f"environ {format_minutes(640.0, 'fr')} sur" in slowly
    assert "Cet ordinateur" in there
