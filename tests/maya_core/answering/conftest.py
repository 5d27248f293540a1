"""A random model with words of every language, which says any of them."""

import pytest
import torch

from maya_core.answering.session import ChatSession
from maya_core.model.processor import ImagePreparation, MayaProcessor
from tests.tiny import tiny_model
from training.embedded.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(4096)


@pytest.fixture(scope="session")
def make(tokenizer):
    """make(keeps_to_script=True) -> a session; its model's config has such fields."""

    def session(**fields):
        known = tokenizer.get_added_vocab()
        end = known["<|END_OF_TURN_TOKEN|>"]
        text = {"vocab_size": 4160, "eos_token_id": end}
        model = tiny_model(text=text, image_token_id=known["<image>"], **fields)
        with torch.no_grad():
            model.get_input_embeddings().weight[end] = 0  # never the likeliest: an answer does not end by chance
        return ChatSession(model, MayaProcessor(model.config, ImagePreparation(size=64), tokenizer))

    return session
