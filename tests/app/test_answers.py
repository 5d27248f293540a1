"""Answers and who follows them: one at a time of a conversation, kept once, for as many pages as look at it."""

import threading
from dataclasses import replace

import pytest

from app.answers import Answers
from app.chat import Chat
from app.engine import ConversationBusy
from app.history import Entry, History
from app.settings import Settings
from maya_core.errors import MayaError
from tests.app.scripted import ScriptedEngine
from tests.tiny import picture

LONG = 60.0  # seconds, for what is waited for


class Gated(ScriptedEngine):
    """Says a word each time that it is let."""

    def __init__(self, *pieces, **named):
        super().__init__(*pieces, **named)
        self.gate = threading.Semaphore(0)

    def stream(self, messages, **options):
        for piece in super().stream(messages, **options):
            assert self.gate.acquire(timeout=LONG)
            yield piece


@pytest.fixture
def talk(tmp_path):
    """A chat, and a conversation with one question that has its answer."""
    history = History(tmp_path / "data")
    photo = history.pictures / "photo.png"
    picture().save(photo)
    key = history.create("Before")
    question = history.append(key, Entry(role="user", text="Before", pictures=(photo,)))
    history.keep_answer(key, question, Entry(role="assistant", text="Yes."))
    engine = Gated("one ", "two ", "three")
    return Chat(engine=engine, history=history, settings=Settings()), key


def begin(answers, chat, key, text="What?", session="visit"):
    return answers.begin(session, "en", key, chat.ask(key, {"text": text, "files": []}), chat.ended)


def last(following):
    """The last view that a page gets."""
    number, ended, view = 0, False, None
    while not ended:
        new, number, ended = following.running.newer(number, LONG)
        view = new or view
    return view


def said(chat, key):
    return [entry.text for entry in chat.history.entries(key)]


def let(engine, pieces=3):
    for _ in range(pieces):
        engine.gate.release()


def test_an_answer_goes_on_when_nobody_follows_it_any_more(talk):
    chat, key = talk
    answers = Answers()
    following = begin(answers, chat, key)
    answers.done("visit", following)  # the page was closed
    let(chat.engine)
    following.running.thread.join(LONG)
    assert said(chat, key) == ["Before", "Yes.", "What?", "one two three"]
    assert not answers.is_busy(key)


def test_an_early_question_asked_again_is_answered_in_a_conversation_of_its_own_and_the_first_is_free(talk):
    chat, key = talk
    chat.history.append(key, Entry(role="user", text="Later"))
    answers, turn = Answers(), chat.history.entries(key)[0].id
    following = answers.begin("visit", "en", key, chat.ask_again(key, turn, "Other"), chat.ended)
    view, _, _ = following.running.newer(0, LONG)
    assert (answers.is_busy(view.conversation), answers.is_busy(key)) == (True, False)
    answers.stop("visit")
    assert said(chat, key) == ["Before", "Yes.", "Later"]
    assert said(chat, view.conversation) == ["Other"]
    let(chat.engine)


def test_another_page_follows_along_and_both_see_the_same(talk):
    chat, key = talk
    answers = Answers()
    mine = begin(answers, chat, key)
    let(chat.engine, 1)
    assert mine.running.newer(1, LONG)[0]
    other = answers.follow("other", "ur", key)
    assert answers.follow("other", "ur", key) is None  # it has it already
    let(chat.engine, 2)
    assert last(mine).shown == last(other).shown == chat.view(key).shown


def test_one_at_a_time_of_a_conversation_and_the_other_question_is_not_kept(talk):
    chat, key = talk
    answers = Answers()
    mine = begin(answers, chat, key)
    with pytest.raises(ConversationBusy):
        begin(answers, chat, key, "And that?", session="other")
    assert begin(answers, chat, key, "Twice?") is None
    let(chat.engine)
    last(mine)
    mine.running.thread.join(LONG)
    assert said(chat, key) == ["Before", "Yes.", "What?", "one two three"]
    let(chat.engine)
    last(begin(answers, chat, key, "And that?", session="other"))
    assert said(chat, key)[-2:] == ["And that?", "one two three"]


def test_stop_keeps_what_has_come_at_once_while_the_model_is_still_at_work(talk):
    chat, key = talk
    answers = Answers()
    following = begin(answers, chat, key)
    let(chat.engine, 1)
    while said(chat, key)[-1:] != ["one "]:
        following.running.newer(1, LONG)
        answers.stop("visit")
    assert last(following).half
    again = begin(answers, chat, key, "And now?")
    let(chat.engine, 9)
    last(again)
    following.running.thread.join(LONG)
    again.running.thread.join(LONG)
    assert said(chat, key) == ["Before", "Yes.", "What?", "one ", "And now?", "one two three"]


def test_a_question_that_comes_back_is_not_lost_to_a_stop_in_the_same_moment(talk, monkeypatch):
    chat, key = talk
    answers, left = Answers(), Chat.left

    def left_and_stopped(self, conversation):
        stop = threading.Thread(target=answers.stop, args=["visit"])
        stop.start()
        stop.join(LONG)
        return left(self, conversation)

    monkeypatch.setattr(Chat, "left", left_and_stopped)
    chat = replace(chat, engine=ScriptedEngine(trouble=MayaError("NaN")))
    view = last(begin(answers, chat, key))
    assert view.typed["text"] == "What?"
    assert said(chat, key) == ["Before", "Yes."]


def test_who_leaves_ends_an_answer_that_no_other_page_follows(talk):
    chat, key = talk
    answers = Answers()
    mine = begin(answers, chat, key)
    let(chat.engine, 1)
    assert mine.running.newer(1, LONG)[0]
    other = answers.follow("other", "en", key)
    answers.leave("visit")
    assert mine.left
    assert not other.running.stopped
    answers.leave("other")
    assert other.running.stopped
    let(chat.engine)
    mine.running.thread.join(LONG)


def test_who_leaves_waits_until_what_is_on_its_way_has_come(talk):
    chat, key = talk
    answers, left = Answers(), threading.Event()
    following = begin(answers, chat, key)
    with following.sending() as wanted:
        assert wanted
        leaving = threading.Thread(target=lambda: (answers.leave("visit"), left.set()))
        leaving.start()
        assert not left.wait(0.1)
    assert left.wait(LONG)
    leaving.join()
    with following.sending() as wanted:
        assert not wanted
    let(chat.engine)
    following.running.thread.join(LONG)


def test_an_answer_goes_on_in_the_language_that_the_page_has_come_to_speak(talk):
    chat, key = talk
    answers = Answers()
    following = begin(answers, chat, key)
    assert answers.speak("visit", "ur")
    assert following.language == "ur"
    answers.done("visit", following)
    assert not answers.speak("visit", "hi")
    let(chat.engine)
    following.running.thread.join(LONG)


@pytest.mark.parametrize("trouble", [RuntimeError("SECRET"), MayaError("SECRET"), OSError(28, "SECRET")])
def test_whatever_an_answer_ends_by_is_told_and_what_came_is_kept(talk, trouble):
    chat, key = talk
    chat = replace(chat, engine=ScriptedEngine("one ", trouble=trouble))
    answers = Answers()
    following = begin(answers, chat, key)
    view = last(following)
    following.running.thread.join(LONG)
    assert isinstance(view.notice, MayaError)
    assert said(chat, key)[-2:] == ["What?", "one "]
    assert not answers.is_busy(key)
    last(answers.begin("visit", "en", key, chat.go_on(key), chat.ended))
    assert said(chat, key)[-2:] == ["What?", "one one "]


def test_when_maya_ends_all_answers_end_with_what_has_come(talk):
    chat, key = talk
    answers = Answers()
    following = begin(answers, chat, key)
    let(chat.engine, 1)
    while following.running.newer(0, LONG)[0].answer.text != "one ":
        pass
    answers.stop_all()
    assert said(chat, key)[-1] == "one "
    let(chat.engine)
    following.running.thread.join(LONG)
