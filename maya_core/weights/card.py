"""The card of a model on the hub: what it is, what it learnt from and how, its figures, its licence. No path, no name of a
file, and no word of the data stands in it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maya_core.assets import PUBLISHED
from maya_core.languages import CODES
from maya_core.model.config import MayaConfig, PhotographTowerConfig
from maya_core.model.maya import parameter_counts

OTHER = "other"
_UNKNOWN = "und"  # BCP 47 for a language that is not said
_CODE = re.compile("[a-z]{2,3}")
_AYA_VOCABULARY = 256_000
# Figures of a run: what they are called, and their decimals.
_ROWS = {
    "loss": ("loss in training, at the end", 3),
    "held_out": ("loss on what was held out", 3),
    "exact_match": ("short answers to it that are right, %", 1),
    "chrf": ("chrF of those answers", 1),
}
_LICENCES = {
    "apache-2.0": "Apache-2.0, as the Maya that it is made from.",
    "cc-by-nc-4.0": "CC-BY-NC 4.0 with Cohere's acceptable use policy, as the language model that it is made from.",
    OTHER: "That of the models that it is made from; ask who made it.",
}


class Base(NamedTuple):
    """The model that an adapter belongs to: a repository of the hub, and a commit of it where one is named."""

    repository: str
    commit: str | None = None


def licence_of(config: MayaConfig) -> str:
    """The hub's name of the licence that a model's parts bring along."""
    if config.text.vocab_size == _AYA_VOCABULARY:
        return "cc-by-nc-4.0"
    return "apache-2.0" if isinstance(config.vision, PhotographTowerConfig) else OTHER


def card(
    name: str, config: MayaConfig, *, recipe: Mapping[str, Any], licence: str, is_adapter: bool, base: Base | None
) -> str:
    """The text of README.md. name: of the repository. recipe: what a training stage wrote down, or nothing."""
    parts = {
        "Data": _data(recipe.get("figures") or {}),
        "Training": _training(recipe),
        "Figures": _figures(recipe.get("figures") or {}),
        "Use": _use(name),
        "Licence": _LICENCES.get(licence, f"{licence}."),
    }
    text = "\n\n".join(f"## {title}\n\n{words}" for title, words in parts.items() if words)
    what = f"# {name.partition('/')[2]}\n\n{_what(config, recipe, is_adapter, base)}"
    languages = _languages((recipe.get("figures") or {}).get("records") or {})
    return f"{_fields(licence, is_adapter, base, languages)}\n{what}\n\n{text}\n"


def _languages(records: Mapping[str, int]) -> list[str]:
    """Maya's, and the others of the data, as far as they have a code of ISO 639."""
    others = [code for code in records if _CODE.fullmatch(code) and code not in (*CODES, _UNKNOWN)]
    return [*CODES, *sorted(others)]


def _fields(licence: str, is_adapter: bool, base: Base | None, languages: Sequence[str]) -> str:
    lines = [
        "---",
        f"license: {licence}",
        f"language: [{', '.join(languages)}]",
        f"library_name: {'peft' if is_adapter else 'maya'}",
        "pipeline_tag: image-text-to-text",
        "tags: [maya]",
    ]
    lines += [f"base_model: {base.repository}"] if base else []
    return "\n".join([*lines, "---", ""])


def _what(config: MayaConfig, recipe: Mapping[str, Any], is_adapter: bool, base: Base | None) -> str:
    if is_adapter:
        lora, of = recipe.get("lora") or {}, base.repository if base else PUBLISHED
        size = f" of rank {lora['rank']}" if lora else ""
        return f"An adapter{size} on [{of}](https://huggingface.co/{of}), which answers questions about pictures."
    counts = parameter_counts(config)
    told = ", ".join(f"{part.replace('_', ' ')} {count:,}" for part, count in counts.items())
    return f"A Maya, which answers questions about pictures: {sum(counts.values()):,} parameters ({told})."


def _data(figures: Mapping[str, Any]) -> str:
    records = figures.get("records") or {}
    if not records:
        return ""
    told = ", ".join(f"{language} {count:,}" for language, count in records.items())
    return f"{sum(records.values()):,} conversations about pictures ({told}). They are not part of this repository."


def _training(recipe: Mapping[str, Any]) -> str:
    train, figures = recipe.get("train"), recipe.get("figures") or {}
    if not train:
        return ""
    rates = ", ".join(f"{part} {rate:g}" for part, rate in train["learning_rates"].items() if rate)
    steps = f"{figures['steps']:,} steps of " if figures else ""
    lora = ", ".join(f"{name} {value}" for name, value in (recipe.get("lora") or {}).items() if value)
    return (
        f"`python -m training.finetune --recipe {recipe.get('recipe')}`, {steps}{train['batch_size']} conversations; "
        f"learning rates {rates}{'; adapters: ' + lora if lora else ''}. The rest is in recipe.json."
    )


def _figures(figures: Mapping[str, Any]) -> str:
    """A table by language: the loss in training, at the end, and what was measured of what is held out."""
    rows = {told: figures[name] for name, (told, _) in _ROWS.items() if figures.get(name)}
    columns = list(dict.fromkeys(language for row in rows.values() for language in row))
    if not columns:
        return ""
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    decimals = dict(_ROWS.values())
    for told, row in rows.items():
        values = (f"{row[column]:.{decimals[told]}f}" if row.get(column) is not None else "-" for column in columns)
        lines.append(f"| {told} | {' | '.join(values)} |")
    return "\n".join(lines)


def _use(name: str) -> str:
    return f'    maya ask PICTURE "QUESTION" --model {name}'
