"""Write a model's card from its files: `python -m training.embedded.model_card`.

The figures come from `training.json`, which training wrote, and `evaluation-*.json`, which `python -m training.emoji_vqa
evaluate --json` and `python -m training.photo_vqa evaluate --json` wrote; none is typed.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from maya_core.assets import asset_path
from maya_core.languages import CODES
from maya_core.weights.checkpoint import load_config
from training.command import STOPPED, ended
from training.photo_vqa.things import load_things

AVERAGED = " The weights are the mean of those of its last {} runs (`python -m training.embedded.averaged`)."
TEXT = """---
license: apache-2.0
language: [{languages}]
library_name: maya
pipeline_tag: image-text-to-text
---

# {name}

The Maya that comes with the project: a photograph tower (EfficientNet-Lite2 and NanoDet-g side by side, at rest), the
paper's two-layer connector, and Cohere's language architecture made small. It names {things} things in photographs and
drawings, says whether, where and how many they are, and what colours it sees, in ten languages on any computer.

- {parameters:,} parameters, {megabytes:.1f} MB in float16; pictures of {image_size} px, {tokens} visual tokens.
- Data: photographs of Caltech-101 (Li, Andreeto, Ranzato and Perona, CC BY 4.0) and COCO train2017 (COCO128: annotations
  CC BY 4.0), put together by `training/photo_vqa`; scenes of emoji of `training/emoji_vqa`; and scenes whose photographs
  were never taken (`training/embedded/simulated.py`). No photograph is part of the model or of the project.
- Command: `python -m training.embedded`{again}, {minutes[all]:.0f} minutes on {hardware}, torch {torch}
  ({stages}); commit {commit}.{mean}
- Licence: Apache-2.0. The tower's weights: see `assets/photograph-tower`. The drawings it saw: Noto Apache-2.0, Twemoji
  CC-BY 4.0.

## Photographs

Right in percent, on photographs that were never trained on. `name`: the one thing of Caltech-101's photographs, with or
without doubt. COCO's photographs: `there` and `absent`, as many of each; `person`; `count`, one to four; `where`, of nine
places. `colour`: a thing's main colour, as its pixels say. `unknown`: of things that it does not know, it says so.
`several`, `drawn`: all families on pictures of several photographs, and on drawings. `follow`: questions that need the turn
before. `held`: wordings that were never trained on.

{photographs}
## Drawings

Exact match in percent, with or without doubt; each answer normalised by its language's rules. Scenes of these splits were
never trained on.

{drawings}
## What it cannot do

It does not know other things than those in `training/photo_vqa/things.tsv`, nor who somebody is, what is written, what
happens in a picture, or anything about the world. Of the things that ImageNet's classes know and Caltech-101 does not show,
it has seen no photograph in training, and names them less surely. Where something is to be named, a short answer to whose
words it gives itself a probability below {sure_from} is said with doubt; what it says so, it often has wrong.
"""


def photographs_table(evaluation: Mapping[str, Any]) -> str:
    """Figures of `photo_vqa` as Markdown."""
    named = evaluation["named"]
    sure, right = named.get("sure", 0), named.get("sure, right", 0)
    asked = sum(named.get(kind, 0) for kind in ("sure", "doubted", "unknown"))
    return "\n".join(
        [
            f"`python -m training.photo_vqa evaluate --wording {evaluation['wording']}`: {evaluation['photographs']:,} "
            f"photographs, {evaluation['questions']:,} questions",
            "",
            *_rows(evaluation["right"]),
            "",
            f"Of {asked:,} names asked for, {sure:,} were given without doubt, {100 * right / max(1, sure):.1f} % of them "
            "rightly (things that it does not know among them).",
            "",
        ]
    )


def drawings_table(evaluation: Mapping[str, Any]) -> str:
    """Figures of one split of EmojiVQA as Markdown."""
    return "\n".join(
        [
            f"`python -m training.emoji_vqa evaluate --split {evaluation['split']} --n {evaluation['scenes']}`: "
            f"{evaluation['questions']:,} questions",
            "",
            *_rows(evaluation["exact_match"]),
            "",
        ]
    )


def _rows(shares: Mapping[str, Mapping[str, float | None]]) -> Sequence[str]:
    columns = list(next(iter(shares.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for language, of_language in shares.items():
        cells = ("-" if share is None else f"{100 * share:.1f}" for share in of_language.values())
        lines.append(f"| {language} | " + " | ".join(cells) + " |")
    return lines


def model_card(folder: Path) -> str:
    """The text of a model's README.md."""
    report = json.loads((folder / "training.json").read_text("utf-8"))
    config = load_config(folder)
    found = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("evaluation-*.json"))]
    minutes, again = minutes_of(report), _runs(report) - 1
    return TEXT.format(
        name=folder.name,
        sure_from=config.sure_from,
        languages=", ".join(CODES),
        things=len(load_things()),
        megabytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6,
        image_size=config.image_size,
        tokens=config.visual_tokens(config.image_size, config.image_size),
        stages=", ".join(f"{stage} {minutes[stage]:.1f}" for stage in minutes if stage != "all"),
        photographs="\n".join(photographs_table(one) for one in found if "wording" in one),
        drawings="\n".join(drawings_table(one) for one in reversed(found) if "split" in one),
        mean=AVERAGED.format(report["averaged"]) if "averaged" in report else "",
        again=f" and {again} times more with `--model`" if again else "",
        **report | {"minutes": minutes},
    )


def _runs(report: Mapping[str, Any]) -> int:
    return 1 + (_runs(report["before"]) if "before" in report else 0)


def minutes_of(report: Mapping[str, Any]) -> dict[str, float]:
    """Of each stage, in this run and in those of the model that it went on from."""
    before = minutes_of(report["before"]) if "before" in report else {}
    return {
        stage: before.get(stage, 0) + report["minutes"].get(stage, 0)
        for stage in sorted(before | report["minutes"], key="all".__eq__)
    }


def main(
    folder: Annotated[Path | None, tyro.conf.arg(help="the model's; assets/maya-tiny if not given")] = None,
) -> None:
    """Write README.md into a model's folder."""
    folder = folder or asset_path("maya-tiny")
    (folder / "README.md").write_text(model_card(folder), "utf-8")
    print(folder / "README.md")


if __name__ == "__main__":
    sys.exit(ended(lambda: tyro.cli(main, description=__doc__), STOPPED))
