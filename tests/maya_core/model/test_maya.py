"""The model states equivalences: padded is alone, cached is uncached, ours is transformers' parts put together."""

import pytest
import torch
from transformers import AutoModelForImageTextToText

from maya_core.errors import ImageCountMismatch
from tests.tiny import tiny_config, tiny_model

SLOT, SLOTS = 511, 16


def ids(*tokens: int) -> torch.Tensor:
    return torch.tensor([tokens])


def with_image(*after: int) -> torch.Tensor:
    return ids(5, *[SLOT] * SLOTS, *after)


def pixels(count: int = 1, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@torch.inference_mode()
def last_logits(model, input_ids, pixel_values=None, **more):
    return model(input_ids, pixel_values, **more).logits[:, -1]


def test_text_alone_is_the_language_model_with_its_logit_scale(model):
    tokens = ids(5, 17, 18, 19)
    body = model.language_model.model(tokens).last_hidden_state
    expected = body @ model.language_model.lm_head.weight.T * 0.0625
    torch.testing.assert_close(model(tokens).logits, expected)


@pytest.mark.parametrize("layer", [-1, -2, -4])
def test_features_are_the_towers_hidden_states(layer):
    model = tiny_model(vision_feature_layer=layer)
    states = model.vision_tower(pixels(2), output_hidden_states=True).hidden_states
    torch.testing.assert_close(model.vision_features(pixels(2)), states[layer])


def test_default_strategy_drops_the_first_patch():
    kept = tiny_model().vision_features(pixels())
    dropped = tiny_model(vision_feature_select_strategy="default").vision_features(pixels())
    torch.testing.assert_close(dropped, kept[:, 1:])


def test_image_embeddings_stand_at_the_slots_in_order(model):
    tokens = ids(5, *[SLOT] * SLOTS, 9, *[SLOT] * SLOTS)
    images = model.image_embeds(pixels(2))
    merged = model.embed(tokens, images)
    torch.testing.assert_close(merged[0, 1:17], images[0])
    torch.testing.assert_close(merged[0, 18:], images[1])
    torch.testing.assert_close(merged[0, 17], model.get_input_embeddings().weight[9])


@pytest.mark.parametrize(
    ("tokens", "images", "numbers"),
    [
        (with_image(7), 2, "16 image slots.*32 visual"),
        (ids(5, 7), 1, "0 image slots.*16"),
        (with_image(7), 0, "16 .* 0 visual"),
    ],
)
def test_slots_and_images_that_disagree_raise_with_both_numbers(model, tokens, images, numbers):
    with pytest.raises(ImageCountMismatch, match=numbers):
        model(tokens, pixels(images) if images else None)


def test_another_picture_changes_the_answer(model):
    assert not torch.allclose(
        last_logits(model, with_image(7), pixels()), last_logits(model, with_image(7), pixels(seed=1))
    )


def test_left_padded_batch_answers_as_each_alone(model):
    short, long = with_image(7, 8), with_image(7, 8, 9, 10, 11)
    padded = torch.cat([torch.nn.functional.pad(short, (3, 0)), long])
    mask = torch.ones_like(padded)
    mask[0, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    both = last_logits(model, padded, pixels(2), attention_mask=mask, position_ids=positions)
    alone = torch.cat([last_logits(model, short, pixels(2)[:1]), last_logits(model, long, pixels(2)[1:])])
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)


def test_text_only_and_picture_rows_share_a_batch(model):
    text = torch.nn.functional.pad(ids(5, 30, 31), (SLOTS, 0))
    batch = torch.cat([text, with_image(7, 8)])
    mask = torch.ones_like(batch)
    mask[0, :SLOTS] = 0
    both = last_logits(model, batch, pixels(), attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0))
    alone = torch.cat([last_logits(model, ids(5, 30, 31)), last_logits(model, with_image(7, 8), pixels())])
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (32, 128), (16, 16)])
def test_every_multiple_of_the_patch_is_taken(model, height, width):
    slots = (height // 16) * (width // 16)
    assert model.config.visual_tokens(height, width) == slots
    assert model(ids(5, *[SLOT] * slots, 7), pixels(1, height, width)).logits.shape == (1, slots + 2, 512)


def test_off_the_patch_grid_is_refused_with_both_numbers(model):
    with pytest.raises(ValueError, match="65 x 64 pixels is not a multiple of the 16 px patch"):
        model(with_image(7), pixels(1, 65, 64))


def test_generation_with_cache_is_generation_without(model):
    cached = model.generate(with_image(7, 8), pixel_values=pixels(), max_new_tokens=8, do_sample=False)
    uncached = model.generate(
        with_image(7, 8), pixel_values=pixels(), max_new_tokens=8, do_sample=False, use_cache=False
    )
    assert cached.tolist() == uncached.tolist()
    tokens = with_image(7, 8)
    for _ in range(8):
        tokens = torch.cat([tokens, last_logits(model, tokens, pixels()).argmax(-1, keepdim=True)], dim=1)
    assert cached.tolist() == tokens.tolist()


def test_generation_from_embeddings_is_generation_from_ids(model):
    prompt, shown = with_image(17, 18), pixels()
    options = {"attention_mask": torch.ones_like(prompt), "max_new_tokens": 6, "do_sample": False}
    with torch.inference_mode():
        embeds = model.embed(prompt, model.image_embeds(shown))
    from_ids = model.generate(prompt, pixel_values=shown, **options)[:, prompt.shape[1] :]
    assert torch.equal(model.generate(inputs_embeds=embeds, **options), from_ids)


def test_what_is_read_is_given_once(model):
    embeds = model.embed(ids(5, 17), None)
    for given in (
        {},
        {"input_ids": ids(5), "inputs_embeds": embeds},
        {"inputs_embeds": embeds, "pixel_values": pixels()},
    ):
        with pytest.raises(ValueError, match="The model reads input_ids, with pixel_values, or inputs_embeds alone"):
            model(**given)


def test_labels_give_the_mean_next_token_loss(model):
    tokens, labels = with_image(7, 8, 9), with_image(7, 8, 9)
    labels[:, :18] = -100
    logits = model(tokens, pixels()).logits
    expected = torch.nn.functional.cross_entropy(logits[0, 17:19], tokens[0, 18:20])
    torch.testing.assert_close(model(tokens, pixels(), labels=labels).loss, expected)


def test_auto_classes_load_what_was_saved(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(last_logits(again, with_image(7), pixels()), last_logits(model, with_image(7), pixels()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_feature_layer": -5}, "-5 does not exist in a tower of 3 layers"),
        ({"image_token_id": 512}, "512 is outside the table of 512 rows"),
        ({"connector_config": {"depth": 0}}, "at least 1, not 0"),
        ({"vision": {"image_size": 65}}, "65 is not a multiple of patch_size 16"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)
