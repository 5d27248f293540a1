"""What a user says about a stage of training, and what of that cannot be."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import tyro

from maya_core.assets import typed_path
from maya_core.errors import MayaError
from maya_core.learning.conversation_files import NATURAL, DataSource
from maya_core.learning.splits import TRAIN
from maya_core.learning.tables import parse_columns
from maya_core.learning.train import require
from maya_core.weights import adapters
from maya_core.weights.checkpoint import is_quantized, places_of
from maya_core.weights.destination import RECIPE, claim
from maya_core.weights.hub import local_folder
from training.recipes import LANGUAGE_MODEL, LORA_A, LORA_B, MAGNITUDE, Recipe, finetune

ALPHA = 2  # times the rank, as in all recipes
MEASURED = 50, 64  # steps between two measurements of what is held out, and short answers that are given then
DEPTHS = {"mlp": 2, "qformer": 12, "cross_attention": 6}  # as published


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Train Maya on pictures and words of your own; `training.help` says what each is.

    resting: parts that the recipe would have trained. given: settings of an adapter that are not the recipe's, but said.
    """

    data: tuple[str, ...]
    images: Path
    model: str | None = None
    out: Path = Path("maya-tuned")
    adapter: Literal["continue", "merge"] | None = None
    tower: str | None = None
    language_model: str | None = None
    connector: Literal["mlp", "qformer", "cross_attention"] | None = None
    depth: int | None = None
    run: Path | None = None
    columns: tuple[str, ...] = ()
    split: str | None = None
    take: int | None = None
    mixing: float = NATURAL
    add_markers: bool = False
    skip_bad: bool = False
    validation: str | None = None
    validate_every: int = MEASURED[0]
    validate_answers: int = MEASURED[1]
    patience: int | None = None
    features: Path | None = None
    overwrite: bool = False
    restart: bool = False
    more_epochs: float | None = None
    check: bool = True
    dry_run: bool = False
    loraplus_ratio: float | None = None
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=finetune)
    recipe_name: tyro.conf.Suppress[str] = "finetune"
    resting: tyro.conf.Suppress[tuple[str, ...]] = ()
    given: tyro.conf.Suppress[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        require(0 <= self.mixing <= 1, "mixing", "from 0 to 1", self.mixing)
        require(self.depth is None or self.depth >= 1, "depth", "at least 1", self.depth)
        require(self.take is None or self.take >= 1, "take", "at least 1", self.take)
        more = self.more_epochs
        require(more is None or 0 < more < float("inf"), "more_epochs", "finite, and above 0", more)
        require(self.validate_every >= 1, "validate_every", "at least 1", self.validate_every)
        require(self.validate_answers >= 0, "validate_answers", "0 or more", self.validate_answers)
        require(self.patience is None or self.patience >= 1, "patience", "at least 1", self.patience)
        ratio = self.loraplus_ratio
        require(ratio is None or 0 < ratio < float("inf"), "loraplus_ratio", "finite, and above 0", ratio)
        if (share := _number(self.validation)) is not None and not Path(self.validation or "").exists():
            require(0 < share < 1, "validation", "a file, or a share above 0 and below 1", share)
        parse_columns(self.columns)
        if isinstance(self.data, tuple):  # and not what is yet to be given
            self.sources  # noqa: B018  (their weights can be read)

    @property
    def sources(self) -> list[DataSource]:
        """The files of conversations, with their weights."""
        return [DataSource.parse(written) for written in self.data]

    @property
    def splits(self) -> Sequence[str]:
        """Of folders, what is learnt from."""
        return (self.split or TRAIN,)

    @property
    def connector_config(self) -> dict[str, str | int]:
        """Of a new Maya."""
        kind = self.connector or "mlp"
        return {"kind": kind, "depth": self.depth or DEPTHS[kind]}

    @property
    def held_out_share(self) -> float | None:
        """What --validation says where it is a share of the data."""
        share = _number(self.validation)
        return share if share is not None and 0 < share < 1 else None

    @property
    def run_dir(self) -> Path:
        return self.run or self.out.with_name(self.out.name + ".run")

    @property
    def replaces(self) -> bool:
        """Whether what is at `out` may be replaced: as the user says, or because an earlier part of this run made it."""
        if self.overwrite:
            return True
        try:
            recipe = json.loads((self.out / RECIPE).read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(recipe, dict) and recipe.get("run") == self.run_from_out

    @property
    def run_from_out(self) -> str:
        """`run_dir` as `out` names it, so that both can be moved together."""
        run, out = self.run_dir.resolve(), self.out.resolve()
        return os.path.relpath(run, out) if run.anchor == out.anchor else str(run)

    @property
    def is_result_adapter(self) -> bool:
        """Whether an adapter is written; one on an adapter that was merged would belong to nothing that is kept."""
        return self.recipe.lora is not None and self.adapter != "merge"

    def with_rates(self, usual: Mapping[str, float]) -> "StageOptions":
        """With a rate for every part: as the user says, or else its usual one."""
        rates = {**usual, **self.recipe.train.learning_rates}
        if self.loraplus_ratio is not None and LORA_A in rates:
            rates[LORA_B] = self.loraplus_ratio * rates[LORA_A]
        resting = tuple(part for part, rate in rates.items() if not rate)
        trained = {part: rate for part, rate in rates.items() if rate}
        return replace(self._trained_at(trained), resting=resting).with_lengths()

    def with_alpha(self) -> "StageOptions":
        """With an update that is as loud at another rank as at the recipe's, unless the user says otherwise."""
        lora = self.recipe.lora
        if lora is None or "rank" not in self.given or "alpha" in self.given:
            return self
        return replace(self, recipe=replace(self.recipe, lora=replace(lora, alpha=ALPHA * lora.rank)))

    def with_lengths(self) -> "StageOptions":
        """With the rate of B for what DoRA has beside A and B, as in peft, unless the user says otherwise."""
        lora, rates = self.recipe.lora, self.recipe.train.learning_rates
        if lora is None or not lora.dora or LORA_B not in rates or MAGNITUDE in (*rates, *self.resting):
            return self
        return self._trained_at({**rates, MAGNITUDE: rates[LORA_B]})

    def _trained_at(self, rates: Mapping[str, float]) -> "StageOptions":
        return replace(self, recipe=replace(self.recipe, train=replace(self.recipe.train, learning_rates=rates)))

    @property
    def base(self) -> str:
        """The model whose weights are loaded: that below an adapter which is tuned on."""
        assert self.model is not None
        return adapters.base_of(local_folder(self.model)) if self.adapter == "continue" else self.model


def _number(written: str | None) -> float | None:
    try:
        return float(written or "")
    except ValueError:
        return None


def check_options(options: StageOptions) -> None:
    """MayaError for options that contradict each other, or would say nothing."""
    recipe, rates, model = options.recipe, options.recipe.train.learning_rates, options.model
    for_a_new_one = {"--tower": options.tower, "--language-model": options.language_model}
    more = {"--connector": options.connector, "--depth": options.depth}
    given = " and ".join(name for name, value in (for_a_new_one | more).items() if value is not None)
    if model is not None and given:
        raise MayaError(f"A new Maya is made of {given}, and --model goes on from another; leave one or the other out.")
    if model is None and not all(for_a_new_one.values()):
        raise MayaError("Give --model, or both --tower and --language-model for a new Maya.")
    if recipe.lora is not None and model is None:
        raise MayaError(f"An adapter belongs to a model that is there; give --model instead of {given}.")
    if recipe.lora is None and options.loraplus_ratio is not None:
        raise MayaError("--loraplus-ratio is of an adapter's A and B; take --recipe lora or qlora.")
    _check_adapter(options)
    if options.split is not None and not any(source.path.is_dir() for source in options.sources):
        raise MayaError("--split is of a folder of files, and --data names files themselves; leave it out.")
    if not options.images.is_dir():
        raise MayaError(f"There is no folder {options.images}; give --images the folder that the pictures are in.")
    if options.validation is None and (options.validate_every, options.validate_answers) != MEASURED:
        raise MayaError(
            "--validate-every and --validate-answers are of what is held out; give --validation with a file, or a share "
            "such as 0.05."
        )
    if options.patience is not None and options.validation is None:
        raise MayaError("--patience is of what is held out; give --validation with a file, or a share such as 0.05.")
    if recipe.lora is not None and options.adapter != "continue" and not {LORA_A, LORA_B} <= rates.keys():
        raise MayaError("An adapter's A and B train together; give both a rate with --learning-rates.")
    if not rates:
        raise MayaError("Nothing would train; give a part a rate with --learning-rates.")
    if recipe.last_layers is not None and LANGUAGE_MODEL not in rates:
        raise MayaError("--last-layers is of a language model that trains, and it rests; leave it out.")
    if recipe.four_bit and LANGUAGE_MODEL in rates:
        raise MayaError(
            "A language model in four bits cannot train itself; take --recipe qlora, or leave --four-bit out."
        )
    if model is not None and LANGUAGE_MODEL in rates and is_quantized(local_folder(model)):
        raise MayaError(
            f"{Path(model).name} is in four bits, where a language model cannot train itself; take --recipe qlora, or give "
            "--model as it was before."
        )
    for name, folder in (("--run", options.run_dir), ("--features", options.features)):
        if folder is not None and options.out.resolve() in (folder.resolve(), *folder.resolve().parents):
            raise MayaError(f"{name} is or lies in --out, where the result alone goes; give it a folder of its own.")
    if options.restart and options.more_epochs is not None:
        raise MayaError("--restart begins anew, and --more-epochs goes on; leave one of them out.")
    claim(options.out, sources=_read_from(options), overwrite=options.replaces)


def _check_adapter(options: StageOptions) -> None:
    """What --adapter says, and what --model is."""
    is_adapter = options.model is not None and adapters.is_adapter(local_folder(options.model))
    if options.adapter is not None and not is_adapter:
        raise MayaError("--adapter says what becomes of an adapter, and --model is none; leave it out.")
    if options.adapter == "continue" and options.recipe.lora is None:
        raise MayaError("An adapter is tuned on by --recipe lora or qlora; take one of them, or --adapter merge.")
    if is_adapter and options.adapter is None and options.recipe.lora is not None:
        raise MayaError(
            "--model is an adapter; say --adapter continue to tune it on, or --adapter merge to merge it in and get a "
            "whole model."
        )


def _read_from(options: StageOptions) -> list[Path]:
    """Folders of the models that the new one is made from, as far as they are on this computer."""
    given = [typed_path(part) for part in (options.tower, options.language_model) if part is not None]
    if options.model is not None and typed_path(options.model).is_dir():
        given += places_of(options.model)
    return [folder for folder in given if folder.is_dir()]
