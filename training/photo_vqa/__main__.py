"""Photographs from the command line: `python -m training.photo_vqa {preview,export,evaluate}`.

training/photo_vqa/README.md says where photographs are to be had.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from training.command import STOPPED, check_pictures, ended
from training.photo_vqa.questions import Wording
from training.photo_vqa.scenes import Photograph, Split, photographs

app = tyro.extras.SubcommandApp()

Caltech = Annotated[Path | None, tyro.conf.arg(help="folder of Caltech-101: one folder a class")]
Coco = Annotated[Path | None, tyro.conf.arg(help="folder of COCO: `images` and YOLO `labels`")]


@app.command
def preview(out: Path, caltech: Caltech = None, coco: Coco = None, split: Split = "test") -> None:
    """Draw scenes with questions and answers in every script.

    Args:
        out: the picture to write, such as preview.png
        split: whose photographs
    """
    from training.photo_vqa.preview import preview as draw

    check_pictures(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(photographs(caltech, coco, split)).save(out)
    print(out)


@app.command
def export(out: Path, caltech: Caltech = None, coco: Coco = None, split: Split = "train", n: int = 1000) -> None:
    """Write LLaVA JSON and a folder of pictures.

    Args:
        out: the folder to write
        split: whose photographs
        n: number of scenes
    """
    from training.photo_vqa.export import export as write

    captions, conversations = write(out, photographs(caltech, coco, split), n)
    print(f"{captions} captions, {conversations} conversations in {out}")


@app.command
def evaluate(
    caltech: Caltech = None,
    coco: Coco = None,
    model: Annotated[Path | None, tyro.conf.arg(help="folder of the model; the embedded one if not given")] = None,
    wording: Wording = "held",
    n: int = 400,
    json_out: Annotated[Path | None, tyro.conf.arg(name="json", help="file for the figures")] = None,
    sheet: Annotated[Path | None, tyro.conf.arg(help="picture of twenty photographs with their answers")] = None,
    failures: Annotated[Path | None, tyro.conf.arg(help="picture of ten answers that were wrong")] = None,
) -> None:
    """Score a model's answers on photographs that it was not trained on, per language and kind of question.

    Args:
        wording: whether questions are worded as in training, or as never there
        n: of each kind of picture, at most so many
    """
    from rich.console import Console

    from maya_core.answering.session import load_session
    from training.photo_vqa.evaluate import evaluate as score
    from training.photo_vqa.preview import answered, failed

    check_pictures(sheet, failures)
    console = Console(width=int(os.environ.get("COLUMNS", "110")))
    session, tested = load_session(model), _tested(caltech, coco)
    with console.status("asking") as status:
        scores = score(
            session, tested, wording=wording, n=n, on_progress=lambda done: status.update(f"{done} questions")
        )
    console.print(scores.as_table())
    console.print(f"Names: {dict(scores.named)}")
    for file in filter(None, (json_out, sheet, failures)):
        file.parent.mkdir(parents=True, exist_ok=True)
    if json_out:
        json_out.write_text(json.dumps(scores.as_json(), indent=2) + "\n", "utf-8")
    if sheet:
        answered(session, [one for one in tested if one.things]).save(sheet)
    if failures and scores.failures:
        failed(scores.failures).save(failures)


def _tested(caltech: Path | None, coco: Path | None) -> tuple[Photograph, ...]:
    """Photographs of the test; of COCO's, which are few, all that training does not see."""
    few = photographs(None, coco, "calibration") if coco else ()
    return photographs(caltech, coco, "test") + few


if __name__ == "__main__":
    sys.exit(ended(lambda: app.cli(description=__doc__), STOPPED))
