"""At home in transformers: Auto classes, pipelines, chat templates, batches, four bits, PEFT, the hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    BitsAndBytesConfig,
    ProcessorMixin,
    pipeline,
)

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession, load_session
from maya_core.assets import asset_path
from maya_core.errors import ImageCountMismatch, ImageTypeUnsupported, ImageUnreadable, PromptError
from maya_core.model.config import MayaConfig
from maya_core.model.images import open_image
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import load_model, load_processor, save_model
from tests.local_hub import local_hub
from tests.tiny import picture, tiny_session

ROOT = Path(__file__).parents[3]
EMBEDDED = asset_path("maya-tiny")
EXAMPLES = sorted(asset_path("examples").glob("*.png"))
OPTIONS = GenerationOptions(max_new_tokens=24)
QUESTIONS = ("What is this?", "यह क्या है?", "ما هذا؟")


@pytest.fixture(scope="module")
def embedded() -> ChatSession:
    model = load_model(EMBEDDED, dtype=torch.float32)
    model.config.keeps_to_script, model.config.doubts = (
        False,
        None,
    )  # of which transformers' own `generate` knows nothing
    return ChatSession(model, load_processor(EMBEDDED))


@pytest.fixture(scope="module", params=["chat", "maya-v1"])
def session(request) -> ChatSession:
    return tiny_session(prompt_format=request.param)


@pytest.fixture(scope="module")
def folder(session, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(session.model, session.processor, folder)
    return folder


def turn(text, *images, role="user"):
    shown = [{"type": "image", "image": image} for image in images]
    return {"role": role, "content": [*shown, {"type": "text", "text": text}]}


def message(text, *images):
    return Message(role="user", text=text, images=tuple(map(open_image, images)))


def scores(model, processor):
    batch = processor.prompts([[Message(role="user", text="What?", images=(picture(),))]])
    with torch.inference_mode():
        return model(**batch).logits


def test_the_auto_classes_load_a_saved_folder(session, folder):
    assert isinstance(AutoConfig.from_pretrained(folder), MayaConfig)
    assert isinstance(AutoProcessor.from_pretrained(folder), MayaProcessor)
    assert isinstance(AutoProcessor.from_pretrained(folder), ProcessorMixin)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == session.processor.tokenizer.get_vocab()
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(model, MayaForConditionalGeneration)
    torch.testing.assert_close(
        scores(model, session.processor), scores(session.model, session.processor), atol=0, rtol=0
    )


def test_placed_and_of_a_number_format_of_choice(session, folder):
    model = AutoModelForImageTextToText.from_pretrained(folder, device_map="cpu", dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    expected = session.model.state_dict()
    assert all(torch.equal(tensor, expected[name].bfloat16()) for name, tensor in model.state_dict().items())


def test_four_bits_by_transformers_config(folder):
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["vision_tower", "connector", "language_model.lm_head"],
    )
    model = AutoModelForImageTextToText.from_pretrained(folder, quantization_config=config, device_map="cpu")
    inside = set(model.get_decoder().modules())
    kinds = {type(part).__name__ for part in inside if isinstance(part, nn.Linear)}
    assert kinds == {"Linear4bit"}
    assert not any(type(part).__name__ == "Linear4bit" for part in set(model.modules()) - inside)


def test_a_chat_template_gives_what_encode_gives(session):
    processor = session.processor
    turns = [turn("What is this?", picture(), picture((0, 0, 99))), turn("Two dogs.", role="assistant"), turn("کیوں؟")]
    told = [
        Message(role="user", text="What is this?", images=(picture(), picture((0, 0, 99)))),
        Message(role="assistant", text="Two dogs."),
        Message(role="user", text="کیوں؟"),
    ]
    expected = processor.prompts([told])
    options = {"add_generation_prompt": True, "tokenize": True}
    got = processor.apply_chat_template(turns, **options, return_dict=True, return_tensors="pt")
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert torch.equal(processor.apply_chat_template(turns, **options, return_tensors="pt"), expected["input_ids"])
    assert processor.apply_chat_template(turns, **options) == expected["input_ids"].tolist()
    written = processor.apply_chat_template(turns, add_generation_prompt=True)
    again = processor(text=written, images=[picture(), picture((0, 0, 99))], return_tensors="pt")
    assert torch.equal(again["input_ids"], expected["input_ids"])
    assert torch.equal(again["pixel_values"], expected["pixel_values"])


def test_several_conversations_are_padded_on_the_left_and_told_apart(session):
    processor = session.processor
    batch = [[turn("What?", picture())], [turn("A longer question, then?")]]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    together = processor.apply_chat_template(batch, **options, return_tensors="pt")
    listed = processor.apply_chat_template(batch, **options)
    assert together["attention_mask"][:, -1].all()
    assert together["pixel_values"].shape[0] == 1
    for row, one in enumerate(batch):
        alone = processor.apply_chat_template([one], **options, return_tensors="pt")["input_ids"][0]
        assert torch.equal(together["input_ids"][row][together["attention_mask"][row].bool()], alone)
        assert listed["input_ids"][row] == alone.tolist()


def test_training_turns_and_what_the_assistant_says_in_them(session):
    processor = session.processor
    turns = [turn("What?", picture()), turn("A dog.", role="assistant")]
    got = processor.apply_chat_template(
        turns, tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    said = processor.decode(got["input_ids"][0][got["assistant_masks"][0].bool()])
    assert said.replace(" ", "") == "Adog.<|END_OF_TURN_TOKEN|>"
    begun = processor.apply_chat_template(turns, tokenize=True, continue_final_message=True)
    assert begun == [got["input_ids"][0].tolist()[:-1]]


def test_a_conversation_may_end_with_the_question(session):
    """As data sets for training are often written: what is asked, and nothing of the answer."""
    asked = session.processor.apply_chat_template([turn("What?", picture())])
    answered = session.processor.apply_chat_template([turn("What?", picture())], add_generation_prompt=True)
    assert asked.endswith(("What?<|END_OF_TURN_TOKEN|>", "USER: <image>\nWhat?"))
    assert answered.startswith(asked)
    assert len(answered) > len(asked)


def test_pictures_come_in_many_forms_and_what_is_none_is_told(session):
    import numpy as np

    red = picture((255, 0, 0))
    expected = session.processor.pixel_values([red])
    for given in (red, np.asarray(red), red.convert("RGBA"), [[red]], red.convert("P")):
        torch.testing.assert_close(torch.as_tensor(session.processor(images=given)["pixel_values"]), expected)
    clear = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    white = session.processor.pixel_values([picture((255, 255, 255))])
    torch.testing.assert_close(torch.as_tensor(session.processor(images=clear)["pixel_values"]), white)
    with pytest.raises(ImageTypeUnsupported, match="given as Tensor"):
        session.processor(images=torch.zeros(3, 8, 8))
    with pytest.raises(ImageUnreadable, match="'/no/such.png' is neither a file"):
        session.processor(images="/no/such.png")


def test_what_a_user_types_is_no_control_token_in_a_chat_template_either(session):
    processor, control = session.processor, set(session.processor.tokenizer.get_added_vocab().values())

    def controls(text):
        [ids] = processor.apply_chat_template([turn(text)], add_generation_prompt=True, tokenize=True)
        return [token for token in ids if token in control]

    assert controls("hello <|END_OF_TURN_TOKEN|><image>") == controls("hello")


@pytest.mark.parametrize(
    ("turns", "options"),
    [
        ([{"role": "tool", "content": "x"}], {}),
        ([{"role": "user", "content": [{"type": "video", "video": "x.mp4"}]}], {}),
        ([turn("x")], {"tools": [{"name": "search"}]}),
        ([turn("x")], {"chat_template": "{{ messages }}"}),
    ],
)
def test_what_maya_does_not_know_is_refused(session, turns, options):
    with pytest.raises(PromptError):
        session.processor.apply_chat_template(turns, add_generation_prompt=True, **options)


def test_pictures_and_their_places_must_be_as_many(session):
    with pytest.raises(ImageCountMismatch, match="1 times <image>, and 2 pictures"):
        session.processor(text="<image>\nWhat?", images=[picture(), picture()])


@pytest.mark.parametrize("kind", ["image", "path", "url", "base64"])
def test_a_picture_may_come_in_every_way_that_transformers_knows(session, kind, tmp_path):
    import base64

    file = tmp_path / "picture.png"
    picture().save(file)
    given = {"image": picture(), "path": str(file), "url": str(file), "base64": base64.b64encode(file.read_bytes())}
    value = given[kind].decode() if kind == "base64" else given[kind]
    turns = [{"role": "user", "content": [{"type": "image", kind: value}, {"type": "text", "text": "What?"}]}]
    got = session.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True)
    assert torch.equal(torch.as_tensor(got["pixel_values"]), session.processor.pixel_values([picture()]))


def test_generate_in_a_left_padded_batch_answers_as_a_session(embedded):
    model, processor = embedded.model, embedded.processor
    batch = [[turn(question, Image.open(file))] for question, file in zip(QUESTIONS, EXAMPLES, strict=True)]
    inputs = processor.apply_chat_template(
        batch, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    assert len({int(row.sum()) for row in inputs["attention_mask"]}) > 1
    generated = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    texts = processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    conversations = [[message(question, file)] for question, file in zip(QUESTIONS, EXAMPLES, strict=True)]
    assert [text.strip() for text in texts] == embedded.answers(conversations, OPTIONS)


def test_a_pipeline_answers_as_a_session(embedded):
    pipe = pipeline("image-text-to-text", model=str(EMBEDDED), dtype=torch.float32, device="cpu")
    question, file = QUESTIONS[1], EXAMPLES[1]
    [told] = pipe(text=[turn(question, str(file))], max_new_tokens=24, return_full_text=False)
    expected = embedded.answer([message(question, file)], OPTIONS)
    assert told["generated_text"].strip() == expected
    written = embedded.processor.apply_chat_template([turn(question, str(file))], add_generation_prompt=True)
    [told] = pipe(str(file), text=written, max_new_tokens=24, return_full_text=False)
    assert told["generated_text"].strip() == expected


def test_a_pipeline_in_batches_answers_as_one_by_one(embedded):
    pipe = pipeline("image-text-to-text", model=str(EMBEDDED), dtype=torch.float32, device="cpu")
    chats = [[turn(question, str(file))] for question, file in zip(QUESTIONS, EXAMPLES, strict=True)]
    told = pipe(text=chats, max_new_tokens=24, return_full_text=False, batch_size=len(chats))
    conversations = [[message(question, file)] for question, file in zip(QUESTIONS, EXAMPLES, strict=True)]
    assert [one[0]["generated_text"].strip() for one in told] == embedded.answers(conversations, OPTIONS)


@pytest.mark.parametrize("answered", [False, True])
def test_its_table_grows_as_transformers_lets_it(answered, tmp_path):
    session = tiny_session()
    if answered:
        session.answer("What?", OPTIONS)
    rows = session.model.config.text.vocab_size + 8
    before = scores(session.model, session.processor)
    session.model.resize_token_embeddings(rows, mean_resizing=False)
    after = scores(session.model, session.processor)
    torch.testing.assert_close(after[..., : before.shape[-1]], before)
    assert after.shape[-1] == session.model.config.text.vocab_size == rows
    assert session.model.get_output_embeddings().weight is session.model.get_input_embeddings().weight
    save_model(session.model, session.processor, tmp_path / "grown")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "grown")
    torch.testing.assert_close(scores(again, session.processor), after)


def test_saved_by_transformers_it_is_the_same(session, tmp_path):
    session.model.save_pretrained(tmp_path)
    session.processor.save_pretrained(tmp_path)
    again = load_session(tmp_path)
    torch.testing.assert_close(
        scores(again.model, again.processor), scores(session.model, session.processor), atol=0, rtol=0
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
def test_peft_trains_and_merges_it(folder):
    from peft import LoraConfig, PeftModel, get_peft_model

    plain = AutoModelForImageTextToText.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    tuned = get_peft_model(AutoModelForImageTextToText.from_pretrained(folder), config).eval()
    assert isinstance(tuned, PeftModel)
    turns = [turn("What?", picture()), turn("A dog.", role="assistant")]
    batch = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
    loss = tuned(**batch, labels=batch["input_ids"]).loss
    loss.backward()
    names = dict(tuned.named_parameters())
    gradients = [names[name].grad for name in names if "language_model" in name and "lora_" in name]
    assert gradients
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    merged = tuned.merge_and_unload()
    assert not torch.allclose(scores(merged, processor), scores(plain, processor), atol=1e-3)
    torch.testing.assert_close(merged(**batch, labels=batch["input_ids"]).loss, loss, atol=1e-4, rtol=1e-4)


PUSHING = """
import sys
import maya_core
from transformers import AutoModelForImageTextToText, AutoProcessor
folder = sys.argv[1]
AutoModelForImageTextToText.from_pretrained(folder).push_to_hub("me/maya")
AutoProcessor.from_pretrained(folder).push_to_hub("me/maya")
model, processor = (auto.from_pretrained("me/maya") for auto in (AutoModelForImageTextToText, AutoProcessor))
model.save_pretrained(sys.argv[2]), processor.save_pretrained(sys.argv[2])
"""


def test_pushed_to_a_hub_and_loaded_from_there(session, folder, tmp_path):
    with local_hub() as hub:
        own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
        subprocess.run(
            [sys.executable, "-c", PUSHING, str(folder), str(tmp_path / "back")],
            env=os.environ | own,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"} <= set(
            hub.files["me/maya"]
        )
    back = load_session(tmp_path / "back")
    torch.testing.assert_close(
        scores(back.model, back.processor), scores(session.model, session.processor), atol=0, rtol=0
    )
