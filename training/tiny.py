"""Train the embedded Maya from nothing: `python -m training.tiny`.

Four stages: the tower alone, on which emoji lies where; the connector and the table of words, on names in ten languages;
connector and language model on captions; both on questions of every kind. Every stage is seeded and
resumes where it stopped; the result is written to `assets/maya-tiny` (or --out).
"""

import json
import logging
import platform
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from maya_core.assets import asset_path
from maya_core.checkpoint import save_model
from maya_core.data import Batch, Collator, PackedCollator
from maya_core.languages import CODES
from maya_core.losses import LossSum
from maya_core.metrics import StepRecord
from maya_core.model import MayaForConditionalGeneration
from maya_core.processor import ImagePreparation, MayaProcessor
from maya_core.train import AnswerObjective, TrainConfig, train
from training.emoji_vqa.dataset import EmojiCaptions, EmojiQuestions
from training.emoji_vqa.scenes import make_scene, patch_labels, render
from training.emoji_vqa.vocabulary import load_vocabulary
from training.recipes import tiny_answers, tiny_captions, tiny_model, tiny_tower, tiny_words
from training.tokenizer import train_tokenizer

SCENES = 1_000_000  # training scenes there are; a run sees a part of them
TRAINING_REPORT = "training.json"
EMPTY_PATCH_WEIGHT = 0.1  # most patches are empty, and they are easy
CROWDED = 0.75  # share of the scenes for the tower with a thing in every cell: more to see for the same work


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """Train the embedded Maya from nothing."""

    run: Annotated[Path, tyro.conf.arg(help="folder of the run: checkpoints, records")] = Path("runs/tiny")
    out: Annotated[Path | None, tyro.conf.arg(help="where the model goes; assets/maya-tiny if not given")] = None
    tower_steps: int = 1500
    word_steps: int = 300
    caption_steps: int = 350
    answer_steps: int = 1500
    vocabulary: Annotated[int, tyro.conf.arg(help="most entries of the tokenizer")] = 8192
    workers: int = 1


class EmojiScenes:
    """Scenes with, for each patch, the concept that lies on it. Samples: pixels (3, H, W), labels (patches,)."""

    def __init__(self, preparation: ImagePreparation, *, size: int, patch_size: int) -> None:
        self.preparation, self.size, self.grid = preparation, size, preparation.size // patch_size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        crowded = random.Random(f"crowded/{index}").random() < CROWDED
        scene = make_scene("train", index, size=self.preparation.size, crowded=crowded)
        labels = torch.from_numpy(patch_labels(scene, self.grid)).flatten()
        return self.preparation.pixels(render(scene)), labels


class SceneCollator(Collator):
    """Scenes -> pixel_values (B, 3, H, W) and concepts (B, patches)."""

    def collate(self, prepared: Sequence[tuple[Tensor, Tensor]]) -> Batch:
        pixels, labels = zip(*prepared, strict=True)
        return {"pixel_values": torch.stack(pixels), "concepts": torch.stack(labels)}


class TowerObjective(nn.Module):
    """Say for every patch which concept lies on it, or none.

    A whole-picture contrast, as SigLIP was trained, needs far more pictures; here the scene itself knows the answer.
    """

    def __init__(self, tower: SiglipVisionModel, concepts: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.config.hidden_size, concepts + 1)  # the last one is "none"
        weight = torch.ones(concepts + 1)
        weight[-1] = EMPTY_PATCH_WEIGHT
        self.weight: Tensor
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W) and concepts (B, N), -1 where nothing lies."""
        features_BND = self.tower(batch["pixel_values"]).last_hidden_state
        logits_PC = self.head(features_BND.flatten(0, 1)).float()
        target_P = batch["concepts"].flatten() % logits_PC.shape[1]  # -1 becomes the last class
        total = nn.functional.cross_entropy(logits_PC, target_P, weight=self.weight, reduction="sum")
        return LossSum(total, self.weight[target_P].sum())


def train_tower(vision: SiglipVisionConfig, config: TrainConfig, run_dir: Path) -> SiglipVisionModel:
    """Stage 0: the vision tower, from nothing."""
    torch.manual_seed(config.seed)
    tower = SiglipVisionModel._from_config(vision, attn_implementation="eager")  # on 64 patches the faster one
    scenes = EmojiScenes(ImagePreparation(size=vision.image_size), size=SCENES, patch_size=vision.patch_size)
    objective = TowerObjective(tower, len(load_vocabulary()))
    train(objective, scenes, SceneCollator(), config, run_dir, on_record=_printer("tower"))
    return tower


class WordObjective(nn.Module):
    """Bring the connector's image of a patch near the names, in every language, of what lies on it.

    The connector projects patches into the word space; here both are taught that directly, without a sentence between.
    """

    def __init__(self, model: MayaForConditionalGeneration, names: Sequence[Sequence[Sequence[int]]]) -> None:
        """names: token ids by language and concept."""
        super().__init__()
        self.model = model
        flat = [list(name) for concepts in names for name in concepts]
        self.languages, self.concepts = len(names), len(names[0])
        self.ids_T: Tensor
        self.starts_N: Tensor
        self.register_buffer("ids_T", torch.tensor([token for name in flat for token in name]), persistent=False)
        starts = torch.tensor([0] + [len(name) for name in flat[:-1]]).cumsum(0)
        self.register_buffer("starts_N", starts, persistent=False)

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W) and concepts (B, N), -1 where nothing lies."""
        labels_P = batch["concepts"].flatten()
        shown = labels_P >= 0
        embeds_PE = self.model.image_embeds(batch["pixel_values"]).flatten(0, 1)[shown].float()
        table_VE = self.model.get_input_embeddings().weight
        names_NE = nn.functional.embedding_bag(self.ids_T, table_VE, self.starts_N, mode="mean")
        scale = self.model.config.text.logit_scale
        logits = nn.functional.layer_norm(embeds_PE, embeds_PE.shape[-1:]) @ names_NE.T * scale
        by_language = logits.view(-1, self.languages, self.concepts).transpose(1, 2)
        target = labels_P[shown, None].expand(-1, self.languages)
        total = nn.functional.cross_entropy(by_language, target, reduction="sum")
        return LossSum(total, torch.tensor(target.numel()))


def untrained(vocabulary: int) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The model before any training, and its processor with a tokenizer of at most `vocabulary` entries."""
    tokenizer = train_tokenizer(vocabulary)
    ids = tokenizer.get_added_vocab()
    config = tiny_model(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        image_token_id=ids["<image>"],
        end_id=ids["<|END_OF_TURN_TOKEN|>"],
        bos_id=ids["<BOS_TOKEN>"],
        pad_id=ids["<PAD>"],
    )
    torch.manual_seed(0)
    model = MayaForConditionalGeneration(config)
    return model, MayaProcessor(config, ImagePreparation(size=config.image_size), tokenizer)


def standardise_features(model: MayaForConditionalGeneration, processor: MayaProcessor, scenes: int = 64) -> None:
    """Scale the first layer of the connector to the tower's features, so that it starts from mean 0 and spread 1.

    A tower's raw features are tens of times larger than word embeddings; an untrained language model drowns in them.
    """
    pixels = [processor.preparation.pixels(render(make_scene("train", index))) for index in range(scenes)]
    with torch.no_grad():
        features_PD = model.vision_features(torch.stack(pixels)).flatten(0, 1)
        mean_D, spread_D = features_PD.mean(0), features_PD.std(0)
        first = next(layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        first.weight /= spread_D
        first.bias.copy_(-first.weight @ mean_D)


def train_words(
    model: MayaForConditionalGeneration, processor: MayaProcessor, config: TrainConfig, run_dir: Path
) -> None:
    """The connector and the table of words, on names of things in ten languages."""
    tokenizer = processor.require_tokenizer()
    names = [
        tokenizer([concept.names[code] for concept in load_vocabulary()], add_special_tokens=False)["input_ids"]
        for code in CODES
    ]
    scenes = EmojiScenes(processor.preparation, size=SCENES, patch_size=model.config.patch_size)
    train(WordObjective(model, names), scenes, SceneCollator(), config, run_dir, on_record=_printer("words"))


def _printer(stage: str) -> Any:
    def show(record: StepRecord) -> None:
        if record.step % 50 == 0:
            print(
                f"{stage} step {record.step} loss {record.loss:.4f} grad {record.grad_norm:.2f} "
                f"{record.seconds / record.step:.2f} s/step",
                flush=True,
            )

    return show


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    options = tyro.cli(TinyOptions, description=__doc__)
    model, processor = untrained(options.vocabulary)
    tower_config = replace(tiny_tower(steps=options.tower_steps), workers=options.workers)
    tower = train_tower(model.config.vision, tower_config, options.run / "tower")
    model.vision_tower.load_state_dict(tower.state_dict())
    standardise_features(model, processor)
    words_config = replace(tiny_words(steps=options.word_steps), workers=options.workers)
    train_words(model, processor, words_config, options.run / "words")
    captions = EmojiCaptions(split="train", size=SCENES, image_size=model.config.image_size)
    questions = EmojiQuestions(split="train", size=SCENES, image_size=model.config.image_size)
    in_captions = PackedCollator(processor, prompt_format="caption")
    for stage, config, data, collator in (
        ("captions", tiny_captions(steps=options.caption_steps), captions, in_captions),
        ("answers", tiny_answers(steps=options.answer_steps), questions, PackedCollator(processor)),
    ):
        config = replace(config, workers=options.workers)
        train(AnswerObjective(model), data, collator, config, options.run / stage, on_record=_printer(stage))
    out = options.out or asset_path("maya-tiny")
    save_model(model, processor, out, dtype=torch.bfloat16)
    minutes = {
        stage: round(_seconds(options.run / stage) / 60, 1) for stage in ("tower", "words", "captions", "answers")
    }
    report = {
        "parameters": model.num_parameters(),
        "minutes": minutes | {"all": round(sum(minutes.values()), 1)},
        "hardware": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
        "torch": torch.__version__,
    }
    (out / TRAINING_REPORT).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _seconds(run_dir: Path) -> float:
    return float(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
