"""Stage 0, the vision tower alone: SigLIP's sigmoid loss between patches and the names of what lies on them."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from maya_core.languages import PRETRAINED_CODES
from maya_core.learning.data import Batch, Collator
from maya_core.learning.losses import LossSum
from maya_core.learning.train import TrainConfig, train
from maya_core.model.processor import ImagePreparation, MayaProcessor
from training.emoji_vqa.questions import load_phrases
from training.emoji_vqa.scenes import CELLS, COLOURS, Scene, make_scene, patch_labels, render
from training.emoji_vqa.vocabulary import load_vocabulary
from training.progress import printer

SCENES = 1_000_000  # training scenes there are; a run sees a part of them
EMPTY_PATCH_WEIGHT = 0.1  # most patches are empty, and they are easy


class EmojiScenes:
    """Scenes with, for each patch, the concept that lies on it. Samples: pixels (3, H, W), labels (patches,), and the
    number of the ground's colour.

    crowded: share of the scenes that have a thing in every cell: more to see for the same work. alone: share of those with
    one large thing; the rest have as many things as the questions' pictures have.
    """

    def __init__(self, preparation: ImagePreparation, *, patch_size: int, crowded: float, alone: float) -> None:
        self.preparation, self.grid = preparation, preparation.size // patch_size
        self.crowded, self.alone = crowded, alone

    def __len__(self) -> int:
        return SCENES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        kind = random.Random(f"crowded/{index}").random()
        number = CELLS if kind < self.crowded else 1 if kind < self.crowded + self.alone else None
        scene = make_scene("train", index, size=self.preparation.size, number=number)
        return self.preparation.pixels(render(scene)), *seen_in(scene, self.grid)


def seen_in(scene: Scene, grid: int) -> tuple[Tensor, int]:
    """Which concept lies on each patch (grid * grid,), -1 for none, and the number of the ground's colour."""
    return torch.from_numpy(patch_labels(scene, grid)).flatten(), list(COLOURS).index(scene.colour)


class SceneCollator(Collator):
    """Scenes -> pixel_values (B, 3, H, W), concepts (B, patches) and colours (B,)."""

    def collate(self, prepared: Sequence[tuple[Tensor, Tensor, int]]) -> Batch:
        pixels, labels, colours = zip(*prepared, strict=True)
        return {
            "pixel_values": torch.stack(pixels),
            "concepts": torch.stack(labels),
            "colours": torch.tensor(colours),
        }


class TowerObjective(nn.Module):
    """SigLIP's sigmoid loss (arXiv 2303.15343) between patches and the names of what lies on them, in eight languages; of
    the ground's colour, where nothing does. And which patch each is: asked for things alone, a tower forgets where they are.

    SigLIP contrasts whole pictures with captions and needs billions of them. Here the scene knows what each patch shows.
    """

    def __init__(self, tower: SiglipVisionModel, names: Sequence[Sequence[Sequence[int]]], vocabulary: int) -> None:
        """names: token ids by language and thing (the concepts, then the colours)."""
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        self.names = WordVectors(names)
        self.head = nn.Linear(width, width)
        self.place = nn.Linear(width, (tower.config.image_size // tower.config.patch_size) ** 2)
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=0.1)
        self.balance = _Balance()

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W), concepts (B, N), -1 where nothing lies, and colours (B,)."""
        features_PD = self.tower(batch["pixel_values"]).last_hidden_state.flatten(0, 1).float()
        logits_PLT = self.likeness(features_PD)
        is_P = nn.functional.one_hot(things_of(batch, len(self.names)), len(self.names)).to(logits_PLT)
        pairs_PLT = nn.functional.binary_cross_entropy_with_logits(
            logits_PLT, is_P[:, None].expand_as(logits_PLT), reduction="none"
        )
        weight_P = torch.where(batch["concepts"].flatten() >= 0, 1.0, EMPTY_PATCH_WEIGHT)
        loss = (pairs_PLT.sum(2).mean(1) * weight_P).sum() / weight_P.sum()
        patches_P = torch.arange(self.place.out_features).repeat(len(batch["concepts"]))
        loss = loss + nn.functional.cross_entropy(self.place(features_PD), patches_P)
        return LossSum(loss * len(patches_P), torch.tensor(len(patches_P)))

    def likeness(self, features_PD: Tensor) -> Tensor:
        """Features of patches -> logits (P, languages, things)."""
        patches_PD = nn.functional.normalize(self.head(features_PD), dim=-1)
        names_LTD = nn.functional.normalize(self.names(self.table.weight), dim=-1)
        cosine_PLT = torch.einsum("pd,ltd->plt", patches_PD, names_LTD)
        return self.balance(cosine_PLT)


class _Balance(nn.Module):
    """Cosine -> logit, by a learnt temperature and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(math.log(16.0)))
        self.bias = nn.Parameter(torch.tensor(-8.0))

    def forward(self, cosine: Tensor) -> Tensor:
        return cosine * self.temperature.exp() + self.bias


def things_of(batch: Batch, things: int) -> Tensor:
    """Which thing each patch shows (P,): a concept, or behind the concepts the colour of the ground."""
    colours_B1 = things - len(COLOURS) + batch["colours"][:, None]
    return torch.where(batch["concepts"] >= 0, batch["concepts"], colours_B1).flatten()


def untrained_tower(vision: SiglipVisionConfig, processor: MayaProcessor, seed: int) -> TowerObjective:
    """A vision tower before any training, with what it learns from."""
    torch.manual_seed(seed)
    tower = SiglipVisionModel._from_config(vision, attn_implementation="eager")  # on 64 patches the faster one
    names = [token_ids(processor, names_of(code)) for code in PRETRAINED_CODES]
    return TowerObjective(tower, names, len(processor.require_tokenizer()))


def train_tower(
    objective: TowerObjective,
    processor: MayaProcessor,
    config: TrainConfig,
    run_dir: Path,
    *,
    crowded: float,
    alone: float,
) -> None:
    """Stage 0: the vision tower, on `EmojiScenes` of a kind."""
    patch_size = objective.tower.config.patch_size
    scenes = EmojiScenes(processor.preparation, patch_size=patch_size, crowded=crowded, alone=alone)
    train(objective, scenes, SceneCollator(), config, run_dir, on_record=printer(run_dir.name))


def names_of(language: str) -> list[str]:
    """The concepts, then the colours."""
    names = [concept.names[language] for concept in load_vocabulary()]
    return names + [load_phrases(language).colours[colour] for colour in COLOURS]


def token_ids(processor: MayaProcessor, words: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = processor.require_tokenizer()(list(words), add_special_tokens=False)["input_ids"]
    return ids


class WordVectors(nn.Module):
    """Table of embeddings (V, E) -> vectors of words (forms, words, E), each the mean of its tokens."""

    def __init__(self, words: Sequence[Sequence[Sequence[int]]]) -> None:
        super().__init__()
        flat = [list(word) for form in words for word in form]
        starts = torch.tensor([0] + [len(word) for word in flat[:-1]]).cumsum(0)
        self.forms = len(words)
        self.ids: Tensor
        self.starts: Tensor
        self.register_buffer("ids", torch.tensor([token for word in flat for token in word]), persistent=False)
        self.register_buffer("starts", starts, persistent=False)

    def __len__(self) -> int:
        """Words in a form."""
        return len(self.starts) // self.forms

    def forward(self, table_VE: Tensor) -> Tensor:
        words_WE = nn.functional.embedding_bag(self.ids, table_VE, self.starts, mode="mean")
        return words_WE.unflatten(0, (self.forms, -1))
