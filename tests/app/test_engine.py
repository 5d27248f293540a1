"""One answer at a time, first come first served; a model that dies is loaded anew."""

import errno
import os
import threading
import time
from dataclasses import replace

import pytest
import torch

from app.engine import EngineBusy, Loading, LocalEngine, Looking, OneAtATime, Piece, Queued
from maya_core.answering import session as sessions_module
from maya_core.answering.footprint import Plan
from maya_core.answering.session import Delta
from maya_core.errors import CheckpointNotFound, GenerationError, ModelTooLarge
from maya_core.model.prompt import Message
from tests.app.scripted import ScriptedEngine
from tests.tiny import picture, tiny_session

QUESTION = (Message(role="user", text="What?"),)


def said(pieces):
    return "".join(piece.text for piece in pieces)


def test_answers_come_one_at_a_time_and_in_order():
    engine = ScriptedEngine("a", "b", rate=200)
    queue = OneAtATime(engine)
    finished, threads = [], []

    def ask(number):
        assert said(queue.stream(QUESTION)) == "ab"
        finished.append(number)

    for number in range(8):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        while queue.busy < number + 1 - len(finished):
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert finished == list(range(8))
    assert engine.most_running == 1
    assert queue.busy == 0


def test_who_waits_can_leave_and_too_many_are_told():
    queue = OneAtATime(ScriptedEngine("a", "b"), most_waiting=1)
    first = queue.stream(QUESTION)
    assert next(first) == Piece(text="a", tokens=1)
    second = queue.stream(QUESTION)
    assert next(second) == Piece(waits=Queued(ahead=1))
    with pytest.raises(EngineBusy):
        next(queue.stream(QUESTION))
    second.close()
    assert queue.busy == 1
    first.close()
    assert said(queue.stream(QUESTION)) == "ab"


def test_the_place_is_free_after_trouble():
    queue = OneAtATime(ScriptedEngine("a", trouble=GenerationError("NaN")))
    for _ in range(2):
        with pytest.raises(GenerationError):
            list(queue.stream(QUESTION))
    assert queue.busy == 0


class Dying:
    """A session whose memory runs out after a token."""

    def deltas(self, messages, options, *, on_progress):
        yield Delta("a", 1, 0)
        raise RuntimeError("out of memory")


class Reading:
    """A session that reads a question in a thousand layers."""

    def __init__(self):
        self.read = 0

    def deltas(self, messages, options, *, on_progress):
        for self.read in range(1000):
            on_progress(self.read / 1000)
            time.sleep(0.01)
        yield Delta("a", 1, 0)


def test_a_model_that_dies_is_told_and_loaded_anew(monkeypatch):
    sessions = [Dying(), tiny_session()]
    monkeypatch.setattr(sessions_module, "load_best", lambda model, on_progress, **_: sessions.pop(0))
    engine = LocalEngine()
    question = (Message(role="user", text="What?", images=(picture(),)),)
    with pytest.raises(ModelTooLarge, match="ask again"):
        list(engine.stream(question))
    pieces = list(engine.stream(question, most_tokens=5))
    assert pieces[-1].tokens == 5
    assert sessions == []


def test_how_far_a_question_is_read_is_told_and_nobody_reads_on_for_who_has_left(monkeypatch):
    session = Reading()
    monkeypatch.setattr(sessions_module, "load_best", lambda *_, **__: session)
    queue = OneAtATime(LocalEngine())
    pieces = queue.stream((Message(role="user", text="What?", images=(picture(),)),))
    shares, passed = [], [0]
    while len(shares) < 3 or not shares[-1] or not passed[-1]:
        waits = next(pieces).waits
        shares += [waits.share] if isinstance(waits, Looking) else []
        passed += [waits.passed] if isinstance(waits, Looking) else []
    assert shares == sorted(shares)
    assert passed == sorted(passed)
    pieces.close()
    assert queue.busy == 0
    read = session.read
    assert read < 999
    time.sleep(0.05)
    assert session.read == read


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), ModelTooLarge),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), ModelTooLarge),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), ModelTooLarge),
        (OSError(errno.EIO, os.strerror(errno.EIO)), GenerationError),
    ],
)
def test_what_keeps_a_model_from_loading_is_told(monkeypatch, error, kind):
    def load(*_, **__):
        raise error

    monkeypatch.setattr(sessions_module, "load_best", load)
    with pytest.raises(kind) as told:
        list(LocalEngine().stream(QUESTION))
    assert type(told.value) is kind


def test_a_model_that_is_not_there_is_told_with_every_question(tmp_path):
    engine = LocalEngine(tmp_path / "nowhere")
    engine.load_behind()
    for _ in range(2):
        with pytest.raises(CheckpointNotFound):
            list(engine.stream(QUESTION))


def test_a_question_waits_for_the_model_to_load(monkeypatch):
    gate = threading.Event()
    session = tiny_session()
    monkeypatch.setattr(sessions_module, "load_best", lambda model, on_progress, **_: gate.wait(30) and session)
    engine = LocalEngine()
    pieces = engine.stream((Message(role="user", text="What?", images=(picture(),)),), most_tokens=3)
    assert next(pieces) == Piece(waits=Loading())
    gate.set()
    told = [piece for piece in pieces if not isinstance(piece.waits, Loading)]
    assert told[0] == Piece(waits=Looking(pictures=1))
    assert [piece.tokens for piece in told[1:]] == [1, 2, 3]


def test_how_far_a_model_is_loaded_is_known_until_it_is_there(monkeypatch):
    told, seen = threading.Event(), threading.Event()

    def load(model, on_plan, on_progress):
        on_plan(Plan(device="cpu", dtype=torch.float32, quantization=None, needed=1))
        on_progress(0.5)
        told.set()
        seen.wait(60)
        return tiny_session()

    monkeypatch.setattr(sessions_module, "load_best", load)
    engine = LocalEngine()
    assert engine.loading is None
    engine.load_behind()
    told.wait(60)
    began, passed = time.monotonic(), set()
    while time.monotonic() < began + 1.5:
        assert replace(engine.loading, passed=0) == Loading(share=0.5, seconds=0.0)
        passed.add(engine.loading.passed)
        time.sleep(0.05)
    assert {0, 1} <= passed  # the seconds go on where the share does not
    seen.set()
    engine.load()
    assert engine.loading is None


def test_another_model_answers_from_the_next_question_on(monkeypatch):
    asked = []
    monkeypatch.setattr(
        sessions_module, "load_best", lambda model, on_progress, **_: asked.append(model) or tiny_session()
    )
    engine = LocalEngine("one")
    engine.load()
    engine.use("one")
    engine.use("two")
    engine.load()
    assert asked == ["one", "two"]


def test_a_model_that_is_left_while_it_loads_loads_no_further_and_who_waits_gets_the_next(monkeypatch):
    loaded = []

    def load(model, on_progress, **_):
        for share in range(1000):
            time.sleep(0 if model == "small" else 0.01)
            on_progress(share / 1000)
        loaded.append(model)
        return tiny_session()

    monkeypatch.setattr(sessions_module, "load_best", load)
    engine = LocalEngine("large")
    pieces = engine.stream((Message(role="user", text="What?", images=(picture(),)),), most_tokens=3)
    assert isinstance(next(pieces).waits, Loading)
    engine.use("small")
    assert list(pieces)[-1].tokens == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "maya-load"]
    assert loaded == ["small"]
