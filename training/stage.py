"""One stage of training from the command line: open data, check it, load the model, tell what it will take, train, save.

`training.pretrain` and `training.finetune` are this with their recipes. Under `accelerate launch` or torchrun every process
runs it; the first one speaks and saves.
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from maya_core.cli import interruptible
from maya_core.errors import DiskFull, MayaError, OutOfMemory
from maya_core.hardware import cores, in_words
from maya_core.languages import CODES
from maya_core.learning.checkpoints import progress_of
from maya_core.learning.conversation_files import ConversationFiles
from maya_core.learning.data import ConversationCollator
from maya_core.learning.data_languages import UNKNOWN
from maya_core.learning.features import FeatureStore
from maya_core.learning.held_out import HeldOut
from maya_core.learning.metrics import StepRecord
from maya_core.learning.splits import HELD_OUT
from maya_core.learning.tables import parse_columns
from maya_core.learning.train import TrainConfig, computed_in, processes, train
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.weights.checkpoint import load_processor
from maya_core.weights.destination import claim
from maya_core.weights.durable import exclusive
from maya_core.weights.hub import local_folder
from maya_core.weights.runs import is_run
from training.checks import PictureChecks, RecordChecks, check_files
from training.command import ended
from training.estimate import REACHED, Work, checkpoint_bytes, free_memory, look_at, matrix_speed, memory, suggestion
from training.help import ADAPTER, page
from training.model import (
    as_tuned,
    begin_run,
    load_base,
    made_from,
    parts_of,
    prepare,
    result_dtype,
    save_result,
    shaped,
    with_format,
)
from training.options import StageOptions, check_options
from training.progress import duration, live
from training.recipes import TOWER, Recipe
from training.settings import as_flags, read_settings
from training.short_answers import ShortAnswers, has_chrf

log = logging.getLogger(__name__)


def run_stage(options: StageOptions) -> None:
    """The whole stage. Raises MayaError for what the user can mend, before the first step where that can be known."""
    state = processes()
    console = Console(quiet=not state.is_main_process, stderr=False)
    check_options(options)
    options = with_format(as_tuned(options), state.device)
    recipe = options.recipe
    if options.features is not None and TOWER in recipe.train.learning_rates:
        raise MayaError("The vision tower trains, so what it sees changes from step to step; leave --features out.")
    dataset = _open_data(options, console)
    model: MayaForConditionalGeneration | None = None
    if options.model is not None:
        processor = load_processor(options.base)
        processor.require_tokenizer()
    else:
        model, processor = load_base(options)
    _check(dataset, processor, options, console)
    held_out = _held_out(dataset, processor, options, console)
    _report(dataset, console)
    if model is None:
        model, processor = load_base(options)
    _check_room(options, model)
    collator = ConversationCollator(
        shaped(processor, recipe),
        prompt_format=recipe.prompt_format,
        max_length=recipe.max_length,
        languages=_told_apart(dataset, held_out),
    )
    config = replace(_scheduled(options, len(dataset)), learning_rates=parts_of(recipe, model.config))
    lengths = look_at(dataset, collator, seed=recipe.train.seed)
    work = Work.of(model.config, recipe, lengths)
    speed = _tell(options, work, config, len(dataset), console, state.device)
    if options.dry_run:
        return
    if options.restart and state.is_main_process:
        _put_aside(options.run_dir, console)
    state.wait_for_everyone()
    if state.is_main_process and not (is_run(options.run_dir) and progress_of(options.run_dir)):
        begin_run(options, model, processor)
    torch.manual_seed(recipe.train.seed)  # of the adapters
    start = local_folder(options.model or "") if options.adapter == "continue" else None
    objective = prepare(model, recipe, state.device, start=start)
    if held_out is not None and options.validate_answers and not recipe.captions:
        dtype = computed_in(config, objective, state.device)
        held_out = _with_answers(held_out, model, collator.processor, options.validate_answers, dtype, console)
    if options.features is not None:
        store = _looked_at(options.features, dataset, model, collator.processor, recipe, console)
        collator = replace(collator, see=store.batch)
    total = config.total_steps(len(dataset))

    def share_of_peak(record: StepRecord) -> float | None:
        if not record.tokens:
            return None
        seconds = record.tokens / record.tokens_per_second  # of the steps since the last record
        share = work.flops(record.tokens, record.supervised) / seconds / speed / state.num_processes
        return share if share <= 1 else None  # what was measured at the start was measured beside something else

    identity = made_from(options, dataset.fingerprint())
    shown = live(console, total, share_of_peak) if state.is_main_process else nullcontext(lambda record: None)
    try:
        with shown as on_record:
            steps = train(
                objective,
                dataset,
                collator,
                config,
                options.run_dir,
                on_record=on_record,
                held_out=held_out,
                made_from=identity,
            )
    except SystemExit:
        console.print(_stopped(options), soft_wrap=True)
        raise
    if state.is_main_process:
        counts = {language: count.records for language, count in dataset.report().items()}
        save_result(options, identity, counts)
        console.print(opened(options) if steps else _finished(options), soft_wrap=True)


# --- what is said at the end ---


def opened(options: StageOptions) -> str:
    """Where the result is, how to ask it, and what else can be done with it: three lines."""
    out = options.out
    more = (
        f"It is an adapter: `maya merge {out} {out}-whole` makes a model of its own of it."
        if options.is_result_adapter
        else f"Tune it on: `python -m training.finetune --model {out} ...`; send it to the hub: `maya push {out} owner/name`"
    )
    return "\n".join(
        [
            f"The result is in {out}; `maya-app --model {out}` opens it in the app.",
            f'Ask it: `maya ask PICTURE "QUESTION" --model {out}`',
            more,
        ]
    )


def _stopped(options: StageOptions) -> str:
    found = progress_of(options.run_dir)
    where = f"after step {found.step:,} of {found.total:,}, " if found else ""
    return f"Stopped {where}which is kept in {options.run_dir}; the same command goes on from there."


def _finished(options: StageOptions) -> str:
    """What is said where no step was left to take."""
    adapter = " --adapter continue" if options.is_result_adapter else ""
    return (
        f"The run in {options.run_dir} is finished, and its result is in {options.out}; to train on from there, give "
        f"--more-epochs, or --model {options.out}{adapter} and another --out."
    )


# --- data ---


def _open_data(options: StageOptions, console: Console, splits: Sequence[str] = ()) -> ConversationFiles:
    """The data set that was asked for; DataError for files that cannot be read. splits: of folders, where not the usual."""
    with _progress(console) as progress:
        indexing = progress.add_task("finding records", total=None)
        dataset = ConversationFiles(
            options.sources,
            options.images,
            mixing=options.mixing,
            captions=options.recipe.captions,
            add_markers=options.add_markers,
            columns=parse_columns(options.columns),
            splits=splits or options.splits,
            tell=lambda sentence: console.print(sentence, soft_wrap=True),
            on_progress=lambda done, size: progress.update(indexing, completed=done, total=size),
        )
    if options.take is not None:
        dataset.take(options.take, seed=options.recipe.train.seed)
    return dataset


def _check(dataset: ConversationFiles, processor: MayaProcessor, options: StageOptions, console: Console) -> None:
    """Check every record that is chosen. DataError where one cannot be trained on, unless it is to be left out."""
    left_out: dict[int, list[int]] = {}
    if options.check and PartialState().is_main_process:
        checks = RecordChecks(
            pictures=PictureChecks(options.images),
            processor=processor,
            max_length=options.recipe.max_length,
            captions=options.recipe.captions,
            add_markers=options.add_markers,
        )
        with _progress(console) as progress:
            checking = progress.add_task("checking records", total=len(dataset))
            findings = check_files(
                dataset.files,
                checks,
                on_record=lambda count: progress.advance(checking, count),
                chosen=dataset.records,
            )
        if findings.kinds.keys() - {"corrupt"}:
            for table in findings.tables():
                console.print(table)
        if not findings.can_train and not options.skip_bad:
            raise MayaError(findings.advice())
        left_out = dict(findings.unusable_in)
        if left_out:
            console.print(f"{findings.unusable:,} of {findings.records:,} records are left out.")
    [left_out] = broadcast_object_list([left_out])
    if left_out:
        dataset.leave_out(left_out)


def _held_out(
    dataset: ConversationFiles, processor: MayaProcessor, options: StageOptions, console: Console
) -> HeldOut | None:
    """What is measured and not learnt from; a share of it goes out of the data set."""
    if options.validation is None:
        return None
    if share := options.held_out_share:
        held = dataset.split(share, seed=options.recipe.train.seed)
    else:
        held = _open_data(replace(options, data=(options.validation,), take=None), console, splits=HELD_OUT)
        if same := {file.path for file in held.files} & {file.path for file in dataset.files}:
            raise MayaError(
                f"{min(same).name} would be learnt from and held out; give --validation another file, or a share as 0.05."
            )
        _check(held, processor, options, console)
    console.print(f"{len(held):,} conversations are held out, and measured every {options.validate_every:,} steps.")
    return HeldOut(dataset=held, every=options.validate_every, patience=options.patience)


def _with_answers(
    held_out: HeldOut,
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    most: int,
    dtype: torch.dtype,
    console: Console,
) -> HeldOut:
    """The same with answers to what is held out, where some are short."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        console.print("Answers are not measured: the model is spread over processes (FSDP). Its losses are.")
        return held_out
    short = ShortAnswers.of(held_out.dataset, processor, most=most, dtype=dtype)
    if short is None:
        return held_out
    without = "" if has_chrf() else " (chrF too with pip install -e '.[train]')"
    console.print(f"{len(short.places)} of them, whose answers are short, are answered then{without}.", soft_wrap=True)
    return replace(held_out, answers=partial(short.measure, model))


def _report(dataset: ConversationFiles, console: Console) -> None:
    for language, count in dataset.report().items():
        console.print(
            f"{language}: {count.records:,} records, {count.places:,} places an epoch, {count.corrupt:,} corrupt"
        )


def _told_apart(dataset: ConversationFiles, held_out: HeldOut | None) -> tuple[str, ...]:
    """Languages whose losses are told: Maya's, then the others that there are."""
    spans = list(dataset.languages)
    if held_out is not None:
        assert isinstance(held_out.dataset, ConversationFiles)
        spans += held_out.dataset.languages
    return (*CODES, *sorted({span.language for span in spans} - {*CODES, UNKNOWN}))


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
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


# --- what it will take ---


def _check_room(options: StageOptions, model: MayaForConditionalGeneration) -> None:
    """DiskFull where the disk has no room for the result."""
    if not options.is_result_adapter:
        size = result_dtype(options).itemsize * sum(parameter.numel() for parameter in model.parameters())
        claim(options.out, overwrite=options.replaces, needed=size)


def _scheduled(options: StageOptions, samples: int) -> TrainConfig:
    """The loop's settings, for more epochs where they are asked for and the run is finished."""
    config = options.recipe.train
    config = replace(config, workers=min(config.workers, cores()))
    if options.more_epochs is None:
        return config
    found = progress_of(options.run_dir)
    if found is None:
        raise MayaError(f"There is no run in {options.run_dir} that could go on; leave --more-epochs out.")
    if found.ended:
        raise MayaError(
            f"The run in {options.run_dir} ended as what is held out came no lower; more epochs change nothing."
        )
    if found.step < found.total:
        if not found.restarts:
            raise MayaError(
                f"The run in {options.run_dir} is not finished; give its command without --more-epochs first."
            )
        return replace(config, steps=found.total, restarts=found.restarts)
    more = replace(config, steps=None, epochs=options.more_epochs).total_steps(samples)
    return replace(config, steps=found.total + more, restarts=(*found.restarts, found.total))


def _tell(
    options: StageOptions, work: Work, config: TrainConfig, size: int, console: Console, device: torch.device
) -> float:
    """Print what the run will take; returns the speed of a plain matrix product. OutOfMemory where it cannot fit, DiskFull
    where its checkpoints cannot."""
    recipe = options.recipe
    needed = memory(work.config, recipe, work.lengths)
    free = free_memory(device)
    parts = ", ".join(f"{name} {in_words(size)}" for name, size in needed.items())
    all_of_it = in_words(sum(needed.values()))
    console.print(f"Memory: about {all_of_it} of {in_words(free)} free on {device} ({parts}).", soft_wrap=True)
    if free and sum(needed.values()) > free:
        raise OutOfMemory(
            f"This needs about {all_of_it}, and {in_words(free)} are free; take --recipe qlora, "
            "--recompute, or a lower --token-budget."
        )
    _tell_disk(options.run_dir, checkpoint_bytes(work.config, recipe), console)
    rest = torch.float32 if recipe.frozen == "float32" else torch.bfloat16
    speed = matrix_speed(device, recipe.train.computes_in(device, rest), work.config)
    begun = progress_of(options.run_dir) if not options.restart else None
    steps = config.total_steps(size) - (begun.step if begun else 0)
    samples = max(0, steps) * config.batch_size
    tokens, supervised = samples * work.lengths.tokens, samples * work.lengths.supervised
    seconds = work.flops(tokens, supervised) / (speed * REACHED * PartialState().num_processes)
    console.print(
        f"Time: {steps:,} steps, {tokens:,.0f} tokens, about {duration(seconds)} "
        f"at {REACHED:.0%} of the {speed / 1e12:.2g} TFLOP/s that a matrix product reaches here.",
        soft_wrap=True,
    )
    if config.steps is None and (advice := suggestion(config, size)):
        console.print(advice, soft_wrap=True)
    return speed


def _tell_disk(run_dir: Path, size: int, console: Console) -> None:
    """Of `size` bytes a checkpoint, three at most: two that are kept, and the one that is written."""
    there = next(folder for folder in (run_dir.absolute(), *run_dir.absolute().parents) if folder.is_dir())
    held = sum(file.stat().st_size for file in run_dir.glob("checkpoints/*/*"))
    needed, free = max(0, 3 * size - held), shutil.disk_usage(there).free
    console.print(
        f"Disk: about {in_words(3 * size)} for checkpoints in {run_dir}, {in_words(free)} free.", soft_wrap=True
    )
    if needed > free:
        raise DiskFull(
            f"The checkpoints in {run_dir.name} take about {in_words(3 * size)}, and {in_words(free)} are free; make room, "
            "or give --run on a larger disk."
        )


def _put_aside(run_dir: Path, console: Console) -> None:
    """Give a run's folder another name, if there is one. RunBusy where it is used."""
    if not run_dir.exists():
        return
    with exclusive(run_dir):
        pass
    aside = next(
        place for number in range(1, 10_000) if not (place := run_dir.with_name(f"{run_dir.name}.{number}")).exists()
    )
    os.replace(run_dir, aside)
    console.print(f"What the run had so far is in {aside}.", soft_wrap=True)


# --- the command ---


def command(program: str, recipes: Mapping[str, Any], description: str, arguments: list[str] | None = None) -> int:
    """Parse, run, and say a user's mistake in one sentence; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments

    def run() -> None:
        if (options := _options(program, recipes, description, given)) is None:
            return
        logging.basicConfig(level=logging.WARNING)
        with interruptible():
            run_stage(options)

    return ended(run)


def _options(program: str, recipes: Mapping[str, Any], description: str, arguments: list[str]) -> StageOptions | None:
    """What was asked for; None where it was help, which is told."""
    name, given = _recipe_and_flags(program, recipes, arguments)
    recipe: Recipe = recipes[name]()
    if {"-h", "--help"} & {*given}:
        print(page(program, description, list(recipes), name, recipe))
        return None
    rates = recipe.train.learning_rates
    without_rates = replace(recipe, train=replace(recipe.train, learning_rates={}))
    options = tyro.cli(
        StageOptions,
        args=given,
        default=StageOptions(data=tyro.MISSING, images=tyro.MISSING, recipe=without_rates),
        config=(tyro.conf.AvoidSubcommands,),
        prog=f"python -m training.{program}",
    )
    return replace(options, recipe_name=name, given=_of_adapters(given)).with_alpha().with_rates(rates)


def _of_adapters(flags: Sequence[str]) -> tuple[str, ...]:
    """Settings of an adapter that are among the flags."""
    names = {flag.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_") for flag in flags}
    return tuple(name for name in ADAPTER if name in names)


def _recipe_and_flags(program: str, recipes: Mapping[str, Any], arguments: list[str]) -> tuple[str, list[str]]:
    """The name of the recipe, and the other flags, those that --config stands for first. MayaError for what cannot be."""
    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chosen.add_argument("--recipe")
    chosen.add_argument("--config", type=Path)
    known, rest = chosen.parse_known_args(arguments)
    settings = read_settings(known.config) if known.config else {}
    name = settings.pop("recipe", program)
    name = known.recipe or name
    if name not in recipes:
        raise MayaError(f"There is no recipe {name!r}; choose {', '.join(recipes)}.")
    flags = [*as_flags(settings), *rest]
    strange = _of_adapters(flags)
    if strange and recipes[name]().lora is None:
        told_flags = " and ".join(f"--{option}" for option in sorted(strange))
        raise MayaError(f"{told_flags} would be of an adapter; take --recipe lora or qlora.")
    return name, flags
