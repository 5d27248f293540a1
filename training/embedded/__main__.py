"""Train the embedded Maya: `python -m training.embedded --caltech FOLDER --coco FOLDER`.

The tower rests: it sees some ten thousand scenes of photographs and drawings once. Then, by the paper's two stages and what
a small language model needs before them: its table of words, in ten languages; the connector alone, in eight; connector and
table, in ten; the language model's layers, on where the things that words name lie; connector and language model on
questions of every kind, in ten; and once more with photographs that it took for something else, so that it learns to doubt.
Every stage is seeded and resumes where it stopped; the result is written to `assets/maya-tiny` (or --out).

training/photo_vqa/README.md says where photographs are to be had.
"""

import json
import logging
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import load_file
from torch import Tensor

from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.hardware import cores
from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.learning.train import TrainConfig, processes, train
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from maya_core.model.towers.efficientnet_lite import FEATURES
from maya_core.weights.checkpoint import load_model, load_processor, save_model
from maya_core.weights.destination import claim
from training.command import ended
from training.embedded.grounding import (
    CellObjective,
    MeaningCollator,
    Meanings,
    attend_to_likeness,
    deepened,
    grid_of,
    look_by_names,
    match_spread,
    start_at_the_classifier,
    told_more,
    widened,
    word_objective,
    words_of,
)
from training.embedded.looking import Both, CellCollator, Looking, LookingCollator
from training.embedded.mistaken import mistaken
from training.embedded.pointing import PointingObjective
from training.embedded.seen import SeenScenes
from training.embedded.simulated import Simulator, classifier, inside
from training.embedded.tokenizer import train_tokenizer, words_in_pieces
from training.origin import commit, hardware
from training.photo_vqa.phrases import words_of_doubt
from training.photo_vqa.scenes import Scenes, alone, photographs
from training.progress import printer
from training.recipes import (
    DECODER_LAYERS,
    FEATURES_OF_A_CELL,
    MOST_THINGS,
    VOCABULARY,
    tiny_answers,
    tiny_connector,
    tiny_doubting,
    tiny_grounding,
    tiny_model,
    tiny_pointing,
    tiny_words,
)

TRAINING_REPORT = "training.json"
STAGES = ("words", "connector", "grounding", "pointing", "answers", "doubting")
DOUBTED_ONE_IN = 3  # samples of the doubting, of which one is a photograph that no stage before has read
FIRST = 256  # scenes that tell how loud the tower is


@dataclass(frozen=True, kw_only=True)
class EmbeddedOptions:
    """Train the embedded Maya."""

    caltech: Annotated[Path | None, tyro.conf.arg(help="folder of Caltech-101: one folder a class")] = None
    coco: Annotated[Path | None, tyro.conf.arg(help="folder of COCO: `images` and YOLO `labels`")] = None
    tower: Annotated[
        Path | None,
        tyro.conf.arg(help="folder of a photograph tower, or a Maya's with one; assets/maya-tiny if not given"),
    ] = None
    model: Annotated[
        Path | None,
        tyro.conf.arg(help="folder of an embedded Maya, to go on with its answers; from nothing if not given"),
    ] = None
    run: Annotated[Path, tyro.conf.arg(help="folder of the run: features, checkpoints, records")] = Path(
        "runs/embedded"
    )
    out: Annotated[Path | None, tyro.conf.arg(help="where the model goes; assets/maya-tiny if not given")] = None
    scenes: Annotated[int, tyro.conf.arg(help="how many the tower sees")] = 12000
    word_steps: int = 120
    connector_steps: int = 600
    grounding_steps: int = 300
    pointing_steps: int = 100
    answer_steps: Annotated[int, tyro.conf.arg(help="0 goes on to the doubting")] = 4200
    doubt_steps: int = 600
    vocabulary: Annotated[int, tyro.conf.arg(help="most entries of the tokenizer")] = VOCABULARY
    seed: Annotated[int, tyro.conf.arg(help="of questions; another one, where a model goes on")] = 3
    workers: int = 1


def untrained(vocabulary: int, tower: Path) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The model before any training, but with a tower that sees, and its processor with a tokenizer of at most
    `vocabulary` entries."""
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
    model.vision_tower.load_state_dict(tower_of(tower))
    attend_to_likeness(model)
    return model.eval(), MayaProcessor(config, ImagePreparation.of(config), tokenizer)


def taught(folder: Path, vocabulary: int = VOCABULARY) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """An embedded Maya to go on with, whose pictures from now on tell as much as a new one's, as deep as one, and with as
    many words."""
    model, processor = load_model(folder, dtype=torch.float32), load_processor(folder)
    model.config.vision.most_things = MOST_THINGS
    model.config.keeps_to_script = True
    model.config.doubts = None  # what it mistakes, it is asked without
    tokenizer = processor.require_tokenizer()
    words = words_in_pieces(tokenizer)[: max(0, vocabulary - len(tokenizer))]
    model = told_more(deepened(model, DECODER_LAYERS), FEATURES_OF_A_CELL)
    return widened(model, MayaProcessor(model.config, processor.preparation, tokenizer), words)


def seen_by(
    model: MayaForConditionalGeneration, processor: MayaProcessor, options: EmbeddedOptions
) -> tuple[SeenScenes, SeenScenes]:
    """What the tower sees of scenes to learn from, and of photographs to doubt."""
    side = model.config.image_size
    shape = (model.config.patches_kept(side, side), model.config.vision.hidden_size)
    scenes = Scenes(photographs(options.caltech, options.coco, "train"))
    unread = [alone(one) for one in photographs(options.caltech, None, "calibration")]
    both = (
        SeenScenes(scenes, options.run / "seen", shape, options.scenes),
        SeenScenes(unread, options.run / "calibration", shape, len(unread)),
    )
    for seen in both:
        seen.fill(model, processor.preparation, workers=cores(), on_done=lambda done: print(f"seen {done}", flush=True))
    return both


def tower_of(folder: Path) -> dict[str, Tensor]:
    """A photograph tower's weights in float32, from a folder of its own or of a Maya that has one."""
    stored = load_file(folder / "model.safetensors")
    own = {name.removeprefix("vision_tower."): tensor.float() for name, tensor in stored.items()}
    return {name: tensor for name, tensor in own.items() if name.startswith(("classifier.", "detector."))}


@dataclass
class _Making:
    """A model under way, with what it learns from. unread: photographs that no stage reads before the doubting."""

    options: EmbeddedOptions
    model: MayaForConditionalGeneration
    processor: MayaProcessor
    seen: SeenScenes
    unread: SeenScenes

    def __post_init__(self) -> None:
        self.grid = grid_of(self.model)
        self.simulator = Simulator.of(looks_of(self.seen, self.grid), classifier(), self.grid)
        cells = [self.seen.features(index)[: self.grid**2] for index in range(min(FIRST, len(self.seen)))]
        self.first_BCD = torch.stack(cells)

    def run(self) -> None:
        """All stages; of a model to go on from, those of answers."""
        cells = Looking(seen=self.seen, simulator=self.simulator, grid=self.grid)
        if self.options.model is None:
            self.ground(cells)
        self.answer(cells)

    def ground(self, cells: Looking) -> None:
        """Words and cells become alike."""
        options = self.options
        objective = word_objective(self.model, self.processor)
        meanings = Meanings(objective.meanings.num_embeddings)
        self.stage("words", objective, meanings, MeaningCollator(), tiny_words(steps=options.word_steps))
        start_at_the_classifier(self.model.connector, self.first_BCD)
        for name, languages, config in (
            ("connector", PRETRAINED_CODES, tiny_connector(steps=options.connector_steps)),
            ("grounding", CODES, tiny_grounding(steps=options.grounding_steps)),
        ):
            alike = CellObjective(self.model, words_of(self.processor, languages))
            self.stage(name, alike, replace(cells, seed=len(languages)), CellCollator(), config)
        match_spread(self.model, self.first_BCD)
        look_by_names(self.model, words_of(self.processor, CODES), self.first_BCD)

    def answer(self, cells: Looking) -> None:
        """The language model learns to point, to answer and to doubt."""
        options = self.options
        torch.manual_seed(0)
        pointing = PointingObjective(self.model, self.processor)
        collator = LookingCollator(self.processor)
        if options.model is None:
            asking = replace(cells, conversations=4, names=16)
            self.stage("pointing", pointing, asking, collator, tiny_pointing(steps=options.pointing_steps))
        asking = replace(cells, conversations=5, names=4, seed=options.seed)
        if options.answer_steps:
            self.stage("answers", pointing, asking, collator, tiny_answers(steps=options.answer_steps))
        made = replace(asking, unknown=0.16, between=0.15, seed=options.seed + 7)
        doubting = Both(made, self.calibration(asking), one_in=DOUBTED_ONE_IN) if len(self.unread) else made
        self.stage("doubting", pointing, doubting, collator, tiny_doubting(steps=options.doubt_steps))

    def calibration(self, asking: Looking) -> Looking:
        """Photographs that no stage has read, with what the model takes them for where that is wrong."""
        session = ChatSession(self.model.to(processes().device).eval(), self.processor)
        perhaps = mistaken(session, self.unread, self.unread.folder / "mistaken.json")
        return replace(asking, seen=self.unread, perhaps=perhaps, seed=self.options.seed + 8)

    def stage(
        self, name: str, objective: torch.nn.Module, dataset: object, collator: object, config: TrainConfig
    ) -> None:
        config = replace(config, workers=self.options.workers)
        train(objective, dataset, collator, config, self.options.run / name, on_record=printer(name))  # type: ignore[arg-type]
        self.model.to("cpu")  # what is done between the stages is


def looks_of(seen: SeenScenes, grid: int) -> Mapping[str, Tensor]:
    """Of things that photographs show alone or in a mosaic: the classifier's features of their cells (cells, L)."""
    looks: dict[str, list[Tensor]] = defaultdict(list)
    for index in range(len(seen)):
        scene = seen.scenes[index]
        if not scene.pieces or scene.lists_all:
            continue
        for thing in scene.things:
            if thing.width >= 0.45 and thing.height >= 0.45 and len(looks[thing.thing]) < 40:
                cells_P = inside(thing, grid, share=0.7)
                looks[thing.thing].append(seen.features(index)[: grid**2][cells_P, :FEATURES].float())
    return {thing: torch.cat(cells) for thing, cells in looks.items() if cells}


def minutes_of(options: EmbeddedOptions) -> dict[str, float]:
    """Of each stage that was run, in the folder of the run."""
    run = options.run
    return {stage: round(_seconds(run / stage) / 60, 1) for stage in STAGES if (run / stage).exists()}


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    options = tyro.cli(EmbeddedOptions, description=__doc__)
    out = options.out or asset_path("maya-tiny")
    claim(out, overwrite=True)
    if options.model:
        model, processor = taught(options.model, options.vocabulary)
    else:
        model, processor = untrained(options.vocabulary, options.tower or asset_path("maya-tiny"))
    seen, unread = seen_by(model, processor, options)
    _Making(options, model, processor, seen, unread).run()
    model.config.doubts = words_of_doubt()
    save_model(model, processor, out, dtype=torch.float16, overwrite=True)
    minutes = minutes_of(options)
    report = {
        "parameters": model.num_parameters(),
        "minutes": minutes | {"all": round(sum(minutes.values()), 1)},
        "hardware": hardware(),
        "torch": torch.__version__,
        "commit": commit(),
    }
    if options.model:
        report["before"] = json.loads((options.model / TRAINING_REPORT).read_text())
    (out / TRAINING_REPORT).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _seconds(run_dir: Path) -> float:
    return float(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    sys.exit(ended(main))
