"""Scores by language, each named in its own script."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from maya_core.languages import get_language
from training.sheets import INK, font_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from training.translate.search import Search

LABEL = 60  # px, drawn large and shown small


def plot_scores(search: "Search", out: Path) -> None:
    """BLEU and chrF of every preamble in every language, with their intervals."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        2, 1, figsize=(1.6 + 1.35 * len(search.languages), 7.5), sharex=True, layout="constrained"
    )
    width = 0.8 / len(search.scores)
    for axis, metric in zip(axes, ("bleu", "chrf"), strict=True):
        for number, (name, scores) in enumerate(search.scores.items()):
            places = [place + (number - (len(search.scores) - 1) / 2) * width for place in range(len(search.languages))]
            found = [getattr(scores[code], metric) for code in search.languages]
            axis.bar(
                places,
                [score.value for score in found],
                width * 0.92,
                yerr=[score.interval for score in found],
                error_kw={"lw": 0.8, "alpha": 0.6},
                label=name + (" (best)" if name == search.best else ""),
            )
        axis.set_ylim(0, 100)
        axis.grid(axis="y", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("BLEU")
    axes[1].set_ylabel("chrF2")
    axes[0].legend(ncols=min(6, len(search.scores)), loc="upper center", bbox_to_anchor=(0.5, 1.18), frameon=False)
    axes[1].set_xticks(range(len(search.languages)), labels=[""] * len(search.languages))
    for place, code in enumerate(search.languages):
        _write_below(axes[1], place, code)
    figure.savefig(out, dpi=130)
    plt.close(figure)


def _write_below(axis: "Axes", place: float, code: str) -> None:
    """The language's name for itself under the axis, shaped by Pillow, which reads the project's fonts as they are."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    language = get_language(code)
    options: dict[str, Any] = {"direction": language.direction, "language": code}
    font = font_for(code, LABEL)
    left, top, right, bottom = font.getbbox(language.native_name, **options)
    drawn = Image.new("RGBA", (math.ceil(right - left), math.ceil(bottom - top)), (255, 255, 255, 0))
    ImageDraw.Draw(drawn).text((-left, -top), language.native_name, INK, font, **options)
    box = AnnotationBbox(
        OffsetImage(np.asarray(drawn), zoom=0.25),
        (place, 0.0),
        xybox=(0.0, -8.0),
        xycoords=axis.get_xaxis_transform(),
        boxcoords="offset points",
        box_alignment=(0.5, 1.0),
        frameon=False,
        pad=0.0,
        annotation_clip=False,
    )
    axis.add_artist(box)
