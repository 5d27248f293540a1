"""A model of the embedded one's shape, and scenes that it has seen, without the work of seeing them."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from maya_core.assets import asset_path
from maya_core.model.config import OVERVIEWS, MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from training.embedded.seen import COLOURS, FEATURES, SeenScenes
from training.embedded.tokenizer import train_tokenizer
from training.photo_vqa.scenes import Scenes, photographs
from training.recipes import FEATURES_OF_A_CELL, MOST_THINGS, tiny_model

TOWER = asset_path("maya-tiny")  # a folder that has the photograph tower
GRID, WIDTH = 6, FEATURES_OF_A_CELL  # cells along a side, features of a cell
ROWS = GRID**2 + OVERVIEWS + MOST_THINGS
SIZE = 24  # scenes


class Made(NamedTuple):
    """A random model and its processor. Its connector and language model are the embedded one's, its tower sees nothing."""

    model: MayaForConditionalGeneration
    processor: MayaProcessor


@pytest.fixture(scope="session")
def embedded_processor() -> MayaProcessor:
    tokenizer = train_tokenizer(2048)
    ids = tokenizer.get_added_vocab()
    config: MayaConfig = tiny_model(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        image_token_id=ids["<image>"],
        end_id=ids["<|END_OF_TURN_TOKEN|>"],
        bos_id=ids["<BOS_TOKEN>"],
        pad_id=ids["<PAD>"],
    )
    return MayaProcessor(config, ImagePreparation.of(config), tokenizer)


@pytest.fixture
def made(embedded_processor: MayaProcessor) -> Made:
    torch.manual_seed(0)
    return Made(MayaForConditionalGeneration(embedded_processor.config).eval(), embedded_processor)


@pytest.fixture(scope="session")
def seen(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> SeenScenes:
    """Scenes with colours as they are and features by chance."""
    folder = tmp_path_factory.mktemp("seen")
    scenes = Scenes(photographs(folders / "caltech", folders / "coco", "train"))
    generator = np.random.default_rng(0)
    stored = np.memmap(folder / FEATURES, np.float16, "w+", shape=(SIZE, ROWS, WIDTH))
    stored[:] = generator.gamma(1.0, 0.4, stored.shape).clip(0, 6)
    stored.flush()
    lines = []
    for index in range(SIZE):
        scene = scenes[index].with_colours(scenes[index].render())
        lines.append(json.dumps({"ground": scene.ground, "things": [thing.colour for thing in scene.things]}))
    (folder / COLOURS).write_text("\n".join(lines) + "\n", "utf-8")
    return SeenScenes(scenes, folder, (ROWS, WIDTH), SIZE)
