"""Scenes whose photographs were never taken: cells of one thing made into cells of another.

A classifier's weights for a class are what its features differ by, divided by how they vary: weights times covariance give
back the mean features of a class of which there is no photograph. Everything else in a cell stays that of a real one.

Shape letters: P cells, behind which overviews and what was found may stand, N things that were found, D vision width, L
features of the classifier, K its classes, T things.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from maya_core.assets import asset_path
from maya_core.model.config import OVERVIEWS
from maya_core.model.towers.efficientnet_lite import FEATURES
from maya_core.model.towers.nanodet import CLASSES
from maya_core.model.towers.photograph import (
    FAINT,
    FINER,
    NOTICED,
    PARTS,
    as_cell,
    cells_in,
    in_order,
    overviews,
    tell,
)
from training.photo_vqa.scenes import COCO, Scene, Seen
from training.photo_vqa.things import load_things

LOUDNESS = (1.4, 2.4)  # of what makes a thing: means from weights are half as long as real ones
NEARER = (0.5, 0.62)  # of what looks like two things, the share of the one that it perhaps is
ALIKE = (69, 16, 11, 5, 4)  # how often there are one, two, ... of a thing: as on the photographs that train
PORTRAITS = 0.4  # of what a detector finds: one thing, as large as people take pictures of it
SMALL, LARGE = (0.06, 0.5), (0.5, 1.0)  # shares of a picture's sides
SWAPPED, FOUND = 0.4, 0.5  # of scenes: whose things become others; whose things are another detector's
# What the tower's detector makes of COCO's photographs (training/LOG.md, 2026-11-26 and 27).
# Score of a thing that fills the picture; more by the logarithm of its share; how it varies.
SURE, SURER, SPREAD = 0.72, 0.12, 0.19
SCORES = (0.02, 0.95)
BESIDE = 0.5  # of middles, that lie in a quarter beside the true one
MURMUR = 0.12  # most that hardly ever is a thing
TWICE = 0.6  # of what is found, that is found once more, less surely
ALARMS, ALARMING = 8.7, 0.095  # classes that seem to be there and are not; how much more than FAINT; both in the mean
MOST_ALARMS, MOST_ALARMING = 30, 0.6
ROOM = 80  # for what is found, before the surest are taken


@dataclass(frozen=True)
class Simulator:
    """means: (L,) for things of which there are photographs; made: (L,) for things that the classifier knows; others: (L,)
    for classes of its that are none of our things."""

    means: Mapping[str, Tensor]
    made: Mapping[str, Tensor]
    others: Sequence[Tensor]
    grid: int

    @classmethod
    def of(cls, looks: Mapping[str, Tensor], classifier_KL: Tensor, grid: int) -> "Simulator":
        """looks: of things in photographs, the features of their cells (cells, L)."""
        every_CL = torch.cat(list(looks.values()))
        mean_L, spread_LL = every_CL.mean(0), torch.cov(every_CL.T)
        weights_KL = classifier_KL - classifier_KL.mean(0)
        things = load_things().values()
        made = {thing.id: spread_LL @ weights_KL[list(thing.imagenet)].mean(0) for thing in things if thing.imagenet}
        known = {number for thing in things for number in thing.imagenet}
        others = [spread_LL @ weights_KL[number] for number in range(len(weights_KL)) if number not in known]
        return cls({thing: cells.mean(0) - mean_L for thing, cells in looks.items()}, made, others, grid)

    def vary(
        self, scene: Scene, features_PD: Tensor, rng: random.Random, *, unknown: float = 0.0, between: float = 0.0
    ) -> tuple[Scene, Tensor]:
        """A scene and its features; by chance with other things than its pictures show. unknown, between: of scenes of one
        thing, that become something that is none of ours, or something between two of ours."""
        if not scene.pieces:
            return scene, features_PD
        change = self._way(scene, rng, unknown, between)
        if change is None:
            return scene, features_PD
        before_PD = features_PD.float()
        made_PD = torch.cat([before_PD, before_PD.new_zeros(ROOM, before_PD.shape[1])])
        changed = change(scene, made_PD, rng)
        cells_PD, things_ND = made_PD[: self.grid**2], self._found_in(made_PD)
        things_ND = in_order(things_ND, len(things_ND) - ROOM)
        return changed, torch.cat([cells_PD, overviews(cells_PD, (self.grid, self.grid)), things_ND])

    def _found_in(self, features_PD: Tensor) -> Tensor:
        """What was found, as it stands behind the cells and overviews."""
        return features_PD[self.grid**2 + OVERVIEWS :]

    def _way(
        self, scene: Scene, rng: random.Random, unknown: float, between: float
    ) -> Callable[[Scene, Tensor, random.Random], Scene] | None:
        """How a scene is changed, if it is."""
        if len(scene.things) == 1 and not scene.lists_all:
            chance = rng.random()
            if chance < unknown:
                return self._unknown
            if chance < unknown + between:
                return self._between
        chance = rng.random()
        if chance < FOUND and (scene.lists_all or not scene.things):
            return self._found
        if chance < SWAPPED and self.made and scene.things and not scene.lists_all:
            return self._swapped
        return None

    def _swapped(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> Scene:
        others = {thing: rng.choice(list(self.made)) for thing in dict.fromkeys(seen.thing for seen in scene.things)}
        loudness = rng.uniform(*LOUDNESS)
        for seen in scene.things:
            self._change(features_PD, seen, loudness * self.made[others[seen.thing]], rng)
            self._find(features_PD, replace(seen, thing=others[seen.thing]), rng)
        things = tuple(replace(seen, thing=others[seen.thing]) for seen in scene.things)
        return replace(scene, things=things)

    def _unknown(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> Scene:
        self._change(features_PD, scene.things[0], rng.uniform(*LOUDNESS) * rng.choice(self.others), rng)
        return replace(scene, things=(), are_counted=False)

    def _between(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> Scene:
        """Perhaps one thing, and nearly as much another of its kind."""
        one = rng.choice(list(self.made))
        alike = [thing for thing in self.made if load_things()[thing].kind == load_things()[one].kind and thing != one]
        share = rng.uniform(*NEARER)
        made_L = share * self.made[one] + (1 - share) * self.made[rng.choice(alike or [one])]
        self._change(features_PD, scene.things[0], rng.uniform(*LOUDNESS) * made_L, rng)
        return replace(scene, things=(replace(scene.things[0], thing=one),), perhaps=one)

    def _change(self, features_PD: Tensor, seen: Seen, made_L: Tensor, rng: random.Random) -> None:
        """The cells of a thing look like another, and no detector has found anything there."""
        inside_P = inside(seen, self.grid, share=1.0)
        change_L = made_L - self.means.get(seen.thing, torch.zeros(FEATURES))
        cells_PD = features_PD[: self.grid**2]
        cells_PD[inside_P, :FEATURES] = (cells_PD[inside_P, :FEATURES] + change_L).clamp(0, 6)
        self._forget(features_PD, inside_P, rng)

    def _found(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> Scene:
        """What a detector would find of things that lie anywhere."""
        self._forget(features_PD, torch.ones(self.grid**2, dtype=torch.bool), rng)
        known = [thing for thing in load_things().values() if thing.coco]
        self._alarm(features_PD, rng)
        things: list[Seen] = []
        is_portrait = rng.random() < PORTRAITS
        for _ in range(1 if is_portrait else rng.choice((1, 2, 2, 3, 3))):
            thing = "person" if rng.random() < 0.25 else rng.choice(known).id
            for _ in range(1 if is_portrait else rng.choices(range(1, 6), weights=ALIKE)[0]):
                width, height = (rng.uniform(*(LARGE if is_portrait else SMALL)) for _ in range(2))
                x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
                seen = Seen(thing=thing, x=x, y=y, width=width, height=height)
                if any(abs(x - one.x) < 0.1 and abs(y - one.y) < 0.1 for one in things):
                    continue
                things.append(seen)
                if thing in self.made:
                    inside_P, cells_PD = inside(seen, self.grid, share=0.9), features_PD[: self.grid**2]
                    louder = cells_PD[inside_P, :FEATURES] + rng.uniform(0.3, 1.5) * self.made[thing]
                    cells_PD[inside_P, :FEATURES] = louder.clamp(0, 6)
                self._find(features_PD, seen, rng)
        return replace(scene, things=tuple(things), lists_all=True, are_counted=True)

    def _alarm(self, features_PD: Tensor, rng: random.Random) -> None:
        """What a detector seems to find and is not there, some of it more than once."""
        for _ in range(min(MOST_ALARMS, int(rng.expovariate(1 / ALARMS)))):
            kind, score = rng.randrange(CLASSES), min(MOST_ALARMING, FAINT + rng.expovariate(1 / ALARMING))
            while score >= FAINT:
                x, y = rng.random(), rng.random()
                alarm = Seen(thing="", x=x, y=y, width=rng.uniform(0.05, 0.4), height=rng.uniform(0.05, 0.4))
                cell_D = features_PD[int(y * self.grid) * self.grid + int(x * self.grid)]
                cell_D[FEATURES + kind] = max(score, float(cell_D[FEATURES + kind]))
                self._tell(features_PD, alarm, kind, score)
                score *= rng.uniform(0.5, 1) if rng.random() < TWICE else 0

    def _forget(self, features_PD: Tensor, inside_P: Tensor, rng: random.Random) -> None:
        """All that a detector has found in cells, but for a murmur."""
        cells_PD, things_ND = features_PD[: self.grid**2], self._found_in(features_PD)
        murmur_K = MURMUR * _random(CLASSES, rng) ** 2
        cells_PD[inside_P, PARTS] = torch.minimum(cells_PD[inside_P, PARTS], murmur_K)
        cells_PD[inside_P, PARTS.stop : PARTS.stop + 4 * (CLASSES + 2)] = 0
        column_N, row_N = ((things_ND[:, -2:] + 1) / 2 * self.grid).long().clamp(0, self.grid - 1).T
        things_ND[inside_P[row_N * self.grid + column_N]] = 0

    def _find(self, features_PD: Tensor, seen: Seen, rng: random.Random) -> None:
        """What a detector finds of a thing of COCO's: the smaller, the less sure."""
        name = load_things()[seen.thing].coco
        if not name:
            return
        kind = COCO.index(name)
        usual = SURE + SURER * math.log(max(seen.width * seen.height, 1e-4))
        score = min(SCORES[1], max(SCORES[0], rng.gauss(usual, SPREAD)))
        self._tell(features_PD, seen, kind, score)
        again = score
        while rng.random() < TWICE:
            part = replace(seen, width=rng.uniform(0.4, 0.7) * seen.width, height=rng.uniform(0.4, 0.9) * seen.height)
            again *= rng.uniform(0.2, 0.8)
            self._tell(features_PD, part, kind, again)
        inside_P, cells_PD = inside(seen, self.grid, share=0.9), features_PD[: self.grid**2]
        parts_P = score * (0.3 + 0.7 * _random(int(inside_P.sum()), rng))
        parts_P[rng.randrange(len(parts_P))] = score
        cells_PD[inside_P, FEATURES + kind] = torch.maximum(cells_PD[inside_P, FEATURES + kind], parts_P)
        if score < NOTICED:
            return
        column, row = (int(share * FINER * self.grid) for share in (seen.x, seen.y))
        if rng.random() < BESIDE:
            column, row = column + rng.randint(-1, 1), row + rng.randint(-1, 1)
        column, row = (min(FINER * self.grid - 1, max(0, place)) for place in (column, row))
        width, height = (min(1.0, side * rng.uniform(0.85, 1.15)) for side in (seen.width, seen.height))
        tell(cells_PD[row // FINER * self.grid + column // FINER], row, column, kind, score, (width, height))

    def _tell(self, features_PD: Tensor, seen: Seen, kind: int, score: float) -> None:
        """What was found also stands behind the cells, as long as there is room."""
        things_ND = self._found_in(features_PD)
        taken_N = things_ND[:, PARTS].any(1)
        free = int(taken_N.int().argmin())
        if score < FAINT or taken_N[free]:
            return
        left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in seen.box)
        cells_PD = features_PD[: self.grid**2]
        things_ND[free] = as_cell(cells_PD, (self.grid, self.grid), kind, score, (left, top, right, bottom))


def _random(number: int, rng: random.Random) -> Tensor:
    """(number,): 0 to 1, the same for the same `rng`."""
    return torch.rand(number, generator=torch.Generator().manual_seed(rng.getrandbits(32)))


def inside(seen: Seen, grid: int, *, share: float) -> Tensor:
    """(grid * grid,) true for cells whose middle lies in that share of a thing's box, and for the one in its middle."""
    return cells_in((grid, grid), replace(seen, width=share * seen.width, height=share * seen.height).box)


@cache
def classifier() -> Tensor:
    """(K, L): ImageNet's classes on the tower's features, as published beside it."""
    from safetensors import safe_open

    with safe_open(asset_path("photograph-tower") / "imagenet.safetensors", framework="pt") as stored:
        weight: Tensor = stored.get_tensor("weight").float()
    return weight
