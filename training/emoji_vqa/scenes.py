"""Scenes: one to six drawings on a coloured ground, each a pure function of (split, index)."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from training.emoji_vqa.vocabulary import VENDORS, load_sprites, load_vocabulary

Split = Literal["train", "validation", "test", "compositional", "phrasing", "transfer"]
SPLITS: tuple[Split, ...] = get_args(Split)

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 50, 45),
    "orange": (240, 145, 45),
    "yellow": (245, 220, 80),
    "green": (75, 160, 75),
    "blue": (65, 115, 205),
    "purple": (130, 75, 165),
    "pink": (245, 165, 195),
    "brown": (125, 85, 55),
    "grey": (145, 145, 145),
    "white": (245, 245, 245),
    "black": (30, 30, 30),
}
MOST_OBJECTS = 6
HELD_OUT = 12  # one pair of concepts in this many is never together in a training scene
CELLS = 9  # places: a grid of three by three, row by row

Ground = Literal["plain", "gradient", "stripes", "checks"]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One drawing in a scene. concept: its number in the vocabulary; cell: 0 (top left) to 8; x, y: its centre and
    size: its side, in shares of the picture's side; angle in degrees."""

    concept: int
    cell: int
    x: float
    y: float
    size: float
    angle: float
    flipped: bool
    vendor: str


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture before it is drawn. things: in the order of drawing; side: of the picture in px."""

    split: Split
    index: int
    side: int
    things: tuple[Thing, ...]
    colour: str
    ground: Ground
    tint: tuple[int, int, int]
    noise: float

    @property
    def concepts(self) -> list[int]:
        return [thing.concept for thing in self.things]


def is_held_out(one: int, other: int) -> bool:
    """Whether two concepts are never together in a training scene."""
    low, high = sorted((one, other))
    return low != high and (low * 7919 + high * 104_729) % HELD_OUT == 0


def make_scene(split: Split, index: int, *, size: int = 128, number: int | None = None) -> Scene:
    """Scene `index` of a split, `size` px square, with `number` things (at most one a cell; by chance if not given). Equal
    arguments give equal scenes, on every machine."""
    rng = random.Random(f"emoji-vqa/{split}/{index}")
    concepts = _together(rng, split, [], number) if number else _concepts(rng, split)
    cells = rng.sample(range(CELLS), len(concepts)) if len(concepts) > 1 else [4]
    things = tuple(_thing(rng, concept, cell, len(concepts)) for concept, cell in zip(concepts, cells, strict=True))
    return Scene(
        split=split,
        index=index,
        side=size,
        things=things,
        colour=rng.choice(list(COLOURS)),
        ground=rng.choice(get_args(Ground)),
        tint=(rng.randint(-12, 12), rng.randint(-12, 12), rng.randint(-12, 12)),
        noise=rng.choice((0.0, 0.0, 3.0, 6.0)),
    )


def _concepts(rng: random.Random, split: Split) -> list[int]:
    number = rng.choices(range(1, MOST_OBJECTS + 1), weights=(30, 18, 16, 14, 12, 10))[0]
    pair = _held_out_pair(rng, len(load_vocabulary())) if split == "compositional" else []
    chosen = _together(rng, split, pair, max(number, len(pair)))
    if number > 2 and split != "compositional" and rng.random() < 0.4:
        repeats = rng.randint(2, number)
        chosen[:repeats] = [chosen[0]] * repeats
    rng.shuffle(chosen)
    return chosen


def _together(rng: random.Random, split: Split, first: list[int], number: int) -> list[int]:
    """`number` concepts, those of `first` among them, which may be together in a scene of the split."""
    chosen = list(first)
    while len(chosen) < number:
        concept = rng.randrange(len(load_vocabulary()))
        if split == "compositional" or not any(is_held_out(concept, other) for other in chosen):
            chosen.append(concept)
    return chosen


def _held_out_pair(rng: random.Random, known: int) -> list[int]:
    while True:
        pair = rng.sample(range(known), 2)
        if is_held_out(*pair):
            return pair


def _thing(rng: random.Random, concept: int, cell: int, number: int) -> Thing:
    row, column = divmod(cell, 3)
    size = rng.uniform(0.38, 0.8) if number == 1 else rng.uniform(0.25, 0.38)
    reach = (1 - size) / 2 * 0.6 if number == 1 else 0.03
    return Thing(
        concept=concept,
        cell=cell,
        x=(column + 0.5) / 3 + rng.uniform(-reach, reach),
        y=(row + 0.5) / 3 + rng.uniform(-reach, reach),
        size=size,
        angle=rng.uniform(-20, 20),
        flipped=rng.random() < 0.5,
        vendor=rng.choice(list(VENDORS)),
    )


def render(scene: Scene) -> Image.Image:
    """Draw it: an RGB picture, `side` px square."""
    picture = Image.fromarray(_ground(scene))
    for thing in scene.things:
        sprite = load_sprites(thing.vendor)[thing.concept]
        if thing.flipped:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        side = max(8, round(thing.size * scene.side))
        sprite = sprite.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        sprite = sprite.rotate(thing.angle, Image.Resampling.BILINEAR, expand=True)
        left = round(thing.x * scene.side - sprite.width / 2)
        top = round(thing.y * scene.side - sprite.height / 2)
        picture.paste(sprite, (left, top), sprite)
    return _with_noise(picture, scene) if scene.noise else picture


def _ground(scene: Scene) -> np.ndarray[Any, Any]:
    side = scene.side
    colour = np.array(COLOURS[scene.colour]) + np.array(scene.tint)
    y, x = np.mgrid[0:side, 0:side] / side
    lights: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
        "plain": lambda: np.zeros((side, side)),
        "gradient": lambda: (x + y - 1) * 30,
        "stripes": lambda: ((x * 8).astype(int) % 2) * 16.0 - 8,
        "checks": lambda: (((x * 6).astype(int) + (y * 6).astype(int)) % 2) * 16.0 - 8,
    }
    lit: np.ndarray[Any, Any] = colour + lights[scene.ground]()[..., None]
    return lit.clip(0, 255).astype(np.uint8)


def _with_noise(picture: Image.Image, scene: Scene) -> Image.Image:
    generator = np.random.default_rng([SPLITS.index(scene.split), scene.index])
    noise = generator.normal(0, scene.noise, (scene.side, scene.side, 3))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def patch_labels(scene: Scene, grid: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(grid, grid) int64: which concept lies on the middle of each patch, -1 where none does."""
    labels = np.full((grid, grid), -1, dtype=np.int64)
    middle = (np.arange(grid) + 0.5) / grid
    for thing in scene.things:
        distance = np.hypot(middle[None, :] - thing.x, middle[:, None] - thing.y)
        labels[distance <= max(0.4 * thing.size, math.sqrt(0.5) / grid)] = thing.concept
    return labels
