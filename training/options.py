"""What a user says about a stage of training, and what of that cannot be."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from maya_core.errors import MayaError
from maya_core.learning.conversation_files import NATURAL, DataSource
from maya_core.learning.tables import parse_columns
from maya_core.learning.train import require
from maya_core.weights import adapters
from maya_core.weights.checkpoint import is_quantized, places_of
from maya_core.weights.destination import RECIPE, claim
from maya_core.weights.hub import local_folder
from training.recipes import LANGUAGE_MODEL, LORA_A, LORA_B, Recipe, finetune

DEPTHS = {"mlp": 2, "qformer": 12, "cross_attention": 6}  # as published


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Train Maya on pictures and words of your own."""

    data: Annotated[
        tuple[str, ...], tyro.conf.arg(help="JSON or JSON Lines files, or folders of them; FILE:0.3 takes three of ten")
    ]
    images: Annotated[Path, tyro.conf.arg(help="folder of the records' pictures")]
    model: Annotated[str | None, tyro.conf.arg(help="folder or repository of the Maya to go on from")] = None
    out: Annotated[Path, tyro.conf.arg(help="folder for the result: a model, or an adapter")] = Path("maya-tuned")
    adapter: Annotated[
        Literal["continue", "merge"] | None,
        tyro.conf.arg(help="where --model is an adapter: tune it on, or merge it in and give a whole model"),
    ] = None
    tower: Annotated[str | None, tyro.conf.arg(help="of a SigLIP, CLIP or DINOv2, for a new Maya")] = None
    language_model: Annotated[str | None, tyro.conf.arg(help="of a Cohere model such as Aya-23, for a new Maya")] = None
    connector: Annotated[
        Literal["mlp", "qformer", "cross_attention"] | None, tyro.conf.arg(help="of a new Maya; mlp if not given")
    ] = None
    depth: Annotated[
        int | None, tyro.conf.arg(help="layers or blocks of a new Maya's connector; 2, 12 and 6 if not given")
    ] = None
    run: Annotated[Path | None, tyro.conf.arg(help="folder for checkpoints and records; OUT.run if not given")] = None
    columns: Annotated[
        tuple[str, ...], tyro.conf.arg(help="of CSV and TSV files, such as image=FILE question=Q answer=A language=L")
    ] = ()
    take: Annotated[int | None, tyro.conf.arg(help="so many records, drawn by the seed, as many of each language")] = (
        None
    )
    mixing: Annotated[float, tyro.conf.arg(help="1: languages as often as they are; 0: all equally often")] = NATURAL
    add_markers: Annotated[bool, tyro.conf.arg(help="pictures that no <image> asks for go in front")] = False
    skip_bad: Annotated[bool, tyro.conf.arg(help="go without records that cannot be trained on, and count them")] = (
        False
    )
    validation: Annotated[
        str | None,
        tyro.conf.arg(help="what is not learnt from but measured: a file, or a share of the data such as 0.05"),
    ] = None
    validate_every: Annotated[int, tyro.conf.arg(help="steps between two measurements of it")] = 50
    patience: Annotated[
        int | None, tyro.conf.arg(help="measurements in a row that come no lower after which the run ends")
    ] = None
    features: Annotated[
        Path | None, tyro.conf.arg(help="folder where what the resting tower sees is kept, to be computed but once")
    ] = None
    overwrite: Annotated[bool, tyro.conf.arg(help="replace another model that is at OUT; other files there stay")] = (
        False
    )
    restart: Annotated[bool, tyro.conf.arg(help="begin anew; what the run has so far is put aside")] = False
    more_epochs: Annotated[float | None, tyro.conf.arg(help="go on from a finished run, its rates starting anew")] = (
        None
    )
    check: Annotated[bool, tyro.conf.arg(help="check every record before the first step")] = True
    dry_run: Annotated[bool, tyro.conf.arg(help="tell what the run will take, and stop")] = False
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=finetune)
    recipe_name: tyro.conf.Suppress[str] = "finetune"
    resting: tyro.conf.Suppress[tuple[str, ...]] = ()  # parts that the recipe would have trained

    def __post_init__(self) -> None:
        require(0 <= self.mixing <= 1, "mixing", "from 0 to 1", self.mixing)
        require(self.depth is None or self.depth >= 1, "depth", "at least 1", self.depth)
        require(self.take is None or self.take >= 1, "take", "at least 1", self.take)
        more = self.more_epochs
        require(more is None or 0 < more < float("inf"), "more_epochs", "finite, and above 0", more)
        require(self.validate_every >= 1, "validate_every", "at least 1", self.validate_every)
        require(self.patience is None or self.patience >= 1, "patience", "at least 1", self.patience)
        parse_columns(self.columns)
        if isinstance(self.data, tuple):  # and not what is yet to be given
            self.sources  # noqa: B018  (their weights can be read)

    @property
    def sources(self) -> list[DataSource]:
        """The files of conversations, with their weights."""
        return [DataSource.parse(written) for written in self.data]

    @property
    def connector_config(self) -> dict[str, str | int]:
        """Of a new Maya."""
        kind = self.connector or "mlp"
        return {"kind": kind, "depth": self.depth or DEPTHS[kind]}

    @property
    def held_out_share(self) -> float | None:
        """What --validation says where it is a share of the data."""
        try:
            share = float(self.validation or "")
        except ValueError:
            return None
        return share if 0 < share < 1 else None

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

    @property
    def base(self) -> str:
        """The model whose weights are loaded: that below an adapter which is tuned on."""
        assert self.model is not None
        return adapters.base_of(local_folder(self.model)) if self.adapter == "continue" else self.model


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
    _check_adapter(options)
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
    given = [Path(part).expanduser() for part in (options.tower, options.language_model) if part is not None]
    if options.model is not None and Path(options.model).expanduser().is_dir():
        given += places_of(options.model)
    return [folder for folder in given if folder.is_dir()]
