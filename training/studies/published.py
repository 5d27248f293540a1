"""What a study's commands take with the 8B: memory by `training.estimate`, GPU hours by floating-point operations, beside
of the published run (`training.cost`)."""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from maya_core.model.config import MayaConfig
from maya_core.model.maya import parameter_counts
from training import cost, recipes
from training.estimate import BUDGETS, Lengths, Work, memory
from training.options import DEPTHS
from training.recipes import Recipe

ENGLISH = cost.CAPTIONS - cost.TOXIC  # captions of stage 1, in each of its languages
SAMPLES = {"pretrain": ENGLISH * (cost.LANGUAGES + 1), "finetune": cost.CONVERSATIONS}
ASSUMED = cost.CostOptions()  # lengths of captions and conversations


@dataclass(frozen=True, kw_only=True)
class Taken:
    """memory: bytes on one device, with the recipe's own settings. hours: of one GPU like the published ones."""

    memory: int
    hours: float

    def __str__(self) -> str:
        return f"{self.memory / 2**30:.0f} GiB in all; {self.hours:,.0f} hours of an H100"


def taken(command: str) -> Taken | None:
    """By a command of stage 1 or 2; None for any other."""
    words = shlex.split(command)
    stage = words[2].rpartition(".")[2]
    if stage not in SAMPLES:
        return None
    given = _parser().parse_known_args(words[3:])[0]
    config = _config(given.connector, given.depth or DEPTHS[given.connector])
    recipe = _recipe(stage, given)
    samples = given.take or (ENGLISH if "english" in given.data else SAMPLES[stage])
    longest = Lengths(tokens=BUDGETS[-1], supervised=BUDGETS[-1] / 4, pictures=1, longest=BUDGETS[-1])
    needed = memory(config, recipe, longest, _counts(config.connector.kind, config.connector.depth))
    share = _flops(stage, config, recipe, samples) / _published_flops(stage)
    return Taken(memory=sum(needed.values()), hours=share * cost.HOURS[stage] * cost.GPUS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    for flag, kind, usual in (
        ("--data", str, ""),
        ("--take", int, None),
        ("--connector", str, "mlp"),
        ("--depth", int, None),
        ("--recipe", str, "finetune"),
        ("--last-layers", int, None),
    ):
        parser.add_argument(flag, type=kind, default=usual)
    parser.add_argument("--learning-rates", nargs="*", default=[])
    return parser


def _recipe(stage: str, given: argparse.Namespace) -> Recipe:
    """Of the command, with the rates that it sets."""
    recipe: Recipe = recipes.pretrain() if stage == "pretrain" else getattr(recipes, given.recipe)()
    parts, set_to = given.learning_rates[::2], map(float, given.learning_rates[1::2])
    rates = {**recipe.train.learning_rates, **dict(zip(parts, set_to, strict=True))}
    train = replace(recipe.train, learning_rates={part: rate for part, rate in rates.items() if rate})
    return replace(recipe, train=train, last_layers=given.last_layers or recipe.last_layers)


@cache
def _published_flops(stage: str) -> float:
    recipe = recipes.pretrain() if stage == "pretrain" else recipes.finetune()
    return _flops(stage, MayaConfig.published(), recipe, SAMPLES[stage])


def _config(kind: str, depth: int) -> MayaConfig:
    fields = MayaConfig.published().to_dict()
    return MayaConfig(**fields | {"connector_config": {"kind": kind, "depth": depth}})


def _flops(stage: str, config: MayaConfig, recipe: Recipe, samples: int) -> float:
    """Floating-point operations of so many samples."""
    words = ASSUMED.caption_tokens if stage == "pretrain" else ASSUMED.conversation_tokens
    supervised = words if stage == "pretrain" else words / 2
    tokens = config.visual_tokens(config.image_size, config.image_size) + words
    lengths = Lengths(tokens=tokens, supervised=supervised, pictures=1, longest=tokens)
    work = _work(config.connector.kind, config.connector.depth)
    return replace(work, recipe=recipe, lengths=lengths).flops(samples * tokens, samples * supervised)


@cache
def _counts(kind: str, depth: int) -> Mapping[str, int]:
    return parameter_counts(_config(kind, depth))


@cache
def _work(kind: str, depth: int) -> Work:
    """Tower and connector, counted once."""
    nothing = Lengths(tokens=1, supervised=0, pictures=1, longest=1)
    return Work.of(_config(kind, depth), recipes.pretrain(), nothing)
