"""Pointing: beside EmojiVQA's conversations the model says, for names, at which of the nine places their things lie.

Comparing a word with a picture is what answers alone teach last, if at all: one yes or no says little about which patches
should have been looked at. Here the decoder's first layers are asked directly, for names of things that are there and of
things that are not. What they answer with is thrown away after training.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maya_core.languages import CODES
from maya_core.learning.data import IGNORED, Batch, PackedCollator, PackedSample, PreparedPack
from maya_core.learning.losses import LossSum
from maya_core.learning.objective import AnswerObjective
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from training.embedded.grounding import patch_objective
from training.embedded.sight import seen_in
from training.emoji_vqa.dataset import EmojiQuestions
from training.emoji_vqa.questions import concept_name, is_spaced
from training.emoji_vqa.scenes import CELLS, Scene, make_scene, render
from training.emoji_vqa.vocabulary import load_vocabulary

FARTHEST = 24  # positions from the picture to a name: as far as names stand in questions
LAYERS = 2  # of the decoder, from the first, that are asked
MATCHING = 0.5  # weight of patches that match words, beside the answers


@dataclass(frozen=True, kw_only=True)
class PointingSample:
    """packed: conversations about a scene. names: of things, there or not; cells: for each, where its things lie.
    concepts: (patches,) what lies on each patch, -1 for nothing. colour: number of the ground's colour."""

    packed: PackedSample
    names: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]
    concepts: Tensor
    colour: int


@dataclass(frozen=True, kw_only=True)
class PointingQuestions:
    """`questions`, each sample with `names` names in any language, half of them of things that are there.

    grid: patches along a side of a picture.
    """

    questions: EmojiQuestions
    names: int
    grid: int

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> PointingSample:
        scene = make_scene(self.questions.split, index, size=self.questions.image_size)
        rng = random.Random(f"pointing/{self.questions.seed}/{scene.split}/{index}")
        asked = [_concept(scene, rng) for _ in range(self.names)]
        concepts, colour = seen_in(scene, self.grid)
        return PointingSample(
            packed=self.questions.about(scene, render(scene)),
            names=tuple(_inside_a_sentence(concept, rng.choice(CODES)) for concept in asked),
            cells=tuple(tuple(thing.cell for thing in scene.things if thing.concept == it) for it in asked),
            concepts=concepts,
            colour=colour,
        )


def _concept(scene: Scene, rng: random.Random) -> int:
    return rng.choice(scene.concepts) if rng.random() < 0.5 else rng.randrange(len(load_vocabulary()))


def _inside_a_sentence(concept: int, language: str) -> str:
    name = concept_name(concept, language)
    return f" {name}" if is_spaced(language) else name


@dataclass(frozen=True, kw_only=True)
class PreparedPointing(PreparedPack):
    """ends: position of each name's last token. sample: what it was made of."""

    ends: tuple[int, ...]
    sample: PointingSample


class PointingCollator(PackedCollator):
    """As `PackedCollator`, with each name behind the conversations, seeing the picture and itself.

    Beside its batch: name_ends (names, 2), row and position of each name's last token; cells (names, CELLS), 1 where its
    things lie; concepts (B, patches) and colours (B,).
    """

    def prepare(self, sample: PointingSample) -> PreparedPointing:
        pack = super().prepare(sample.packed)
        picture = pack.columns["branch"].count(0)
        rng = random.Random(sample.names[0])
        tokenizer = self.processor.require_tokenizer()
        names: list[list[int]] = tokenizer(list(sample.names), add_special_tokens=False)["input_ids"]
        ends = []
        for branch, ids in enumerate(names, start=max(pack.columns["branch"]) + 1):
            start = picture + rng.randrange(FARTHEST)
            name = {"input_ids": ids, "position_ids": range(start, start + len(ids))}
            same = {"labels": IGNORED, "languages": -1, "branch": branch}
            for column, values in (name | {column: [value] * len(ids) for column, value in same.items()}).items():
                pack.columns[column] += values
            ends.append(len(pack.columns["input_ids"]) - 1)
        return PreparedPointing(columns=pack.columns, pictures=pack.pictures, ends=tuple(ends), sample=sample)

    def collate(self, prepared: Sequence[PreparedPointing]) -> Batch:
        cells = [cells for one in prepared for cells in one.sample.cells]
        cells_KC = torch.zeros(len(cells), CELLS)
        for number, taken in enumerate(cells):
            cells_KC[number, list(taken)] = 1
        return super().collate(prepared) | {
            "name_ends": torch.tensor([(row, end) for row, one in enumerate(prepared) for end in one.ends]),
            "cells": cells_KC,
            "concepts": torch.stack([one.sample.concepts for one in prepared]),
            "colours": torch.tensor([one.sample.colour for one in prepared]),
        }


class PointingObjective(nn.Module):
    """Learn to answer; beside it, to point, and to keep patches and words alike, for as long as all else moves."""

    def __init__(self, model: MayaForConditionalGeneration, processor: MayaProcessor) -> None:
        super().__init__()
        self.model = model
        self.answers = AnswerObjective(model)
        self.patches = patch_objective(model, processor, CODES)
        self.places = nn.ModuleList(nn.Linear(model.config.text.hidden_size, CELLS) for _ in range(LAYERS))

    def forward(self, batch: Batch) -> LossSum:
        """batch: as `PointingCollator` makes it."""
        features_BND = self.model.vision_features(batch["pixel_values"])
        seen = {name: batch[name] for name in batch if name != "pixel_values"} | {"vision_features": features_BND}
        layers = self.model.get_decoder().layers[:LAYERS]
        states: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda _, inputs, output: states.append(output)) for layer in layers]
        answers = self.answers(seen)
        for hook in hooks:
            hook.remove()
        rows_K, ends_K = batch["name_ends"].T
        matching = self.patches.alike(features_BND, batch)
        beside = MATCHING * matching.total / matching.count
        for place, state_BTE in zip(self.places, states, strict=True):
            state_KE = state_BTE[rows_K, ends_K].float()
            logits_KC = place(nn.functional.layer_norm(state_KE, state_KE.shape[-1:]))
            beside = beside + nn.functional.binary_cross_entropy_with_logits(logits_KC, batch["cells"])
        return LossSum(answers.total + answers.count * beside, answers.count, answers.by_language)
