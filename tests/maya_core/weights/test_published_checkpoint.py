"""The published layout: a toy checkpoint with the outputs that the original code gave for it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.model.config import MayaConfig
from maya_core.model.images import open_image
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.weights.checkpoint import load_model, load_processor
from maya_core.weights.export import convert, export_llava
from maya_core.weights.published import load_connector
from tests.tiny import parameters

FIXTURE = Path(__file__).parents[2] / "fixtures" / "maya-llava-tiny"
CASES = json.loads((FIXTURE / "expected.json").read_text())
cases = pytest.mark.parametrize("case", CASES, ids=[case["image"] for case in CASES])


@pytest.fixture(scope="module")
def model() -> MayaForConditionalGeneration:
    return load_model(FIXTURE)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "published"))


def prompt(case: dict, model: MayaForConditionalGeneration) -> torch.Tensor:
    slots = [model.config.image_token_id] * model.config.visual_tokens(64, 64)
    return torch.tensor([[case["bos_token_id"], *case["before"], *slots, *case["after"]]])


def logits(model: MayaForConditionalGeneration, case: dict) -> torch.Tensor:
    pixels = torch.from_numpy(np.load(FIXTURE / case["pixels"])).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        return model(prompt(case, model), pixels).logits


def expected_logits(case: dict) -> torch.Tensor:
    return torch.from_numpy(np.load(FIXTURE / case["logits"])).reshape(case["logits_shape"])


@cases
def test_pixels_agree_with_the_original(case):
    ours = load_processor(FIXTURE).preparation.pixels(open_image(FIXTURE / case["image"]))
    np.testing.assert_allclose(ours.numpy(), np.load(FIXTURE / case["pixels"]).reshape(3, 64, 64), atol=1e-5)


@cases
def test_logits_agree_with_the_original(case, model):
    torch.testing.assert_close(logits(model, case), expected_logits(case), atol=1e-4, rtol=0)


@cases
def test_greedy_tokens_agree_with_the_original(case, model):
    pixels = load_processor(FIXTURE).preparation.pixels(open_image(FIXTURE / case["image"]))[None]
    ids = prompt(case, model)
    new = model.generate(ids, pixel_values=pixels, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    assert new.tolist() == case["greedy"]


def test_image_token_is_the_last_row_without_a_tokenizer(model):
    assert model.config.image_token_id == 511


@cases
def test_converted_to_our_layout_gives_the_same_logits(case, model, tmp_path):
    convert(FIXTURE, tmp_path / "ours")
    torch.testing.assert_close(logits(load_model(tmp_path / "ours"), case), logits(model, case), atol=0, rtol=0)


@cases
def test_exported_llava_gives_the_same_logits_in_the_stock_class(case, model, tmp_path):
    from transformers import LlavaForConditionalGeneration

    export_llava(FIXTURE, tmp_path / "llava")
    stock = LlavaForConditionalGeneration.from_pretrained(tmp_path / "llava").eval()
    torch.testing.assert_close(logits(stock_as_ours(stock, model), case), logits(model, case), atol=1e-5, rtol=0)


def stock_as_ours(stock, model):
    class Wrapped:
        config = model.config

        def __call__(self, ids, pixels):
            return stock(input_ids=ids, pixel_values=pixels)

    return Wrapped()


def test_a_bfloat16_load_is_bfloat16_throughout(model):
    half = load_model(FIXTURE, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def rewrite(folder: Path, change) -> None:
    """Apply `change` to the dictionary of all tensors and write them back as one file."""
    tensors = {}
    for file in sorted(folder.glob("model-*.safetensors")):
        tensors |= load_file(file)
        file.unlink()
    change(tensors)
    (folder / "model.safetensors.index.json").unlink()
    save_file(tensors, folder / "model.safetensors")


def test_one_unsharded_file_loads_too(copy, model):
    rewrite(copy, lambda tensors: None)
    torch.testing.assert_close(logits(load_model(copy), CASES[0]), logits(model, CASES[0]), atol=0, rtol=0)


def test_a_missing_key_is_named(copy):
    rewrite(copy, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(CheckpointMismatch, match=r"1 missing: language_model\.model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(copy)


def test_an_unexpected_key_is_named(copy):
    rewrite(copy, lambda tensors: tensors.update({"model.surprise": torch.zeros(2)}))
    with pytest.raises(CheckpointMismatch, match="1 unexpected: language_model.model.surprise"):
        load_model(copy)


def test_a_misshapen_key_is_named_with_both_shapes(copy):
    rewrite(copy, lambda tensors: tensors.update({"model.mm_projector.2.bias": torch.zeros(47)}))
    with pytest.raises(CheckpointMismatch, match=r"connector\.layers\.2\.bias is \[47\], should be \[48\]"):
        load_model(copy)


def test_a_missing_shard_is_named(copy):
    (copy / "model-00003-of-00010.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match="model-00003-of-00010.safetensors"):
        load_model(copy)


def test_a_shard_cut_in_half_is_named(copy):
    shard = copy / "model-00003-of-00010.safetensors"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(CheckpointMismatch, match="model-00003-of-00010.safetensors is damaged"):
        load_model(copy)


def test_a_stage_1_projector_file_fills_the_connector(copy, model):
    taken = {}

    def take_projector(tensors):
        for name in [name for name in tensors if "mm_projector" in name]:
            taken[name] = tensors.pop(name)

    rewrite(copy, take_projector)
    torch.save(taken, copy / "mm_projector.bin")
    torch.testing.assert_close(logits(load_model(copy), CASES[0]), logits(model, CASES[0]), atol=0, rtol=0)
    (copy / "mm_projector.bin").unlink()
    with pytest.raises(CheckpointMismatch, match=r"4 missing: connector\.layers\.0\.bias"):
        load_model(copy)


def test_a_stage_1_projector_of_another_shape_is_refused(tmp_path):
    other = load_model(FIXTURE)
    torch.save({"model.mm_projector.0.weight": torch.zeros(3, 3)}, tmp_path / "mm_projector.bin")
    with pytest.raises(CheckpointMismatch, match=r"layers\.0\.bias, layers\.0\.weight, layers\.2\.bias"):
        load_connector(other, tmp_path / "mm_projector.bin")


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_projectors_of_every_depth_load(copy, depth):
    weights = {}

    def deepen(tensors):
        for name in [name for name in tensors if "mm_projector" in name]:
            del tensors[name]
        for layer in range(depth):
            size = 32 if layer == 0 else 48
            weights[f"model.mm_projector.{2 * layer}.weight"] = torch.randn(48, size)
            weights[f"model.mm_projector.{2 * layer}.bias"] = torch.randn(48)
        tensors.update(weights)

    rewrite(copy, deepen)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"mm_projector_type": f"mlp{depth}x_gelu"}))
    loaded = load_model(copy)
    features = torch.randn(1, 5, 32)
    value = features
    for layer in range(depth):
        if layer:
            value = torch.nn.functional.gelu(value)
        weight, bias = (weights[f"model.mm_projector.{2 * layer}.{kind}"] for kind in ("weight", "bias"))
        value = value @ weight.T + bias
    torch.testing.assert_close(loaded.connector(features), value)


def test_a_linear_projector_loads(copy):
    def flatten(tensors):
        for name in [name for name in tensors if "mm_projector" in name]:
            del tensors[name]
        tensors["model.mm_projector.weight"] = torch.eye(48, 32)
        tensors["model.mm_projector.bias"] = torch.zeros(48)

    rewrite(copy, flatten)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"mm_projector_type": "linear"}))
    features = torch.randn(1, 5, 32)
    torch.testing.assert_close(load_model(copy).connector(features), torch.nn.functional.pad(features, (0, 16)))


def test_vision_shapes_of_the_published_tower_are_built_in(copy):
    shutil.rmtree(copy / "siglip-tower")
    config = json.loads((copy / "config.json").read_text())
    name = "google/siglip-base-patch16-256-multilingual"
    (copy / "config.json").write_text(json.dumps(config | {"mm_vision_tower": name}))
    with pytest.raises(
        CheckpointMismatch, match=r"patch_embedding\.weight is \[32, 3, 16, 16\], should be \[768, 3, 16, 16\]"
    ):
        load_model(copy)


def test_vision_weights_beside_the_checkpoint_are_read_where_it_has_none(copy):
    def drop_vision(tensors):
        for name in [name for name in tensors if "vision_tower" in name]:
            del tensors[name]

    rewrite(copy, drop_vision)
    stored = load_file(copy / "siglip-tower" / "model.safetensors")
    loaded = load_model(copy)
    weight = loaded.vision_tower.embeddings.patch_embedding.weight
    torch.testing.assert_close(weight, stored["vision_model.embeddings.patch_embedding.weight"])


def test_the_published_sizes():
    with torch.device("meta"):
        whole = MayaForConditionalGeneration(MayaConfig.published())
    assert parameters(whole.language_model) == 8_028_033_024
    assert parameters(whole.connector) == 19_931_136
    assert parameters(whole.vision_tower) == 92_930_304
    assert whole.config.visual_tokens(256, 256) == 255
