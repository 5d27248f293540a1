"""Towers: each is transformers' own, is prepared for as it was trained, and can be assembled, trained, saved, quantised."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
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

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession, load_session
from maya_core.assets import EMBEDDED, asset_path
from maya_core.errors import CheckpointMismatch
from maya_core.learning.data import ConversationCollator, Sample
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import TrainConfig, train
from maya_core.model.config import OVERVIEWS, MayaConfig
from maya_core.model.images import open_image
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation
from maya_core.model.prompt import Message
from maya_core.model.towers import photograph
from maya_core.model.towers.efficientnet_lite import folded
from maya_core.model.towers.nanodet import Found, found
from maya_core.model.towers.photograph import PhotographTower
from maya_core.weights.checkpoint import assemble, load_config, load_model, load_processor, save_model
from maya_core.weights.export import export_llava, quantize_checkpoint
from tests.maya_core.model.test_maya import pixels
from tests.tiny import picture, tiny_session
from training.recipes import MOST_THINGS

FIXTURES = Path(__file__).parents[2] / "fixtures"
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


def model_with(name, *, seed=0, **changes) -> MayaForConditionalGeneration:
    """A tiny Maya with that tower."""
    fields = tiny_session().model.config.to_dict()
    torch.manual_seed(seed)
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
def test_an_untrained_tower_begins_as_transformers_own(name):
    config, kind, _ = TOWERS[name]
    torch.manual_seed(5)
    reference = kind(config).state_dict()
    model = model_with(name, seed=5)
    assert all(torch.equal(tensor, reference[key]) for key, tensor in model.vision_tower.state_dict().items())


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
    session.model.save_pretrained(tmp_path / "by-transformers")
    session.processor.save_pretrained(tmp_path / "by-transformers")
    assert load_session(tmp_path / "by-transformers").token_ids(QUESTION, OPTIONS) == session.token_ids(
        QUESTION, OPTIONS
    )
    quantize_checkpoint(tmp_path / "whole", tmp_path / "four-bit")
    four_bit = load_model(tmp_path / "four-bit")
    for key, tensor in session.model.vision_tower.state_dict().items():
        kept = four_bit.vision_tower.state_dict()[key]
        torch.testing.assert_close(kept, tensor, atol=1e-2, rtol=1e-2)  # in 16 bits


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


@pytest.fixture(scope="module")
def photograph_tower() -> PhotographTower:
    """That of the embedded Maya, with nothing behind the cells, nor in them of what stands there."""
    tower = load_model(asset_path(EMBEDDED)).vision_tower
    assert isinstance(tower, PhotographTower)
    tower.config.most_things, tower.config.hidden_size = 0, 1702
    return tower


def expected_of(network):
    return json.loads((FIXTURES / "photograph-tower" / f"{network}.json").read_text()).items()


def test_the_classifier_is_the_original_network(photograph_tower):
    """Weights in float16: what it gives is the original's but for their rounding."""
    with safe_open(asset_path("photograph-tower") / "imagenet.safetensors", framework="pt") as stored:
        weight_KD, bias_K = (stored.get_tensor(name).float() for name in ("weight", "bias"))
    preparation = ImagePreparation(size=260, mean=photograph_tower.mean, std=photograph_tower.std)
    for name, wanted in expected_of("efficientnet-lite2"):
        seen = preparation.pixels(open_image(FIXTURES / "maya-llava-tiny" / name))[None]
        with torch.inference_mode():
            cells_PD = photograph_tower.classifier(seen)[0].flatten(1).T
        scores_K = cells_PD.mean(0) @ weight_KD.T + bias_K
        assert scores_K.topk(5).indices.tolist() == wanted["classes"]
        assert scores_K.topk(5).values.tolist() == pytest.approx(wanted["scores"], abs=0.02)
        assert float(cells_PD.mean()) == pytest.approx(wanted["mean_of_features"], abs=1e-3)
        assert cells_PD[4 * 9 + 4].topk(8).values.tolist() == pytest.approx(
            wanted["largest_of_the_middle_cell"], abs=0.03
        )


def test_the_detector_is_the_original_network(photograph_tower):
    preparation = ImagePreparation(size=416, mean=(0, 0, 0), std=(1 / 255,) * 3, aspect_ratio="stretch")
    for name, wanted in expected_of("nanodet-g"):
        seen = preparation.pixels(open_image(FIXTURES / "maya-llava-tiny" / name)).flip(0)[None]
        with torch.inference_mode():
            maps = photograph_tower.detector(seen)
        for map_ICHW, (classes, scores, mean) in zip(maps, wanted, strict=True):
            best_K = map_ICHW[0, :80].flatten(1).amax(1).sigmoid()
            assert best_K.topk(3).indices.tolist() == classes
            assert best_K.topk(3).values.tolist() == pytest.approx(scores, abs=1e-3)
            assert float(map_ICHW.mean()) == pytest.approx(mean, abs=1e-3)


def test_boxes_are_read_off_and_the_same_thing_is_found_once():
    maps = [torch.full((124, 384 // stride, 384 // stride), -9.0) for stride in (8, 16, 32)]
    for stride, row, column, logit in (
        (2, 5, 3, 2.0),
        (2, 5, 4, 1.0),
        (2, 2, 9, 0.0),
    ):  # two neighbours, and one far off
        maps[stride][17, row, column] = logit
        maps[stride][80:, row, column] = 0
        for side in range(4):
            maps[stride][80 + 11 * side + 4, row, column] = 30  # four strides away, each way
    told = found(maps)
    assert told.classes_N.tolist() == [17, 17]
    assert told.scores_N.tolist() == pytest.approx([0.8808, 0.5], abs=1e-4)
    assert told.boxes_N4[0].tolist() == pytest.approx([-16, 48, 240, 304])
    assert len(found(maps, overlap=0.8).classes_N) == 3
    assert len(found(maps, least=0.95).classes_N) == 0


def test_a_cell_says_what_is_in_it(photograph_tower):
    red = torch.zeros(1, 3, 384, 384)
    red[:, 0], red[:, 1:] = (255 - 127) / 128, (0 - 127) / 128
    with torch.inference_mode():
        [cells_PD] = photograph_tower.features(red, layers=1)
        looks_CHW = photograph_tower.classifier(red)[0]
        told = found([one[0] for one in photograph_tower.detector(255 * (red * 128 + 127).div(255).flip(1))])
    assert cells_PD.shape == (36, photograph_tower.config.hidden_size)
    torch.testing.assert_close(cells_PD[7, :1280], looks_CHW[:, 2:4, 2:4].mean((1, 2)), atol=1e-5, rtol=1e-5)
    quarters = cells_PD[:, 1360:1700].view(6, 6, 85, 2, 2).permute(2, 0, 3, 1, 4).reshape(85, 12, 12)
    torch.testing.assert_close(
        quarters[82:], torch.tensor([1.0, -1, -1])[:, None, None].expand(3, 12, 12), atol=1e-5, rtol=0
    )
    for score, kind, box in zip(*told, strict=True):
        row, column = (int(((box[at] + box[at + 2]) / 2 / 32).clamp(0, 11)) for at in (1, 0))
        assert quarters[kind, row, column] == pytest.approx(float(score), abs=1e-4)
    assert int((quarters[:80] > 0).sum()) == len(told.scores_N)
    assert cells_PD[6 * 5, 1700:].tolist() == pytest.approx([-5 / 6, 5 / 6])  # the lowest at the left


def test_what_is_told_of_the_next_things_of_a_class_stands_before_the_colours(photograph_tower, monkeypatch):
    picture = torch.rand(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0.0, 192, 192], [288, 96, 384, 384], [0.0, 192, 96, 384]])
    told = Found(torch.tensor([0.8, 0.5, 0.3]), torch.tensor([16, 16, 16]), boxes)
    monkeypatch.setattr(photograph, "found", lambda maps, least=0.25, most=40: told)
    monkeypatch.setattr(photograph_tower.config, "most_things", 4)
    [plain_PD] = photograph_tower.features(picture, layers=1).detach()
    monkeypatch.setattr(photograph_tower.config, "hidden_size", 1706)
    [telling_PD] = photograph_tower.features(picture, layers=1).detach()
    assert torch.equal(torch.cat([telling_PD[:, :1688], telling_PD[:, 1692:]], dim=1), plain_PD)
    surest = 36 + OVERVIEWS
    assert telling_PD[surest, 1688:1692].tolist() == pytest.approx([0.5, 0.3, 0, 0])
    telling_PD[surest, 1688:1692] = 0
    assert not telling_PD[:, 1688:1692].any()


def test_overviews_and_what_was_found_stand_behind_the_cells_each_as_a_cell_of_its_own(photograph_tower, monkeypatch):
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 384, 384)
    boxes = torch.tensor([[0.0, 0.0, 192, 192], [288, 96, 384, 384]])
    told = Found(torch.tensor([0.8, 0.15]), torch.tensor([16, 0]), boxes)
    monkeypatch.setattr(photograph, "found", lambda maps, least=0.25, most=40: told)
    alone = photograph_tower.features(picture, layers=1).detach()
    monkeypatch.setattr(photograph_tower.config, "most_things", 4)
    [features_PD] = photograph_tower.features(picture, layers=1).detach()
    assert torch.equal(features_PD[:36], alone[0])
    whole, dog, person, *nothing = features_PD[36], *features_PD[36 + OVERVIEWS :]
    torch.testing.assert_close(whole[:1280], features_PD[:36, :1280].mean(0))
    assert not whole[1280 : 1360 + 4 * 82].any()
    tones = picture.flatten(2).mean(2)[0] * photograph_tower.std[0] + photograph_tower.mean[0]
    torch.testing.assert_close(whole[1360 + 4 * 82 : 1700].view(3, 4), (2 * tones - 1)[:, None].expand(3, 4))
    assert not whole[-2:].any()
    cells_66D = features_PD[:36].unflatten(0, (6, 6))
    for place, part in enumerate(features_PD[37 : 36 + OVERVIEWS]):
        row, column = divmod(place, 3)
        its_PD = cells_66D[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(0, 1)
        torch.testing.assert_close(part[:1280], its_PD[:, :1280].mean(0))
        assert not part[1280 : 1360 + 4 * 82].any()
        tones = its_PD[:, 1360:1700].unflatten(1, (85, 4))[:, 82:].mean((0, 2))
        torch.testing.assert_close(part[1360 + 4 * 82 : 1700].view(3, 4), tones[:, None].expand(3, 4))
        torch.testing.assert_close(part[-2:], its_PD[:, -2:].mean(0))
    assert not torch.stack(nothing).any()
    for thing, kind, score, cells in ((dog, 16, 0.8, cells_66D[:3, :3]), (person, 0, 0.15, cells_66D[1:, 4:])):
        assert not thing[:1280].any()
        assert thing[1280:1360].nonzero().flatten().tolist() == [kind]
        assert float(thing[1280 + kind]) == 1
        quarters = thing[1360:1700].view(85, 4)
        assert int((quarters[:80] > 0).sum()) == 1
        assert float(quarters[kind].max()) == pytest.approx(score)
        colours = cells.flatten(0, 1)[:, 1360:1700].unflatten(1, (85, 4))[:, 82:].mean((0, 2))
        torch.testing.assert_close(quarters[82:], colours[:, None].expand(3, 4))
    assert float(dog[1360:1700].view(85, 4)[80].max()) == pytest.approx(0.5)  # its width
    assert dog[-2:].tolist() == pytest.approx([-0.5, -0.5])
    assert person[-2:].tolist() == pytest.approx([0.75, 0.25])


def test_the_surest_of_each_class_stands_first_and_tells_how_sure_the_next_ones_are():
    found = [(0, 0.6), (16, 0.3), (0, 0.9), (0, 0.2), (2, 0.7), (0, 0.5), (16, 0.31), (0, 0.4), (0, 0.1)]
    things_ND = torch.zeros(len(found) + 2, 1706)
    for number, (kind, score) in enumerate(found, start=1):  # before them a row of zeros, and behind them
        box = (number / 20, 0.2, number / 20 + 0.3, 0.6)
        things_ND[number] = photograph.as_cell(torch.zeros(36, 1706), (6, 6), kind, score, box)
    before_ND = things_ND.clone()
    told_ND = photograph.in_order(things_ND, 7)
    assert torch.equal(things_ND, before_ND)
    without_ND = told_ND.clone()
    without_ND[:, 1688:1692] = 0
    assert torch.equal(without_ND, before_ND[[3, 5, 7, 1, 6, 8, 2]])
    assert told_ND[0, 1688:1692].tolist() == pytest.approx([0.6, 0.5, 0.4, 0.2])
    assert told_ND[2, 1688:1692].tolist() == pytest.approx([0.3, 0, 0, 0])
    assert not told_ND[[1, 3, 4, 5, 6], 1688:1692].any()
    assert not photograph.in_order(things_ND[:1], 2).any()  # where nothing was found
    assert photograph.in_order(things_ND[:0], 2).shape == (2, 1706)


def test_a_picture_has_as_many_positions_as_its_tower_gives():
    tower = {"model_type": "photograph_tower", "most_things": 16}
    config = MayaConfig(vision_config=tower, vision_feature_layer=-1, connector_config={"hidden_size": 8})
    assert config.visual_tokens(384, 384) == 36 + OVERVIEWS + 16


def test_a_batch_norm_is_folded_into_the_convolution_before_it():
    torch.manual_seed(0)
    plain, norm = nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6, eps=1e-3).eval()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_(), norm.bias.data.normal_()
    one = nn.Conv2d(4, 6, 3)
    one.weight.data, one.bias.data = folded(plain.weight, norm.state_dict())
    seen = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(one(seen), norm(plain(seen)), atol=1e-5, rtol=1e-5)


def test_the_photograph_tower_in_a_maya(tmp_path, folders):
    model, processor = assemble(asset_path(EMBEDDED), folders[2], prompt_format="chat")
    assert (processor.preparation.size, processor.image_slots) == (384, 36 + OVERVIEWS + MOST_THINGS)
    session = ChatSession(model, processor)
    save_model(model, processor, tmp_path / "whole")
    again = ChatSession(load_model(tmp_path / "whole"), load_processor(tmp_path / "whole"))
    assert again.token_ids(QUESTION, OPTIONS) == session.token_ids(QUESTION, OPTIONS)
    model, processor = assemble(asset_path(EMBEDDED), folders[2], prompt_format="chat")
    before = model.vision_tower.state_dict()["classifier.stem.convolution.weight"].clone()
    config = TrainConfig(steps=1, batch_size=1, learning_rates={"model.vision_tower": 1e-3}, bf16=False, workers=0)
    sample = Sample(messages=(*QUESTION, Message(role="assistant", text="A dog.")))
    train(AnswerObjective(model), [sample], ConversationCollator(processor), config, tmp_path / "run")
    assert not torch.equal(before, model.vision_tower.state_dict()["classifier.stem.convolution.weight"])


def test_another_kind_of_tower_is_refused_by_name(tmp_path, folders):
    with pytest.raises(
        ValueError, match=r"vision_config is a cohere; Maya's towers are siglip_vision_model, clip_vision_model"
    ):
        MayaConfig(**(tiny_session().model.config.to_dict() | {"vision_config": {"model_type": "cohere"}}))
    with pytest.raises(CheckpointMismatch, match=r"model_type 'cohere'; Maya's towers are"):
        assemble(folders[2], folders[2])
