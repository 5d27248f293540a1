"""One arm of a study, made and examined.

Shape letters: S supervised positions, E text width, V vocabulary.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import torch

from maya_core.learning.data import SampleDataset
from maya_core.learning.losses import Supervised
from maya_core.learning.metrics import StepRecord
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.train import TrainConfig, train
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor
from maya_core.weights.checkpoint import load_model, load_processor
from training.model import parts_of, prepare
from training.recipes import CONNECTOR, Recipe
from training.studies.study import Plan
from training.studies.world import Captions, Examination, Questions, SeenCollator, World

LAST = 10  # steps, whose mean loss is noted


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """right: by language, a figure a question, 1 where every token of the answer was the likeliest: what greedy decoding
    would have written. captions, answers: loss by language at the end of each stage, nats a token. trained: parameters of
    the last stage. seconds: of both stages; of a step of the last."""

    right: dict[str, str]
    captions: dict[str, float]
    answers: dict[str, float]
    connector: int
    trained: int
    seconds: float
    seconds_per_step: float

    @property
    def answer_loss(self) -> float:
        """At the end, mean over languages."""
        return fmean(self.answers.values()) if self.answers else math.inf


def make(plan: Plan, seed: int, base: Path, world: World, run: Path) -> Outcome:
    """By the paper's two stages, on a language model that answers already and a connector that knows nothing. `run` is
    a folder that is left behind."""
    started = time.monotonic()
    model, processor = fresh(plan, seed, base)
    collator = SeenCollator(processor, loudness=world.loudness)
    captions, answers = StageEnd(), StageEnd()
    if plan.caption_languages:
        recipe = _recipe(plan, seed, {CONNECTOR: plan.caption_rate}, plan.caption_steps)
        data: SampleDataset = Captions(
            seen=world.trained, languages=plan.caption_languages, most=plan.captions, spoilt=plan.spoilt
        )
        captions = _stage(model, recipe, data, replace(collator, prompt_format="caption"), run / "captions")
    if plan.tuned_languages:
        recipe = replace(
            _recipe(plan, seed, plan.rates, plan.tuning_steps), last_layers=plan.last_layers, lora=plan.lora
        )
        data = Questions(seen=world.trained, languages=plan.tuned_languages, spoilt=plan.spoilt, seed=seed)
        answers = _stage(model, recipe, data, collator, run / "answers")
    return Outcome(
        right=examined(model, Examination(seen=world.held), collator),
        captions=captions.losses,
        answers=answers.losses,
        connector=sum(parameter.numel() for parameter in model.connector.parameters()),
        trained=answers.trained or captions.trained,
        seconds=round(time.monotonic() - started, 1),
        seconds_per_step=round(answers.seconds_per_step or captions.seconds_per_step, 3),
    )


def fresh(plan: Plan, seed: int, base: Path) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The base's tower and language model, with a new connector."""
    before, processor = load_model(base, dtype=torch.float32), load_processor(base)
    config = MayaConfig(**(before.config.to_dict() | {"connector_config": dict(plan.connector)}))
    torch.manual_seed(seed)
    model = MayaForConditionalGeneration(config)
    kept = {name: tensor for name, tensor in before.state_dict().items() if not name.startswith("connector.")}
    model.load_state_dict(kept, strict=False)
    model.tie_weights()
    tokenizer = processor.require_tokenizer()
    return model.eval(), MayaProcessor(config, ImagePreparation.of(config), tokenizer)


@dataclass(kw_only=True)
class StageEnd:
    """losses: by language, nats a token, mean of the last steps. trained: parameters."""

    losses: dict[str, float] = field(default_factory=dict)
    trained: int = 0
    seconds_per_step: float = 0.0


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
    end = StageEnd()

    def note(record: StepRecord) -> None:
        end.losses = {code: round(loss, 4) for code, loss in record.loss_by_language.items() if math.isfinite(loss)}
        end.seconds_per_step = record.seconds_per_step

    torch.manual_seed(recipe.train.seed)  # of the adapters
    objective = prepare(model, recipe, torch.device("cpu"))
    config = replace(recipe.train, learning_rates=parts_of(recipe, model.config))
    train(objective, data, collator, config, run, on_record=note)
    end.trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    model.eval()
    return end


@torch.inference_mode()
def examined(model: MayaForConditionalGeneration, examination: Examination, collator: SeenCollator) -> dict[str, str]:
    """By language, a figure a question: 1 where every token of the answer that is taught, its end among them, is the
    likeliest, which is when greedy decoding writes it."""
    right: dict[str, list[str]] = {code: [] for code in examination.languages}
    objective = AnswerObjective(model)
    for number in range(len(examination)):
        sample = examination[number]
        batch = collator.collate([collator.prepare(sample)])
        supervised = Supervised.of(batch["labels"])
        hidden_1SE = model.hidden_states(**objective.inputs(batch), supervised=supervised.positions_S)
        likeliest_S = (hidden_1SE[0] @ model.get_output_embeddings().weight.T).argmax(-1)
        is_wrong_S = likeliest_S != supervised.targets_S
        wrong = set(batch["branch"].flatten()[supervised.positions_S + 1][is_wrong_S].tolist())
        for branch, code in enumerate(sample.packed.languages, start=1):
            right[code].append("0" if branch in wrong else "1")
    return {code: "".join(figures) for code, figures in right.items()}
