"""Which of eleven colours a person would name: by hue, saturation and lightness."""

import numpy as np
from numpy.typing import NDArray

from training.emoji_vqa.scenes import COLOURS

_NAMES = tuple(COLOURS)
# Where the next hue begins, in degrees.
_HUES = (
    (14, "red"),
    (42, "orange"),
    (70, "yellow"),
    (168, "green"),
    (258, "blue"),
    (292, "purple"),
    (342, "pink"),
    (361, "red"),
)


def named(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.int64]:
    """RGB pixels (..., 3) -> the number of each one's colour in emoji's COLOURS (...)."""
    parts = pixels_HWC.astype(np.float64) / 255
    value, least = parts.max(-1), parts.min(-1)
    spread = value - least
    saturation = spread / np.maximum(value, 1e-6)
    red, green, blue = np.moveaxis(parts, -1, 0)
    safe = np.maximum(spread, 1e-6)
    sixth = np.select(
        [value == red, value == green], [(green - blue) / safe % 6, (blue - red) / safe + 2], (red - green) / safe + 4
    )
    hue = 60 * sixth
    ends = np.array([end for end, _ in _HUES])
    found = np.array([_NAMES.index(name) for _, name in _HUES])[np.searchsorted(ends, hue, side="right")]
    is_warm = (hue < 42) | (hue >= 342)
    number = {name: _NAMES.index(name) for name in _NAMES}
    found = np.where(is_warm & (value < 0.62) & (hue < 342) & (hue >= 10), number["brown"], found)
    found = np.where(
        is_warm & (value > 0.75) & (saturation < 0.45) & ((hue < 14) | (hue >= 342)), number["pink"], found
    )
    grey = np.select([value < 0.3, value > 0.82], [number["black"], number["white"]], number["grey"])
    found = np.where((saturation < 0.16) | (spread < 0.08), grey, found)
    return np.where(value < 0.18, number["black"], found)


def main_colour(pixels: NDArray[np.uint8], *, least: float, but: str = "") -> str:
    """The name of the colour that at least that share of the pixels has, empty where none has. but: a colour that does not
    count, unless nearly all have it."""
    counts = np.bincount(named(pixels.reshape(-1, 3)), minlength=len(_NAMES))
    if but and counts[_NAMES.index(but)] < 0.9 * counts.sum():
        counts[_NAMES.index(but)] = 0
    return _NAMES[int(counts.argmax())] if counts.max() >= least * max(1, counts.sum()) else ""
