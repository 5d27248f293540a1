"""Conversations and pictures as they are written for other models: taken where clear, else refused in one sentence."""

import base64
import io

import pytest
import torch

from maya_core.errors import ImageError, ImageUnreadable, MayaError, PromptError
from maya_core.model.prompt import Message, prompt_pieces
from maya_core.model.turns import message_of
from tests.tiny import picture, tiny_session

RED, BLUE = picture((255, 0, 0)), picture((0, 0, 255))
TEXT = {"type": "text", "text": "What?"}


@pytest.fixture(scope="module", params=["chat", "maya-v1"])
def processor(request):
    return tiny_session(prompt_format=request.param).processor


def asked(*parts):
    """A user's turn; words are text, all else a picture."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part} for part in parts
    ]
    return {"role": "user", "content": content}


def in_one_line(error) -> bool:
    return len(str(error.value).splitlines()) == 1


# --- where pictures stand ---


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ((RED, "What?"), "<image>\nWhat?"),
        (("What?", RED), "<image>\nWhat?"),
        ((RED, "What?", BLUE), "<image>\n<image>\nWhat?"),
        (("Is this", "red?", RED), "<image>\nIs this\nred?"),
        (("Is this", RED, "or this red?", BLUE), "Is this\n<image>\nor this red?\n<image>\n"),
        ((RED, "is red.", BLUE, "And this?"), "<image>\nis red.\n<image>\nAnd this?"),
        (("Of", RED, BLUE, "which?"), "Of\n<image>\n<image>\nwhich?"),
    ],
)
def test_pictures_come_first_unless_they_stand_between_words(processor, parts, written):
    told = processor.apply_chat_template([asked(*parts)], add_generation_prompt=True)
    assert written in told
    assert told == processor.apply_chat_template(
        [asked(written.replace("<image>", "{}"))], add_generation_prompt=True
    ).replace("{}", "<image>")
    pictures = [part for part in parts if part is RED or part is BLUE]
    ids = processor.apply_chat_template(
        [asked(*parts)], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    again = processor(text=told, images=pictures, return_tensors="pt")
    assert torch.equal(ids["input_ids"], again["input_ids"])
    assert torch.equal(ids["pixel_values"], again["pixel_values"])


def test_a_message_with_places_is_a_prompt_in_that_order():
    message = message_of(asked("a", RED, "b"))
    assert (message.text, message.places) == ("a\nb", (2,))
    pieces = prompt_pieces([message], "chat", answer_next=True)
    assert [piece.text for piece in pieces if piece.kind == "text"] == ["a\n", "\nb"]
    assert message_of(asked(RED, "b")) == Message(role="user", text="b", images=(RED,))


def test_without_a_picture_its_place_is_written(processor):
    turns = [{"role": "user", "content": [{"type": "image"}, TEXT]}]
    written = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert written.count("<image>") == 1
    assert written == processor.apply_chat_template([asked(RED, "What?")], add_generation_prompt=True)
    got = processor(images=RED, text=written, return_tensors="pt")
    expected = processor.prompts([[Message(role="user", text="What?", images=(RED,))]])
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    with pytest.raises(PromptError, match="has no picture"):
        processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=True)


def test_what_is_only_written_opens_no_picture(processor):
    turns = [{"role": "user", "content": [{"type": "image", "path": "no/such.png"}, TEXT]}]
    assert "<image>" in processor.apply_chat_template(turns)
    with pytest.raises(ImageError):
        processor.apply_chat_template(turns, tokenize=True)


# --- what is no conversation, and no picture ---


@pytest.mark.parametrize(
    "given",
    [
        "What?",
        asked("What?"),
        {"messages": [asked("What?")]},
        None,
        [],
        [[]],
        ["What?"],
        [[asked("What?")], "What?"],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 3}],
        [{"role": "user", "content": ["What?"]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "human", "content": "What?"}],
        [{"role": "system", "content": [{"type": "image"}]}, asked("What?")],
    ],
)
def test_what_is_no_conversation_is_told_in_one_sentence(processor, given):
    with pytest.raises(PromptError) as error:
        processor.apply_chat_template(given)
    assert in_one_line(error)


def test_an_address_may_be_written_as_openai_does(processor, tmp_path):
    RED.save(tmp_path / "red.png")
    for address in ({"url": str(tmp_path / "red.png")}, str(tmp_path / "red.png")):
        turns = [{"role": "user", "content": [{"type": "image_url", "image_url": address}, TEXT]}]
        got = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
        assert torch.equal(got["pixel_values"], processor.pixel_values([RED]))


@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_base64_is_opened_as_any_picture(processor, start):
    file = io.BytesIO()
    RED.save(file, "PNG")
    whole = file.getvalue()
    [opened] = processor.user_message("What?", start + base64.encodebytes(whole).decode()).images
    assert opened == RED
    with pytest.raises(ImageUnreadable):
        processor.user_message("What?", start + base64.b64encode(whole[: len(whole) // 2]).decode())


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x.png", "https://", "http://[", "no/such.png", "AAAA"])
def test_an_address_without_a_picture_is_told_in_one_sentence(processor, address):
    with pytest.raises(ImageUnreadable) as error:
        processor.user_message("What?", address)
    assert in_one_line(error)


# --- a user's message ---


def test_pictures_of_a_message_come_in_every_form(processor, tmp_path):
    file = tmp_path / "red.png"
    RED.save(file)
    expected = processor.pixel_values([RED])
    for given in (RED, [RED], (RED,), str(file), file, [file], RED.convert("RGBA"), RED.convert("P")):
        message = processor.user_message("What?", given)
        assert torch.equal(processor.pixel_values(message.images), expected)
    assert processor.user_message("What?", None) == processor.user_message("What?")
    bare = Message(role="user", text="What?", images=(RED.convert("RGBA"),))
    assert torch.equal(processor.pixel_values(bare.images), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda processor: processor.user_message("What?", 3),
        lambda processor: processor.user_message("What?", [torch.zeros(3, 8, 8)]),
        lambda processor: processor.user_message(None),
        lambda processor: Message(role="user", text="What?", images=RED),
        lambda processor: Message(role="user", text=None),
        lambda processor: Message(role="user", text="What?", images=(RED,), places=(0, 1)),
    ],
)
def test_what_is_no_message_is_told_in_one_sentence(processor, make):
    with pytest.raises(MayaError) as error:
        make(processor)
    assert in_one_line(error)
