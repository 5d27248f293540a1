"""Recipes: functions that return complete, frozen configurations. A study is a `replace` of one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from maya_core.learning.train import TrainConfig, require
from maya_core.model.config import MayaConfig, PhotographTowerConfig
from maya_core.model.prompt import PromptFormat
from maya_core.weights import adapters
from maya_core.weights.adapters import LoraSettings

CONNECTOR, LANGUAGE_MODEL, TOWER = "model.connector", "model.language_model", "model.vision_tower"
LORA_A, LORA_B = adapters.PARTS
MAGNITUDE = adapters.MAGNITUDE


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A stage of training, but for model and data.

    train: the loop's settings; which parts train, and how fast. prompt_format, image_aspect_ratio (how pictures become
    squares): the model's own where None. max_length: tokens of a conversation that are kept. captions: questions may be
    nothing but a picture. last_layers: where set, only so many layers of the language model train, counted from the last.
    lora: adapters instead of the language model's own weights. four_bit: those weights rest in NF4.
    frozen: number format of what does not train, bfloat16 where None and the device has it; what trains is float32.
    """

    train: TrainConfig
    prompt_format: PromptFormat | None = None
    image_aspect_ratio: Literal["pad", "stretch"] | None = None
    max_length: int | None = 2048
    captions: bool = False
    last_layers: int | None = None
    lora: LoraSettings | None = None
    four_bit: bool = False
    frozen: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        for name in ("max_length", "last_layers"):
            number = getattr(self, name)
            require(number is None or number >= 1, name, "at least 1", number)
        if self.lora is not None:
            require(self.lora.rank >= 1, "rank", "at least 1", self.lora.rank)
            require(self.lora.alpha >= 1, "alpha", "at least 1", self.lora.alpha)
            require(0 <= self.lora.dropout < 1, "dropout", "from 0 to less than 1", self.lora.dropout)
            strange = ", ".join(sorted({*self.lora.targets} - {*adapters.MATRICES}))
            require(not strange, "targets", f"of {', '.join(adapters.MATRICES)}", strange)


# --- the paper's stages (hyperparameters as published) ---


def pretrain() -> Recipe:
    """Stage 1: the connector alone, on captions in eight languages."""
    return Recipe(
        train=TrainConfig(epochs=1, batch_size=256, token_budget=16384, learning_rates={CONNECTOR: 1e-3}, workers=4),
        prompt_format="caption",
        image_aspect_ratio="stretch",
        captions=True,
    )


def finetune() -> Recipe:
    """Stage 2: connector and language model, on instructions in ten languages."""
    rates = {CONNECTOR: 2e-5, LANGUAGE_MODEL: 2e-5}
    return Recipe(train=TrainConfig(epochs=1, batch_size=128, token_budget=8192, learning_rates=rates, workers=4))


def lora(*, a: float = 5e-5, b: float = 8e-4) -> Recipe:
    """Adapters on the language model, and the connector.

    The two matrices of an adapter have rates of their own, B's 16 times A's (LoRA+, arXiv 2402.12354); published was one
    of 2e-4 for both, which `lora(a=2e-4, b=2e-4)` is.
    """
    full = finetune()
    rates = {CONNECTOR: 2e-5, LORA_A: a, LORA_B: b}
    return replace(full, train=replace(full.train, learning_rates=rates), lora=LoraSettings())


def qlora() -> Recipe:
    """LoRA over a language model in four bits: an 8B model on a GPU of 12 GB."""
    base = lora()
    train = replace(base.train, token_budget=2048, optimizer="adamw8bit", recompute=True)
    return replace(base, train=train, lora=LoraSettings(rank=64, alpha=128), four_bit=True)


def unfreeze_layers(layers: int = 4) -> Recipe:
    """The connector and the last layers of the language model."""
    return replace(finetune(), last_layers=layers)


# --- the embedded model ---

MOST_THINGS = 15  # that a picture brings behind its cells
FEATURES_OF_A_CELL = PhotographTowerConfig().hidden_size + 4  # how sure so many next things of a class are
DECODER_LAYERS = 6
VOCABULARY = 24_000  # a multiple of 64
_TINY_TABLE = "model.language_model.model.embed_tokens"
# The first layer's queries and keys start where words find their cells (`grounding.look_by_names`), and move slowly.
_TINY_LOOKS = tuple(f"model.language_model.model.layers.0.self_attn.{part}_proj" for part in "qk")
_TINY_LANGUAGE_MODEL: Mapping[str, float] = {
    "model.language_model": 1.5e-3,
    "places": 2e-2,
    "cells.nothing": 1e-3,
    **dict.fromkeys(_TINY_LOOKS, 3e-4),
}


def tiny_model(*, vocab_size: int, image_token_id: int, end_id: int, bos_id: int, pad_id: int) -> MayaConfig:
    """The embedded model: the photograph tower, and the published architecture with every size made small."""
    return MayaConfig(
        vision_config={"model_type": "photograph_tower", "most_things": MOST_THINGS, "hidden_size": FEATURES_OF_A_CELL},
        connector_config={"hidden_size": 1024},
        text_config={
            "vocab_size": vocab_size,
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": DECODER_LAYERS,
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
        keeps_to_script=True,
    )


def tiny_words(*, steps: int = 120) -> TrainConfig:
    """The language model's table of words, on which words mean the same."""
    return TrainConfig(
        steps=steps,
        batch_size=340,
        learning_rates={_TINY_TABLE: 1e-2, "meanings": 1e-2, "languages": 1e-2},
        betas=(0.9, 0.98),
        seed=4,
    )


def tiny_connector(*, steps: int = 600) -> TrainConfig:
    """Stage 1: the connector alone, on cells and words for them."""
    return TrainConfig(
        steps=steps,
        batch_size=64,
        learning_rates={"model.connector": 2e-3, "nothing": 1e-2},
        betas=(0.9, 0.98),
        seed=5,
    )


def tiny_grounding(*, steps: int = 300) -> TrainConfig:
    """Connector and table of words, on cells and words for them: names of things that look alike come closer."""
    return TrainConfig(
        steps=steps,
        batch_size=64,
        learning_rates={"model.connector": 1e-3, _TINY_TABLE: 4e-3, "nothing": 4e-3},
        betas=(0.9, 0.98),
        seed=7,
    )


def tiny_pointing(*, steps: int = 100) -> TrainConfig:
    """The language model's layers alone: with the table moving, the first steps, which are about how answers are written,
    would undo what words and cells have in common."""
    return TrainConfig(
        steps=steps,
        batch_size=20,
        learning_rates={**_TINY_LANGUAGE_MODEL, _TINY_TABLE: 0.0},
        muon_rates={"model.language_model": 7e-3},
        weight_decay=0.01,
        betas=(0.9, 0.98),
        seed=8,
    )


def tiny_answers(*, steps: int = 4200) -> TrainConfig:
    """Stage 2: language model and, slowly, the connector, on questions of every kind. The tower rests."""
    rates = {**_TINY_LANGUAGE_MODEL, _TINY_TABLE: 1e-3, "model.connector": 2e-4}
    return replace(tiny_pointing(steps=steps), batch_size=40, learning_rates=rates, seed=3)


def tiny_doubting(*, steps: int = 600) -> TrainConfig:
    """Stage 2 once more, at six tenths of the speed, with photographs that were taken for something else (R-Tuning, arXiv
    2311.09677): there the model learns to say that it is not sure."""
    answers = tiny_answers()
    rates = {part: rate * 0.6 for part, rate in answers.learning_rates.items()}
    return replace(answers, steps=steps, learning_rates=rates, muon_rates={"model.language_model": 4.5e-3}, seed=10)
