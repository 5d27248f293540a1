"""A model, brought here and loaded for a command, and told of meanwhile."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maya_core.commands.progress import Tell, bar_of_bytes, long_in_words
from maya_core.hardware import importing

if TYPE_CHECKING:
    from maya_core.answering.footprint import Plan
    from maya_core.answering.session import ChatSession


def here(model: str | None) -> Path:
    """The folder of a model, with a bar where it has to be fetched; the embedded one's where none is named. Raises
    CheckpointNotFound, before anything heavy is imported."""
    from maya_core.assets import EMBEDDED, asset_path, typed_path
    from maya_core.weights.destination import CONFIGS, RUN, no_model_in

    folder = asset_path(EMBEDDED) if model is None else typed_path(model)
    if model is None or os.path.isdir(folder):
        place = folder.resolve()
        of_model = [place / name for name in CONFIGS]
        of_run = [above / RUN for above in (place, *place.parents[:2])]
        if not any(file.is_file() for file in (*of_model, *of_run)):
            raise no_model_in(folder)
        return folder
    from maya_core.weights.hub import local_folder

    with bar_of_bytes() as report:
        return local_folder(model, report=report)


def open_session(folder: Path, tell: Tell) -> "ChatSession":
    """A model, ready to answer in the form that suits this machine; what takes minutes is told before."""
    with importing():
        from maya_core.answering.footprint import seconds_to_quantize
        from maya_core.answering.session import load_best

    doing = "Loading the model"

    def begin(plan: "Plan") -> None:
        nonlocal doing
        if plan.to_quantize:
            doing = "Bringing the model to four bits"
        if minutes := long_in_words(seconds_to_quantize(plan.to_quantize, plan.device)):
            print(
                f"This model comes to four bits as it loads, which takes {minutes} here, each time; "
                f"maya quantize {folder} NEW_FOLDER does it once.",
                file=sys.stderr,
            )

    session = load_best(folder, on_plan=begin, on_progress=lambda share: tell(doing, share))
    if session.engine.falls_back:
        print(session.engine, file=sys.stderr)
    return session
