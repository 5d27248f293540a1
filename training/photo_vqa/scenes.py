"""Scenes: pictures of which it is known what they show: a photograph, several on one ground, or drawings of EmojiVQA.

Photographs are of your own choice and lie in two folders: `caltech`, with a folder for each class of Caltech-101, and
`coco`, with `images` and YOLO `labels` as ultralytics' COCO128 has them. None comes with Maya.
"""

import random
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from maya_core.errors import DataError
from maya_core.model.images import open_image
from training.emoji_vqa import scenes as emoji
from training.emoji_vqa.vocabulary import load_vocabulary
from training.photo_vqa.colours import main_colour
from training.photo_vqa.things import by_emoji, load_things

Split = Literal["train", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Of a file's name, by its remainder: a fifth of the photographs is for the test, and one for learning to doubt.
_SPLIT_OF: tuple[Split, ...] = ("test", "calibration", "train", "train", "train")
NOTHING = "BACKGROUND_Google"  # Caltech's folder of photographs of none of its classes
UNKNOWN = ("snoopy", "garfield")  # and classes that no thing is

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

SIDE = 384  # px of a picture that is put together
NEXT_TO = 0.05  # of a side: so near to the border of a cell of the nine, a middle is as well in the next
LEAST_KEPT = 0.5  # of a thing's box: with less of it in a crop, it is not asked about
MOST_LOST = 0.15  # of a thing's box: with less of it in a crop, it is not there
LEAST_IN_FOUR = 0.006  # of a photograph: with smaller things it is not made one of four


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A thing in a picture. x, y: its middle; width, height: its size; all in shares of the picture's. colour: of
    colours.COLOURS, empty where it has none that is clear."""

    thing: str
    x: float = 0.5
    y: float = 0.5
    width: float = 1.0
    height: float = 1.0
    colour: str = ""

    @property
    def cell(self) -> int:
        """In a grid of three by three, row by row."""
        row, column = (min(2, int(3 * share)) for share in (self.y, self.x))
        return 3 * row + column

    @property
    def cells(self) -> set[int]:
        """Its cell, and those whose border its middle lies next to: people call it either."""
        rows, columns = (
            {min(2, max(0, int(3 * (share + shift)))) for shift in (-NEXT_TO, NEXT_TO)} for share in (self.y, self.x)
        )
        return {3 * row + column for row in rows for column in columns}

    @property
    def box(self) -> tuple[float, float, float, float]:
        """left, top, right, bottom"""
        return self.x - self.width / 2, self.y - self.height / 2, self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One file. things: what is known to be in it. lists_all: of COCO's classes there are no others in it."""

    file: Path
    things: tuple[Seen, ...]
    lists_all: bool

    @property
    def split(self) -> Split:
        """By the file's name, so that it stays in its split whatever else is there."""
        return _SPLIT_OF[zlib.crc32(f"{self.file.parent.name}/{self.file.name}".encode()) % len(_SPLIT_OF)]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a photograph, laid into a box of the picture. Both boxes: left, top, width, height, in shares."""

    photograph: Photograph
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    flipped: bool = False

    def things(self) -> Iterator[Seen]:
        """What it brings into the picture, and where."""
        ratio = (self.box[2] / self.crop[2], self.box[3] / self.crop[3])
        for seen, share in zip(self.photograph.things, self.kept(), strict=True):
            if share < LEAST_KEPT:
                continue
            left, top, right, bottom = self._in_crop(seen)
            yield Seen(
                thing=seen.thing,
                x=self.box[0] + ((left + right) / 2 - self.crop[0]) * ratio[0],
                y=self.box[1] + ((top + bottom) / 2 - self.crop[1]) * ratio[1],
                width=(right - left) * ratio[0],
                height=(bottom - top) * ratio[1],
            )

    def kept(self) -> list[float]:
        """Of each of the photograph's things, the share of its box that is in the crop."""
        shares = []
        for seen in self.photograph.things:
            left, top, right, bottom = self._in_crop(seen)
            shares.append(max(0.0, right - left) * max(0.0, bottom - top) / (seen.width * seen.height))
        return shares

    def _in_crop(self, seen: Seen) -> tuple[float, float, float, float]:
        """left, top, right, bottom of what is left of a thing, in shares of the whole photograph as it is laid."""
        left, top, right, bottom = replace(seen, x=1 - seen.x if self.flipped else seen.x).box
        from_x, from_y, across, down = self.crop
        return max(left, from_x), max(top, from_y), min(right, from_x + across), min(bottom, from_y + down)

    def picture(self) -> Image.Image:
        """What is laid into the box, in its own size."""
        whole = open_image(self.photograph.file)
        if self.flipped:
            whole = ImageOps.mirror(whole)
        left, top, width, height = self.crop
        if self.crop == (0.0, 0.0, 1.0, 1.0):
            return whole
        right, below = round((left + width) * whole.width), round((top + height) * whole.height)
        return whole.crop((round(left * whole.width), round(top * whole.height), right, below))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture before it is put together, and what is known of it.

    pieces: one that fills it keeps its own proportions. tint: of the ground, RGB. drawing: of EmojiVQA, instead of pieces.
    things: as they lie in the whole. lists_all: of COCO's classes no others are there. are_counted: no more of the things
    that are known are there. ground: its colour, empty where it has none that is clear. perhaps: what its
    one thing is taken for, where one cannot be sure.
    """

    pieces: tuple[Piece, ...] = ()
    tint: tuple[int, int, int] = (128, 128, 128)
    drawing: emoji.Scene | None = field(default=None, compare=False)
    things: tuple[Seen, ...] = ()
    lists_all: bool = False
    are_counted: bool = False
    ground: str = ""
    perhaps: str = ""

    def render(self, side: int = SIDE) -> Image.Image:
        """An RGB picture: the photograph in its own size, or `side` px square."""
        if self.drawing:
            return emoji.render(replace(self.drawing, side=side))
        if len(self.pieces) == 1 and self.pieces[0].box == (0.0, 0.0, 1.0, 1.0):
            return self.pieces[0].picture()
        whole = Image.new("RGB", (side, side), self.tint)
        for piece in self.pieces:
            left, top, width, height = (round(share * side) for share in piece.box)
            whole.paste(
                piece.picture().resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0), (left, top)
            )
        return whole

    def with_colours(self, picture: Image.Image) -> "Scene":
        """The same scene, with the colours that its picture shows."""
        pixels = np.asarray(picture.convert("RGB").resize((96, 96), Image.Resampling.BOX))
        ground = self.ground or _colour_around(pixels)
        return replace(
            self,
            things=tuple(replace(seen, colour=_colour_in(pixels, seen, ground)) for seen in self.things),
            ground=ground,
        )


def _colour_in(pixels_HWC: np.ndarray, seen: Seen, ground: str) -> str:
    """Of the middle of a thing, but for what of the ground is seen there."""
    side = len(pixels_HWC)
    shrunk = replace(seen, width=0.7 * seen.width, height=0.7 * seen.height)
    left, top, right, bottom = (min(side, max(0, round(share * side))) for share in shrunk.box)
    return main_colour(pixels_HWC[top : max(bottom, top + 1), left : max(right, left + 1)], least=0.5, but=ground)


def _colour_around(pixels_HWC: np.ndarray) -> str:
    """Of a picture's edge, an eighth of its side wide."""
    edge = len(pixels_HWC) // 8
    inner = np.ones(pixels_HWC.shape[:2], dtype=bool)
    inner[edge:-edge, edge:-edge] = False
    return main_colour(pixels_HWC[inner], least=0.7)


# --- kinds of scenes ---


def alone(photograph: Photograph, rng: random.Random | None = None) -> Scene:
    """A photograph as it is; with `rng`, perhaps mirrored, and most of it."""
    piece = (
        _part_of(photograph, rng, least=0.5 if photograph.lists_all else 0.75) if rng else Piece(photograph=photograph)
    )
    return Scene(
        pieces=(piece,),
        things=tuple(piece.things()),
        lists_all=photograph.lists_all,
        are_counted=photograph.lists_all,
    )


def _part_of(photograph: Photograph, rng: random.Random, *, least: float) -> Piece:
    """Perhaps mirrored, and perhaps a part, at least `least` of each side; nothing is cut so that one could not say
    whether it is there."""
    whole = Piece(photograph=photograph, flipped=rng.random() < 0.5)
    for _ in range(10 if rng.random() < 0.7 else 0):
        sides = (rng.uniform(least, 1), rng.uniform(least, 1))
        part = replace(whole, crop=(rng.uniform(0, 1 - sides[0]), rng.uniform(0, 1 - sides[1]), *sides))
        if not any(MOST_LOST < share < LEAST_KEPT for share in part.kept()):
            return part
    return whole


def mosaic(photographs: Sequence[Photograph], rng: random.Random | None = None) -> Scene:
    """Four photographs, in two rows; with `rng`, perhaps mirrored, and parts of them."""
    boxes = [(column / 2, row / 2, 0.5, 0.5) for row in range(2) for column in range(2)]
    pieces = [_part_of(one, rng, least=0.5) if rng else Piece(photograph=one) for one in photographs]
    return _laid([replace(piece, box=box) for piece, box in zip(pieces, boxes, strict=True)])


def pasted(photographs: Sequence[Photograph], rng: random.Random) -> Scene:
    """Photographs of several sizes on a coloured ground."""
    colour = rng.choice(list(emoji.COLOURS))
    red, green, blue = (min(255, max(0, part + rng.randint(-12, 12))) for part in emoji.COLOURS[colour])
    pieces: list[Piece] = []
    for photograph in photographs:
        for _ in range(30):
            width, height = (rng.uniform(0.25, 0.8 if len(photographs) == 1 else 0.5) for _ in range(2))
            box = (rng.uniform(0, 1 - width), rng.uniform(0, 1 - height), width, height)
            if not any(_overlap(box, other.box) for other in pieces):
                pieces.append(Piece(photograph=photograph, box=box, flipped=rng.random() < 0.5))
                break
    return replace(_laid(pieces), tint=(red, green, blue), ground=colour)


def _laid(pieces: Sequence[Piece]) -> Scene:
    things = tuple(seen for piece in pieces for seen in piece.things())
    return Scene(
        pieces=tuple(pieces),
        things=things,
        lists_all=all(piece.photograph.lists_all for piece in pieces),
        are_counted=all(piece.photograph.things or piece.photograph.lists_all for piece in pieces),
    )


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(one[side] < other[side] + other[side + 2] and other[side] < one[side] + one[side + 2] for side in (0, 1))


def drawn(drawing: emoji.Scene) -> Scene:
    """A scene of EmojiVQA. Drawings that are none of our things are not among its things, and then nothing is counted."""
    known = by_emoji()
    ids = [load_vocabulary()[thing.concept].id for thing in drawing.things]
    things = tuple(
        Seen(thing=known[name], x=thing.x, y=thing.y, width=thing.size, height=thing.size)
        for name, thing in zip(ids, drawing.things, strict=True)
        if name in known
    )
    return Scene(drawing=drawing, things=things, are_counted=len(things) == len(ids), ground=drawing.colour)


class Scenes:
    """Endless scenes: number `index` is the same whenever the photographs are. emoji_split: of the drawings.

    Raises DataError where there are no photographs.
    """

    def __init__(self, photographs: Sequence[Photograph], emoji_split: emoji.Split = "train") -> None:
        if not photographs:
            raise DataError("There are no photographs; training/photo_vqa/README.md says where to get them.")
        self.emoji_split = emoji_split
        self.single: dict[str, list[Photograph]] = defaultdict(list)  # those of one thing, by thing
        for one in photographs:
            if len(one.things) == 1 and not one.lists_all:
                self.single[one.things[0].thing].append(one)
        self.listed = [one for one in photographs if one.lists_all]
        self.clear = [
            one for one in self.listed if all(seen.width * seen.height >= LEAST_IN_FOUR for seen in one.things)
        ]
        self.unknown = [one for one in photographs if not one.things and not one.lists_all]

    def __getitem__(self, index: int) -> Scene:
        rng = random.Random(f"photo-vqa/{index}")
        kind = rng.choices(("alone", "listed", "mosaic", "pasted", "drawn"), weights=(24, 25, 12, 12, 27))[0]
        single, listed, clear, unknown = self.single, self.listed, self.clear, self.unknown
        if kind == "drawn" or not (single or listed):
            number = rng.choices((None, 1, 9), weights=(6, 3, 1))[0]
            return drawn(emoji.make_scene(self.emoji_split, index, size=SIDE, number=number))
        if listed and (kind == "listed" or not single):
            if clear and rng.random() < 0.25:
                return mosaic(rng.choices(clear, k=4), rng)
            return alone(rng.choice(listed), rng)
        if kind in ("alone", "listed"):
            if unknown and rng.random() < 0.1:
                return alone(rng.choice(unknown), rng)
            return alone(_of_things(single, [rng.choice(list(single))], rng)[0], rng)
        number = 4 if kind == "mosaic" else rng.randint(1, 4)
        chosen = _some_alike(sorted(single), number, rng)
        photographs = _of_things(single, chosen, rng)
        return mosaic(photographs) if kind == "mosaic" else pasted(photographs, rng)


def _of_things(
    single: Mapping[str, Sequence[Photograph]], things: Sequence[str], rng: random.Random
) -> list[Photograph]:
    return [rng.choice(single[thing]) for thing in things]


def _some_alike(things: Sequence[str], number: int, rng: random.Random) -> list[str]:
    """So many things, of which some may be the same."""
    chosen = rng.choices(things, k=number)
    if number > 1 and rng.random() < 0.5:
        alike = rng.randint(2, number)
        chosen[:alike] = [chosen[0]] * alike
        rng.shuffle(chosen)
    return chosen


# --- photographs in folders ---


def photographs(caltech_folder: Path | None, coco_folder: Path | None, split: Split) -> tuple[Photograph, ...]:
    """Those of a split, of both folders or one. Raises DataError where a folder has none."""
    found: list[Photograph] = []
    for folder, read in ((caltech_folder, caltech), (coco_folder, coco)):
        if folder is not None:
            they = list(read(folder))
            if not they:
                raise DataError(
                    f"There are no photographs in {folder}; training/photo_vqa/README.md says where to get them and "
                    "how they lie there."
                )
            found += they
    return tuple(photograph for photograph in found if photograph.split == split)


def caltech(folder: Path) -> Iterator[Photograph]:
    """Every photograph of Caltech-101 in a folder; things of its class, or nothing that is known."""
    known = _by_caltech()
    for file in sorted(folder.glob("*/*.jpg")):
        name = file.parent.name
        if name == NOTHING or name in UNKNOWN:
            yield Photograph(file=file, things=(), lists_all=False)
        elif name in known:
            yield Photograph(file=file, things=(Seen(thing=known[name]),), lists_all=False)


def coco(folder: Path) -> Iterator[Photograph]:
    """Every photograph of COCO in a folder, with the things of its labels."""
    known = by_coco()
    for file in sorted((folder / "images").glob("*.jpg")):
        labels = folder / "labels" / f"{file.stem}.txt"
        things = []
        for line in labels.read_text().splitlines() if labels.is_file() else ():
            kind, x, y, width, height = line.split()
            thing = known[COCO[int(kind)]]
            things.append(Seen(thing=thing, x=float(x), y=float(y), width=float(width), height=float(height)))
        yield Photograph(file=file, things=tuple(things), lists_all=True)


@cache
def by_coco() -> Mapping[str, str]:
    """COCO's class -> the thing, in the order of COCO's numbers."""
    known = {thing.coco: thing.id for thing in load_things().values() if thing.coco}
    return {name: known[name] for name in COCO}


@cache
def _by_caltech() -> Mapping[str, str]:
    """Caltech's class -> the thing; where a class is of two, the more exact one."""
    found: dict[str, str] = {}
    for thing in load_things().values():
        for name in thing.caltech:
            if name not in found or thing.parent:
                found[name] = thing.id
    return found
