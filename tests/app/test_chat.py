"""What the page shows and what the model reads."""

import pytest

from app.chat import EMPTY, respond, to_messages
from app.i18n import translate
from maya_core.errors import GenerationError
from tests.tiny import picture


class Scripted:
    """Says what it is told, and notes what it was asked."""

    def __init__(self, *pieces, trouble=None):
        self.pieces, self.trouble = pieces, trouble
        self.asked, self.closed = None, False

    def stream(self, messages):
        self.asked = messages
        try:
            yield from self.pieces
            if self.trouble:
                raise self.trouble
        finally:
            self.closed = True


@pytest.fixture
def photo(tmp_path):
    file = tmp_path / "photo.png"
    picture().save(file)
    return str(file)


def test_the_answer_grows_piece_by_piece(photo):
    engine = Scripted("यह ", "कुत्ता ", "है।")
    steps = list(respond(engine, {"text": " यह क्या है? ", "files": [photo]}, [], "hi"))
    assert [history[-1]["content"] for _, history, _ in steps] == ["यह क्या है?", "यह ", "यह कुत्ता ", "यह कुत्ता है।"]
    assert all(box == EMPTY and notice == "" for box, _, notice in steps)
    [asked] = engine.asked
    assert (asked.role, asked.text, len(asked.images)) == ("user", "यह क्या है?", 1)


def test_a_second_question_keeps_the_picture(photo):
    history = [
        {"role": "user", "content": {"path": photo}},
        {"role": "user", "content": "What is this?"},
        {"role": "assistant", "content": "A dog."},
    ]
    engine = Scripted("Red")
    list(respond(engine, {"text": "Which colour?", "files": []}, history, "en"))
    assert [(message.role, message.text, len(message.images)) for message in engine.asked] == [
        ("user", "What is this?", 1),
        ("assistant", "A dog.", 0),
        ("user", "Which colour?", 0),
    ]


def test_a_new_picture_starts_anew(photo):
    history = [
        {"role": "user", "content": [{"type": "file", "file": {"path": photo}}]},
        {"role": "user", "content": [{"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A dog."}]},
        {"role": "user", "content": {"path": photo}},
        {"role": "user", "content": "And this?"},
    ]
    assert [message.text for message in to_messages(history)] == ["And this?"]


def test_a_question_that_was_stopped_is_left_out(photo):
    history = [
        {"role": "user", "content": {"path": photo}},
        {"role": "user", "content": "stopped"},
        {"role": "user", "content": "asked again"},
    ]
    [message] = to_messages(history)
    assert (message.text, len(message.images)) == ("asked again", 1)


@pytest.mark.parametrize("language", ["en", "hi", "ar", "ur"])
def test_trouble_is_told_and_nothing_is_lost(photo, tmp_path, language):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"not a picture")
    history = [{"role": "user", "content": {"path": photo}}, {"role": "user", "content": "What?"}]
    unreadable = "This file is not a picture that can be read. Choose another one."
    cases = [
        (Scripted(), {"text": "What?", "files": [str(damaged)]}, [], unreadable),
        (Scripted(), {"text": "  ", "files": [photo]}, [], "Type a question first."),
        (Scripted(), {"text": "What?", "files": []}, [], "Add a picture first."),
        (Scripted("A", trouble=GenerationError("NaN")), {"text": "x", "files": []}, history,
         "The model could not answer. Ask again, or start Maya anew."),
    ]  # fmt: skip
    for engine, typed, before, sentence in cases:
        box, after, notice = list(respond(engine, typed, before, language))[-1]
        assert (box, after) == (typed, before)
        assert notice == translate(sentence, language)


def test_stopping_closes_the_engine(photo):
    engine = Scripted("one ", "two ", "three")
    steps = respond(engine, {"text": "What?", "files": [photo]}, [], "en")
    next(steps)
    next(steps)
    assert not engine.closed
    steps.close()
    assert engine.closed
