"""Write a model's card from its files: `python -m training.embedded.model_card`.

The figures come from `training.json`, which training wrote, and `evaluation-*.json`, which `python -m training.emoji_vqa
evaluate --json` wrote; none is typed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from maya_core.assets import asset_path
from maya_core.languages import CODES
from training.emoji_vqa.questions import FAMILIES

TEXT = """---
license: apache-2.0
language: [{languages}]
library_name: maya
pipeline_tag: image-text-to-text
---

# {name}

The Maya that comes with the project: SigLIP's vision architecture, a two-layer connector and Cohere's language
architecture, all small, trained from nothing on EmojiVQA. It answers questions about drawings in ten languages on any
computer.

- {parameters:,} parameters, {megabytes:.1f} MB in bfloat16; pictures of {image_size} px.
- Data: EmojiVQA, scenes of emoji (Noto, Twemoji) with names from Unicode CLDR, made from a seed; see `assets/emoji`.
- Command: `python -m training.embedded`, {minutes[all]:.0f} minutes on {hardware}, torch {torch} ({stages});
  the last two stages at commit {commit}.
- Licence: Apache-2.0. The drawings it saw: Noto Apache-2.0, Twemoji CC-BY 4.0.

## What it gets right

Exact match in percent; each answer normalised by its language's rules. Scenes of these splits were never trained on.

{tables}
## What it cannot do

It knows drawings of the things in `assets/emoji/vocabulary.json` and the questions of EmojiVQA, best in the wordings that it
was trained on; how well in others, `phrasing` says. It does not know photographs, other things, or anything about the world;
asked about them, it gives a wrong answer with confidence.
"""


def table(evaluation: Mapping[str, Any]) -> str:
    """One split's figures as Markdown."""
    columns = (*FAMILIES, "all")
    lines = [
        f"`python -m training.emoji_vqa evaluate --split {evaluation['split']} --n {evaluation['scenes']}`: "
        f"{evaluation['questions']:,} questions",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for language, shares in evaluation["exact_match"].items():
        cells = ("-" if shares[column] is None else f"{100 * shares[column]:.1f}" for column in columns)
        lines.append(f"| {language} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def model_card(folder: Path) -> str:
    """The text of a model's README.md."""
    report = json.loads((folder / "training.json").read_text("utf-8"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    evaluations = [
        json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("evaluation-*.json"), reverse=True)
    ]
    return TEXT.format(
        name=folder.name,
        languages=", ".join(CODES),
        megabytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6,
        image_size=config["vision_config"]["image_size"],
        stages=", ".join(f"{stage} {minutes}" for stage, minutes in report["minutes"].items() if stage != "all"),
        tables="\n".join(table(evaluation) for evaluation in evaluations),
        **report,
    )


def main(
    folder: Annotated[Path | None, tyro.conf.arg(help="the model's; assets/maya-tiny if not given")] = None,
) -> None:
    """Write README.md into a model's folder."""
    folder = folder or asset_path("maya-tiny")
    (folder / "README.md").write_text(model_card(folder), "utf-8")
    print(folder / "README.md")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
