"""What tests of the worlds share: two small folders of pictures, shaped like those of Caltech-101 and COCO."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Class of Caltech-101 -> how its pictures look: each has a colour of its own, a little different from picture to picture.
CLASSES = {
    "accordion": (200, 40, 40), "BACKGROUND_Google": (120, 120, 120), "dalmatian": (240, 240, 240),
    "elephant": (70, 110, 200), "Faces": (240, 150, 50), "snoopy": (30, 30, 30), "unheard_of": (250, 220, 80),
}  # fmt: skip
EACH = 12
# COCO's picture -> its labels, as YOLO writes them; none of the last three is for training.
LABELS = {
    "000000000009": ("16 0.25 0.5 0.3 0.4", "15 0.75 0.5 0.2 0.2"),
    "000000000025": ("0 0.2 0.3 0.2 0.5", "0 0.8 0.3 0.2 0.5", "2 0.5 0.8 0.6 0.3"),
    "000000000030": ("0 0.5 0.5 0.4 0.8", "32 0.2 0.8 0.1 0.15"),
    "000000000034": ("23 0.5 0.5 0.9 0.9",),
    "000000000036": (),
    "000000000042": ("16 0.5 0.6 0.8 0.6", "56 0.15 0.5 0.2 0.6"),
    "000000000074": ("0 0.5 0.5 0.4 0.8", "1 0.15 0.8 0.2 0.3"),
    "000000000081": ("0 0.2 0.5 0.2 0.7", "0 0.6 0.5 0.2 0.7", "56 0.85 0.6 0.2 0.3"),
}


def write_picture(file: Path, colour: tuple[int, int, int], number: int) -> None:
    """Of one colour, with a darker block somewhere and a little noise."""
    generator = np.random.default_rng(number)
    pixels = generator.normal(colour, 6, (60, 80, 3))
    top, left = generator.integers(0, 40), generator.integers(0, 60)
    pixels[top : top + 12, left : left + 12] *= 0.5
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=95)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `caltech` and `coco`; nobody changes it."""
    folder = tmp_path_factory.mktemp("photographs")
    for kind, (name, colour) in enumerate(CLASSES.items()):
        for number in range(EACH):
            write_picture(folder / "caltech" / name / f"image_{number:04}.jpg", colour, 100 * kind + number)
    (folder / "coco" / "labels").mkdir(parents=True)
    for number, (name, lines) in enumerate(LABELS.items()):
        write_picture(folder / "coco" / "images" / f"{name}.jpg", (90, 140, 90), number)
        if lines:
            (folder / "coco" / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder
