"""What `maya export` writes: a model, prompts and pixels for transformers' stock classes, or one sentence why not."""

import json
import sys

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoProcessor, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast, pipeline
from transformers.utils import logging as transformers_logging

import maya_core.cli as cli
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.errors import CheckpointError
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor, image_token_id_of
from maya_core.weights.checkpoint import load_processor, save_model
from maya_core.weights.export import export_llava, quantize_checkpoint
from tests.tiny import picture, tiny_config, tiny_session, tiny_tokenizer

RED, BLUE, WIDE = picture((255, 0, 0)), picture((0, 0, 255)), picture((0, 255, 0), (90, 40))
EXAMPLES = sorted(asset_path("examples").glob("*.png"))


def turn(*parts, role="user"):
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part} for part in parts
    ]
    return {"role": role, "content": content}


CONVERSATIONS = (
    [turn(RED, "What is this?")],
    [turn("यह क्या है?", WIDE)],
    [{"role": "user", "content": "图中有什么？"}],
    [turn("Is this", RED, "or this red?", BLUE), turn("This.", role="assistant"), turn("Why?")],
    [turn("Be brief.", role="system"), turn(RED, BLUE, "Which", "is red?")],
)


@pytest.fixture(scope="module", params=["chat", "maya-v1"])
def exported(request, tmp_path_factory):
    """A session, and its model and processor as transformers loads what was exported."""
    folder = tmp_path_factory.mktemp("export")
    session = tiny_session(prompt_format=request.param)
    save_model(session.model, session.processor, folder / "ours")
    export_llava(folder / "ours", folder / "llava")
    stock = LlavaForConditionalGeneration.from_pretrained(folder / "llava").eval()
    processor = AutoProcessor.from_pretrained(folder / "llava")
    assert isinstance(processor, LlavaProcessor)
    return ChatSession(session.model, load_processor(folder / "ours")), stock, processor


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("answer_next", [True, False])
def test_the_stock_processor_writes_our_prompts(exported, conversation, answer_next):
    session, _, stock = exported
    ours, theirs = (
        each.apply_chat_template(conversation, add_generation_prompt=answer_next) for each in (session.processor, stock)
    )
    assert ours == theirs


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_stock_classes_read_and_answer_as_ours(exported, conversation):
    session, model, processor = exported
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    ours = session.processor.apply_chat_template(conversation, **options)
    theirs = processor.apply_chat_template(conversation, **options)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert ("pixel_values" in ours) == ("pixel_values" in theirs)
    if "pixel_values" in ours:
        torch.testing.assert_close(theirs["pixel_values"], ours["pixel_values"], atol=1e-5, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(model(**theirs).logits, session.model(**ours).logits, atol=1e-4, rtol=1e-4)
    answers = [each.generate(**ours, max_new_tokens=8, do_sample=False) for each in (model, session.model)]
    assert torch.equal(*answers)


def with_other_tokenizer(name: str, rows: int) -> ChatSession:
    """A session whose tokenizer calls `<image>` otherwise, as Aya's has none, and whose table has so many rows."""
    fields = json.loads(tiny_tokenizer().backend_tokenizer.to_str().replace('"<image>"', f'"{name}"'))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(fields)))
    session = tiny_session(text={"vocab_size": rows})
    model = MayaForConditionalGeneration(session.model.config).eval()
    model.load_state_dict(session.model.state_dict())
    model.config.image_token_id = image_token_id_of(tokenizer, rows)
    return ChatSession(model, MayaProcessor(model.config, session.processor.preparation, tokenizer))


def test_an_export_draws_no_bars_of_transformers(tmp_path, capfd):
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "ours")
    transformers_logging.enable_progress_bar()
    export_llava(tmp_path / "ours", tmp_path / "llava")
    assert capfd.readouterr().err == ""
    assert transformers_logging.is_progress_bar_enabled()


@pytest.mark.parametrize("spare_rows", [12, 0])
def test_a_tokenizer_without_an_image_token(spare_rows, tmp_path):
    rows = len(tiny_tokenizer()) + spare_rows
    session = with_other_tokenizer("<nothing>", rows)
    save_model(session.model, session.processor, tmp_path / "ours")
    export_llava(tmp_path / "ours", tmp_path / "llava")
    processor = AutoProcessor.from_pretrained(tmp_path / "llava")
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava").eval()
    assert processor.image_token_id == model.config.image_token_id < rows
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    ours, theirs = (each.apply_chat_template(CONVERSATIONS[0], **options) for each in (session.processor, processor))
    slots = ours["input_ids"] == session.processor.image_token_id
    assert torch.equal(slots, theirs["input_ids"] == processor.image_token_id)
    assert torch.equal(ours["input_ids"][~slots], theirs["input_ids"][~slots])
    with torch.inference_mode():
        torch.testing.assert_close(model(**theirs).logits, session.model(**ours).logits, atol=1e-4, rtol=1e-4)


def test_a_stock_pipeline_answers_as_our_session(tmp_path):
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "ours")
    export_llava(tmp_path / "ours", tmp_path / "llava")
    pipe = pipeline("image-text-to-text", model=str(tmp_path / "llava"), dtype=torch.float32, device="cpu")
    questions = ("What is this?", "यह क्या है?", "ما هذا؟")
    options = GenerationOptions(
        max_new_tokens=6
    )  # the scores of random weights lie so near that rounding decides later
    for question, file in zip(questions, EXAMPLES, strict=True):
        picture_and_words = [{"type": "image", "path": str(file)}, {"type": "text", "text": question}]
        [told] = pipe(text=[{"role": "user", "content": picture_and_words}], max_new_tokens=6, return_full_text=False)
        asked = session.processor.user_message(question, file)
        assert told["generated_text"].rstrip("\ufffd").strip() == session.answer(
            asked, options
        )  # half a letter is kept


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"connector_config": {"depth": 3}}, "has a projector of 2 layers, this model's has 3; it cannot be exported"),
        ({"connector_config": {"hidden_size": 96}}, "has a projector 48 wide inside, this model's is 96; it cannot"),
        (
            {"vision": {"model_type": "dinov2_with_registers"}, "vision_feature_select_strategy": "default"},
            "drops 1 position of the tower, this model 5; it cannot",
        ),
        (
            {"vision_config": {"model_type": "photograph_tower"}, "vision_feature_layer": -1},
            "does not know this model's tower; it cannot",
        ),
    ],
)
def test_what_llava_does_not_have_is_told_before_weights_are_read(changes, sentence, tmp_path):
    tiny_config(**changes).save_pretrained(tmp_path / "ours")
    with pytest.raises(CheckpointError, match=sentence):
        export_llava(tmp_path / "ours", tmp_path / "llava")
    assert not (tmp_path / "llava").exists()


def test_four_bits_are_told_in_one_sentence_and_status_2(tmp_path, monkeypatch, capfd):
    session = tiny_session()
    save_model(session.model, session.processor, tmp_path / "ours")
    quantize_checkpoint(tmp_path / "ours", tmp_path / "small")
    capfd.readouterr()
    monkeypatch.setattr(sys, "argv", ["maya", "export", str(tmp_path / "small"), str(tmp_path / "llava")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capfd.readouterr().err == "small is in four bits; export the model that it was made from.\n"
    assert not (tmp_path / "llava").exists()
