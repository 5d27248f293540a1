"""The processor called as transformers' users call those of other models."""

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoProcessor

from maya_core.errors import ImageCountMismatch, MayaError, PromptEmpty, PromptError, PromptTooLong
from maya_core.model.processor import MayaProcessor, load_tokenizer
from tests.tiny import picture, tiny_session

RED, BLUE, GREEN = picture((255, 0, 0)), picture((0, 0, 255)), picture((0, 255, 0))
SHORT, LONG = "What?", "What is in the picture, and what is beside it?"


@pytest.fixture(scope="module")
def processor() -> MayaProcessor:
    return tiny_session().processor


# --- pictures and their texts ---


@pytest.mark.parametrize("images", [[[RED, BLUE], []], [[RED, BLUE], None], [RED, BLUE]])
def test_each_text_gets_its_own_pictures(processor, images):
    texts = ["<image><image>What?", "What?"]
    got = processor(text=texts, images=images, return_tensors="pt")
    assert (got["input_ids"] == processor.image_token_id).sum(dim=1).tolist() == [2 * processor.image_slots, 0]
    assert torch.equal(got["pixel_values"], processor.pixel_values([RED, BLUE]))


@pytest.mark.parametrize(
    ("texts", "images", "sentence"),
    [
        (["<image>a", "<image>b"], [[RED, BLUE], []], "Text 1 has 1 times <image>, and 2 pictures were given for it"),
        (["<image><image>a", "b"], [[RED], [BLUE]], "Text 1 has 2 times <image>, and 1 pictures"),
        (["<image>a", "<image>b"], [[RED], [BLUE], []], "There are 2 texts, and 3 lists of pictures"),
        ("<image>a", [[RED], [BLUE]], "The text has 1 times <image>, and 2 pictures"),
        (["<image>a", "b"], None, "The text has 1 times <image>, and 0 pictures"),
    ],
)
def test_pictures_of_another_text_are_not_taken(processor, texts, images, sentence):
    with pytest.raises(ImageCountMismatch, match=sentence):
        processor(text=texts, images=images)


# --- lengths ---


def test_a_length_that_cuts_a_picture_is_refused(processor):
    whole = processor(text=f"<image>{LONG}", images=RED)["input_ids"][0]
    for most in (3, processor.image_slots):
        with pytest.raises(PromptTooLong, match=f"takes {len(whole)} tokens, and its first {most}"):
            processor(text=f"<image>{LONG}", images=RED, max_length=most)
    kept = processor(text=f"<image>{LONG}", images=RED, max_length=len(whole) - 2)["input_ids"][0]
    assert kept == whole[:-2]
    assert processor(text=f"<image>{LONG}", images=RED, max_length=3, truncation=False)["input_ids"][0] == whole


def test_a_prompt_for_an_answer_has_a_length_too(processor):
    turns = [{"role": "user", "content": SHORT}]
    options = {"add_generation_prompt": True, "tokenize": True}
    [whole] = processor.apply_chat_template(turns, **options)
    assert processor.apply_chat_template(turns, **options, max_length=100) == [whole]
    assert processor.apply_chat_template(turns, **options, max_length=4, truncation=True) == [whole[:4]]
    assert processor.apply_chat_template(turns, **options, max_length=4, truncation=False) == [whole]
    assert processor.apply_chat_template(turns, **options, processor_kwargs={"max_length": 4}) == [whole[:4]]


def test_more_than_the_model_has_positions_for_is_refused(processor):
    with pytest.raises(PromptTooLong, match="more than the model's 512"):
        processor(text="dog " * 700)


@pytest.mark.parametrize("call", ["call", "template"])
def test_padding_is_as_transformers_says_it(processor, call):
    def rows(**options):
        if call == "call":
            return processor(text=[SHORT, LONG], **options)
        turns = [[{"role": "user", "content": text}] for text in (SHORT, LONG)]
        return processor.apply_chat_template(turns, tokenize=True, return_dict=True, **options)

    plain = rows()["input_ids"]
    longest = max(map(len, plain))
    assert len(plain[0]) < longest
    for padding in (True, "longest"):
        padded = rows(padding=padding)
        assert [len(row) for row in padded["input_ids"]] == [longest, longest]
        assert padded["attention_mask"][0] == [0] * (longest - len(plain[0])) + [1] * len(plain[0])
    right = rows(padding=True, padding_side="right", return_tensors="np")
    assert isinstance(right["input_ids"], np.ndarray)
    assert right["input_ids"][0, : len(plain[0])].tolist() == plain[0]
    assert rows(padding="max_length", max_length=longest + 5, return_tensors="pt")["input_ids"].shape == (
        2,
        longest + 5,
    )
    assert rows(pad_to_multiple_of=64, return_tensors="pt")["input_ids"].shape[1] % 64 == 0
    assert rows(padding=False)["input_ids"] == plain
    assert rows(return_tensors="auto")["input_ids"] == plain
    with pytest.raises(ValueError, match=f"Rows of {len(plain[0])} to {longest} tokens make no tensor"):
        rows(padding=False, return_tensors="pt")


@pytest.mark.parametrize(
    "options",
    [{"padding": "longst"}, {"padding_side": "top"}, {"truncation": "middle"}, {"return_tensors": "tf"}],
)
def test_values_that_there_are_not_are_refused_by_name(processor, options):
    [[name, value]] = options.items()
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        processor(text=SHORT, **options)
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        processor.apply_chat_template([{"role": "user", "content": SHORT}], tokenize=True, **options)
    with pytest.raises(ValueError, match="max_length is not given"):
        processor(text=SHORT, padding="max_length")


@pytest.mark.parametrize("name", ["max_lenght", "videos", "text_kwargs", "do_resize"])
def test_options_that_there_are_not_are_refused_by_name(processor, name):
    with pytest.raises(TypeError, match=name):
        processor(text=SHORT, **{name: 3})
    for options in ({name: 3}, {"processor_kwargs": {name: 3}}):
        with pytest.raises(PromptError, match=name):
            processor.apply_chat_template([{"role": "user", "content": SHORT}], tokenize=True, **options)


def test_what_is_switched_off_is_not_asked_for(processor):
    turns = [{"role": "user", "content": SHORT}]
    off = {"tools": None, "documents": [], "load_audio_from_video": False, "sanitize_control_tokens": True}
    assert processor.apply_chat_template(turns, **off) == processor.apply_chat_template(turns)


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_words_are_gone_on_with_where_there_are_some(processor, role):
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A"}]
    turns = turns[: 1 + (role == "assistant")]
    with pytest.raises(PromptError, match="continue_final_message"):
        processor.apply_chat_template(turns, continue_final_message=True, add_generation_prompt=role == "assistant")


@pytest.mark.parametrize("given", [{}, {"images": []}, {"text": []}, {"text": 3}, {"text": [3]}, {"text": [[SHORT]]}])
def test_nothing_is_told_in_one_sentence(processor, given):
    with pytest.raises(MayaError) as error:
        processor(**given)
    assert len(str(error.value).splitlines()) == 1
    assert isinstance(error.value, PromptEmpty) == (not any(given.values()))


def test_begun_already(processor):
    [with_bos], [without] = (
        processor(text=SHORT, add_special_tokens=special)["input_ids"] for special in (True, False)
    )
    assert with_bos == [processor.tokenizer.bos_token_id, *without]
    assert processor(text=processor.tokenizer.bos_token + SHORT)["input_ids"] == [with_bos]


# --- what others ask a processor for ---


def test_its_tokenizer_pads_and_ends(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    text = processor.config.text
    for tokenizer in (load_tokenizer(tmp_path), AutoProcessor.from_pretrained(tmp_path).tokenizer):
        ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        assert ids == (text.bos_token_id, text.eos_token_id, text.pad_token_id)
        assert tokenizer.padding_side == "left"
        assert tokenizer.get_vocab() == processor.tokenizer.get_vocab()


def test_it_names_its_image_token(processor):
    assert processor.image_token == "<image>"
    assert processor.image_token_id == processor.config.image_token_id
    assert "pixel_values" in processor.model_input_names


@pytest.mark.parametrize("size", [(64, 64), (90, 30), (31, 200)])
@pytest.mark.parametrize("aspect_ratio", ["pad", "stretch"])
def test_its_image_processor_makes_the_same_pixels(size, aspect_ratio, tmp_path):
    processor = tiny_session(image_aspect_ratio=aspect_ratio).processor
    object.__setattr__(processor.preparation, "aspect_ratio", aspect_ratio)
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    [image] = processor.user_message("What?", noise).images
    processor.save_pretrained(tmp_path)
    for theirs in (processor.image_processor, AutoImageProcessor.from_pretrained(tmp_path)):
        got = theirs(image, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(got, processor.pixel_values([image]), atol=0.01, rtol=0)


def test_saved_alone_it_is_found_and_the_same(processor, tmp_path):
    """As a trainer saves it beside an adapter: without the model and its configuration."""
    processor.save_pretrained(tmp_path)
    assert not (tmp_path / "config.json").exists()
    again = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(again, MayaProcessor)
    one, other = (each(text=f"<image>{LONG}", images=GREEN) for each in (processor, again))
    assert one["input_ids"] == other["input_ids"]
    assert torch.equal(torch.as_tensor(one["pixel_values"]), torch.as_tensor(other["pixel_values"]))
