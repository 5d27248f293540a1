"""Train the embedded Maya from nothing: `python -m training.embedded`.

Nine stages: the tower alone, on many small emoji and their names in eight languages, then on few and large ones; the
language model's table of words, in ten; the connector alone, in eight; connector and table, in ten; the language model's
layers, on where the things that words name lie; connector and language model on questions of every kind, in ten; then tower
and connector on the words that the language model knows by now; and once more on questions, in further wordings. Every
stage is seeded and resumes where it stopped; the result is written to `assets/maya-tiny` (or --out).

With --model, the last two stages alone go on from that one.
"""

import json
import logging
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

from maya_core.assets import asset_path
from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.learning.train import TrainConfig, train
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from maya_core.weights.checkpoint import load_model, load_processor, save_model
from maya_core.weights.destination import claim
from training.embedded.grounding import (
    align_patches,
    attend_to_likeness,
    look_by_names,
    match_spread,
    standardise_features,
    train_words,
)
from training.embedded.pointing import PointingCollator, PointingObjective, PointingQuestions
from training.embedded.sight import SCENES, train_tower, untrained_tower
from training.embedded.tokenizer import train_tokenizer
from training.emoji_vqa.dataset import COMPARISONS_FIRST, WEAKEST_FIRST, EmojiQuestions
from training.progress import printer
from training.recipes import (
    tiny_answers,
    tiny_connector,
    tiny_grounding,
    tiny_looking,
    tiny_model,
    tiny_pointing,
    tiny_refining,
    tiny_tower,
    tiny_tower_large,
    tiny_words,
)

TRAINING_REPORT = "training.json"
FIRST_STAGES = ("tower", "tower-large", "words", "connector", "grounding", "pointing", "answers")
LAST_STAGES = ("looking", "refining")


@dataclass(frozen=True, kw_only=True)
class EmbeddedOptions:
    """Train the embedded Maya from nothing."""

    model: Annotated[Path | None, tyro.conf.arg(help="an embedded Maya to go on from, by the last two stages")] = None
    run: Annotated[Path, tyro.conf.arg(help="folder of the run: checkpoints, records")] = Path("runs/embedded")
    out: Annotated[Path | None, tyro.conf.arg(help="where the model goes; assets/maya-tiny if not given")] = None
    tower_steps: int = 2000
    large_steps: int = 800
    word_steps: int = 100
    connector_steps: int = 200
    grounding_steps: int = 200
    pointing_steps: int = 100
    answer_steps: int = 2800
    looking_steps: int = 1200
    refining_steps: int = 1100
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


QUESTIONS = EmojiQuestions(split="train", size=SCENES, weights=COMPARISONS_FIRST, dropped=0.1)


def answer(
    objective: PointingObjective,
    processor: MayaProcessor,
    questions: EmojiQuestions,
    config: TrainConfig,
    run_dir: Path,
    *,
    names: int = 12,
) -> None:
    """Conversations, and beside them names whose places are asked for: so many a scene."""
    shapes = objective.model.config
    questions = replace(questions, image_size=shapes.image_size)
    pointing = PointingQuestions(questions=questions, names=names, grid=shapes.image_size // shapes.patch_size)
    train(objective, pointing, PointingCollator(processor), config, run_dir, on_record=printer(run_dir.name))


def learn_to_answer(options: EmbeddedOptions) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The first stages, from nothing to questions of every kind."""
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
    few = replace(QUESTIONS, conversations=4)
    answer(objective, processor, few, pointing_config, options.run / "pointing", names=24)
    answers_config = with_workers(tiny_answers(steps=options.answer_steps))
    answer(objective, processor, QUESTIONS, answers_config, options.run / "answers")
    return model, processor


def improve(model: MayaForConditionalGeneration, processor: MayaProcessor, options: EmbeddedOptions) -> None:
    """The last stages: see better, then say what is seen."""
    looking = replace(tiny_looking(steps=options.looking_steps), workers=options.workers)
    align_patches(model, processor, CODES, looking, options.run / "looking", alone=0.5)
    torch.manual_seed(0)
    objective = PointingObjective(model, processor)
    refining = replace(tiny_refining(steps=options.refining_steps), workers=options.workers)
    questions = replace(QUESTIONS, weights=WEAKEST_FIRST, later=True)
    answer(objective, processor, questions, refining, options.run / "refining")


def minutes_of(stages: Sequence[str], options: EmbeddedOptions) -> dict[str, float]:
    return {stage: round(_seconds(options.run / stage) / 60, 1) for stage in stages}


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    options = tyro.cli(EmbeddedOptions, description=__doc__)
    out = options.out or asset_path("maya-tiny")
    claim(out, overwrite=True)
    if options.model is None:
        model, processor = learn_to_answer(options)
        minutes = minutes_of(FIRST_STAGES, options)
    else:
        model, processor = load_model(options.model, dtype=torch.float32), load_processor(options.model)
        before = json.loads((options.model / TRAINING_REPORT).read_text())["minutes"]
        minutes = {stage: before[stage] for stage in FIRST_STAGES}
    improve(model, processor, options)
    minutes |= minutes_of(LAST_STAGES, options)
    save_model(model, processor, out, dtype=torch.bfloat16, overwrite=True)
    report = {
        "parameters": model.num_parameters(),
        "minutes": minutes | {"all": round(sum(minutes.values()), 1)},
        "hardware": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
        "torch": torch.__version__,
        "commit": _commit(),
    }
    (out / TRAINING_REPORT).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _commit() -> str:
    """Of the code that trains, with `-dirty` where it was changed since; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _seconds(run_dir: Path) -> float:
    return float(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
