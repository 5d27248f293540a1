"""Train the embedded Maya from nothing: `python -m training.tiny`.

Seven stages: the tower alone, on many small emoji and their names in eight languages, then on few and large ones; the
language model's table of words, in ten; the connector alone, in eight; connector and table, in ten; the language model's
layers, on where the things that words name lie; connector and language model on questions of every kind, in ten. Every
stage is seeded and resumes where it stopped; the result is written to `assets/maya-tiny` (or --out).
"""

import json
import logging
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from maya_core.assets import asset_path
from maya_core.checkpoint import save_model
from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.model import MayaForConditionalGeneration
from maya_core.processor import ImagePreparation, MayaProcessor
from maya_core.train import TrainConfig, train
from training.emoji_vqa.dataset import COMPARISONS_FIRST, EmojiQuestions
from training.grounding import (
    align_patches,
    attend_to_likeness,
    look_by_names,
    match_spread,
    standardise_features,
    train_words,
)
from training.pointing import PointingCollator, PointingObjective, PointingQuestions
from training.progress import printer
from training.recipes import (
    tiny_answers,
    tiny_connector,
    tiny_grounding,
    tiny_model,
    tiny_pointing,
    tiny_tower,
    tiny_tower_large,
    tiny_words,
)
from training.sight import SCENES, train_tower, untrained_tower
from training.tokenizer import train_tokenizer

TRAINING_REPORT = "training.json"
STAGES = ("tower", "tower-large", "words", "connector", "grounding", "pointing", "answers")


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """Train the embedded Maya from nothing."""

    run: Annotated[Path, tyro.conf.arg(help="folder of the run: checkpoints, records")] = Path("runs/tiny")
    out: Annotated[Path | None, tyro.conf.arg(help="where the model goes; assets/maya-tiny if not given")] = None
    tower_steps: int = 2000
    large_steps: int = 800
    word_steps: int = 100
    connector_steps: int = 200
    grounding_steps: int = 200
    pointing_steps: int = 100
    answer_steps: int = 2800
    vocabulary: Annotated[int, tyro.conf.arg(help="most entries of the tokenizer")] = 16384
    workers: int = 1


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


def answer(
    objective: PointingObjective,
    processor: MayaProcessor,
    config: TrainConfig,
    run_dir: Path,
    *,
    conversations: int,
    names: int,
) -> None:
    """Conversations, and beside them names whose places are asked for: so many a scene."""
    shapes = objective.model.config
    questions = EmojiQuestions(
        split="train",
        size=SCENES,
        image_size=shapes.image_size,
        weights=COMPARISONS_FIRST,
        conversations=conversations,
        dropped=0.1,
    )
    pointing = PointingQuestions(questions=questions, names=names, grid=shapes.image_size // shapes.patch_size)
    train(objective, pointing, PointingCollator(processor), config, run_dir, on_record=printer(run_dir.name))


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    options = tyro.cli(TinyOptions, description=__doc__)
    model, processor = untrained(options.vocabulary)

    def with_workers(config: TrainConfig) -> TrainConfig:
        return replace(config, workers=options.workers)

    small = with_workers(tiny_tower(steps=options.tower_steps))
    large = with_workers(tiny_tower_large(steps=options.large_steps))
    sight = untrained_tower(model.config.vision, processor, small.seed)
    train_tower(sight, processor, small, options.run / "tower", crowded=0.6, alone=0.0)
    train_tower(sight, processor, large, options.run / "tower-large", crowded=0.25, alone=0.5)
    model.vision_tower.load_state_dict(sight.tower.state_dict())
    train_words(model, processor, with_workers(tiny_words(steps=options.word_steps)), options.run / "words")
    standardise_features(model, processor)
    connector_config = with_workers(tiny_connector(steps=options.connector_steps))
    align_patches(model, processor, PRETRAINED_CODES, connector_config, options.run / "connector")
    grounding_config = with_workers(tiny_grounding(steps=options.grounding_steps))
    align_patches(model, processor, CODES, grounding_config, options.run / "grounding")
    match_spread(model, processor)
    look_by_names(model, processor)
    torch.manual_seed(0)
    objective = PointingObjective(model, processor)
    pointing_config = with_workers(tiny_pointing(steps=options.pointing_steps))
    answer(objective, processor, pointing_config, options.run / "pointing", conversations=4, names=24)
    answers_config = with_workers(tiny_answers(steps=options.answer_steps))
    answer(objective, processor, answers_config, options.run / "answers", conversations=12, names=12)
    out = options.out or asset_path("maya-tiny")
    save_model(model, processor, out, dtype=torch.bfloat16)
    minutes = {stage: round(_seconds(options.run / stage) / 60, 1) for stage in STAGES}
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
