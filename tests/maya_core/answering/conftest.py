"""A random model with words of every language, which says any of them."""

import pytest

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
        image = tokenizer.get_added_vocab()["<image>"]
        model = tiny_model(text={"vocab_size": 4160}, image_token_id=image, **fields)
        return ChatSession(model, MayaProcessor(model.config, ImagePreparation(size=64), tokenizer))

    return session
