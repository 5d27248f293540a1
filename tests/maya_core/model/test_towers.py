"""Towers: each is transformers' own, is prepared for as it was trained, and can be assembled, trained, saved, quantised."""

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from maya_core.answering.session import ChatSession
from maya_core.errors import CheckpointMismatch
from maya_core.learning.data import ConversationCollator, Sample
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import TrainConfig, train
from maya_core.model.config import GenerationOptions, MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import assemble, load_config, load_model, load_processor, save_model
from maya_core.weights.export import export_llava, quantize_checkpoint
from tests.maya_core.model.test_maya import pixels
from tests.tiny import picture, tiny_session

SHAPES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 64, "patch_size": 16}
MLP = {"intermediate_size": 64}
# (configuration, transformers' class, what stands before the 16 patches)
TOWERS = {
    "siglip": (SiglipVisionConfig(**SHAPES, **MLP, vision_use_head=False), SiglipVisionModel, 0),
    "clip": (CLIPVisionConfig(**SHAPES, **MLP), CLIPVisionModel, 1),
    "dinov2": (Dinov2Config(**SHAPES), Dinov2Model, 1),
    "dinov2_with_registers": (Dinov2WithRegistersConfig(**SHAPES, num_register_tokens=3), Dinov2WithRegistersModel, 4),
}
QUESTION = [Message(role="user", text="What is in the picture?", images=(picture(),))]
OPTIONS = GenerationOptions(max_new_tokens=6)
towers = pytest.mark.parametrize("name", list(TOWERS))


def tower_fields(name):
    config = TOWERS[name][0]
    return config.to_dict() | {"model_type": config.model_type}


def model_with(name, **changes) -> MayaForConditionalGeneration:
    """A tiny Maya with that tower."""
    fields = tiny_session().model.config.to_dict()
    torch.manual_seed(0)
    return MayaForConditionalGeneration(MayaConfig(**(fields | {"vision_config": tower_fields(name)} | changes))).eval()


def session_with(name) -> ChatSession:
    session, model = tiny_session(), model_with(name)
    processor = type(session.processor)(model.config, ImagePreparation.of(model.config), session.processor.tokenizer)
    return ChatSession(model, processor)


@pytest.fixture(scope="module", params=list(TOWERS))
def folders(request, tmp_path_factory):
    """The tower as transformers saves it, alone, and a language model."""
    folder = tmp_path_factory.mktemp(request.param)
    config, kind, _ = TOWERS[request.param]
    torch.manual_seed(1)
    kind(config).save_pretrained(folder / "tower")
    session = tiny_session()
    session.model.language_model.save_pretrained(folder / "aya")
    session.processor.tokenizer.save_pretrained(str(folder / "aya"))
    return request.param, folder / "tower", folder / "aya"


@towers
@pytest.mark.parametrize("size", [64, 96])
def test_features_are_transformers_hidden_states(name, size):
    config, kind, leading = TOWERS[name]
    torch.manual_seed(3)
    reference = kind(config).eval()
    interpolates = {"interpolate_pos_encoding": True} if name in ("siglip", "clip") else {}
    seen = pixels(2, size, size)
    states = reference(seen, output_hidden_states=True, **interpolates).hidden_states
    patches = (size // 16) ** 2
    for layer in (-1, -2, -4):
        for strategy, first in (("full", 0), ("default", max(1, leading))):
            model = model_with(name, vision_feature_layer=layer, vision_feature_select_strategy=strategy)
            model.vision_tower.load_state_dict(reference.state_dict())
            kept = model.vision_features(seen)
            torch.testing.assert_close(kept, states[layer][:, first:])
            assert kept.shape[1] == model.config.patches_kept(size, size) == patches + leading - first


@towers
def test_a_picture_is_prepared_as_the_tower_was_trained(name):
    middle = {"siglip": 0.5, "clip": 0.4578275, "dinov2": 0.456, "dinov2_with_registers": 0.456}[name]
    spread = {"siglip": 0.5, "clip": 0.26130258, "dinov2": 0.224, "dinov2_with_registers": 0.224}[name]
    preparation = ImagePreparation.of(model_with(name).config)
    green = preparation.pixels(picture((0, 255, 0)))[1]
    torch.testing.assert_close(green, torch.full_like(green, (1 - middle) / spread))
    told = {
        "size": {"shortest_edge": 80},
        "crop_size": {"height": 32, "width": 32},
        "image_mean": [0, 0, 0],
        "resample": 2,
    }
    preparation = ImagePreparation.of(model_with(name).config, told)
    assert (preparation.size, preparation.mean, preparation.resample) == (32, (0, 0, 0), 2)
    assert ImagePreparation.of(model_with(name).config, {"size": {"shortest_edge": 80}}).size == 80


def test_assembled_from_a_folder_it_sees_what_the_tower_sees(folders):
    name, tower, language_model = folders
    model, processor = assemble(tower, language_model, prompt_format="chat")
    reference = TOWERS[name][1].from_pretrained(tower)
    assert all(
        torch.equal(tensor, model.vision_tower.state_dict()[key]) for key, tensor in reference.state_dict().items()
    )
    assert ChatSession(model, processor).answer(QUESTION, OPTIONS) is not None


@pytest.mark.parametrize("name", ["siglip", "clip"])
def test_a_tower_is_taken_out_of_a_checkpoint_with_a_text_part(name, tmp_path, folders):
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "vocab_size": 64,
    }
    vision = tower_fields(name)
    parts = {"text_config": text, "vision_config": vision}
    if name == "siglip":
        vision["vision_use_head"] = True
        whole = SiglipModel(SiglipConfig(**parts))
    else:
        whole = CLIPModel(CLIPConfig(**parts))
    whole.save_pretrained(tmp_path / "whole")
    model, _ = assemble(tmp_path / "whole", folders[2])
    for key, tensor in whole.vision_model.state_dict().items():
        assert torch.equal(tensor, model.vision_tower.state_dict()[key]), key


def test_dinov2_of_old_names_is_read(tmp_path, folders):
    from safetensors.torch import save_file

    config, kind, _ = TOWERS["dinov2"]
    tower = kind(config)
    old = {
        f"dinov2.{key}".replace(".attention.q_proj.", ".attention.attention.query.")
        .replace(".attention.k_proj.", ".attention.attention.key.")
        .replace(".attention.v_proj.", ".attention.attention.value.")
        .replace(".attention.o_proj.", ".attention.output.dense."): tensor.clone()
        for key, tensor in tower.state_dict().items()
    } | {"classifier.weight": torch.ones(2, 64)}
    config.save_pretrained(tmp_path)
    save_file(old, tmp_path / "model.safetensors")
    model, _ = assemble(tmp_path, folders[2])
    assert all(torch.equal(tensor, model.vision_tower.state_dict()[key]) for key, tensor in tower.state_dict().items())


@towers
def test_saved_and_loaded_quantised_and_loaded(name, tmp_path):
    session = session_with(name)
    save_model(session.model, session.processor, tmp_path / "whole")
    assert type(load_config(tmp_path / "whole").vision) is type(TOWERS[name][0])
    again = ChatSession(load_model(tmp_path / "whole"), load_processor(tmp_path / "whole"))
    assert again.token_ids(QUESTION, OPTIONS) == session.token_ids(QUESTION, OPTIONS)
    assert again.processor.preparation == session.processor.preparation
    stock = MayaForConditionalGeneration.from_pretrained(tmp_path / "whole")
    assert all(torch.equal(tensor, stock.state_dict()[key]) for key, tensor in session.model.state_dict().items())
    quantize_checkpoint(tmp_path / "whole", tmp_path / "four-bit")
    four_bit = load_model(tmp_path / "four-bit")
    for key, tensor in session.model.vision_tower.state_dict().items():
        assert torch.equal(tensor, four_bit.vision_tower.state_dict()[key])


@towers
def test_it_trains_with_the_rest(name, tmp_path):
    session = session_with(name)
    before = {key: tensor.clone() for key, tensor in session.model.vision_tower.state_dict().items()}
    sample = Sample(messages=(*QUESTION, Message(role="assistant", text="A dog.")))
    config = TrainConfig(
        steps=2,
        batch_size=2,
        learning_rates={"model.connector": 1e-3, "model.vision_tower": 1e-3},
        bf16=False,
        workers=0,
    )
    train(AnswerObjective(session.model), [sample] * 4, ConversationCollator(session.processor), config, tmp_path)
    after = session.model.vision_tower.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    layers = "encoder.layer" if "dinov2" in name else "encoder.layers"
    assert {key for key in before if key.startswith(f"{layers}.0.")} <= changed | {
        key
        for key in before
        if key.endswith("k_proj.bias")  # which softmax takes no notice of
    }
    assert not any(key.startswith(f"{layers}.2.") for key in changed)  # above the layer that is read


@pytest.mark.parametrize("name", ["clip"])
def test_a_clip_tower_is_exported_to_stock_llava(name, tmp_path):
    from transformers import LlavaForConditionalGeneration

    session = session_with(name)
    session.model.config.vision_feature_select_strategy = "default"
    save_model(session.model, session.processor, tmp_path / "whole")
    own = ChatSession(load_model(tmp_path / "whole"), load_processor(tmp_path / "whole"))
    export_llava(tmp_path / "whole", tmp_path / "llava")
    stock = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava")
    batch = own.processor.prompts([QUESTION])
    with torch.inference_mode():
        torch.testing.assert_close(stock(**batch).logits, own.model(**batch).logits, atol=1e-4, rtol=1e-4)


def test_another_kind_of_tower_is_refused_by_name(tmp_path, folders):
    with pytest.raises(
        ValueError, match=r"vision_config is a cohere; Maya's towers are siglip_vision_model, clip_vision_model"
    ):
        MayaConfig(**(tiny_session().model.config.to_dict() | {"vision_config": {"model_type": "cohere"}}))
    with pytest.raises(CheckpointMismatch, match=r"model_type 'cohere'; Maya's towers are"):
        assemble(folders[2], folders[2])
