"""LoRA, LoRA+ or all weights? `python -m training.studies.lora` tunes the embedded Maya by each, on three seeds.

What it learns: EmojiVQA asked in words that it never met (the split `phrasing`), as a community would teach it its own.
Trained on scenes that are never asked about. Each method first tries three learning rates on the first seed, and goes on
with the one whose loss is lowest on the last tenth of the steps.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.learning.data import PackedCollator, PackedSample
from maya_core.learning.metrics import StepRecord
from maya_core.learning.train import TrainConfig, train
from maya_core.weights.adapters import LoraSettings
from maya_core.weights.checkpoint import load_model, load_processor
from training.emoji_vqa.dataset import EmojiQuestions
from training.emoji_vqa.evaluate import evaluate
from training.model import prepare
from training.recipes import LANGUAGE_MODEL, LORA_A, LORA_B, Recipe

FIRST_SCENE = 1_000_000  # of those that are trained on; scored are the first ones
SCENES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Compare ways of tuning the embedded Maya."""

    model: Annotated[Path | None, tyro.conf.arg(help="folder of the Maya to tune; assets/maya-tiny if not given")] = (
        None
    )
    steps: int = 100
    batch_size: Annotated[int, tyro.conf.arg(help="scenes a step, twelve questions each")] = 16
    seeds: tuple[int, ...] = (0, 1, 2)
    rank: int = 16
    n: Annotated[int, tyro.conf.arg(help="scenes that are scored")] = 300
    only: Annotated[str, tyro.conf.arg(help="methods whose name has this; all if not given")] = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """session: what was tuned. loss: mean of the last tenth of the steps. trained: parameters."""

    session: ChatSession
    loss: float
    trained: int
    seconds_per_step: float


class HeldOutPhrasing:
    """Questions in held-out words, about scenes that are never scored."""

    def __init__(self) -> None:
        self.questions = EmojiQuestions(split="phrasing", size=FIRST_SCENE + SCENES)

    def __len__(self) -> int:
        return SCENES

    def __getitem__(self, index: int) -> PackedSample:
        return self.questions[FIRST_SCENE + index]


def methods(rank: int) -> dict[str, list[Recipe]]:
    """Each method's recipes, one a learning rate."""
    lora = LoraSettings(rank=rank, alpha=2 * rank)

    def recipe(settings: LoraSettings | None, **rates: float) -> Recipe:
        return Recipe(train=TrainConfig(batch_size=1, learning_rates=rates), lora=settings, frozen="float32")

    return {
        "all weights": [recipe(None, **{LANGUAGE_MODEL: rate}) for rate in (1e-4, 3e-4, 1e-3)],
        "LoRA, one rate": [recipe(lora, **{LORA_A: rate, LORA_B: rate}) for rate in (3e-4, 1e-3, 3e-3)],
        "LoRA+, B at 16 times A": [recipe(lora, **{LORA_A: rate, LORA_B: 16 * rate}) for rate in (1e-4, 3e-4, 1e-3)],
    }


def tune(recipe: Recipe, seed: int, options: StudyOptions, run_dir: Path) -> Outcome:
    """One run, from the model as it was."""
    folder = options.model or asset_path("maya-tiny")
    model, processor = load_model(folder), load_processor(folder)
    torch.manual_seed(seed)  # of the adapters
    objective = prepare(model, recipe, torch.device("cpu"))
    config = replace(recipe.train, steps=options.steps, batch_size=options.batch_size, seed=seed, log_every=1)
    losses: list[float] = []
    seconds: list[float] = []

    def note(record: StepRecord) -> None:
        losses.append(record.loss)
        seconds.append(record.seconds_per_step)

    train(objective, HeldOutPhrasing(), PackedCollator(processor), config, run_dir, on_record=note)
    return Outcome(
        session=ChatSession(model, processor),
        loss=fmean(losses[-max(1, options.steps // 10) :]),
        trained=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        seconds_per_step=fmean(seconds),
    )


def percent_right(session: ChatSession, options: StudyOptions) -> float:
    """Exact match, mean over languages."""
    return 100 * (evaluate(session, "phrasing", options.n).share() or 0)


def main() -> None:
    options = tyro.cli(StudyOptions, description=__doc__)
    console = Console()
    chosen = {name: recipes for name, recipes in methods(options.rank).items() if options.only in name}
    if not chosen:
        raise SystemExit(f"No method has {options.only!r} in its name: {', '.join(methods(options.rank))}.")
    folder = options.model or asset_path("maya-tiny")
    before = percent_right(ChatSession(load_model(folder), load_processor(folder)), options)
    console.print(f"before: {before:.1f} % of `phrasing`, {options.n} scenes")
    table = Table(
        title=f"{options.steps} steps of {options.batch_size} scenes, seeds {options.seeds}, rank {options.rank}"
    )
    for heading in (
        "method",
        "trained",
        "rates",
        "loss at each rate",
        "exact match by seed",
        "mean",
        "spread",
        "s/step",
    ):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as temporary:
        for name, recipes in chosen.items():

            def run(recipe: Recipe, seed: int, label: str) -> Outcome:
                outcome = tune(recipe, seed, options, Path(temporary) / label)
                console.print(f"{label}: loss {outcome.loss:.3f}, {outcome.seconds_per_step:.2f} s/step")
                return outcome

            first, *others = options.seeds
            tried = [run(recipe, first, f"{name}, rate {number}") for number, recipe in enumerate(recipes)]
            _, best = min((outcome.loss, number) for number, outcome in enumerate(tried))
            scored = [tried[best], *(run(recipes[best], seed, f"{name}, seed {seed}") for seed in others)]
            shares = [percent_right(outcome.session, options) for outcome in scored]
            table.add_row(
                name,
                f"{scored[0].trained:,}",
                ", ".join(f"{rate:g}" for rate in recipes[best].train.learning_rates.values()),
                " / ".join(f"{outcome.loss:.3f}" for outcome in tried),
                " / ".join(f"{share:.1f}" for share in shares),
                f"{fmean(shares):.1f}",
                f"{stdev(shares):.1f}" if len(shares) > 1 else "-",
                f"{fmean(outcome.seconds_per_step for outcome in scored):.2f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
