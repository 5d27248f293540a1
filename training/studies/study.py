"""What a study is: a question of the paper, arms that differ in one thing, and claims that their figures test."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.weights.adapters import LoraSettings
from training.recipes import CONNECTOR, LANGUAGE_MODEL

CAPTION_STEPS, TUNING_STEPS = 100, 120


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a Maya comes to be at the desk: a new connector, captions for it alone, then questions for it and the language
    model. An arm is a `replace` of one.

    connector: as `MayaConfig.connector_config`. vision_size: of a cell's features only so many, in the directions in which
    they vary most: there the connectors whose parts are as wide as the features can be as small as others. captions: how
    many different ones there are, of all languages together; captions_at_once: of a picture, in as many languages.
    caption_languages, tuned_languages: none at all skips the
    stage. rates: of the second stage, by part. last_layers: of the language model, if not all train. spoilt: share of what
    is not English whose words are spoilt. blind: it never sees a picture, so that it answers what is usual: the least that
    any arm must reach.
    """

    connector: Mapping[str, int | str] = field(default_factory=lambda: {"kind": "mlp", "depth": 2, "hidden_size": 512})
    vision_size: int | None = None
    captions: int | None = None
    captions_at_once: int = 4
    caption_languages: Sequence[str] = PRETRAINED_CODES
    tuned_languages: Sequence[str] = CODES
    caption_steps: int = CAPTION_STEPS
    tuning_steps: int = TUNING_STEPS
    caption_rate: float = 2e-3
    rates: Mapping[str, float] = field(default_factory=lambda: {CONNECTOR: 1e-3, LANGUAGE_MODEL: 5e-4})
    last_layers: int | None = None
    lora: LoraSettings | None = None
    spoilt: float = 0.0
    blind: bool = False
    scenes_a_step: int = 12

    @property
    def mark(self) -> str:
        """The same for equal plans alone."""
        return mark_of(self)

    def shortened(self, steps: int) -> "Plan":
        """To try a study out: each stage in so many steps."""
        return replace(self, caption_steps=steps, tuning_steps=steps)

    @property
    def first_stage(self) -> str:
        """The same for plans whose first stage is the same."""
        names = ("connector", "captions", "caption_languages", "caption_steps", "caption_rate", "spoilt", "blind")
        return mark_of(
            {name: getattr(self, name) for name in (*names, "vision_size", "captions_at_once", "scenes_a_step")}
        )


def mark_of(plan: Any) -> str:
    """A short text that equal plans share, which are dataclasses or mappings."""
    fields = plan if isinstance(plan, Mapping) else asdict(plan)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That one arm answers more than another. languages: in which; all if none are named. of: questions, or names that are
    likelier with what they name. paper: what the paper says of it, if it does."""

    text: str
    better: str
    worse: str
    languages: Sequence[str] = ()
    of: Literal["right", "transfer"] = "right"
    paper: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """arms: by label, the first being what the others are held against; of several plans of one arm, which differ in
    their rates, the first seed chooses by the loss of its answers. timed: arms that are run once more, with as many steps as
    the first arm's time allows. claims: of the paper, or what it asks. published: commands that do the same with the 8B, a
    line each. remark: what the desk cannot show. make: how an arm is made, where it is not by the two stages, called as
    `making.make` is."""

    name: str
    question: str
    arms: Mapping[str, Sequence[Any]]
    claims: Sequence[Claim]
    published: Sequence[str]
    timed: Sequence[str] = ()
    remark: str = ""
    make: Callable[..., Any] | None = None
    beside: Callable[[], str] | None = None
