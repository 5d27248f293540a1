"""`python -m tests.gpu.training`: the paper's stages and QLoRA at 8B on one GPU, with random weights.

Real tokens a second (padding is none) of our own loop, and the memory at most. `--toy` runs the whole of it on small shapes,
on a CPU too; `--record` keeps what is printed. One that fails is told, and the others are measured all the same.
Conversations have one picture, a question and a short answer: a tenth of their positions is supervised.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from maya_core.learning.data import ConversationCollator, Sample
from maya_core.learning.metrics import StepRecord
from maya_core.learning.train import train
from maya_core.model.prompt import Message
from tests.gpu.inference import Bench, Part, profiler, run, tell
from tests.speed.report import GOAL, Row
from training.model import parts_of, prepare
from training.recipes import Recipe, finetune, pretrain, qlora

QUESTION, ANSWER = 40, 10  # words
WARM, MEASURED = 2, 4  # steps; the first ones do not count
BATCH = 64  # conversations a step
WIDE = 16_384  # tokens at once, where there is more memory than a QLoRA needs
ENOUGH = 30  # seconds after which no further step is made, if one was measured
# What each should reach on an H200, in tokens a second, and for the last the gigabytes it may take.
WANTED = {"QLoRA": 11_000, "wide QLoRA": 11_000, "full fine-tuning": 9_000, "projector stage": 14_000}
MOST_GIGABYTES = {"QLoRA": 11}


class Enough(Exception):
    """All steps that are wanted were made; nothing needs to be saved."""


class Conversations:
    """One picture, one question, one answer each."""

    def __init__(self, image_size: int) -> None:
        self.picture = Image.effect_mandelbrot((image_size, image_size), (-2, -1, 1, 1), 60).convert("RGB")

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> Sample:
        rng = random.Random(index)
        question, answer = (" ".join(rng.choices(("dog", "grass", "red", "ball"), k=k)) for k in (QUESTION, ANSWER))
        asked = Message(role="user", text=question, images=(self.picture,))
        return Sample(messages=(asked, Message(role="assistant", text=answer)))


def recipes(*, toy: bool) -> dict[str, Recipe]:
    """Each part's, with 8-bit moments where all weights train, so that they fit on one GPU, and a small step: what an
    optimiser takes weighs more than in training."""
    wide = replace(qlora(), train=replace(qlora().train, token_budget=WIDE))
    found = {"projector stage": pretrain(), "full fine-tuning": finetune(), "QLoRA": qlora(), "wide QLoRA": wide}
    for name, recipe in found.items():
        optimizer = "adamw" if name == "projector stage" else "adamw8bit"
        batch_size, workers, measured = (2, 0, 1) if toy else (BATCH, 8, MEASURED)
        steps = WARM + 1 + measured + 1  # one is profiled; the last one, after which a run saves, is not made
        config = replace(
            recipe.train, steps=steps, batch_size=batch_size, workers=workers, optimizer=optimizer, log_every=1
        )
        found[name] = replace(recipe, train=config)
    return found


def measure(bench: Bench, name: str, recipe: Recipe) -> Row:
    """Tokens a second of the steps after the first ones, and the memory at most."""
    model = bench.random_model()
    objective = prepare(model, recipe, bench.device)
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # the weights came in sixteen bits, which no user's do
    config = replace(recipe.train, learning_rates=parts_of(recipe, bench.config))
    records: list[StepRecord] = []
    started = time.monotonic()
    profile = profiler(bench)

    def note(step: StepRecord) -> None:
        records.append(step)
        if len(records) == WARM:
            profile.start()
        elif len(records) == WARM + 1:
            profile.stop()
            tell(bench, f"{name}: a step of {step.tokens} tokens, {step.tokens_per_second:,.0f} a second", profile)
        is_late = time.monotonic() > started + ENOUGH and len(records) > WARM + 1
        if is_late or len(records) == recipe.train.total_steps(1) - 1:
            raise Enough

    collator = ConversationCollator(bench.processor, prompt_format=recipe.prompt_format)
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(objective, Conversations(bench.config.image_size), collator, config, Path(folder), on_record=note)
    speed = statistics.median(step.tokens_per_second for step in records[WARM + 1 :])
    supervised = sum(step.supervised for step in records) / sum(step.tokens for step in records)
    memory = torch.cuda.max_memory_allocated() / 1e9 if bench.device.type == "cuda" else 0.0
    most = f" (at most {MOST_GIGABYTES[name]})" if name in MOST_GIGABYTES else ""
    return Row(
        what=f"{name}, tokens a second", peer=f"{GOAL}, on an H200", ours=f"{speed:,.0f}, {memory:.1f} GB{most}",
        theirs=f"{WANTED[name]:,}", ratio=speed / WANTED[name], wanted=1,
        agreement=f"{supervised:.0%} of the positions supervised, loss {records[-1].loss:.2f}",
    )  # fmt: skip


def part(name: str) -> Part:
    return lambda bench: [measure(bench, name, recipes(toy=bench.toy)[name])]


PARTS = {name: part(name) for name in WANTED}


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    return run("training", PARTS, __doc__, arguments)


if __name__ == "__main__":
    main()
