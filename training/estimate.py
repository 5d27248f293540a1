"""What a stage of training will take, told before its first step: memory, floating-point operations, time.

`python -m training.estimate` prints the memory that each recipe takes, and on which GPUs it fits.
"""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Annotated

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode
from transformers import CohereConfig

from maya_core.errors import MayaError
from maya_core.learning.data import Collator, SampleDataset, sample_index
from maya_core.learning.losses import CHUNK
from maya_core.learning.train import TrainConfig
from maya_core.model.config import MayaConfig, PhotographTowerConfig
from maya_core.model.maya import MayaForConditionalGeneration, parameter_counts
from maya_core.model.towers import build_tower
from maya_core.weights.adapters import MATRICES, LoraSettings
from maya_core.weights.checkpoint import load_config
from maya_core.weights.hub import local_folder
from training.command import STOPPED, ended
from training.recipes import (
    CONNECTOR,
    LANGUAGE_MODEL,
    LORA_A,
    TOWER,
    Recipe,
    finetune,
    lora,
    pretrain,
    qlora,
    unfreeze_layers,
)

FOUR_BIT = 0.516  # bytes a weight: 4 bits, and a scale of 8 bits for each 64 of them
# Steps: fewer are told of; so many are suggested, in no more epochs than these.
FEW_STEPS, ENOUGH_STEPS, MOST_EPOCHS = 50, 100, 10
LOOKED_AT = 200  # samples whose lengths stand for all
GPUS = (12, 16, 24, 48, 80)  # memory of usual ones, GiB
TOGETHER = 8  # of the largest, over which FSDP2 spreads what can be
OWN = 2**30  # bytes that a GPU keeps for its own software
BUDGETS = (16384, 8192, 4096, 2048)  # tokens computed at once; no conversation of the recipes is longer than the last
REACHED = 0.4  # share of a plain matrix product's speed that a step usually comes to


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How many parameters each part has, and how many of them train."""

    tower: int
    connector: int
    decoder: int  # the language model but for its table of words
    table: int
    adapters: int
    trained: int
    trained_in_decoder: int

    @classmethod
    def of(cls, config: MayaConfig, recipe: Recipe, counts: Mapping[str, int] | None = None) -> "Parameters":
        """counts: of each part of such a model, where they are known already."""
        counts = counts or parameter_counts(config)
        text = config.text
        table = text.vocab_size * text.hidden_size
        decoder = counts["language_model"] - table
        rates = recipe.train.learning_rates
        adapters = _adapter_parameters(config, recipe.lora) if recipe.lora else 0
        in_decoder = 0
        if LANGUAGE_MODEL in rates:
            share = 1.0 if recipe.last_layers is None else min(1.0, recipe.last_layers / text.num_hidden_layers)
            in_decoder = round(decoder * share)
        trained = in_decoder + (adapters if LORA_A in rates else 0)
        trained += table if LANGUAGE_MODEL in rates and recipe.last_layers is None else 0
        trained += counts["connector"] if CONNECTOR in rates else 0
        trained += counts["vision_tower"] if TOWER in rates else 0
        return cls(
            tower=counts["vision_tower"],
            connector=counts["connector"],
            decoder=decoder,
            table=table,
            adapters=adapters,
            trained=trained,
            trained_in_decoder=in_decoder,
        )


def _adapter_parameters(config: MayaConfig, lora: LoraSettings) -> int:
    tuned = _tuned(config.text, lora)
    lengths = sum(rows for _, rows in tuned) if lora.dora else 0
    return int(config.text.num_hidden_layers) * (lora.rank * sum(map(sum, tuned)) + lengths)


def _tuned(text: CohereConfig, lora: LoraSettings) -> list[tuple[int, int]]:
    """Of a layer's matrices that have an adapter: how many numbers go in, and come out."""
    width, inner = text.hidden_size, text.intermediate_size
    of_keys = width // text.num_attention_heads * text.num_key_value_heads
    shapes = [(width, width), (width, of_keys), (width, of_keys), (width, width)]  # q, k, v, o
    shapes += [(width, inner), (width, inner), (inner, width)]  # gate, up, down
    return [shape for name, shape in zip(MATRICES, shapes, strict=True) if name in (lora.targets or MATRICES)]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Of a sample, on average: tokens, supervised tokens, pictures. longest: tokens of the longest one looked at."""

    tokens: float
    supervised: float
    pictures: float
    longest: int


def memory(
    config: MayaConfig, recipe: Recipe, lengths: Lengths, counts: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Bytes by what they hold, on one device. counts: as `Parameters.of` takes them."""
    parameters = Parameters.of(config, recipe, counts)
    train, text = recipe.train, config.text
    frozen_size = 4 if recipe.frozen == "float32" else 2
    everything = parameters.tower + parameters.connector + parameters.decoder + parameters.table + parameters.adapters
    in_four_bits = parameters.decoder if recipe.four_bit else 0
    frozen = everything - parameters.trained - in_four_bits
    tokens = max(lengths.longest, train.token_budget or train.batch_size * lengths.longest)
    of_layer = kept_by_layer(text, learns=parameters.trained_in_decoder > 0)
    of_layer += kept_by_adapters(text, recipe.lora) if recipe.lora else 0
    layers = text.num_hidden_layers
    kept = layers * text.hidden_size + of_layer if train.recompute else layers * of_layer
    number = 2 if train.bf16 else 4
    supervised = lengths.supervised / lengths.tokens
    return {
        "weights at rest": round(frozen * frozen_size + in_four_bits * FOUR_BIT),
        "weights that train": parameters.trained * (4 + (2 if train.bf16 else 0)),  # and a copy to compute with
        "gradients": parameters.trained * 4,
        "optimiser": parameters.trained * (2 if train.optimizer == "adamw8bit" else 8),
        "activations": round(tokens * kept * number),
        "logits": round(min(tokens * supervised * text.vocab_size, CHUNK) * (4 + 4 + number)),
    }


def kept_by_layer(text: CohereConfig, *, learns: bool) -> float:
    """Numbers, of those that are computed with, that a decoder layer keeps of a token for its gradients: one that learns, or
    one that only passes them on."""
    width, inner = float(text.hidden_size), float(text.intermediate_size)
    return 3 * inner + 6.6 * width if learns else 2 * inner + 4.6 * width


def kept_by_adapters(text: CohereConfig, lora: LoraSettings) -> float:
    """The same of a layer's adapters: the input of each, by itself, what A makes of it, and on a GPU a byte for each number
    of the input where some are left out. With DoRA what comes out, twice."""
    into, out = map(sum, zip(*_tuned(text, lora), strict=True))
    copies = 1.5 if lora.dropout else 1.0
    return copies * into + lora.rank * len(_tuned(text, lora)) + (2 * out if lora.dora else 0)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run computes. tower, connector: floating-point operations for one picture, forwards."""

    config: MayaConfig
    recipe: Recipe
    lengths: Lengths
    tower: float
    connector: float

    @classmethod
    def of(cls, config: MayaConfig, recipe: Recipe, lengths: Lengths) -> "Work":
        """Tower and connector are counted as they compute, on weights without content; where what is computed depends on
        what is seen, on random ones."""
        with torch.device("meta"):
            model = MayaForConditionalGeneration(config)
        depends = isinstance(config.vision, PhotographTowerConfig)
        if depends:
            model.vision_tower = build_tower(config.vision)
        model.requires_grad_(False)  # the counter follows what has a gradient, and nothing has one here
        pixels = torch.zeros(1, 3, config.image_size, config.image_size, device="cpu" if depends else "meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            features = model.vision_features(pixels)
            tower = counter.get_total_flops()
            model.connector(features.to("meta"))
        connector = counter.get_total_flops() - tower
        return cls(config=config, recipe=recipe, lengths=lengths, tower=tower, connector=connector)

    def flops(self, tokens: float, supervised: float) -> float:
        """Floating-point operations of steps on so many tokens (pictures' among them), by the usual count: 2 a weight and
        token forwards, 2 backwards to the input, 2 to a weight that trains; the decoder's attention is left out."""
        parameters, rates = Parameters.of(self.config, self.recipe), self.recipe.train.learning_rates
        passes = 2 if CONNECTOR in rates or TOWER in rates or LORA_A in rates or LANGUAGE_MODEL in rates else 0
        flops = tokens * parameters.decoder * (2 + passes)
        flops += tokens * (2 * parameters.trained_in_decoder + 6 * parameters.adapters)
        flops += tokens * 2 * parameters.decoder if self.recipe.train.recompute else 0
        trains_table = LANGUAGE_MODEL in rates and self.recipe.last_layers is None
        flops += supervised * parameters.table * (6 if trains_table else 4)
        pictures = tokens / self.lengths.tokens * self.lengths.pictures
        return flops + pictures * (self.tower * (3 if TOWER in rates else 1) + 3 * self.connector)


def checkpoint_bytes(config: MayaConfig, recipe: Recipe) -> int:
    """Of one checkpoint of a run: what trains, and the optimiser's moments of it."""
    return Parameters.of(config, recipe).trained * (4 + (2 if recipe.train.optimizer == "adamw8bit" else 8))


def suggestion(config: TrainConfig, samples: int) -> str | None:
    """What to do where an epoch or so has so few steps that next to nothing is learnt."""
    if config.total_steps(samples) >= FEW_STEPS:
        return None
    batch = max(1, min(config.batch_size, 2 ** math.floor(math.log2(max(1, samples / FEW_STEPS)))))
    epochs = min(MOST_EPOCHS, math.ceil(ENOUGH_STEPS * batch / samples))
    better = replace(config, batch_size=batch, epochs=epochs)
    return (
        f"These are few steps: {samples:,} places an epoch, {config.batch_size} a step. A model learns little from so few; "
        f"--batch-size {batch} --epochs {epochs} makes {better.total_steps(samples):,}."
    )


def matrix_speed(device: torch.device, dtype: torch.dtype, config: MayaConfig) -> float:
    """Floating-point operations a second of a plain matrix product of the decoder's size, here and now."""
    width, inner = config.text.hidden_size, config.text.intermediate_size
    rows = 8192 if device.type == "cuda" else 512
    left = torch.randn(rows, width, device=device, dtype=dtype)
    right = torch.randn(width, inner, device=device, dtype=dtype)
    done, seconds = 0, 0.0
    for _ in range(2):  # the first time warms up
        _wait(device)
        started, done = time.perf_counter(), 0
        while (seconds := time.perf_counter() - started) < 0.15:
            left @ right
            _wait(device)
            done += 1
    return 2.0 * rows * int(width) * int(inner) * done / seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def look_at(dataset: SampleDataset, collator: Collator, *, seed: int) -> Lengths:
    """Lengths of the samples that a run begins with, which are a fair draw. Raises what the first bad one raises, where
    none is good."""
    found: list[Mapping[str, int]] = []
    error: MayaError | None = None
    for position in range(min(LOOKED_AT, len(dataset))):
        try:
            prepared = collator.prepare(dataset[sample_index(position, size=len(dataset), seed=seed)])
        except MayaError as refused:
            error = error or refused
            continue
        labels = prepared.encoded.labels
        found.append(
            {
                "tokens": collator.length(prepared),
                "supervised": int((labels != -100).sum()),
                "pictures": len(prepared.encoded.pictures),
            }
        )
    if not found:
        assert error is not None
        raise error
    means = {name: fmean(one[name] for one in found) for name in ("tokens", "supervised", "pictures")}
    return Lengths(**means, longest=max(one["tokens"] for one in found))


def free_memory(device: torch.device) -> int:
    """Bytes that a run could take on this device; 0 where that is not known."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return 0


# --- the table of recipes and GPUs ---


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """The memory that each recipe takes, and how many tokens at once on usual GPUs, as a table in Markdown."""

    model: Annotated[
        str | None, tyro.conf.arg(help="folder or repository of a Maya; the published one if not given")
    ] = None


def table(config: MayaConfig) -> str:
    """A line a recipe: GiB with its own settings, and on each GPU the tokens that can be computed at once."""
    heads = ("recipe", "weights", "gradients, optimiser", "activations, logits", "together")
    gpus = (*(f"{size} GB" for size in GPUS), f"{TOGETHER} x {GPUS[-1]} GB")
    lines = [f"| {' | '.join((*heads, *gpus))} |", "|---" * (len(heads) + len(gpus)) + "|"]
    counts = parameter_counts(config)
    for recipe in (pretrain, unfreeze_layers, finetune, lora, qlora):
        cells = (*_sizes(config, recipe(), counts), *_budgets(config, recipe(), counts))
        lines.append(f"| `{recipe.__name__}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sizes(config: MayaConfig, recipe: Recipe, counts: Mapping[str, int]) -> list[str]:
    at_rest, trained, gradients, optimizer, activations, logits = memory(config, recipe, _longest(), counts).values()
    groups = (at_rest + trained, gradients + optimizer, activations + logits)
    return [f"{size / 2**30:.1f}" for size in (*groups, sum(groups))]


def _budgets(config: MayaConfig, recipe: Recipe, counts: Mapping[str, int]) -> list[str]:
    """The most tokens that fit on each GPU, those that need --recompute with a star; a dash where none do."""
    needs: list[tuple[str, int, int]] = []  # what is said; bytes that can be spread over GPUs, and that each has
    for recompute in sorted({recipe.train.recompute, True}):
        for budget in BUDGETS:
            train = replace(recipe.train, token_budget=budget, recompute=recompute)
            needed = memory(config, replace(recipe, train=train), _longest(), counts)
            computed = needed["activations"] + needed["logits"] + OWN
            star = "*" if recompute and not recipe.train.recompute else ""
            needs.append((f"{budget:,}{star}", sum(needed.values()) + OWN - computed, computed))

    def most(size: int, processes: int = 1) -> str:
        at_hand = _gathered(config, recipe, counts) if processes > 1 else 0
        fitting = (said for said, kept, computed in needs if kept // processes + at_hand + computed <= size * 2**30)
        return next(fitting, "-")

    return [*map(most, GPUS), most(GPUS[-1], TOGETHER)]


def _gathered(config: MayaConfig, recipe: Recipe, counts: Mapping[str, int]) -> int:
    """Bytes that each GPU has besides its share: the table of words, and the layers that are worked at."""
    parameters = Parameters.of(config, recipe, counts)
    return 2 * (parameters.table + 2 * parameters.decoder // int(config.text.num_hidden_layers))


def _longest() -> Lengths:
    """A conversation as long as recipes take, a quarter of which is answers."""
    return Lengths(tokens=BUDGETS[-1], supervised=BUDGETS[-1] / 4, pictures=1, longest=BUDGETS[-1])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""

    def run() -> None:
        options = tyro.cli(EstimateOptions, args=arguments, prog="python -m training.estimate")
        print(table(load_config(local_folder(options.model)) if options.model else MayaConfig.published()))

    return ended(run, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
