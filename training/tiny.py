"""Train the embedded Maya from nothing: `python -m training.tiny`.

Tokenizer, then the tower on emoji and their names, then all parts on conversations about scenes. Every stage is seeded
and resumes where it stopped; the result is written to `assets/maya-tiny` (or --out).
"""

import json
import logging
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn

from maya_core.assets import asset_path
from maya_core.checkpoint import save_model
from maya_core.data import Batch, ConversationCollator
from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.losses import LossSum, sigmoid_pair_loss
from maya_core.metrics import StepRecord
from maya_core.model import MayaForConditionalGeneration
from maya_core.processor import ImagePreparation, MayaProcessor
from maya_core.train import AnswerObjective, TrainConfig, train
from training.emoji_vqa.dataset import EmojiConversations
from training.emoji_vqa.scenes import make_scene, patch_labels, render
from training.emoji_vqa.vocabulary import load_vocabulary
from training.recipes import TINY_IMAGE_SIZE, tiny_answers, tiny_model, tiny_tower
from training.tokenizer import train_tokenizer

SCENES = 1_000_000  # training scenes there are; a run sees a part of them


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """Train the embedded Maya from nothing."""

    run: Annotated[Path, tyro.conf.arg(help="folder of the run: checkpoints, records")] = Path("runs/tiny")
    out: Annotated[Path | None, tyro.conf.arg(help="where the model goes; assets/maya-tiny if not given")] = None
    tower_steps: int = tiny_tower().steps
    answer_steps: int = tiny_answers().steps
    vocabulary: Annotated[int, tyro.conf.arg(help="most entries of the tokenizer")] = 8192
    workers: int = 1


class EmojiScenes:
    """Scenes with, for each patch, the concept that lies on it. Samples: pixels (3, H, W), labels (patches,)."""

    def __init__(self, preparation: ImagePreparation, *, size: int, patch_size: int) -> None:
        self.preparation, self.size, self.grid = preparation, size, preparation.size // patch_size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        scene = make_scene("train", index, size=self.preparation.size)
        labels = torch.from_numpy(patch_labels(scene, self.grid)).flatten()
        return self.preparation.pixels(render(scene)), labels

    @staticmethod
    def collate(samples: list[tuple[Tensor, Tensor]]) -> Batch:
        pixels, labels = zip(*samples, strict=True)
        return {"pixel_values": torch.stack(pixels), "concepts": torch.stack(labels)}


class NameEncoder(nn.Module):
    """Names as vectors: the mean of their tokens' vectors, one table entry a token, through one layer."""

    def __init__(self, name_ids: Iterable[list[int]], concepts: int, vocab_size: int, width: int) -> None:
        super().__init__()
        ids = list(name_ids)
        self.concepts = concepts
        self.flat_ids: Tensor
        self.offsets: Tensor
        self.register_buffer("flat_ids", torch.tensor([token for name in ids for token in name]), persistent=False)
        starts = torch.tensor([0] + [len(name) for name in ids[:-1]]).cumsum(0)
        self.register_buffer("offsets", starts, persistent=False)
        self.table = nn.EmbeddingBag(vocab_size, width, mode="mean")
        self.layer = nn.Linear(width, width)

    def forward(self) -> Tensor:
        """(languages, concepts, width), of length 1."""
        vectors = self.layer(self.table(self.flat_ids, self.offsets))
        return nn.functional.normalize(vectors, dim=-1).view(-1, self.concepts, vectors.shape[-1])


class TowerObjective(nn.Module):
    """SigLIP's sigmoid loss (arXiv 2303.15343) between patches and the names of what lies on them.

    A whole-picture loss needs far more pictures; here the scene says which patch belongs to which name.
    """

    def __init__(self, model: MayaForConditionalGeneration, names: NameEncoder, width: int) -> None:
        super().__init__()
        self.model = [model]  # in a list, so that the tower alone is a part of this module
        self.tower = model.vision_tower
        self.names = nn.ModuleDict({"encoder": names})
        self.names["scale"] = _Scalar(2.5)  # exp(2.5) = 12, sharp enough to start with
        self.names["bias"] = _Scalar(-6.0)  # about log of one in 400: most pairs do not belong together
        self.names["norm"] = nn.LayerNorm(width)

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W) and concepts (B, N), -1 where nothing lies."""
        features = self.names["norm"](self.model[0].vision_features(batch["pixel_values"]))
        patches = nn.functional.normalize(features.flatten(0, 1).float(), dim=-1)
        names = self.names["encoder"]().float()
        language = int(batch["concepts"].sum()) % len(names)  # a draw that the data makes, so a resumed run repeats it
        similarity = patches @ names[language].T * self.names["scale"]().exp() + self.names["bias"]()
        return sigmoid_pair_loss(similarity, batch["concepts"].flatten())


class _Scalar(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self) -> Tensor:
        return self.value


def build_model(options: TinyOptions) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The untrained model and its processor."""
    tokenizer = train_tokenizer(options.vocabulary)
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
    return model, MayaProcessor(config, ImagePreparation(size=TINY_IMAGE_SIZE), tokenizer)


def train_tower(
    model: MayaForConditionalGeneration, processor: MayaProcessor, config: TrainConfig, run_dir: Path
) -> None:
    """Stage 0: the vision tower."""
    vocabulary = load_vocabulary()
    tokenizer = processor.require_tokenizer()
    names = [concept.names[code] for code in PRETRAINED_CODES for concept in vocabulary]
    name_ids = tokenizer(names, add_special_tokens=False)["input_ids"]
    width = model.config.vision.hidden_size
    encoder = NameEncoder(name_ids, len(vocabulary), model.config.text.vocab_size, width)
    scenes = EmojiScenes(processor.preparation, size=SCENES, patch_size=model.config.vision.patch_size)
    train(TowerObjective(model, encoder, width), scenes, scenes.collate, config, run_dir, on_record=_printer("tower"))


def train_answers(
    model: MayaForConditionalGeneration, processor: MayaProcessor, config: TrainConfig, run_dir: Path
) -> None:
    """All parts, on conversations."""
    conversations = EmojiConversations(
        "train", size=SCENES, languages=CODES, turns=(3, 8), seed=config.seed, image_size=TINY_IMAGE_SIZE
    )
    collate = ConversationCollator(processor)
    train(AnswerObjective(model), conversations, collate, config, run_dir, on_record=_printer("answers"))


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
    started = time.monotonic()
    model, processor = build_model(options)
    workers = options.workers
    train_tower(model, processor, replace(tiny_tower(steps=options.tower_steps), workers=workers), options.run / "tower")
    answers = replace(tiny_answers(steps=options.answer_steps), workers=workers)
    train_answers(model, processor, answers, options.run / "answers")
    out = options.out or asset_path("maya-tiny")
    save_model(model, processor, out, dtype=torch.bfloat16)
    seconds = sum(_seconds(options.run / stage) for stage in ("tower", "answers"))
    report = {
        "parameters": model.num_parameters(),
        "training_minutes": round(seconds / 60, 1),
        "this_call_minutes": round((time.monotonic() - started) / 60, 1),
        "hardware": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
        "torch": torch.__version__,
    }
    print(json.dumps(report, indent=2))


def _seconds(run_dir: Path) -> float:
    return float(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
