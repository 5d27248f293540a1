"""One arm of a study, made and examined.

Shape letters: S supervised positions, E text width, V vocabulary.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from maya_core.learning.data import Batch, SampleDataset
from maya_core.learning.losses import Supervised
from maya_core.learning.metrics import StepRecord
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import TrainConfig, train
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from maya_core.weights.checkpoint import fingerprint_of, load_model, load_processor
from training.model import parts_of, prepare
from training.recipes import CONNECTOR, Recipe
from training.studies.study import Plan, mark_of
from training.studies.world import ASKED, Captions, Examination, Questions, SeenCollator, Transfer, World

LAST = 10  # steps, whose mean loss is noted


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """right: by language, a figure a question, 1 where every token of the answer was the likeliest: what greedy decoding
    would have written. asked: questions about each scene, which stand beside each other. lost: by language, of each scene
    the loss of the right answers, nats a token. transfer: by language, a figure a drawing, 1 where its name is likelier
    with it than with another. captions, answers: loss by language at the end of each stage. connector, trained:
    parameters, the latter of the last stage. seconds: of both stages and the examination, by the clock. caption_step,
    answer_step: seconds of the processor that a step of each stage takes."""

    right: dict[str, str]
    asked: int = 1
    lost: dict[str, list[float]] = field(default_factory=dict)
    transfer: dict[str, str] = field(default_factory=dict)
    captions: dict[str, float] = field(default_factory=dict)
    answers: dict[str, float] = field(default_factory=dict)
    connector: int
    trained: int
    seconds: float
    caption_step: float = 0.0
    answer_step: float = 0.0

    @property
    def answer_loss(self) -> float:
        """At the end of learning, mean over languages."""
        return fmean(self.answers.values()) if self.answers else math.inf


def make(plan: Plan, seed: int, base: Path, world: World, run: Path) -> Outcome:
    """By the paper's two stages, on a language model that answers already and a connector that knows nothing. `run` is
    a folder that is left behind."""
    started = time.monotonic()
    model, processor = fresh(plan, seed, base)
    directions = world.directions(plan.vision_size) if plan.vision_size else None
    collator = SeenCollator(processor, loudness=world.loudness, directions=directions, blind=plan.blind)
    captions = _first_stage(model, plan, seed, base, world, collator, run) if plan.caption_languages else StageEnd()
    answers = StageEnd()
    if plan.tuned_languages:
        recipe = replace(
            _recipe(plan, seed, plan.rates, plan.tuning_steps), last_layers=plan.last_layers, lora=plan.lora
        )
        questions = Questions(seen=world.trained, languages=plan.tuned_languages, spoilt=plan.spoilt, seed=seed)
        answers = _stage(model, recipe, questions, collator, run / "answers")
    right, lost = examined(model, Examination(seen=world.held), collator)
    return Outcome(
        right=right,
        asked=ASKED,
        lost=lost,
        transfer=transferred(model, Transfer(seen=world.named), collator),
        captions=captions.losses,
        answers=answers.losses,
        connector=sum(parameter.numel() for parameter in model.connector.parameters()),
        trained=answers.trained or captions.trained,
        seconds=round(time.monotonic() - started, 1),
        caption_step=captions.step,
        answer_step=answers.step,
    )


def _first_stage(
    model: MayaForConditionalGeneration,
    plan: Plan,
    seed: int,
    base: Path,
    world: World,
    collator: SeenCollator,
    run: Path,
) -> "StageEnd":
    """Captions, for the connector alone. Many arms share it, so that it is made once and kept."""
    mark = mark_of({"plan": plan.first_stage, "seed": seed, "base": fingerprint_of(base), "world": world.name})
    kept = world.kept / "connectors" / f"{mark}.safetensors"
    if kept.is_file():
        model.connector.load_state_dict(load_file(kept))
        return StageEnd(**json.loads(kept.with_suffix(".json").read_text("utf-8")))
    recipe = _recipe(plan, seed, {CONNECTOR: plan.caption_rate}, plan.caption_steps)
    data = Captions(
        seen=world.trained,
        languages=plan.caption_languages,
        most=plan.captions,
        spoilt=plan.spoilt,
        at_once=plan.captions_at_once,
    )
    end = _stage(model, recipe, data, replace(collator, prompt_format="caption"), run / "captions")
    kept.parent.mkdir(exist_ok=True)
    kept.with_suffix(".json").write_text(json.dumps(asdict(end)), "utf-8")
    save_file(model.connector.state_dict(), kept)
    return end


def fresh(plan: Plan, seed: int, base: Path) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The base's tower and language model, with a new connector."""
    before, processor = _loaded(base)
    fields = before.config.to_dict() | {"connector_config": dict(plan.connector)}
    if plan.vision_size:  # which only the connector reads here: pictures come as features
        fields["vision_config"] = fields["vision_config"] | {"hidden_size": plan.vision_size}
    config = MayaConfig(**fields)
    torch.manual_seed(seed)
    model = MayaForConditionalGeneration(config)
    kept = {name: tensor for name, tensor in before.state_dict().items() if not name.startswith("connector.")}
    model.load_state_dict(kept, strict=False)
    model.tie_weights()
    tokenizer = processor.require_tokenizer()
    return model.eval(), MayaProcessor(config, ImagePreparation.of(config), tokenizer)


@cache
def _loaded(base: Path) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """Nobody changes it."""
    return load_model(base, dtype=torch.float32), load_processor(base)


@dataclass(kw_only=True)
class StageEnd:
    """losses: by language, nats a token, mean of the last steps. trained: parameters. step: seconds of the processor."""

    losses: dict[str, float] = field(default_factory=dict)
    trained: int = 0
    step: float = 0.0


def _recipe(plan: Plan, seed: int, rates: Mapping[str, float], steps: int) -> Recipe:
    config = TrainConfig(
        steps=steps,
        batch_size=plan.scenes_a_step,
        learning_rates=rates,
        betas=(0.9, 0.98),
        seed=seed,
        log_every=LAST,
        workers=0,
        save_every=max(1, steps),
    )
    return Recipe(train=config, frozen="float32")


def _stage(
    model: MayaForConditionalGeneration, recipe: Recipe, data: SampleDataset, collator: SeenCollator, run: Path
) -> StageEnd:
    end, seen = StageEnd(), []

    def note(record: StepRecord) -> None:
        end.losses = {code: round(loss, 4) for code, loss in record.loss_by_language.items() if math.isfinite(loss)}
        seen.append((record.step, time.process_time()))

    torch.manual_seed(recipe.train.seed)  # of the adapters
    objective = prepare(model, recipe, torch.device("cpu"))
    config = replace(recipe.train, learning_rates=parts_of(recipe, model.config))
    began = (0, time.process_time())
    train(objective, data, collator, config, run, on_record=note)
    (first, then), (last, now) = seen[0] if len(seen) > 1 else began, seen[-1]  # the first steps are slower
    end.step = round((now - then) / (last - first), 3)
    end.trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return end


@torch.inference_mode()
def examined(
    model: MayaForConditionalGeneration, examination: Examination, collator: SeenCollator
) -> tuple[dict[str, str], dict[str, list[float]]]:
    """By language: a figure a question, 1 where every token of the answer that is taught, its end among them, is the
    likeliest, which is when greedy decoding writes it that keeps to no script; and the loss of a scene's answers, nats a
    token."""
    right: dict[str, list[str]] = {code: [] for code in examination.languages}
    lost: dict[str, list[float]] = {code: [] for code in examination.languages}
    for number in range(len(examination)):
        sample = examination[number]
        told = _told(model, collator.collate([collator.prepare(sample)]))
        for branch, code in enumerate(sample.packed.languages, start=1):
            right[code].append("1" if told.are_likeliest_S[told.branch_S == branch].all() else "0")
        for code in examination.languages:
            branches = [at for at, other in enumerate(sample.packed.languages, start=1) if other == code]
            of_code_S = torch.isin(told.branch_S, torch.tensor(branches))
            lost[code].append(round(float(told.loss_S[of_code_S].mean()), 2))
    return {code: "".join(figures) for code, figures in right.items()}, lost


@torch.inference_mode()
def transferred(model: MayaForConditionalGeneration, transfer: Transfer, collator: SeenCollator) -> dict[str, str]:
    """By language a figure a drawing: 1 where its name is likelier with it than with another drawing."""
    figures: dict[str, str] = dict.fromkeys(transfer.languages, "")
    for index in range(0, len(transfer), 2):
        with_own, with_other = (
            _told(model, collator.collate([collator.prepare(transfer[number])])) for number in (index, index + 1)
        )
        for branch, code in enumerate(transfer.languages, start=1):
            own, other = (float(told.loss_S[told.branch_S == branch].sum()) for told in (with_own, with_other))
            figures[code] += "1" if own < other else "0"
    return figures


@dataclass(frozen=True, kw_only=True)
class Told:
    """Of each supervised position: which conversation it belongs to, its loss, and whether its token was the likeliest."""

    branch_S: Tensor
    loss_S: Tensor
    are_likeliest_S: Tensor


def _told(model: MayaForConditionalGeneration, batch: Batch) -> Told:
    """batch: of one row."""
    supervised = Supervised.of(batch["labels"])
    hidden_1SE = model.hidden_states(**AnswerObjective.inputs(batch), supervised=supervised.positions_S)
    scale = model.config.text.logit_scale
    assert scale is not None
    head_VE = model.get_output_embeddings().weight
    assert isinstance(head_VE, Tensor)
    logits_SV = (hidden_1SE[0] @ head_VE.T).float() * scale
    return Told(
        branch_S=batch["branch"].flatten()[supervised.positions_S + 1],
        loss_S=functional.cross_entropy(logits_SV, supervised.targets_S, reduction="none"),
        are_likeliest_S=logits_SV.argmax(-1) == supervised.targets_S,
    )
