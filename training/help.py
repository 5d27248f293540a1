"""What `--help` says of a stage: what people use first, then the rest by what it is about, a line each."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from maya_core.weights.adapters import LoraSettings
from training.options import StageOptions
from training.recipes import Recipe, lora

WIDTH = 34  # of an option and its value
ADAPTER = tuple(one.name for one in fields(LoraSettings))  # options that only a recipe with adapters has
OF_LORA = "Adapters, of --recipe lora and qlora"
# group -> option -> what it takes, and what it is for
GROUPS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "What people use first": {
        "recipe": ("NAME", "one of {recipes}"),
        "data": ("FILE ...", "records, or folders of them; FILE:0.3 takes three of ten"),
        "images": ("FOLDER", "the records' pictures"),
        "model": ("MODEL", "folder or repository of the Maya to go on from"),
        "out": ("FOLDER", "the result: a model, or an adapter"),
        "epochs": ("N", "times that the data is gone through"),
        "batch_size": ("N", "conversations a step, over all processes"),
        "learning_rates": ("PART RATE ...", "of the recipe's parts, or others; 0 rests a part"),
        "validation": ("FILE|SHARE", "not learnt from but measured: a file, or 0.05 of the data"),
        "dry_run": ("", "tell what the run will take, and stop"),
    },
    "Data": {
        "columns": ("NAME=COLUMN ...", "of rows: image, question, answer, language"),
        "split": ("NAME", "of a folder that has several; train if not given, or all"),
        "take": ("N", "so many records, drawn by the seed, evenly over languages"),
        "mixing": ("0..1", "1: languages as often as they are; 0: all equally often"),
        "add_markers": ("", "put pictures in front that no <image> asks for"),
        "captions": ("", "questions may be nothing but a picture"),
        "max_length": ("N", "tokens that a conversation may have"),
        "check": ("", "check every record before the first step"),
        "skip_bad": ("", "go without records that cannot be trained on"),
        "workers": ("N", "processes that prepare data"),
        "worker_timeout": ("SECONDS", "that the data of a step may take"),
    },
    "A new Maya, instead of --model": {
        "tower": ("MODEL", "a SigLIP, CLIP or DINOv2, which sees"),
        "language_model": ("MODEL", "a Cohere model such as Aya-23, which answers"),
        "connector": ("KIND", "mlp, qformer or cross_attention, between them"),
        "depth": ("N", "its layers or blocks; 2, 12 and 6 if not given"),
    },
    OF_LORA: {
        "rank": ("N", "of the update of each matrix"),
        "alpha": ("N", "scales the update by alpha / rank; twice --rank if not given"),
        "dropout": ("SHARE", "of an adapter's inputs, left out in training"),
        "targets": ("MATRIX ...", "such as q_proj v_proj; all seven if not given"),
        "rslora": ("", "scale by alpha / sqrt(rank) (rsLoRA)"),
        "dora": ("", "learn lengths and directions apart (DoRA)"),
        "loraplus_ratio": ("R", "rate of B is R times that of A (LoRA+)"),
        "adapter": ("HOW", "of --model that is an adapter: continue it, or merge it in"),
    },
    "What trains": {
        "steps": ("N", "of updates, instead of --epochs"),
        "last_layers": ("N", "of the language model, so many of which train"),
        "optimizer": ("KIND", "adamw, or adamw8bit: its moments take a quarter"),
        "muon_rates": ("PART RATE ...", "parts whose matrices Muon trains"),
        "warmup": ("SHARE", "of the steps, over which rates rise"),
        "weight_decay": ("X", "of matrices"),
        "betas": ("B1 B2", "of AdamW"),
        "clip_norm": ("X", "largest norm of a gradient"),
        "restarts": ("STEP ...", "where rates begin anew; --more-epochs adds one"),
        "prompt_format": ("KIND", "maya-v1, chat or caption; the model's own if not given"),
        "image_aspect_ratio": ("KIND", "pad or stretch to a square; the model's own if not given"),
        "seed": ("N", "of all that is drawn"),
    },
    "Memory and speed": {
        "token_budget": ("N", "tokens computed at once, which changes nothing else"),
        "recompute": ("", "compute activations twice instead of keeping them"),
        "four_bit": ("", "the language model rests in four bits (NF4)"),
        "frozen": ("TYPE", "bfloat16 or float32, of what rests; what is faster if not given"),
        "bf16": ("", "compute in bfloat16, where the device can"),
        "features": ("FOLDER", "keep what the resting tower sees, to see it but once"),
    },
    "The run": {
        "config": ("FILE", "settings in YAML or JSON, such as a recipe.json; flags go before"),
        "run": ("FOLDER", "checkpoints and records; OUT.run if not given"),
        "save_every": ("STEPS", "between two checkpoints"),
        "log_every": ("STEPS", "between two records"),
        "validate_every": ("STEPS", "between two measurements of --validation"),
        "validate_answers": ("N", "short ones of it that are answered then, and compared"),
        "patience": ("N", "end after so many measurements that came no lower"),
        "trackers": ("NAME ...", "beside metrics.jsonl, such as tensorboard"),
        "overwrite": ("", "replace another model that is at --out"),
        "restart": ("", "begin anew; what the run has so far is put aside"),
        "more_epochs": ("N", "go on from a finished run"),
    },
}  # fmt: skip


def page(program: str, description: str, recipes: Sequence[str], name: str, recipe: Recipe) -> str:
    """All of `--help`, with the values that the recipe `name` has."""
    rates = ", ".join(f"{part} {rate:g}" for part, rate in recipe.train.learning_rates.items())
    values = values_of(recipe)
    lines = [
        f"usage: python -m training.{program} --data FILE --images FOLDER {_from(program)}",
        "",
        f"{description} Values in brackets are those of --recipe {name},",
        f"which trains {rates}.",
        "What --x turns on, --no-x turns off.",
    ]
    for group, options in GROUPS.items():
        if group == OF_LORA and not any(kind.endswith("lora") for kind in recipes):
            continue
        lines += ["", f"{group}:"]
        for option, (takes, text) in options.items():
            text = text.format(recipes=", ".join(recipes))
            lines.append(_line(option, takes, text, values.get(option)))
    return "\n".join(lines)


def _from(program: str) -> str:
    return "--tower MODEL --language-model MODEL" if program == "pretrain" else "--model MODEL"


def values_of(recipe: Recipe) -> dict[str, Any]:
    """What every option is where it is not given."""
    own = {one.name: one.default for one in fields(StageOptions) if one.default is not MISSING}
    adapters = recipe.lora or lora().lora
    of_lora = {name: getattr(adapters, name) for name in ADAPTER}
    of_recipe = {one.name: getattr(recipe, one.name) for one in fields(Recipe)}
    of_train = {one.name: getattr(recipe.train, one.name) for one in fields(recipe.train)}
    return own | of_lora | of_recipe | of_train | {"learning_rates": None}


def _line(option: str, takes: str, text: str, value: Any) -> str:
    flag = f"  --{option.replace('_', '-')} {takes}".rstrip()
    return f"{flag:<{WIDTH}}{text}{_told(value)}"


def _told(value: Any) -> str:
    """A value in brackets; nothing for one that says nothing."""
    if isinstance(value, bool):
        return " [on]" if value else ""
    if value is None or value in ((), {}):
        return ""
    return f" [{' '.join(map(str, value)) if isinstance(value, tuple) else value}]"
