"""Tiny random models for tests: the real architecture, made in milliseconds."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedTokenizerFast

from maya_core.answering.session import ChatSession
from maya_core.languages import CODES
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from training.embedded.tokenizer import train_tokenizer

VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {
    "vocab_size": 512,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "logit_scale": 0.0625,
    "eos_token_id": 300,
}


def tiny_config(
    *, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None, **changes: Any
) -> MayaConfig:
    fields = {"vision_config": VISION | (vision or {}), "text_config": TEXT | (text or {}), "image_token_id": 511}
    return MayaConfig(**(fields | changes))


def tiny_model(*, seed: int = 0, spread: float = 0.3, **changes: Any) -> MayaForConditionalGeneration:
    """A random model in eval mode; weights are spread so that different inputs give clearly different answers."""
    torch.manual_seed(seed)
    model = MayaForConditionalGeneration(tiny_config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, spread)
    return model


def parameters(module: nn.Module) -> int:
    """How many numbers a module holds, a shared tensor once."""
    return sum(parameter.numel() for parameter in module.parameters())


SENTENCES = (
    "What is in the picture? A dog.",
    "图中有什么？一只狗。",
    "Qu'y a-t-il sur l'image ? Un chien.",
    "¿Qué hay en la imagen? Un perro.",
    "Что на картинке? Собака.",
    "तस्वीर में क्या है? कुत्ता।",
    "絵には何がありますか？犬です。",
    "ماذا في الصورة؟ كلب.",
    "ছবিতে কী আছে? কুকুর।",
    "تصویر میں کیا ہے؟ کتا۔",
)


@lru_cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with Cohere's control tokens, of fewer than 511 entries."""
    return train_tokenizer(500, SENTENCES)


def tiny_session(*, prompt_format: str = "chat", text: dict[str, Any] | None = None, **changes: Any) -> ChatSession:
    """A random model with a real tokenizer: it answers nonsense, by all the rules."""
    tokenizer = tiny_tokenizer()
    known = tokenizer.get_added_vocab()
    text = (text or {}) | {
        "eos_token_id": known["<|END_OF_TURN_TOKEN|>"],
        "bos_token_id": known["<BOS_TOKEN>"],
        "pad_token_id": known["<PAD>"],
    }
    image_token_id = known["<image>"]
    model = tiny_model(text=text, image_token_id=image_token_id, prompt_format=prompt_format, **changes)
    return ChatSession(model, MayaProcessor(model.config, ImagePreparation(size=64), tokenizer))


def picture(colour: tuple[int, int, int] = (200, 40, 40), size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def write_records(file: Path, pictures: Path) -> None:
    """LLaVA data of a record in each language, and its picture."""
    pictures.mkdir(parents=True)
    records = []
    for number, (language, sentence) in enumerate(zip(CODES, SENTENCES, strict=True)):
        picture((number * 20, 90, 200), (40 + number, 30)).save(pictures / f"{number}.png")
        turns = [{"from": "human", "value": f"<image>\n{sentence}"}, {"from": "gpt", "value": sentence}]
        records.append({"id": number, "image": f"{number}.png", "language": language, "conversations": turns})
    file.write_text(json.dumps(records, ensure_ascii=False), "utf-8")
