"""Two pages of one Maya, whatever is done in them in whatever order: no word is lost, and what is shown is what is kept.

Handlers are called as gradio calls them, without a browser; what the page's script does is done by `Tab`.
"""

import shutil
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from app.page import asking
from app.page.conversation import Seen
from maya_core.errors import GenerationError
from tests.app.page.test_build import build
from tests.app.scripted import ScriptedEngine
from tests.tiny import picture

pytestmark = pytest.mark.filterwarnings("default")  # what gradio warns about is its own
LONG = 60.0  # seconds, for what is waited for
TABS = st.integers(0, 1)


class Gated(ScriptedEngine):
    """Repeats the question in five words, each when it is let; or fails."""

    def __init__(self):
        super().__init__(answer=lambda messages: [f"{_question(messages)} {number} " for number in range(5)])
        self.gate, self.open = threading.Semaphore(0), threading.Event()
        self.fails = False

    def stream(self, messages, **options):
        if self.fails:
            raise GenerationError("It fails.")
        for piece in super().stream(messages, **options):
            while not (self.open.is_set() or self.gate.acquire(timeout=0.01)):
                pass
            yield piece


def _question(messages):
    return next(message.text for message in reversed(messages) if message.role == "user").split("\n")[0]


def is_skip(update):
    return update == gr.skip()


class Tab:
    """A page that is open, and what its script does."""

    def __init__(self, page, photo):
        self.page, self.photo, self.change = page, photo, threading.RLock()
        self.streams, self.gone = [], set()
        self.load()

    def load(self):
        """Anew: what is shown goes, as does what nobody has sent."""
        with self.change:
            if self.streams:
                self.page.services.listening.ends(self.session)
            self.session = uuid.uuid4().hex
            self.page.services.listening.starts(self.session)
            self.request = SimpleNamespace(session_hash=self.session, headers={})
            self.current, self.seen, self.returned, self.box, self.answers = None, "", "", [], 0
            self.streams = self.streams or [None]

    def show(self, updates, session):
        with self.change:
            if session != self.session:  # what came back to a box that is gone, went with it
                self.gone.add(updates.get(self.page.question_box.returned, {}).get("text"))
                return
            conversation, box = self.page.conversation, self.page.question_box
            if not is_skip(updates.get(conversation.current, gr.skip())):
                self.current = updates[conversation.current]
            if not is_skip(updates.get(conversation.seen, gr.skip())):
                self.seen = updates[conversation.seen]
            returned = updates.get(box.returned, gr.skip())
            if not is_skip(returned):
                self.returned = returned["text"]

    def run(self, updates):
        """An event that gives several updates, in a thread as gradio's."""
        session = self.session

        def follow():
            for one in updates:
                self.show(one, session)
            with self.change:
                if session != self.session:
                    return
                self.answers -= 1
                if self.returned:
                    self.box.append(self.returned)
                    self.returned = ""

        self.answers += 1
        stream = threading.Thread(target=follow)
        self.streams.append(stream)
        stream.start()

    def ended(self):
        for stream in self.streams:
            if stream:
                stream.join(LONG)
                assert not stream.is_alive()

    @property
    def is_busy(self):
        return self.answers > 0

    @property
    def looked(self):
        return Seen.read(self.seen)


class TwoPages(RuleBasedStateMachine):
    """What must hold is checked when all is quiet, at the end."""

    page = history = photo = None

    @initialize()
    def begin(self):
        self.engine = self.page.services.engine
        self.engine.gate, self.engine.fails = threading.Semaphore(0), False
        self.engine.open.clear()
        self.tabs = [Tab(self.page, self.photo) for _ in range(2)]
        self.sent, self.given_up, self.kept = {}, set(), set()
        self.deleted = None
        self.number = 0

    def events(self):
        return self.page.asking, self.page.browsing

    def note(self):
        """Answers that are kept by now, whole: they stay."""
        for one in self.history.conversations():
            for entry in self.history.entries(one.id):
                if entry.role == "assistant" and not entry.half:
                    self.kept.add(entry.text)

    def give_up(self, texts):
        self.given_up |= set(texts)

    @rule(tab=TABS)
    def ask(self, tab):
        self.note()
        tab, (asks, _) = self.tabs[tab], self.events()
        self.number += 1
        text = f"q{self.number}x"
        if tab.is_busy:
            return  # it waits in the box
        self.sent[text] = tab
        files = [] if tab.current else [self.photo]
        tab.run(asks.ask({"text": text, "files": files}, tab.current, "en", tab.request))

    @rule(words=st.integers(1, 8))
    def words(self, words):
        for _ in range(words):
            self.engine.gate.release()
        time.sleep(0.002)

    @rule(tab=TABS)
    def stop(self, tab):
        self.events()[0].stop(self.tabs[tab].request)

    @rule(tab=TABS, index=st.integers(0, 9), edits=st.booleans())
    def ask_again(self, tab, index, edits):
        self.note()
        tab, (asks, _) = self.tabs[tab], self.events()
        seen = tab.looked
        if tab.is_busy or not seen.turns or not seen.conversation:
            return
        index %= len(seen.turns)
        entries = self.history.entries(seen.conversation)
        asked = self.page.services.chat().question_of(seen.conversation, seen.turns[index])
        turns = [entry.id for entry in entries]
        after = entries[turns.index(asked) :] if asked in turns else []
        answers = sum(entry.role == "assistant" for entry in after)
        if answers < 2:  # where more was said, the conversation stays as it was
            self.give_up(entry.text for entry in after if entry.id in (*seen.turns, 0))
        if edits:
            said = [number for number, place in enumerate(seen.said) if seen.turns[place] == seen.turns[index]]
            if not said:
                return
            self.number += 1
            text = f"q{self.number}x"
            self.sent[text] = tab
            tab.run(asks.edit({"number": said[-1], "text": text}, tab.seen, "en", tab.request))
        else:
            tab.run(asks.retry(tab.seen, "en", SimpleNamespace(index=index), tab.request))

    @rule(tab=TABS)
    def go_on(self, tab):
        tab = self.tabs[tab]
        if tab.current and not tab.is_busy:
            tab.run(self.events()[0].go_on(tab.current, "en", tab.request))

    @rule(tab=TABS)
    def look(self, tab):
        tab = self.tabs[tab]
        if tab.current and not tab.is_busy:
            tab.run(self.events()[0].follow(tab.current, "en", tab.request))

    @rule(tab=TABS)
    def new(self, tab):
        tab = self.tabs[tab]
        tab.show(self.events()[1].start_anew("en", tab.request), tab.session)

    @rule(tab=TABS, which=st.integers(0, 5))
    def open(self, tab, which):
        tab, listed = self.tabs[tab], self.history.conversations()
        if listed:
            tab.show(self.events()[1].open(listed[which % len(listed)].id, "en", tab.request), tab.session)

    @rule(tab=TABS)
    def rename(self, tab):
        tab = self.tabs[tab]
        if tab.current:
            self.events()[1].rename(tab.current, f"Title {self.number}", "", "en")

    @rule(tab=TABS)
    def delete_and_bring_back(self, tab):
        tab = self.tabs[tab]
        if not tab.current:
            return
        if self.deleted:
            tab.show(self.events()[1].put_back(self.deleted, "", "en", tab.request), tab.session)
            self.deleted = None
        else:
            self.deleted = tab.current
            tab.show(self.events()[1].remove(tab.current, "", "en", tab.request), tab.session)

    @rule(tab=TABS)
    def reload(self, tab):
        tab = self.tabs[tab]
        with tab.change:
            self.give_up([*tab.box, tab.returned])  # the box is the browser's, and goes with the page
            tab.load()

    @rule()
    def fail_or_not(self):
        self.engine.fails = not self.engine.fails

    def teardown(self):
        if not hasattr(self, "tabs"):
            return
        self.engine.open.set()
        for tab in self.tabs:
            tab.ended()
        for running in list(self.page.services.answers._begun):
            running.thread.join(LONG)
        if self.deleted:
            self.history.undelete(self.deleted)
        try:
            self.check()
        finally:
            for one in self.history.conversations(most=10_000):
                self.history.delete(one.id)
            self.history.purge()

    def check(self):
        conversations = [self.history.entries(one.id) for one in self.history.conversations(most=10_000)]
        said = [entry.text for entries in conversations for entry in entries]
        for text, tab in self.sent.items():
            assert text in said or text in (*tab.box, *tab.gone, *self.given_up), f"{text} is lost"
        for text in self.kept - self.given_up:
            assert text in said, f"the answer {text!r} is lost"
        for entries in conversations:
            questions = [entry.text for entry in entries if entry.role == "user"]
            assert len(questions) == len({*questions}), "a question twice"
            for before, entry in zip([None, *entries], entries, strict=False):
                if entry.role == "assistant":
                    assert before.role == "user"
                    assert entry.text.startswith(before.text), "an answer to another question"
        for tab in self.tabs:
            if tab.current and self.history.revision(tab.current):
                asks = self.events()[0]
                [*_, last] = asks.follow(tab.current, "en", tab.request)
                assert last[self.page.conversation.chatbot] == self.page.services.chat().shown(tab.current)


def copied(source, folder):
    """In place of a picture that is looked at in a process of its own, which takes long."""
    return Path(shutil.copy(source, folder / f"{uuid.uuid4().hex}.png"))


def explore(tmp_path: Path, monkeypatch, examples: int, steps: int):
    monkeypatch.setattr(asking, "DEAF_SECONDS", 0.05)
    monkeypatch.setattr(asking, "PATIENCE", 0.02)
    monkeypatch.setattr("app.chat.KEPT_SECONDS", 0.0)
    page, _, history = build(tmp_path, Gated())
    photo = tmp_path / "photo.png"
    picture().save(photo)
    monkeypatch.setattr(TwoPages, "page", page)
    monkeypatch.setattr(TwoPages, "history", history)
    monkeypatch.setattr(TwoPages, "photo", str(photo))
    monkeypatch.setattr(history, "keep_picture", lambda source: copied(source, history.pictures))
    run_state_machine_as_test(
        TwoPages,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_two_pages_lose_no_word(tmp_path, monkeypatch):
    explore(tmp_path, monkeypatch, examples=20, steps=15)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_pages_lose_no_word_in_a_thousand_sequences(tmp_path, monkeypatch):
    explore(tmp_path, monkeypatch, examples=1000, steps=20)
