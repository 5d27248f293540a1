"""EmojiVQA from the command line: `python -m training.emoji_vqa {build,preview,export,evaluate}`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from training.command import STOPPED, check_pictures, ended
from training.emoji_vqa.scenes import Split

app = tyro.extras.SubcommandApp()


@app.command
def build(npm: Path, out: Path = Path("assets")) -> None:
    """Make assets/emoji, assets/fonts and assets/examples anew from npm packages.

    Args:
        npm: the node_modules folder that holds the packages named in assets/emoji/README.md
        out: the assets folder
    """
    from training.emoji_vqa import fonts, preview, vocabulary

    print(f"{vocabulary.build(npm, out / 'emoji')} concepts")
    fonts.build_fonts(npm, out / "fonts")
    preview.save_examples(out / "examples")


@app.command
def preview(out: Path, split: Split = "test") -> None:
    """Draw scenes with questions and answers in every script.

    Args:
        out: the picture to write, such as preview.png
        split: whose scenes
    """
    from training.emoji_vqa.preview import save_preview

    check_pictures(out)
    save_preview(out, split)
    print(out)


@app.command
def export(out: Path, split: Split = "train", n: int = 1000) -> None:
    """Write LLaVA JSON and a folder of pictures.

    Args:
        out: the folder to write
        split: whose scenes
        n: number of scenes
    """
    from training.emoji_vqa.export import export as write

    captions, conversations = write(out, split, n)
    print(f"{captions} captions, {conversations} conversations in {out}")


@app.command
def evaluate(
    model: Annotated[Path | None, tyro.conf.arg(help="folder of the model; the embedded one if not given")] = None,
    split: Split = "test",
    n: int = 2000,
    json_out: Annotated[Path | None, tyro.conf.arg(name="json", help="file for the figures")] = None,
) -> None:
    """Score a model's answers by exact match, per language and family of questions.

    Args:
        split: whose scenes
        n: number of scenes
    """
    from rich.console import Console

    from maya_core.answering.session import load_session
    from training.emoji_vqa.evaluate import evaluate as score

    console = Console(width=int(os.environ.get("COLUMNS", "110")))
    with console.status("asking") as status:
        scores = score(load_session(model), split, n, on_progress=lambda done: status.update(f"scene {done} of {n}"))
    console.print(scores.as_table())
    if json_out:
        json_out.parent.mkdir(parents=True, exist_ok=True)
        json_out.write_text(json.dumps(scores.as_json(), indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(ended(lambda: app.cli(description=__doc__), STOPPED))
