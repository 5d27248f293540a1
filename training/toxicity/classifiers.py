"""Classifiers of texts and pictures through transformers' pipelines: what they say, and whether it can be relied on."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from training.toxicity.findings import Finding, ToxicityError

TEXT_MODEL = "unitary/toxic-bert"
IMAGE_MODEL = "AIML-TUDA/LlavaGuard-7B-hf"
TOXIC_LABELS = (
    "toxic",
    "severe_toxic",
    "obscene",
    "threat",
    "insult",
    "identity_hate",
    "unsafe",
    "nsfw",
    "hate",
    "violence",
)
WORDS = 200  # of a piece of a long text; no classifier reads more than some hundred tokens
GUARD_TOKENS = 500
# Our own words in the frame that LlavaGuard was taught with: its categories by their names, and its three fields.
POLICY = """\
Judge by this policy whether the picture may be shown to anybody.
O1: Hate, Humiliation, Harassment: not where it demeans people for what they are or believe.
O2: Violence, Harm, or Cruelty: not where people plan, do or praise violence.
O3: Sexual Content: not where it is explicit; affection is allowed.
O4: Nudity Content: not where genitals are seen; art and medicine without them are allowed.
O5: Criminal Planning: not where crimes are planned, done or praised.
O6: Weapons or Substance Abuse: not where weapons threaten, or drugs, alcohol or tobacco are praised.
O7: Self-Harm: not where it is shown as good, or encouraged.
O8: Animal Cruelty: not where animals are tormented.
O9: Disasters or Emergencies: not where the dead or the suffering are put on show; respectful news is allowed.
What teaches or reports about any of these with care is allowed.

First a "rating": "Unsafe" where the picture breaks the policy, else "Safe". Then the "category" that is the nearest, or
"NA: None applying". Then a "rationale": what the picture shows, and why it breaks the policy or does not. Reply with JSON
alone, in this form:
{
    "rating": "Unsafe" or "Safe",
    "category": "O1: Hate, Humiliation, Harassment" or another or "NA: None applying",
    "rationale": "..."
}"""
_JSON = re.compile(r"\{.*\}", re.DOTALL)
_LAST_COMMA = re.compile(r",(?=\s*\})")  # stands in the template that LlavaGuard was taught with


class Classifier(Protocol):
    """name: of the model."""

    name: str

    def __call__(self, items: Sequence[Any]) -> list[Finding]:
        """A finding for each text, or for each picture (RGB). Raises what the model does."""
        ...


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A classifier's scores, 0 to 1, as a finding: toxic where a toxic label reaches the threshold."""

    toxic: frozenset[str]
    threshold: float = 0.5

    def finding(self, scores: Mapping[str, float]) -> Finding:
        if not all(math.isfinite(score) for score in scores.values()) or not self.toxic & {
            name.lower() for name in scores
        }:
            return Finding(verdict="unknown", reason="no score")
        found = {name: score for name, score in scores.items() if name.lower() in self.toxic}
        told = ", ".join(f"{name} {score:.2f}" for name, score in sorted(found.items(), key=lambda pair: -pair[1]))
        return Finding(verdict="toxic" if max(found.values()) >= self.threshold else "clean", reason=told)


class TextClassifier:
    """A text classification model. A long text is toxic where a piece of it is."""

    def __init__(
        self, model: str = TEXT_MODEL, *, labels: Sequence[str] = TOXIC_LABELS, threshold: float = 0.5
    ) -> None:
        self.name = model
        self._pipeline = _pipeline("text-classification", model)
        self._labels = Labels(toxic=_known(self._pipeline, labels, model), threshold=threshold)

    def __call__(self, items: Sequence[str]) -> list[Finding]:
        pieces = [(number, piece) for number, text in enumerate(items) for piece in _pieces(text)]
        highest: list[dict[str, float]] = [{} for _ in items]
        # Each label by itself: more than one may hold. Nothing is cut off unseen: what is too long fails.
        scored = self._pipeline([piece for _, piece in pieces], top_k=None, function_to_apply=self._function())
        for (number, _), labels in zip(pieces, scored, strict=True):
            for label in labels:
                before = highest[number].get(label["label"], 0.0)
                score = float(label["score"])
                highest[number][label["label"]] = score if math.isnan(score) else max(before, score)
        return [self._labels.finding(scores) for scores in highest]

    def _function(self) -> str:
        config = self._pipeline.model.config
        return "softmax" if config.num_labels > 1 and config.problem_type != "multi_label_classification" else "sigmoid"


class ImageClassifier:
    """An image classification model."""

    def __init__(self, model: str, *, labels: Sequence[str] = TOXIC_LABELS, threshold: float = 0.5) -> None:
        self.name = model
        self._pipeline = _pipeline("image-classification", model)
        self._labels = Labels(toxic=_known(self._pipeline, labels, model), threshold=threshold)

    def __call__(self, items: Sequence[Image.Image]) -> list[Finding]:
        scored = self._pipeline(list(items), top_k=self._pipeline.model.config.num_labels)
        return [self._labels.finding({label["label"]: float(label["score"]) for label in labels}) for labels in scored]


class Guard:
    """A model that looks at a picture and says by a policy whether it is safe, such as LlavaGuard."""

    def __init__(self, model: str = IMAGE_MODEL, *, policy: str = POLICY) -> None:
        self.name, self._policy = model, policy
        self._pipeline = _pipeline("image-text-to-text", model)

    def __call__(self, items: Sequence[Image.Image]) -> list[Finding]:
        asked = [
            [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": self._policy}]}]
            for picture in items
        ]
        said = self._pipeline(
            text=asked, max_new_tokens=GUARD_TOKENS, return_full_text=False, generate_kwargs={"do_sample": False}
        )
        return [rated((one[0] if isinstance(one, list) else one)["generated_text"]) for one in said]


def image_classifier(model: str, *, policy: str = POLICY) -> Classifier:
    """A guard where the model talks, else a classifier. policy: what a guard judges by. Raises ToxicityError."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise _absent(model, error) from None
    is_classifier = type(config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    return ImageClassifier(model) if is_classifier else Guard(model, policy=policy)


def rated(said: str) -> Finding:
    """A guard's reply as a finding; unknown where it says neither."""
    found = _JSON.search(said)
    try:
        content = json.loads(_LAST_COMMA.sub("", found[0])) if found else {}
        rating = str(content.get("rating", "")).strip().lower()
        told = f"{content.get('category', '')}: {content.get('rationale', '')}"
    except (ValueError, AttributeError):
        rating, told = "", said[:200]
    verdicts = {"safe": "clean", "unsafe": "toxic"}
    if rating not in verdicts:
        return Finding(verdict="unknown", reason="no rating")
    return Finding(verdict=verdicts[rating], reason=told)  # type: ignore[arg-type]


def _pieces(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[start : start + WORDS]) for start in range(0, len(words), WORDS)] or [text]


def _pipeline(task: str, model: str) -> Any:
    from transformers import pipeline

    try:
        return pipeline(task, model=model)
    except (OSError, ValueError, KeyError) as error:
        raise _absent(model, error) from None


def _absent(model: str, error: Exception) -> ToxicityError:
    told = str(error).partition("\n")[0]  # what follows is help of the library's own
    return ToxicityError(f"The classifier {model} cannot be loaded ({told}); nothing counts as clean without it.")


def _known(pipeline: Any, labels: Sequence[str], model: str) -> frozenset[str]:
    """The wanted labels that a model has. Raises ToxicityError where it has none: it would find nothing."""
    known = {str(name).lower() for name in pipeline.model.config.id2label.values()}
    found = known & {label.lower() for label in labels}
    if not found:
        raise ToxicityError(
            f"{model} has no label of {', '.join(labels)}; it has {', '.join(sorted(known))}: name its own."
        )
    return frozenset(found)
