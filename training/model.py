"""The model that a stage of training starts from, what of it trains, and the result."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from maya_core.errors import MayaError
from maya_core.hardware import has_bfloat16
from maya_core.learning.metrics import ALL, METRICS, read_records
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.optim import parameters_of
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.weights import adapters
from maya_core.weights.checkpoint import (
    assemble,
    base_for_adapter,
    fingerprint_of,
    load_model,
    load_processor,
    require_whole,
    stored_dtype,
    write_model,
)
from maya_core.weights.destination import RECIPE, written
from maya_core.weights.hub import local_folder
from maya_core.weights.quantization import quantize
from maya_core.weights.runs import Start, learnt_weights, write_start
from training.options import StageOptions
from training.recipes import LANGUAGE_MODEL, Recipe


def load_base(options: StageOptions) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The model to go on from, or a new one, on the CPU."""
    dtype = torch.float32 if options.recipe.frozen == "float32" else torch.bfloat16
    if options.model is not None:
        model, processor = load_model(options.base, dtype=dtype), load_processor(options.base)
    else:
        assert options.tower is not None
        assert options.language_model is not None
        torch.manual_seed(options.recipe.train.seed)  # of the connector
        try:
            model, processor = assemble(
                options.tower,
                options.language_model,
                dtype=dtype,
                prompt_format="maya-v1",
                connector_config=options.connector_config,
            )
        except ValueError as error:  # of the configuration: parts that do not go together
            raise MayaError(f"These parts make no Maya: {error}") from None
    processor.require_tokenizer()
    return model, processor


def as_tuned(options: StageOptions) -> StageOptions:
    """The options with the adapter's own rank, scale and matrices, where one is tuned on. MayaError where others are asked
    for."""
    if options.adapter != "continue":
        return options
    own = adapters.settings_of(local_folder(options.model or ""))
    assert options.recipe.lora is not None
    own = replace(own, dropout=options.recipe.lora.dropout)
    asked = options.recipe.lora
    asked = replace(asked, targets=own.targets if asked.matrices == own.matrices else asked.targets)
    others = [name for name in options.given if getattr(own, name) != getattr(asked, name)]
    if others:
        told = " and ".join(f"{name} {_in_words(getattr(own, name))}" for name in others)
        flags = " and ".join(f"--{name}" for name in others)
        raise MayaError(
            f"{Path(options.model or '').name} has {told}, which stays as it is tuned on; leave {flags} out, or take "
            "--adapter merge and a new adapter."
        )
    return replace(options, recipe=replace(options.recipe, lora=own)).with_lengths()


def _in_words(value: object) -> str:
    """Of a setting of an adapter; no matrices are all of them."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(value or adapters.MATRICES) if isinstance(value, tuple) else str(value)


def with_format(options: StageOptions, device: torch.device) -> StageOptions:
    """The options with the number format of what does not train: where the user says nothing, float32 on a CPU that would
    take several times as long for bfloat16."""
    if options.recipe.frozen is not None:
        return options
    chosen: Literal["float32", "bfloat16"] = "bfloat16" if has_bfloat16(device) else "float32"
    return replace(options, recipe=replace(options.recipe, frozen=chosen))


def shaped(processor: MayaProcessor, recipe: Recipe) -> MayaProcessor:
    """The processor with pictures made square as the recipe says."""
    if recipe.image_aspect_ratio is None:
        return processor
    preparation = replace(processor.preparation, aspect_ratio=recipe.image_aspect_ratio)
    return MayaProcessor(processor.config, preparation, processor.tokenizer)


def prepare(
    model: MayaForConditionalGeneration, recipe: Recipe, device: torch.device, *, start: Path | None = None
) -> AnswerObjective:
    """What is trained: adapters where the recipe has them, four bits where it says so, and what trains in float32.

    start: folder of an adapter to tune on.
    """
    if recipe.four_bit:
        quantize(model, device=device)
    if recipe.lora:
        adapters.add_lora(model, recipe.lora)
    objective = AnswerObjective(model, recompute=recipe.train.recompute)
    for part in parts_of(recipe, model.config):
        for parameter in parameters_of(objective, part):
            parameter.data = parameter.data.float()
    if start is not None:
        adapters.put_into(model, adapters.stored_in(start))
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


def made_from(options: StageOptions, data: str) -> dict[str, Any]:
    """What makes a stage's result beside the loop's own settings, by name. data: its fingerprint."""
    recipe = options.recipe
    own = {name: value for name, value in asdict(recipe).items() if name not in ("train", "lora")}
    lora = asdict(recipe.lora) if recipe.lora else {}
    parts = {"model": options.model, "tower": options.tower, "language model": options.language_model}
    identity = (
        {"data": data}
        | {name: fingerprint_of(part) for name, part in parts.items() if part is not None}
        | {
            "connector": options.connector_config,
            "adapter": options.adapter,
            "take": options.take,
            "mixing": options.mixing,
        }
        | {"add_markers": options.add_markers, "skip_bad": options.skip_bad, "validation": options.validation}
        | own
        | lora
    )
    as_json: dict[str, Any] = json.loads(json.dumps(identity))
    return as_json


# --- the run, and its result ---


def begin_run(options: StageOptions, model: MayaForConditionalGeneration, processor: MayaProcessor) -> None:
    """Say in the run's folder what it begins from, so that its checkpoints can be opened."""
    lora = options.recipe.lora
    if options.model is None:
        model.config.save_pretrained(options.run_dir)
        processor.save_pretrained(options.run_dir)
        start = Start(tower=options.tower, language_model=options.language_model, lora=lora)
    else:
        base = base_for_adapter(options.base)
        adapter = str(local_folder(options.model)) if options.adapter == "continue" else None
        start = Start(base=base.name, mark=base.mark, adapter=adapter, lora=lora)
    write_start(options.run_dir, start)


def save_result(options: StageOptions, identity: Mapping[str, Any], records: Mapping[str, int]) -> None:
    """Write what the newest checkpoint of the run has learnt: an adapter with its connector, or a whole model. identity:
    what the result is made from, kept beside it with the run's figures. records: how many of each language."""
    file = learnt_weights(options.run_dir)
    learnt = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    recipe = options.recipe
    with written(options.out, require_whole, overwrite=options.replaces) as fresh:
        if options.is_result_adapter:
            assert recipe.lora is not None
            base = base_for_adapter(options.base)
            if options.adapter == "continue":  # what rested stays as it was
                learnt = adapters.stored_in(local_folder(options.model or "")) | adapters.as_stored(learnt)
            adapters.write_adapter(learnt, recipe.lora, fresh, place=options.out, base=base)
        else:
            _write_whole(options, learnt, fresh)
        content = _written_down(options) | {"weights": file.parent.name, "made_from": dict(identity)}
        content["figures"] = {"records": dict(records), **_figures(options.run_dir)}
        (fresh / RECIPE).write_text(json.dumps(content, indent=2) + "\n")


def _figures(run_dir: Path) -> dict[str, Any]:
    """Steps of a run, its loss by language at the end, and what was measured of what is held out where its loss was lowest:
    there the result's weights are from."""
    records = read_records(run_dir / METRICS)
    measured = [record for record in records if record.get("held_out")]
    best = min(measured, key=lambda record: float(record["held_out"][ALL]), default={})
    return {
        "steps": records[-1]["step"] if records else 0,
        "loss": {"all": records[-1]["loss"], **records[-1]["loss_by_language"]} if records else {},
        **{name: best.get(name) or {} for name in ("held_out", "exact_match", "chrf")},
    }


def _written_down(options: StageOptions) -> dict[str, Any]:
    """What `--config` takes for the same."""
    names = ["model", "tower", "language_model", "adapter", "take", "mixing", "columns", "split", "add_markers"]
    names += ["skip_bad", "validation", "validate_every", "validate_answers", "patience", "connector", "depth"]
    recipe = asdict(options.recipe)
    recipe["train"]["learning_rates"] |= dict.fromkeys(options.resting, 0)
    given = {"recipe": options.recipe_name, "data": list(options.data), "images": str(options.images)}
    return given | {"run": options.run_from_out} | {name: getattr(options, name) for name in names} | recipe


def _write_whole(options: StageOptions, learnt: Mapping[str, Tensor], folder: Path) -> None:
    model, processor = load_base(options)
    dtype = result_dtype(options)
    if options.recipe.lora is not None:
        stored, scale = adapters.as_stored(learnt), options.recipe.lora.scale
        learnt = dict(adapters.with_updates(model.state_dict().items(), stored, scale))
    changed = model.load_state_dict({n: tensor.to(dtype) for n, tensor in learnt.items()}, strict=False, assign=True)
    assert not changed.unexpected_keys, changed.unexpected_keys
    model.tie_weights()
    write_model(model, processor, folder, dtype=dtype)


def result_dtype(options: StageOptions) -> torch.dtype:
    """Number format of a whole model that is written."""
    return stored_dtype(options.model or options.language_model or "")
