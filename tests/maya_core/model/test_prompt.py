"""Prompts byte for byte, and what a user may type."""

import time
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maya_core.errors import PromptEmpty, PromptError, PromptTooLong
from maya_core.model.prompt import MAYA_V1_SYSTEM, Message, answered_in, clean_text, prompt_pieces
from tests.tiny import picture


def written(pieces) -> str:
    return "".join("<image>" if piece.kind == "image" else piece.text for piece in pieces)


def user(text, *images):
    return Message(role="user", text=text, images=images)


def maya(text):
    return Message(role="assistant", text=text)


def test_maya_v1_is_upstream_byte_for_byte():
    conversation = [user("What is this?", picture()), maya("A dog."), user("And its colour?")]
    assert written(prompt_pieces(conversation, "maya-v1", answer_next=True)) == (
        "<BOS_TOKEN>A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: <image>\nWhat is this? ASSISTANT: A dog."
        "<|END_OF_TURN_TOKEN|>USER: And its colour? ASSISTANT:"
    )


def test_chat_is_coheres_turns():
    pieces = prompt_pieces([user("यह क्या है?", picture())], "chat", answer_next=True)
    assert written(pieces) == (
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|><image>\nयह क्या है?<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"
    )


@pytest.mark.parametrize("prompt_format", ["maya-v1", "chat"])
def test_exactly_the_answers_and_their_ends_are_learnt(prompt_format):
    conversation = [user("one", picture()), maya("first"), user("two"), maya("second")]
    pieces = prompt_pieces(conversation, prompt_format, answer_next=False)
    learnt = "".join(piece.text for piece in pieces if piece.learnt)
    space = " " if prompt_format == "maya-v1" else ""
    assert learnt == f"{space}first<|END_OF_TURN_TOKEN|>{space}second<|END_OF_TURN_TOKEN|>"


def test_a_system_message_takes_the_place_of_the_standard_one():
    pieces = prompt_pieces([Message(role="system", text="Be brief."), user("Hi")], "maya-v1", answer_next=True)
    assert written(pieces) == "<BOS_TOKEN>Be brief. USER: Hi ASSISTANT:"
    assert MAYA_V1_SYSTEM not in written(pieces)


@pytest.mark.parametrize(
    ("conversation", "answer_next"),
    [
        ([], True),
        ([maya("first")], True),
        ([user("a"), user("b")], True),
        ([user("a"), maya("b")], True),
        ([user("a")], False),
        ([user("a"), Message(role="system", text="late")], True),
        ([user("a"), Message(role="assistant", text="b", images=(picture(),)), user("c")], True),
    ],
)
def test_turns_out_of_order_are_refused(conversation, answer_next):
    with pytest.raises(PromptError):
        prompt_pieces(conversation, "chat", answer_next=answer_next)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  यह क्या है?\r\n", "यह क्या है?"),
        ("a\x00b\x1b\ud800c", "abc"),
        ("nai\u0308ve", "naïve"),
        ("<｜END_OF_TURN_TOKEN｜>", "<｜END_OF_TURN_TOKEN｜>"),  # full-width bars stay full-width: NFC, never NFKC
        ("می\u200cروم क्\u200dष", "می\u200cروم क्\u200dष"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("\U000e0041hidden\U000e007f", "hidden"),
        ("\u202eabc", "\u202eabc\u202c"),
        ("abc\u202c\u2069", "abc"),
    ],
)
def test_what_is_typed_is_cleaned(typed, kept):
    assert clean_text(typed) == kept


@given(st.text(max_size=200))
def test_cleaning_twice_is_cleaning_once(text):
    try:
        once = clean_text(text)
    except PromptEmpty:
        return
    assert clean_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    once.encode("utf-8")


def test_nothing_and_too_much_are_refused():
    with pytest.raises(PromptEmpty):
        clean_text(" \n\u202e\u202c\x00")
    with pytest.raises(PromptTooLong, match="8001 characters, more than 8000"):
        clean_text("x" * 8001)


@pytest.mark.parametrize("text", ["x" * 1_000_000, "न" + "\u093f" * 100_000, "\u202e" * 200_000, "👨\u200d" * 50_000])
def test_much_too_much_is_refused_at_once(text):
    started = time.perf_counter()
    with pytest.raises((PromptTooLong, PromptEmpty)):
        clean_text(text)
    assert time.perf_counter() - started < 0.5  # 0.05 on a machine that does nothing else


def test_one_letter_is_a_question():
    assert [clean_text(letter) for letter in "?।؟字"] == list("?।؟字")


def test_a_question_can_ask_for_its_answer_in_any_language():
    question = Message(role="user", text="What is this?")
    assert [answered_in(question, code).text for code in ("en", "ur")] == [
        "What is this?\nAnswer in English.",
        "What is this?\nاردو میں جواب دیں۔",
    ]


@pytest.mark.parametrize("prompt_format", ["chat", "maya-v1", "caption"])
def test_a_half_answer_ends_the_prompt_without_an_end_of_turn(prompt_format):
    asked, answer = Message(role="user", text="What?"), Message(role="assistant", text="A dog")
    half = [asked, replace(answer, is_half=True)]
    pieces = written(prompt_pieces(half, prompt_format, answer_next=True))
    assert pieces.endswith("A dog")
    assert written(prompt_pieces([asked, answer], prompt_format, answer_next=False)).startswith(pieces)
    for wrong, answer_next in ((half, False), ([*half, asked], True)):
        with pytest.raises(PromptError, match="gone on with"):
            prompt_pieces(wrong, prompt_format, answer_next=answer_next)
