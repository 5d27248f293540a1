"""Recipes: functions that return complete, frozen configurations. A study is a `replace` of one."""

from dataclasses import replace

from maya_core.config import MayaConfig
from maya_core.train import TrainConfig

TINY_IMAGE_SIZE = 128


def tiny_model(*, vocab_size: int, image_token_id: int, end_id: int, bos_id: int, pad_id: int) -> MayaConfig:
    """The embedded model: the published architecture with every size made small (about 8 M parameters)."""
    return MayaConfig(
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
            "image_size": TINY_IMAGE_SIZE,
            "patch_size": 16,
            "vision_use_head": False,
        },
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "logit_scale": 0.5,
            "initializer_range": 0.06,  # 1 / sqrt(hidden_size); the published 0.02 is for 16 times the width
            "bos_token_id": bos_id,
            "eos_token_id": end_id,
            "pad_token_id": pad_id,
        },
        image_token_id=image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )


def tiny_tower(*, steps: int = 1500) -> TrainConfig:
    """The tower alone, from nothing: which emoji lies on which patch."""
    return TrainConfig(
        steps=steps,
        batch_size=48,
        learning_rates={"tower": 1e-2, "head": 1e-2},
        muon_rates={"tower": 2e-2},
        weight_decay=0.01,
        betas=(0.9, 0.98),
        seed=1,
    )


def tiny_words(*, steps: int = 350) -> TrainConfig:
    """Connector and table of words, on patches and words for them."""
    return TrainConfig(
        steps=steps,
        batch_size=64,
        learning_rates={"model.connector": 3e-3, "model.language_model.model.embed_tokens": 6e-3},
        betas=(0.9, 0.98),
        seed=4,
    )


def tiny_captions(*, steps: int = 700) -> TrainConfig:
    """The language model, on captions: nothing else to learn but to look and to name. Tower and connector rest, or
    early gradients undo them."""
    return TrainConfig(
        steps=steps,
        batch_size=16,
        learning_rates={"model.language_model": 6e-3},
        muon_rates={"model.language_model": 2e-2},
        weight_decay=0.01,
        betas=(0.9, 0.98),
        seed=2,
    )


def tiny_answers(*, steps: int = 1500) -> TrainConfig:
    """Connector and language model, on questions of every kind. Higher rates, or a tower that moves, undo the looking."""
    return replace(
        tiny_captions(steps=steps),
        batch_size=20,
        learning_rates={"model.connector": 3e-4, "model.language_model": 3e-3},
        muon_rates={"model.language_model": 1e-2},
        seed=3,
    )
