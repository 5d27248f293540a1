"""Train the embedded Maya from nothing: `python -m training.tiny`.

Four stages: the tower alone, on which emoji lies where; the connector and the table of words, on names in ten languages;
connector and language model on captions; both on questions of every kind. Every stage is seeded and
resumes where it stopped; the result is written to `assets/maya-tiny` (or --out).
"""

import json
import logging
import math
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
from training.emoji_vqa.questions import load_phrases
from training.emoji_vqa.scenes import CELLS, COLOURS, make_scene, patch_labels, render
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
    word_steps: int = 350
    caption_steps: int = 700
    answer_steps: int = 1500
    vocabulary: Annotated[int, tyro.conf.arg(help="most entries of the tokenizer")] = 16384
    workers: int = 1


class EmojiScenes:
    """Scenes with, for each patch, the concept that lies on it. Samples: pixels (3, H, W), labels (patches,), and the
    number of the ground's colour."""

    def __init__(self, preparation: ImagePreparation, *, size: int, patch_size: int) -> None:
        self.preparation, self.size, self.grid = preparation, size, preparation.size // patch_size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        crowded = random.Random(f"crowded/{index}").random() < CROWDED
        scene = make_scene("train", index, size=self.preparation.size, crowded=crowded)
        labels = torch.from_numpy(patch_labels(scene, self.grid)).flatten()
        return self.preparation.pixels(render(scene)), labels, list(COLOURS).index(scene.colour)


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
    """Bring the connector's image of a patch near the words for it: the names, in every language, of what lies there (of
    the ground's colour, where nothing does), and the number of its cell.

    The connector projects patches into the word space; here both are taught that directly, without a sentence between.
    """

    def __init__(
        self, model: MayaForConditionalGeneration, words: Sequence[Sequence[Sequence[int]]], cells: Sequence[int]
    ) -> None:
        """words: token ids by form (a language, with or without a space before the word) and thing (the concepts, then the
        colours). cells: the token of each cell's number."""
        super().__init__()
        self.model = model
        flat = [list(word) for things in words for word in things]
        starts = torch.tensor([0] + [len(word) for word in flat[:-1]]).cumsum(0)
        grid = model.config.image_size // model.config.patch_size
        third = (torch.arange(grid) * 2 + 1) * 3 // (2 * grid)  # in which third of the picture a patch's middle lies
        self.word_shape = (len(words), len(words[0]))
        for name, tensor in (
            ("word_ids", torch.tensor([token for word in flat for token in word])),
            ("word_starts", starts),
            ("cell_ids", torch.tensor(cells)),
            ("cell_of_N", (third[:, None] * 3 + third).flatten()),
        ):
            self.register_buffer(name, tensor, persistent=False)
        self.word_ids: Tensor
        self.word_starts: Tensor
        self.cell_ids: Tensor
        self.cell_of_N: Tensor

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W), concepts (B, N), -1 where nothing lies, and colours (B,)."""
        forms, things = self.word_shape
        table_VE = table_of(self.model)
        colours_B1 = things - len(COLOURS) + batch["colours"][:, None]
        things_P = torch.where(batch["concepts"] >= 0, batch["concepts"], colours_B1).flatten()
        cells_P = self.cell_of_N.repeat(len(batch["pixel_values"]))
        embeds_PE = self.model.image_embeds(batch["pixel_values"]).float().flatten(0, 1)
        directions_PE = nn.functional.layer_norm(embeds_PE, embeds_PE.shape[-1:]) * self.model.config.text.logit_scale
        words_WE = nn.functional.embedding_bag(self.word_ids, table_VE, self.word_starts, mode="mean")
        by_form = (directions_PE @ words_WE.T).view(-1, forms, things).transpose(1, 2)
        total = nn.functional.cross_entropy(by_form, things_P[:, None].expand(-1, forms), reduction="sum")
        by_cell = directions_PE @ table_VE[self.cell_ids].T
        total = total + nn.functional.cross_entropy(by_cell, cells_P, reduction="sum")
        return LossSum(total, torch.tensor(len(things_P) * (forms + 1)))


def table_of(model: MayaForConditionalGeneration) -> Tensor:
    """The table of word embeddings (V, E)."""
    table_VE = model.get_input_embeddings().weight
    assert isinstance(table_VE, Tensor)
    return table_VE


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
    attend_to_likeness(model)
    return model, MayaProcessor(config, ImagePreparation(size=config.image_size), tokenizer)


def attend_to_likeness(model: MayaForConditionalGeneration, *, sharpness: float = 6.0, loudness: float = 0.1) -> None:
    """Start the language model's attention where looking starts: each position attends to those like it, and takes over
    what they hold (mimetic initialisation, arXiv 2305.09828).

    Queries and keys of a group of heads are one random projection, and so are values and, transposed, outputs. sharpness:
    attention score of a position with itself. loudness: of what is taken over; normalised, it would drown the words.
    """
    text = model.config.text
    width, heads, groups = text.hidden_size, text.num_attention_heads, text.num_key_value_heads
    size = width // heads
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            attention = layer.self_attn
            looks, takes = (torch.linalg.qr(torch.randn(width, groups * size))[0].T for _ in range(2))
            scale = (sharpness / math.sqrt(size)) ** 0.5
            attention.k_proj.weight.copy_(looks * scale)
            attention.v_proj.weight.copy_(takes * loudness**0.5)
            per_head = [group for group in range(groups) for _ in range(heads // groups)]
            rows = torch.cat([torch.arange(group * size, (group + 1) * size) for group in per_head])
            attention.q_proj.weight.copy_(looks[rows] * scale)
            attention.o_proj.weight.copy_(takes[rows].T * loudness**0.5)


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


def match_spread(model: MayaForConditionalGeneration, processor: MayaProcessor, scenes: int = 64) -> None:
    """Scale the last layer of the connector so that pictures are as loud as words.

    `WordObjective` looks at directions alone. Embeddings hundreds of times larger than words pass through the language
    model untouched: what its layers add to them is lost beside them.
    """
    pixels = [processor.preparation.pixels(render(make_scene("train", index))) for index in range(scenes)]
    with torch.no_grad():
        factor = table_of(model).std() / model.image_embeds(torch.stack(pixels)).std()
        *_, last = (layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        last.weight *= factor
        last.bias *= factor


def train_words(
    model: MayaForConditionalGeneration, processor: MayaProcessor, config: TrainConfig, run_dir: Path
) -> None:
    """The connector and the table of words, on words for things and places."""
    tokenizer = processor.require_tokenizer()

    def ids(words: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = tokenizer(list(words), add_special_tokens=False)["input_ids"]
        return encoded

    words = [
        [concept.names[code] for concept in load_vocabulary()] + [load_phrases(code).colours[c] for c in COLOURS]
        for code in CODES
    ]
    # a word at the start of a text and one behind a space are different tokens
    forms = [ids([f"{space}{word}" for word in of_language]) for of_language in words for space in ("", " ")]
    objective = WordObjective(model, forms, [number for [number] in ids([str(cell + 1) for cell in range(CELLS)])])
    scenes = EmojiScenes(processor.preparation, size=SCENES, patch_size=model.config.patch_size)
    train(objective, scenes, SceneCollator(), config, run_dir, on_record=_printer("words"))


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
    match_spread(model, processor)
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
