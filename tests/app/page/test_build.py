"""What the page's panels owe to each other: that they do not know of each other, and that no event leaves a part undone."""

import asyncio
import sys
import threading
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.state_holder import SessionState

from app.chat import Chat
from app.engine import Loading
from app.guard import Listening
from app.history import Entry, History, HistoryDamaged, HistoryFull, TurnGone
from app.i18n import SENTENCES, Unexpected, describe_error, format_minutes, format_seconds, format_share, translate
from app.models import Models
from app.page.conversation import NOTHING, Told
from app.page.services import Services
from app.page.sheltered import SHOWS, Sheltered
from app.page.updates import join, ours
from app.settings import SettingsFile, SettingsUnsaved
from maya_core.errors import GenerationError, PromptEmpty
from tests.app.conftest import COMPUTER, in_a_loop
from tests.app.scripted import ScriptedEngine
from tests.test_layering import ROOT, imported
from tests.tiny import picture

pytestmark = pytest.mark.filterwarnings("default")  # what gradio warns about is its own
UNEXPECTED = SENTENCES[Unexpected]
FOUNDATIONS = {"figures", "head", "services", "sheltered", "updates", "words"}
ACROSS = {"__init__", "asking", "browsing", "build"}
REQUEST = SimpleNamespace(session_hash="visit", headers={"accept-language": "ur"})


def build(folder, engine):
    """The page, the gradio blocks that it is made of, and the history behind it."""
    from app.page.build import Page

    history, kept = History(folder / "data"), SettingsFile(folder / "settings.json")
    models = Models(lambda model: None, look=lambda: COMPUTER, command=[sys.executable, "-c", ""])
    services = Services(engine=engine, models=models, history=history, kept=kept, listening=Listening())
    services.listening.starts(REQUEST.session_hash)

    def built():
        with Sheltered(analytics_enabled=False) as blocks:
            page = Page(services)
            page.wire(blocks)
        page.shelter(blocks)
        return page, blocks, history

    return in_a_loop(built)


@pytest.fixture
def built(tmp_path):
    return build(tmp_path, ScriptedEngine("An ", "answer."))


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
    assert browsing.refresh("", "en", None, "Bef")[title] == {"value": "", "visible": False, "__type__": "update"}


def test_a_page_that_the_server_has_forgotten_goes_on_with_what_it_shows(built):
    """It was started anew, or the page slept for hours; what a page is about that the server knows, the server says."""
    page, blocks, history = built
    key, other = history.create("Shown"), history.create("Other")
    [rename, *_] = [event for event in blocks.fns.values() if event.name == "rename"]
    says = SimpleNamespace(session_hash="one", headers={SHOWS: key})
    known = SessionState(blocks)
    known[page.conversation.current._id] = None
    for state, title in ((SessionState(blocks), "Renamed"), (known, "Not this one")):
        asyncio.run(blocks.process_api(rename, [None, title, "", "en"], state, event_id="event", request=says))
    for wrong in ("", "../" + key, "none"):
        lies = SimpleNamespace(session_hash="one", headers={SHOWS: wrong})
        asyncio.run(
            blocks.process_api(rename, [None, "No", "", "en"], SessionState(blocks), event_id="e", request=lies)
        )
    assert (history.title(key), history.title(other)) == ("Renamed", "Other")


def test_the_last_view_too_is_waited_for_and_nothing_of_the_conversation_comes_after_it(built, photo):
    page, _, history = built
    views = page.asking.ask({"text": "?", "files": [photo]}, None, "en", REQUEST)
    for view in views:
        if "Answered in" in view[page.conversation.figures]:
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
    assert settle("left", None, NOTHING, "en", REQUEST)[chatbot] == []
    assert settle(key, key, NOTHING, "en", REQUEST)[chatbot] == gr.skip()


def test_a_question_that_comes_while_an_answer_goes_on_comes_back(built, photo):
    page, _, _ = built
    page.services.engine.rate = 1  # it is still being made when the second comes
    views = page.asking.ask({"text": "first", "files": [photo]}, None, "en", REQUEST)
    next(views)
    second = {"text": "second", "files": [photo]}
    [refused] = page.asking.ask(second, None, "en", REQUEST)
    assert refused[page.question_box.returned] == second
    page.services.answers.stop(REQUEST.session_hash)
    list(views)


def test_a_question_that_could_not_be_answered_comes_back_to_who_leaves_in_that_moment(built, photo, monkeypatch):
    page, _, history = built
    engine, left = page.services.engine, Chat.left
    engine.trouble, engine.answer = GenerationError("NaN"), lambda messages: []

    def left_by_the_page(self, conversation):
        leave = threading.Thread(target=page.services.answers.leave, args=[REQUEST.session_hash])
        leave.start()
        leave.join()
        return left(self, conversation)

    monkeypatch.setattr(Chat, "left", left_by_the_page)
    sent = {"text": "What?", "files": [photo]}
    *_, last = page.asking.ask(sent, None, "en", REQUEST)
    assert last[page.question_box.returned] == sent
    assert last[page.conversation.current] == gr.skip()
    assert history.conversations() == []


def test_an_answer_and_what_is_told_of_it_go_on_in_another_language(built, photo):
    page, _, _ = built
    figures, spoken = page.conversation.figures, "ur"
    page.services.engine.rate = 2
    views = page.asking.ask({"text": "?", "files": [photo]}, None, "en", REQUEST)
    first = next(views)
    assert first[figures] == "Thinking…"
    said = page.speak(spoken, "", None, first[page.conversation.told], None, REQUEST)
    assert said[figures] == translate("Thinking…", spoken)
    *_, last, _ = views
    assert translate("Words a second: {rate}", spoken).split("{")[0] in last[figures]
    assert page.browsing.open(last[page.conversation.current], spoken, REQUEST)[figures] == last[figures]
    trouble = Told(notice=PromptEmpty(""))
    said = page.speak("hi", "", None, trouble, None, REQUEST)
    assert said[page.conversation.notice]["value"] == translate("Type a question first.", "hi")


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
    stages = iter([Loading(share=0.45, passed=7), Loading(share=0.5, seconds=640.0)])
    monkeypatch.setattr(page.services.models, "loading", lambda: next(stages, None))
    monkeypatch.setattr("app.page.model_panel.TOLD_EVERY", 0)
    loading, slowly, there = page.model.tell_model("fr")
    assert loading == f"Le modèle se charge : {format_share(0.45, 'fr')} en {format_seconds(7, 'fr')}."
    assert f"environ {format_minutes(640.0, 'fr')} sur" in slowly
    assert "Cet ordinateur" in there


def test_no_event_ends_in_gradios_error_box(built, monkeypatch):
    """Whatever fails: what comes from the browser, the handler, or what it gives."""
    page, blocks, _ = built
    told = []
    monkeypatch.setattr(blocks._queue, "log_message", lambda event, log, **named: told.append((log, named["title"])))
    page.services.kept.change(language="ur")
    events = [event for event in blocks.fns.values() if event.fn]
    assert len(events) > 20
    troubles = {
        RuntimeError("SECRET"): "Something went wrong. Try again, or load the page anew.",
        HistoryFull("SECRET"): "The disk is full. Make room; what is shown here is kept as soon as that can be.",
    }
    nothing = [None]

    async def fail_all(error, sentence, garbage):
        for event in events:

            def fail(*_):
                raise error

            monkeypatch.setattr(event, "fn", fail)
            inputs = garbage * len(event.inputs)
            told.clear()
            done = await blocks.process_api(event, inputs, SessionState(blocks), event_id="event")
            assert len(done["data"]) == len(event.outputs), event.name
            [(said, title)] = told
            assert title == "Maya"
            assert garbage != nothing or said in (ours(translate(sentence, "ur")), ours(translate(UNEXPECTED, "ur"))), (
                event.name
            )

    for error, sentence in troubles.items():
        asyncio.run(fail_all(error, sentence, nothing))
    asyncio.run(fail_all(RuntimeError("SECRET"), UNEXPECTED, [{"not": "known"}]))


def test_a_question_whose_event_fails_comes_back(built, monkeypatch, photo):
    page, blocks, _ = built
    monkeypatch.setattr(blocks._queue, "log_message", lambda *_, **__: None)
    monkeypatch.setattr(type(page.services.kept), "load", lambda _: 1 / 0)
    monkeypatch.setattr(type(blocks), "_spoken", lambda *_: "en")
    [event] = [one for one in blocks.fns.values() if one.name == "ask"][:1]
    sent = {"text": "What?", "files": []}
    done = asyncio.run(
        blocks.process_api(event, [sent, None, "en"], SessionState(blocks), event_id="event", request=REQUEST)
    )
    places = {component: number for number, component in enumerate(event.outputs)}
    assert done["data"][places[page.question_box.returned]]["text"] == "What?"


def test_settings_that_cannot_be_written_hold_and_are_told(built, monkeypatch):
    page, _, _ = built
    warned = []
    monkeypatch.setattr("app.page.services.gr.Warning", lambda text, title: warned.append(text))

    def fail(*_):
        raise PermissionError(13, "no")

    monkeypatch.setattr("app.settings.os.replace", fail)
    monkeypatch.setattr("app.settings.time.sleep", lambda _: None)
    spoken = page.speak("ur", "", None, NOTHING, None, REQUEST)
    assert spoken[page.conversations.new]["value"] == translate("New conversation", "ur")
    page.settings.keeps("theme")("dark")
    assert page.services.kept.load().theme == "dark"
    assert page.services.kept.load().language == "ur"
    assert warned == [ours(describe_error(SettingsUnsaved(""), "ur"))] * 2


def test_a_page_opens_also_where_conversations_cannot_be_read(built, monkeypatch):
    page, _, _ = built

    def fail(*_, **__):
        raise HistoryDamaged("damaged")

    for name in ("conversations", "purge"):
        monkeypatch.setattr(History, name, fail)
    greeted = page.greet("", REQUEST)
    assert greeted[page.conversations.none]["value"] == describe_error(HistoryDamaged(""), "ur")
    assert greeted[page.conversations.new]["value"] == translate("New conversation", "ur")


def test_a_page_that_has_not_seen_a_turn_does_not_ask_over_it(built, photo):
    page, _, history = built
    shown, seen = page.conversation.chatbot, page.conversation.seen
    *_, view, _ = page.asking.ask({"text": "first", "files": [photo]}, None, "en", REQUEST)
    key = view[page.conversation.current]
    other = SimpleNamespace(session_hash="other", headers={})
    page.services.listening.starts("other")
    list(page.asking.retry(view[seen], "en", SimpleNamespace(index=1), other))
    for again in (
        page.asking.retry(view[seen], "en", SimpleNamespace(index=1), REQUEST),
        page.asking.edit({"number": 1, "text": "third"}, view[seen], "en", REQUEST),
    ):
        *_, refused, _ = again
        assert isinstance(refused[page.conversation.told].notice, TurnGone)
        assert len(refused[shown]) == 3  # picture, first, its answer
    assert refused[page.question_box.returned]["text"] == "third"
    assert [entry.text for entry in history.entries(key)] == ["first", "An answer."]
    list(page.asking.ask({"text": "second", "files": []}, key, "en", other))
    *_, view, _ = page.asking.retry(refused[seen], "en", SimpleNamespace(index=1), REQUEST)
    assert [entry.text for entry in history.entries(key)] == ["first", "An answer.", "second", "An answer."]
    assert view[page.asking.answered] == view[page.conversation.current] != key
    assert [entry.text for entry in history.entries(view[page.conversation.current])] == ["first", "An answer."]


def test_a_conversation_that_another_page_deleted_is_left(built, photo):
    page, _, _ = built
    *_, view, _ = page.asking.ask({"text": "first", "files": [photo]}, None, "en", REQUEST)
    key = view[page.conversation.current]
    page.browsing.remove(key, "", "en", SimpleNamespace(session_hash="other", headers={}))
    [now] = page.asking.follow(key, "en", REQUEST)
    assert (now[page.conversation.current], now[page.conversation.chatbot]) == (None, [])
    assert now[page.conversation.notice]["value"] == "This conversation is no longer here."


def test_a_half_answer_is_offered_to_be_gone_on_with_until_it_is_whole(built, photo):
    page, _, history = built
    engine, unfinished = page.services.engine, page.conversation.unfinished
    engine.trouble = GenerationError("NaN")
    *_, view, _ = page.asking.ask({"text": "first", "files": [photo]}, None, "en", REQUEST)
    key = view[page.conversation.current]
    assert view[unfinished]["visible"]
    assert page.browsing.open(key, "en", REQUEST)[unfinished]["visible"]
    engine.trouble = None
    views = list(page.asking.go_on(key, "en", REQUEST))
    assert not views[-2][unfinished]["visible"]
    assert [entry.text for entry in history.entries(key)] == ["first", "An answer.An answer."]
