"""One stage of training from the command line: open data, check it, load the model, tell what it will take, train, save.

`training.pretrain` and `training.finetune` are this with their recipes. Under `accelerate launch` every process runs it;
the first one speaks and saves.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from torch import Tensor

from maya_core.cli import interruptible
from maya_core.errors import MayaError, OutOfMemory
from maya_core.hardware import in_words
from maya_core.learning.data import ConversationCollator
from maya_core.learning.features import FeatureStore
from maya_core.learning.metrics import StepRecord
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.optim import parameters_of
from maya_core.learning.records import NATURAL, ConversationFiles
from maya_core.learning.train import require, train
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.weights import adapters, durable
from maya_core.weights.checkpoint import (
    assemble,
    is_quantized,
    load_model,
    load_processor,
    places_of,
    require_whole,
    stored_dtype,
    write_model,
)
from maya_core.weights.destination import RECIPE, claim, written
from maya_core.weights.hub import local_folder
from maya_core.weights.quantization import quantize
from training.estimate import REACHED, Lengths, free_memory, look_at, matrix_speed, memory, step_flops
from training.progress import duration, live
from training.recipes import LANGUAGE_MODEL, TOWER, Recipe, finetune
from training.validate import PictureChecks, RecordChecks, check_files

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """Train Maya on pictures and words of your own."""

    data: Annotated[Path, tyro.conf.arg(help="a LLaVA JSON or JSON Lines file, or a folder of them, one per language")]
    images: Annotated[Path, tyro.conf.arg(help="folder of the records' pictures")]
    model: Annotated[str | None, tyro.conf.arg(help="folder or repository of the Maya to go on from")] = None
    out: Annotated[Path, tyro.conf.arg(help="folder for the result: a model, or an adapter")] = Path("maya-tuned")
    tower: Annotated[str | None, tyro.conf.arg(help="of a SigLIP, CLIP or DINOv2, for a new Maya")] = None
    language_model: Annotated[str | None, tyro.conf.arg(help="of a Cohere model such as Aya-23, for a new Maya")] = None
    run: Annotated[Path | None, tyro.conf.arg(help="folder for checkpoints and records; OUT.run if not given")] = None
    mixing: Annotated[float, tyro.conf.arg(help="1: languages as often as they are; 0: all equally often")] = NATURAL
    features: Annotated[
        Path | None, tyro.conf.arg(help="folder where what the resting tower sees is kept, to be computed but once")
    ] = None
    overwrite: Annotated[bool, tyro.conf.arg(help="replace another model that is at OUT; other files there stay")] = (
        False
    )
    check: Annotated[bool, tyro.conf.arg(help="check every record before the first step")] = True
    dry_run: Annotated[bool, tyro.conf.arg(help="tell what the run will take, and stop")] = False
    recipe: tyro.conf.OmitArgPrefixes[Recipe] = field(default_factory=finetune)

    def __post_init__(self) -> None:
        require(0 <= self.mixing <= 1, "mixing", "from 0 to 1", self.mixing)

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


def run_stage(options: StageOptions) -> None:
    """The whole stage. Raises MayaError for what the user can mend, before the first step where that can be known."""
    state = PartialState()
    console = Console(quiet=not state.is_main_process, stderr=False)
    recipe = options.recipe
    _check_options(options)
    dataset = _open_data(options, console)
    model, processor = load_base(options)
    _check_room(options, model)
    shaped = _shaped(processor, recipe)
    collator = ConversationCollator(shaped, prompt_format=recipe.prompt_format, max_length=recipe.max_length)
    if options.features is not None and TOWER in recipe.train.learning_rates:
        raise MayaError("The vision tower trains, so what it sees changes from step to step; leave --features out.")
    lengths = look_at(dataset, collator, seed=recipe.train.seed)
    speed = _tell(options, model.config, len(dataset), lengths, console, state.device)
    if options.dry_run:
        return
    config = replace(recipe.train, learning_rates=parts_of(recipe, model.config))
    torch.manual_seed(recipe.train.seed)  # of the adapters
    objective = prepare(model, recipe, state.device)
    if options.features is not None:
        store = _looked_at(options.features, dataset, model, shaped, recipe, console)
        collator = replace(collator, see=store.batch)
    total = config.total_steps(len(dataset))

    def share_of_peak(record: StepRecord) -> float | None:
        if not record.tokens:
            return None
        pictures = record.tokens / lengths.tokens * lengths.pictures
        flops = step_flops(model.config, recipe, record.tokens, record.supervised, pictures)
        seconds = record.tokens / record.tokens_per_second  # of the steps since the last record
        return flops / seconds / speed / state.num_processes

    shown = live(console, total, share_of_peak) if state.is_main_process else nullcontext(lambda record: None)
    with shown as on_record:
        steps = train(objective, dataset, collator, config, options.run_dir, on_record=on_record)
    if state.is_main_process:
        save_result(options)
        console.print(_opened(options) if steps else _finished(options), soft_wrap=True)


def _opened(options: StageOptions) -> str:
    return f"The result is in {options.out}; `maya-app --model {options.out}` opens it."


def _finished(options: StageOptions) -> str:
    """What is said where no step was left to take."""
    base, first = str(options.out), ""
    if options.recipe.lora is not None:
        base += "-whole"
        first = f"`maya convert {options.out} {base}`, then "
    return (
        f"The run in {options.run_dir} is finished, and its result is in {options.out}; to train on from there, "
        f"{first}give --model {base} and another --out."
    )


def _check_options(options: StageOptions) -> None:
    """MayaError for options that contradict each other, or would say nothing."""
    recipe, rates, model = options.recipe, options.recipe.train.learning_rates, options.model
    for_a_new_one = {"--tower": options.tower, "--language-model": options.language_model}
    given = " and ".join(name for name, value in for_a_new_one.items() if value is not None)
    if model is not None and given:
        raise MayaError(f"A new Maya is made of {given}, and --model goes on from another; leave one or the other out.")
    if model is None and not all(for_a_new_one.values()):
        raise MayaError("Give --model, or both --tower and --language-model for a new Maya.")
    if recipe.lora is not None and model is None:
        raise MayaError(f"An adapter belongs to a model that is there; give --model instead of {given}.")
    if recipe.lora is not None and adapters.is_adapter(local_folder(model or "")):
        raise MayaError(
            f"--model is an adapter, on which no other can lie; `maya convert {model} FOLDER` makes it a whole model."
        )
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
    claim(options.out, sources=_read_from(options), overwrite=options.replaces)


def _read_from(options: StageOptions) -> list[Path]:
    """Folders of the models that the new one is made from, as far as they are on this computer."""
    given = [Path(part).expanduser() for part in (options.tower, options.language_model) if part is not None]
    if options.model is not None and Path(options.model).expanduser().is_dir():
        given += places_of(options.model)
    return [folder for folder in given if folder.is_dir()]


def _check_room(options: StageOptions, model: MayaForConditionalGeneration) -> None:
    """DiskFull where the disk has no room for the result."""
    if options.recipe.lora is None:
        size = _result_dtype(options).itemsize * sum(parameter.numel() for parameter in model.parameters())
        claim(options.out, overwrite=options.replaces, needed=size)


def _open_data(options: StageOptions, console: Console) -> ConversationFiles:
    """The data set, every record of it checked; DataError for what cannot be trained on."""
    with _progress(console) as progress:
        indexing = progress.add_task("finding records", total=None)
        dataset = ConversationFiles(
            options.data,
            options.images,
            mixing=options.mixing,
            captions=options.recipe.captions,
            on_progress=lambda done, size: progress.update(indexing, completed=done, total=size),
        )
        if options.check and PartialState().is_main_process:
            checking = progress.add_task("checking records", total=sum(map(len, dataset.files)))
            checks = RecordChecks(pictures=PictureChecks(options.images), captions=options.recipe.captions)
            findings = check_files(dataset.files, checks, on_record=lambda count: progress.advance(checking, count))
            if not findings.can_train:
                for table in findings.tables():
                    console.print(table)
                raise MayaError(findings.advice())
    for language, count in dataset.report().items():
        console.print(
            f"{language}: {count.records:,} records, {count.places:,} places an epoch, {count.corrupt:,} corrupt"
        )
    return dataset


def _looked_at(
    folder: Path,
    dataset: ConversationFiles,
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    recipe: Recipe,
    console: Console,
) -> FeatureStore:
    """What the tower sees in all pictures of the data set; computed now where it was not before."""
    state = PartialState()
    rest = next(model.vision_tower.parameters()).dtype
    dtype = torch.bfloat16 if recipe.train.computes_in(state.device, rest) == torch.bfloat16 else rest
    store = FeatureStore.of(folder, model, processor, dtype=dtype)
    model.vision_tower.to(state.device)
    with _progress(console) as progress:
        looking = progress.add_task("looking at the pictures", total=len(dataset))
        store.fill(
            dataset,
            model,
            processor,
            workers=recipe.train.workers,
            rank=state.process_index,
            ranks=state.num_processes,
            on_done=lambda samples: progress.update(looking, completed=samples * state.num_processes),
        )
    state.wait_for_everyone()
    return store


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)


def _tell(
    options: StageOptions, config: MayaConfig, size: int, lengths: Lengths, console: Console, device: torch.device
) -> float:
    """Print what the run will take; returns the speed of a plain matrix product. OutOfMemory where it cannot fit."""
    recipe = options.recipe
    needed = memory(config, recipe, lengths)
    free = free_memory(device)
    parts = ", ".join(f"{name} {in_words(size)}" for name, size in needed.items())
    console.print(f"Memory: about {in_words(sum(needed.values()))} of {in_words(free)} free on {device} ({parts}).")
    if free and sum(needed.values()) > free:
        raise OutOfMemory(
            f"This needs about {in_words(sum(needed.values()))}, and {in_words(free)} are free; take --recipe qlora, "
            "--recompute, or a lower --token-budget."
        )
    speed = matrix_speed(device, recipe.train.computes_in(device, getattr(torch, recipe.frozen)), config)
    steps = recipe.train.total_steps(size)
    samples = steps * recipe.train.batch_size
    flops = step_flops(
        config, recipe, samples * lengths.tokens, samples * lengths.supervised, samples * lengths.pictures
    )
    seconds = flops / (speed * REACHED * PartialState().num_processes)
    console.print(
        f"Time: {steps:,} steps, {samples * lengths.tokens:,.0f} tokens, about {duration(seconds)} "
        f"at {REACHED:.0%} of the {speed / 1e12:.2f} TFLOP/s that a matrix product reaches here."
    )
    return speed


# --- the model ---


def load_base(options: StageOptions) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The model to go on from, or a new one, on the CPU."""
    dtype = torch.bfloat16 if options.recipe.frozen == "bfloat16" else torch.float32
    if options.model is not None:
        model, processor = load_model(options.model, dtype=dtype), load_processor(options.model)
    else:
        assert options.tower is not None
        assert options.language_model is not None
        torch.manual_seed(options.recipe.train.seed)  # of the connector
        model, processor = assemble(options.tower, options.language_model, dtype=dtype, prompt_format="maya-v1")
    processor.require_tokenizer()
    return model, processor


def _shaped(processor: MayaProcessor, recipe: Recipe) -> MayaProcessor:
    """The processor with pictures made square as the recipe says."""
    if recipe.image_aspect_ratio is None:
        return processor
    preparation = replace(processor.preparation, aspect_ratio=recipe.image_aspect_ratio)
    return MayaProcessor(processor.config, preparation, processor.tokenizer)


def prepare(model: MayaForConditionalGeneration, recipe: Recipe, device: torch.device) -> AnswerObjective:
    """What is trained: adapters where the recipe has them, four bits where it says so, and what trains in float32."""
    if recipe.four_bit:
        quantize(model, device=device)
    if recipe.lora:
        adapters.add_lora(model, recipe.lora)
    objective = AnswerObjective(model, recompute=recipe.train.recompute)
    for part in parts_of(recipe, model.config):
        for parameter in parameters_of(objective, part):
            parameter.data = parameter.data.float()
    return objective


def parts_of(recipe: Recipe, config: MayaConfig) -> Mapping[str, float]:
    """Learning rates by part, with the language model's last layers in its place where only they train."""
    rates = dict(recipe.train.learning_rates)
    if recipe.last_layers is None or LANGUAGE_MODEL not in rates:
        return rates
    rate, layers = rates.pop(LANGUAGE_MODEL), config.text.num_hidden_layers
    if not 1 <= recipe.last_layers <= layers:
        raise MayaError(f"The language model has {layers} layers; {recipe.last_layers} of them cannot train.")
    names = [f"{LANGUAGE_MODEL}.model.layers.{number}" for number in range(layers - recipe.last_layers, layers)]
    return rates | dict.fromkeys(names, rate) | {f"{LANGUAGE_MODEL}.model.norm": rate}


# --- the result ---


def save_result(options: StageOptions) -> None:
    """Write what the newest checkpoint of the run has learnt: an adapter with its connector, or a whole model."""
    found = durable.newest(options.run_dir / "checkpoints")
    assert found is not None
    learnt = {
        name.removeprefix("model."): tensor for name, tensor in load_file(found.folder / "weights.safetensors").items()
    }
    recipe = options.recipe
    with written(options.out, require_whole, overwrite=options.replaces) as fresh:
        if recipe.lora is not None:
            assert options.model is not None
            base = Path(options.model).resolve() if Path(options.model).is_dir() else options.model
            adapters.write_adapter(learnt, recipe.lora, fresh, base=str(base))
        else:
            _write_whole(options, learnt, fresh)
        content = {"run": options.run_from_out} | asdict(recipe)
        (fresh / RECIPE).write_text(json.dumps(content, indent=2) + "\n")


def _write_whole(options: StageOptions, learnt: Mapping[str, Tensor], folder: Path) -> None:
    model, processor = load_base(options)
    dtype = _result_dtype(options)
    changed = model.load_state_dict({n: tensor.to(dtype) for n, tensor in learnt.items()}, strict=False, assign=True)
    assert not changed.unexpected_keys, changed.unexpected_keys
    model.tie_weights()
    write_model(model, processor, folder, dtype=dtype)


def _result_dtype(options: StageOptions) -> torch.dtype:
    return stored_dtype(options.model or options.language_model or "")


# --- the command ---


def command(program: str, recipes: Mapping[str, Any], description: str, arguments: list[str] | None = None) -> int:
    """Parse, run, and say a user's mistake in one sentence; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--recipe", default=program)
    known, rest = chosen.parse_known_args(arguments)
    name: str = known.recipe
    if name not in recipes:
        print(f"There is no recipe {name!r}; choose {', '.join(recipes)}.", file=sys.stderr)
        return 2
    recipe: Recipe = recipes[name]()
    rates = recipe.train.learning_rates
    without_rates = replace(recipe, train=replace(recipe.train, learning_rates={}))
    told = ", ".join(f"{part} {rate:g}" for part, rate in rates.items())
    options = tyro.cli(
        StageOptions,
        args=rest,
        default=StageOptions(data=tyro.MISSING, images=tyro.MISSING, recipe=without_rates),
        config=(tyro.conf.AvoidSubcommands,),
        prog=f"python -m training.{program}",
        description=(
            f"{description} Recipe: {name} (--recipe {{{','.join(recipes)}}}); every setting below is its own. "
            f"Learning rates by part: {told}; --learning-rates changes them, adds model.vision_tower, or rests a part (0)."
        ),
    )
    given = options.recipe.train
    rates = {part: rate for part, rate in (rates | given.learning_rates).items() if rate}
    options = replace(options, recipe=replace(options.recipe, train=replace(given, learning_rates=rates)))
    logging.basicConfig(level=logging.WARNING)
    try:
        with interruptible():
            run_stage(options)
    except MayaError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
