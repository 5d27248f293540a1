"""Records as people have them become the same conversation, and what cannot be read is named."""

import base64
import codecs
import json
from pathlib import Path

import pytest
from PIL import Image

from maya_core.errors import DataError, ImageUnreadable
from maya_core.learning.conversation_files import ConversationFiles
from maya_core.learning.formats import in_llavas_form
from maya_core.learning.records import conversation, defects
from maya_core.model.prompt import Message
from tests.maya_core.learning.test_records import record, text_record, write


@pytest.fixture
def images(tmp_path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (8, 8), (9, 9, 200)).save(folder / "dog.png")
    Image.new("RGB", (8, 8)).save(folder / "deep" / "cat.png")
    return folder


def said(*turns, system=None):
    """LLaMA-Factory's, OpenAI's and Hugging Face's way to write turns."""
    messages = [
        {"role": "user" if number % 2 == 0 else "assistant", "content": turn} for number, turn in enumerate(turns)
    ]
    return ([{"role": "system", "content": system}] if system else []) + messages


def text(words):
    return {"type": "text", "text": words}


SHOWN = [text("What is it?"), {"type": "image"}]
FORMATS = {
    "LLaVA": record(),
    "LLaMA-Factory, sharegpt": {
        "conversations": [{"from": "human", "value": "<image>What is it?"}, {"from": "gpt", "value": "A dog."}],
        "images": ["dog.png"],
    },
    "LLaMA-Factory, messages": {"messages": said("<image>What is it?", "A dog."), "images": ["dog.png"]},
    "OpenAI": {
        "messages": said(
            [text("What is it?"), {"type": "image_url", "image_url": {"url": "dog.png"}}], [text("A dog.")]
        )
    },
    "Hugging Face, named in the part": {
        "messages": said([{"type": "image", "path": "dog.png"}, text("What is it?")], [text("A dog.")])
    },
    "Hugging Face, beside": {"messages": said(SHOWN, [text("A dog.")]), "images": [{"path": "dog.png", "bytes": None}]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_conversation(images, name):
    sample = conversation(FORMATS[name], images)
    user = Message(role="user", text="What is it?", images=(images / "dog.png",))
    assert sample.messages == (user, Message(role="assistant", text="A dog."))


def test_pictures_stand_in_the_order_in_which_turns_show_them(images):
    turns = said(
        [text("First"), {"type": "image"}, {"type": "image", "path": "deep/cat.png"}], "One.", "<image> And?", "Two."
    )
    shown = conversation({"messages": turns, "images": ["dog.png", "dog.png"]}, images).messages
    names = [[file.name for file in message.images] for message in shown]
    assert names == [["dog.png", "cat.png"], [], ["dog.png"], []]


@pytest.mark.parametrize(
    "one",
    [
        {"messages": said("Why?", "So.", system="Be brief.")},
        {"messages": said("Why?", "So."), "system": "Be brief."},
        {"conversations": [{"from": "system", "value": "Be brief."}, *text_record()["conversations"][:1],
                           {"from": "gpt", "value": "So."}]},
    ],
)  # fmt: skip
def test_a_system_turn_comes_first(images, one):
    assert [(turn.role, turn.text) for turn in conversation(one, images).messages] == [
        ("system", "Be brief."),
        ("user", "Why?"),
        ("assistant", "So."),
    ]
    later = {"conversations": [*text_record()["conversations"], {"from": "system", "value": "Be brief."}]}
    assert [defect.kind for defect in defects(later)] == ["roles"]


NFD, NFC = "cafe\u0301.png", "caf\u00e9.png"


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("deep\\cat.png", "deep/cat.png"),
        (NFC, NFD),
        (NFD, NFC),
        ("{images}/deep/cat.png", "deep/cat.png"),
        ("file://{images}/deep/cat.png", "deep/cat.png"),
    ],
)
def test_names_find_their_files(images, name, there):
    if not (images / there).exists():
        (images / "dog.png").rename(images / there)
    [picture] = conversation(record(image=name.format(images=images)), images).messages[0].images
    assert picture.samefile(images / there)


def test_a_path_out_of_the_folder_stays_refused(images):
    (images.parent / "secret.png").write_bytes((images / "dog.png").read_bytes())
    for name in (str(images.parent / "secret.png"), f"file://{images.parent}/secret.png", f"{images}/../secret.png"):
        with pytest.raises(DataError, match="leads out of the image folder"):
            conversation(record(image=name), images)


@pytest.mark.parametrize("start", ["", "data:image/png;base64,"])
def test_a_picture_in_the_record_is_decoded(images, start):
    content = base64.b64encode((images / "dog.png").read_bytes()).decode()
    [picture] = conversation(record(image=start + content), images).messages[0].images
    assert picture.getpixel((0, 0)) == (9, 9, 200)
    with pytest.raises(ImageUnreadable):
        conversation(record(image=start + content[: len(content) // 2 // 4 * 4]), images)


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (record(image="https://example.org/dog.png"), "picture-address"),
        (record(image=None, image_path="dog.png", question="What?"), "picture-key"),
        (record(image=None, video="dog.mp4", question="What?"), "not-a-picture"),
        (record(image=None, images=["dog.png"], question="What?"), "picture-without-marker"),
        ({"messages": said([text("What?"), {"type": "video", "video": "a.mp4"}], "A dog.")}, "missing-keys"),
        ({"messages": [*said("What?", "A dog."), {"role": "tool", "content": "7"}]}, "roles"),
    ],
)
def test_nothing_is_trained_without_its_pictures_in_silence(images, one, kind):
    assert kind in [defect.kind for defect in defects(in_llavas_form(one))]
    with pytest.raises(DataError):
        conversation(one, images)


def test_pictures_that_no_marker_asks_for_go_in_front(images):
    for one in (record(question="What?"), {"messages": said("What?", "A dog."), "images": "dog.png"}):
        user = conversation(one, images, add_markers=True).messages[0]
        assert user == Message(role="user", text="What?", images=(images / "dog.png",))
    placed = record()
    assert conversation(placed, images, add_markers=True) == conversation(placed, images)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_is_told(tmp_path, encoding):
    write(tmp_path / "en.json", [text_record()])
    (tmp_path / "en.json").write_bytes(json.dumps([text_record()]).encode(encoding))
    with pytest.raises(DataError, match="en.json: it is in UTF-16; save it as UTF-8") as caught:
        ConversationFiles(tmp_path / "en.json", tmp_path, cache=tmp_path / "cache")
    assert caught.value.kind == "encoding"
    (tmp_path / "en.json").write_bytes(codecs.BOM_UTF8 + json.dumps([text_record()]).encode())
    assert len(ConversationFiles(tmp_path / "en.json", tmp_path, cache=tmp_path / "cache")) == 1


def test_a_nul_in_a_text_is_no_picture(images):
    shown = {"role": "user", "content": [text("A\0?"), {"type": "image", "path": "dog.png"}]}
    sample = conversation({"messages": [shown, {"role": "assistant", "content": "B\0."}]}, images)
    assert [message.text for message in sample.messages] == ["A\0?", "B\0."]
    assert sample.messages[0].images == (images / "dog.png",)


def test_a_picture_in_a_folder_above_is_pointed_out(images):
    for name in ("images/dog.png", "images\\deep/cat.png"):
        with pytest.raises(DataError, match="but is without images/; give --images the folder above images"):
            conversation(record(image=name), images)


def test_an_unknown_speaker_is_named(images):
    turns = [{"role": "user", "content": "Why?"}, {"role": "tool", "content": "5"}]
    [defect] = defects(in_llavas_form({"messages": turns}), images=images)
    assert defect.sentence.startswith("turn 2 is from 'tool', and not from gpt;")
