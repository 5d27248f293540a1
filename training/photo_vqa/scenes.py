"""Scenes: photographs of which it is known what they show, alone or several on one picture.

Photographs are of your own choice and lie in two folders: `caltech`, with a folder for each class of Caltech-101, and
`coco`, with `images` and YOLO `labels` as ultralytics' COCO128 has them. None comes with Maya.
"""

import random
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from PIL import Image

from maya_core.model.images import open_image
from training.photo_vqa.things import load_things

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TESTED = 5  # one photograph in this many is for the test
NOTHING = "BACKGROUND_Google"  # Caltech's folder of photographs of none of its classes

# COCO's classes, in the order of their numbers.
COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork",
    "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut",
    "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "hair drier", "toothbrush",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A thing in a picture. x, y: its middle; width, height: its size; all in shares of the picture's."""

    thing: str
    x: float = 0.5
    y: float = 0.5
    width: float = 1.0
    height: float = 1.0

    @property
    def cell(self) -> int:
        """In a grid of three by three, row by row."""
        row, column = (min(2, int(3 * share)) for share in (self.y, self.x))
        return 3 * row + column


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One file. things: what is known to be in it. lists_all: of COCO's classes there are no others in it."""

    file: Path
    things: tuple[Seen, ...]
    lists_all: bool

    @property
    def split(self) -> Split:
        """By the file's name, so that it stays in its split whatever else is there."""
        return "train" if zlib.crc32(f"{self.file.parent.name}/{self.file.name}".encode()) % TESTED else "test"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture before it is put together. photographs: one, or four in two rows. things: as they lie in the whole."""

    photographs: tuple[Photograph, ...]
    things: tuple[Seen, ...]
    lists_all: bool

    def render(self, side: int = 512) -> Image.Image:
        """An RGB picture: the photograph as it is, or `side` px square."""
        if len(self.photographs) == 1:
            return open_image(self.photographs[0].file)
        whole, half = Image.new("RGB", (side, side)), side // 2
        for number, photograph in enumerate(self.photographs):
            row, column = divmod(number, 2)
            whole.paste(open_image(photograph.file).resize((half, half)), (column * half, row * half))
        return whole


def alone(photograph: Photograph) -> Scene:
    return Scene(photographs=(photograph,), things=photograph.things, lists_all=photograph.lists_all)


def mosaic(photographs: tuple[Photograph, ...]) -> Scene:
    """Four photographs of one thing each, in two rows."""
    assert len(photographs) == 4
    things = []
    for number, photograph in enumerate(photographs):
        row, column = divmod(number, 2)
        [seen] = photograph.things
        things.append(Seen(thing=seen.thing, x=0.25 + column / 2, y=0.25 + row / 2, width=0.5, height=0.5))
    return Scene(photographs=photographs, things=tuple(things), lists_all=False)


def mosaics(photographs: tuple[Photograph, ...], number: int, seed: int) -> Iterator[Scene]:
    """So many pictures of four photographs, of which some may show the same thing."""
    rng = random.Random(f"mosaic/{seed}")
    single = [photograph for photograph in photographs if len(photograph.things) == 1 and not photograph.lists_all]
    by_thing = {thing: list(some) for thing, some in groupby(single, key=lambda one: one.things[0].thing)}
    for _ in range(number):
        chosen = rng.sample(sorted(by_thing), 4)
        if rng.random() < 0.4:
            chosen[1] = chosen[0]
            rng.shuffle(chosen)
        yield mosaic(tuple(rng.choice(by_thing[thing]) for thing in chosen))


def caltech(folder: Path) -> Iterator[Photograph]:
    """Every photograph of Caltech-101 in a folder; things of its class, or nothing that is known."""
    known = _by_caltech()
    for file in sorted(folder.glob("*/*.jpg")):
        name = file.parent.name
        if name == NOTHING:
            yield Photograph(file=file, things=(), lists_all=False)
        elif name in known:
            yield Photograph(file=file, things=(Seen(thing=known[name]),), lists_all=False)


def coco(folder: Path) -> Iterator[Photograph]:
    """Every photograph of COCO in a folder, with the things of its labels."""
    known = {thing.coco: thing.id for thing in load_things().values() if thing.coco}
    for file in sorted((folder / "images").glob("*.jpg")):
        labels = folder / "labels" / f"{file.stem}.txt"
        things = []
        for line in labels.read_text().splitlines() if labels.is_file() else ():
            kind, x, y, width, height = line.split()
            place = (float(share) for share in (x, y, width, height))
            things.append(
                Seen(thing=known[COCO[int(kind)]], **dict(zip(("x", "y", "width", "height"), place, strict=True)))
            )
        yield Photograph(file=file, things=tuple(things), lists_all=True)


@cache
def _by_caltech() -> Mapping[str, str]:
    """Caltech's class -> the thing; where a class is of two, the more exact one."""
    found: dict[str, str] = {}
    for thing in load_things().values():
        for name in thing.caltech:
            if name not in found or thing.parent:
                found[name] = thing.id
    return found
