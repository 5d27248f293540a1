"""What a study is: a question of the paper, arms that differ in one thing, and claims that their figures test."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.weights.adapters import LoraSettings
from training.recipes import CONNECTOR, LANGUAGE_MODEL

CAPTION_STEPS, TUNING_STEPS = 120, 120


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a Maya comes to be at the desk: a new connector, captions for it alone, then questions for it and the language
    model. An arm is a `replace` of one.

    connector: as `MayaConfig.connector_config`. captions: how many different ones there are, of all languages together.
    caption_languages, tuned_languages: none at all skips the stage. rates: of the second stage, by part. last_layers: of
    the language model, if not all train. spoilt: share of what is not English whose words are spoilt.
    """

    connector: Mapping[str, int | str] = field(default_factory=lambda: {"kind": "mlp", "depth": 2, "hidden_size": 512})
    captions: int | None = None
    caption_languages: Sequence[str] = PRETRAINED_CODES
    tuned_languages: Sequence[str] = CODES
    caption_steps: int = CAPTION_STEPS
    tuning_steps: int = TUNING_STEPS
    caption_rate: float = 2e-3
    rates: Mapping[str, float] = field(default_factory=lambda: {CONNECTOR: 1e-3, LANGUAGE_MODEL: 5e-4})
    last_layers: int | None = None
    lora: LoraSettings | None = None
    spoilt: float = 0.0
    scenes_a_step: int = 12

    @property
    def mark(self) -> str:
        """The same for equal plans alone."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That one arm answers more than another. languages: in which; all if none are named."""

    text: str
    better: str
    worse: str
    languages: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """arms: by label, the first being what the others are held against; of several plans of one arm, which differ in
    their rates, the first seed chooses by the loss of its answers. claims: of the paper, or what it asks. published:
    commands that do the same with the 8B, a line each. remark: what the desk cannot show."""

    name: str
    question: str
    arms: Mapping[str, Sequence[Plan]]
    claims: Sequence[Claim]
    published: Sequence[str]
    remark: str = ""
    beside: Callable[[], str] | None = None
