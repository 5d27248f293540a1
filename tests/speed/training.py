"""`python -m tests.speed.training`: our training loop against `transformers.Trainer`.

Both train the same weights (ours; the peer those of `maya export`, as transformers' own Llava) on the same samples in the
same order, with the same settings. Losses are compared step by step before any time is told. Measured is the CPU time of
one thread, with both interleaved, the median over steps; the first step of each run is not counted.
"""

import math
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from PIL import Image
from torch import Tensor
from transformers import LlavaForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

from maya_core.assets import asset_path
from maya_core.learning.data import ConversationCollator, Sample, step_indices
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import TrainConfig, train
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import IGNORED, ImagePreparation, MayaProcessor
from maya_core.model.prompt import Message, PromptFormat
from maya_core.weights.checkpoint import load_model, load_processor, save_model
from maya_core.weights.export import export_llava
from tests.speed.report import Row, record
from training.embedded.tokenizer import train_tokenizer
from training.emoji_vqa.vocabulary import load_vocabulary

CLOSE = 1e-3  # most that two losses of a step may differ
WANTED = {("stage 1", False): 1.3, ("stage 1", True): 2.5, ("stage 2", False): 1.5, ("stage 2", True): 2.8}
EVEN, SKEWED = "evenly filled", "skewed lengths"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare our training loop with transformers.Trainer."""

    steps: Annotated[int, tyro.conf.arg(help="steps of each run, the first not counted")] = 4
    rounds: Annotated[int, tyro.conf.arg(help="runs of each, interleaved")] = 2
    batch_size: int = 16
    bf16: Annotated[bool, tyro.conf.arg(help="compute in bfloat16 instead of float32")] = False
    record: Annotated[bool, tyro.conf.arg(help="keep what is printed in RESULTS.md")] = False


class Conversations:
    """One picture, one question of 24 words, one answer each: of 24 words, or `skewed`, of a few to 600, most of them
    short."""

    def __init__(self, size: int, words: list[str], *, skewed: bool, image_size: int, seed: int = 0) -> None:
        rng = random.Random(seed)
        shades = [(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(size)]
        self.samples = []
        for shade in shades:
            length = min(600, round(math.exp(rng.gauss(math.log(40), 1.2)))) + 1 if skewed else 24
            question, answer = (" ".join(rng.choices(words, k=count)) for count in (24, length))
            picture = Image.new("RGB", (image_size, image_size), shade)
            messages = (
                Message(role="user", text=question, images=(picture,)),
                Message(role="assistant", text=answer),
            )
            self.samples.append(Sample(messages=messages))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def published_in_small(folder: Path) -> None:
    """A Maya of 15 M parameters with the published proportions: its table is 15 % of the language model, and a picture takes
    256 slots."""
    tokenizer = train_tokenizer(4096, texts=[" ".join(_words())])
    ids = tokenizer.get_added_vocab()
    config = MayaConfig(
        vision_config={
            "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 3,
            "image_size": 256, "patch_size": 16, "vision_use_head": False,
        },
        text_config={
            "vocab_size": 4096, "hidden_size": 384, "intermediate_size": 1344, "num_hidden_layers": 5,
            "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "logit_scale": 1.0, "eos_token_id": ids["<|END_OF_TURN_TOKEN|>"], "pad_token_id": ids["<PAD>"],
        },
        image_token_id=ids["<image>"],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )  # fmt: skip
    torch.manual_seed(0)
    model = MayaForConditionalGeneration(config)
    save_model(model, MayaProcessor(config, ImagePreparation(size=256), tokenizer), folder)


def embedded(folder: Path) -> None:
    """The embedded Maya: its table is half of it, and a picture takes 64 slots."""
    save_model(load_model(asset_path("maya-tiny")), load_processor(asset_path("maya-tiny")), folder)


MODELS = {"published proportions": published_in_small, "the embedded Maya": embedded}


class PaddedCollator:
    """What users of Trainer write: conversations padded to the longest of the batch."""

    def __init__(self, processor: MayaProcessor, prompt_format: PromptFormat | None) -> None:
        self.processor, self.prompt_format = processor, prompt_format

    def __call__(self, samples: list[Sample]) -> dict[str, Tensor]:
        encoded = [
            self.processor.encode(sample.messages, answer_next=False, prompt_format=self.prompt_format)
            for sample in samples
        ]
        pad = torch.nn.utils.rnn.pad_sequence
        ids = [one.input_ids for one in encoded]
        return {
            "input_ids": pad(ids, batch_first=True),
            "attention_mask": pad([torch.ones_like(one) for one in ids], batch_first=True),
            "labels": pad([one.labels for one in encoded], batch_first=True, padding_value=IGNORED),
            "pixel_values": self.processor.pixel_values([picture for one in encoded for picture in one.pictures]),
        }


class InOurOrder(Trainer):
    """Trainer on samples that are in order already."""

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Clock(TrainerCallback):
    """CPU time of this thread at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.thread_time())


@dataclass(frozen=True)
class Measured:
    losses: list[float]
    seconds: list[float]  # of each step but the first


def run_ours(
    folder: Path, data: Conversations, config: TrainConfig, run_dir: Path, prompt_format: PromptFormat | None
) -> Measured:
    model, processor = load_model(folder), load_processor(folder)
    losses, times = [], []

    def on_record(step: Any) -> None:
        losses.append(step.loss)
        times.append(time.thread_time())

    collator = ConversationCollator(processor, prompt_format=prompt_format)
    train(AnswerObjective(model), data, collator, config, run_dir, on_record=on_record)
    return Measured(losses, _steps(times))


def run_peer(
    folder: Path,
    data: Conversations,
    config: TrainConfig,
    run_dir: Path,
    prompt_format: PromptFormat | None,
    *,
    recompute: bool,
) -> Measured:
    """transformers.Trainer on transformers' Llava. recompute: activations, as the original's recipe does."""
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    parts = {
        "model.connector": model.model.multi_modal_projector,
        "model.language_model": model.model.language_model,
    }
    model.requires_grad_(False)
    for part in config.learning_rates:
        parts[part].requires_grad_(True)
    if "model.language_model" in config.learning_rates:
        model.lm_head.requires_grad_(True)
    assert config.steps is not None
    rate, *others = set(config.learning_rates.values())
    assert not others
    order = [
        index
        for step in range(config.steps)
        for index in step_indices(step, size=len(data), batch_size=config.batch_size, seed=config.seed)
    ]
    arguments = TrainingArguments(
        output_dir=str(run_dir),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        max_grad_norm=config.clip_norm,
        bf16=config.bf16,
        gradient_checkpointing=recompute,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        seed=config.seed,
    )
    clock = Clock()
    collator = PaddedCollator(load_processor(folder.with_name("maya")), prompt_format)
    ordered: Any = [data[index] for index in order]
    trainer = InOurOrder(model, arguments, data_collator=collator, train_dataset=ordered, callbacks=[clock])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Measured(losses, _steps(clock.times))


def _steps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


def compare(stage: str, rates: dict[str, float], *, skewed: bool, options: Options, folder: Path) -> list[Row]:
    """The rows of one stage: against Trainer, and against Trainer that recomputes activations."""
    image_size = load_processor(folder / "maya").preparation.size
    data = Conversations(options.batch_size * options.steps, _words(), skewed=skewed, image_size=image_size)
    config = TrainConfig(
        steps=options.steps, batch_size=options.batch_size, learning_rates=rates, warmup=0.0, bf16=options.bf16,
        workers=0, log_every=1, token_budget=4096,
    )  # fmt: skip
    prompt_format = "caption" if stage == "stage 1" else None
    ours, peer, recomputing = [], [], []
    for number in range(options.rounds):
        ours.append(run_ours(folder / "maya", data, config, folder / f"ours-{stage}-{skewed}-{number}", prompt_format))
        peer.append(run_peer(folder / "llava", data, config, folder / "peer", prompt_format, recompute=False))
        recomputing.append(run_peer(folder / "llava", data, config, folder / "peer", prompt_format, recompute=True))
    difference = max(
        abs(one - other) for run in (*peer, *recomputing) for one, other in zip(ours[0].losses, run.losses, strict=True)
    )
    if difference > CLOSE:
        raise SystemExit(f"{stage}: losses differ by {difference:.1e}: {ours[0].losses} and {peer[0].losses}")
    fill = SKEWED if skewed else EVEN
    mine = statistics.median(second for run in ours for second in run.seconds)
    rows = []
    for name, runs in (("Trainer", peer), ("Trainer, gradient_checkpointing", recomputing)):
        theirs = statistics.median(second for run in runs for second in run.seconds)
        rows.append(
            Row(
                what=f"{stage}, {fill}",
                peer=name,
                ours=f"{mine:.2f} s/step",
                theirs=f"{theirs:.2f} s/step",
                ratio=theirs / mine,
                agreement=f"losses within {difference:.0e}",
                wanted=WANTED[stage, skewed],
            )
        )
    return rows


def _words() -> list[str]:
    return [concept.names["en"] for concept in load_vocabulary()]


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    torch.set_num_threads(1)
    both = {"model.connector": 2e-5, "model.language_model": 2e-5}
    for name, make in MODELS.items():
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            make(folder / "maya")
            export_llava(folder / "maya", folder / "llava")
            for stage, rates in (("stage 1", {"model.connector": 1e-3}), ("stage 2", both)):
                for skewed in (False, True):
                    rows += compare(stage, rates, skewed=skewed, options=options, folder=folder)
        keep(name, rows, options)


def keep(model: str, rows: list[Row], options: Options) -> None:
    """Print the table of one model, and record it where asked."""
    precision = "bfloat16" if options.bf16 else "float32"
    title = f"Training, {model}, {precision}, one thread, {options.batch_size} conversations a step"
    record(
        title, rows, command="python -m tests.speed.training" + (" --bf16" if options.bf16 else ""), keep=options.record
    )


if __name__ == "__main__":
    main()
