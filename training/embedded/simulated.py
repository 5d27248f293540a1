"""Scenes whose photographs were never taken: cells of one thing made into cells of another.

A classifier's weights for a class are what its features differ by, divided by how they vary: weights times covariance give
back the mean features of a class of which there is no photograph. Everything else in a cell stays that of a real one.

Shape letters: P cells, D vision width, L features of the classifier, K its classes, T things.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor

from maya_core.assets import asset_path
from maya_core.model.towers.efficientnet_lite import FEATURES
from maya_core.model.towers.nanodet import CLASSES
from training.photo_vqa.scenes import COCO, Scene, Seen
from training.photo_vqa.things import load_things

PARTS = slice(FEATURES, FEATURES + CLASSES)  # of a cell's features: which of COCO's classes have a part there
LOUDNESS = (1.4, 2.4)  # of what makes a thing: means from weights are half as long as real ones
NEARER = (0.5, 0.62)  # of what looks like two things, the share of the one that it perhaps is
PORTRAITS = 0.4  # of what a detector finds: one thing, as large as people take pictures of it
SMALL, LARGE = (0.08, 0.5), (0.5, 1.0)  # shares of a picture's sides
SWAPPED, FOUND = 0.4, 0.3  # of scenes: whose things become others; whose things are another detector's


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
        if len(scene.things) == 1 and not scene.lists_all:
            chance = rng.random()
            if chance < unknown:
                return self._unknown(scene, features_PD.float().clone(), rng)
            if chance < unknown + between:
                return self._between(scene, features_PD.float().clone(), rng)
        chance = rng.random()
        if chance < FOUND and (scene.lists_all or not scene.things):
            return self._found(scene, features_PD.float().clone(), rng)
        if chance < SWAPPED and self.made and scene.things and not scene.lists_all:
            return self._swapped(scene, features_PD.float().clone(), rng)
        return scene, features_PD

    def _swapped(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> tuple[Scene, Tensor]:
        others = {thing: rng.choice(list(self.made)) for thing in {seen.thing for seen in scene.things}}
        loudness = rng.uniform(*LOUDNESS)
        for seen in scene.things:
            self._change(features_PD, seen, loudness * self.made[others[seen.thing]])
            self._find(features_PD, replace(seen, thing=others[seen.thing]), rng)
        things = tuple(replace(seen, thing=others[seen.thing]) for seen in scene.things)
        return replace(scene, things=things), features_PD

    def _unknown(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> tuple[Scene, Tensor]:
        self._change(features_PD, scene.things[0], rng.uniform(*LOUDNESS) * rng.choice(self.others))
        return replace(scene, things=(), are_counted=False), features_PD

    def _between(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> tuple[Scene, Tensor]:
        """Perhaps one thing, and nearly as much another of its kind."""
        one = rng.choice(list(self.made))
        alike = [thing for thing in self.made if load_things()[thing].kind == load_things()[one].kind and thing != one]
        share = rng.uniform(*NEARER)
        made_L = share * self.made[one] + (1 - share) * self.made[rng.choice(alike or [one])]
        self._change(features_PD, scene.things[0], rng.uniform(*LOUDNESS) * made_L)
        return replace(scene, things=(replace(scene.things[0], thing=one),), perhaps=one), features_PD

    def _change(self, features_PD: Tensor, seen: Seen, made_L: Tensor) -> None:
        """The cells of a thing look like another, and no detector has found anything there."""
        inside_P = inside(seen, self.grid, share=1.0)
        change_L = made_L - self.means.get(seen.thing, torch.zeros(FEATURES))
        features_PD[inside_P, :FEATURES] = (features_PD[inside_P, :FEATURES] + change_L).clamp(0, 6)
        self._forget(features_PD, inside_P)

    def _found(self, scene: Scene, features_PD: Tensor, rng: random.Random) -> tuple[Scene, Tensor]:
        """What a detector would find of things that lie anywhere."""
        self._forget(features_PD, torch.ones(len(features_PD), dtype=torch.bool))
        known = [thing for thing in load_things().values() if thing.coco]
        things: list[Seen] = []
        is_portrait = rng.random() < PORTRAITS
        for _ in range(1 if is_portrait else rng.choice((1, 1, 2, 2, 3))):
            thing = "person" if rng.random() < 0.25 else rng.choice(known).id
            for _ in range(1 if is_portrait else rng.choices((1, 2, 3, 4, 5), weights=(10, 7, 6, 5, 2))[0]):
                width, height = (rng.uniform(*(LARGE if is_portrait else SMALL)) for _ in range(2))
                x, y = rng.uniform(width / 2, 1 - width / 2), rng.uniform(height / 2, 1 - height / 2)
                seen = Seen(thing=thing, x=x, y=y, width=width, height=height)
                if any(abs(x - one.x) < 0.1 and abs(y - one.y) < 0.1 for one in things):
                    continue
                things.append(seen)
                if thing in self.made:
                    inside_P = inside(seen, self.grid, share=0.9)
                    louder = features_PD[inside_P, :FEATURES] + rng.uniform(0.3, 1.5) * self.made[thing]
                    features_PD[inside_P, :FEATURES] = louder.clamp(0, 6)
                self._find(features_PD, seen, rng)
        return replace(scene, things=tuple(things), lists_all=True, are_counted=True), features_PD

    def _forget(self, features_PD: Tensor, inside_P: Tensor) -> None:
        """All that a detector has found in cells."""
        features_PD[inside_P, PARTS] *= 0.1
        for number in range(CLASSES + 2):
            features_PD[inside_P, PARTS.stop + 4 * number : PARTS.stop + 4 * number + 4] = 0

    def _find(self, features_PD: Tensor, seen: Seen, rng: random.Random) -> None:
        """What a detector finds of a thing of COCO's."""
        name = load_things()[seen.thing].coco
        if not name:
            return
        kind, score = COCO.index(name), rng.uniform(0.3, 0.95)
        inside_P = inside(seen, self.grid, share=0.9)
        parts_P = score * (0.3 + 0.7 * torch.rand(int(inside_P.sum())))
        features_PD[inside_P, FEATURES + kind] = torch.maximum(features_PD[inside_P, FEATURES + kind], parts_P)
        column, row = (min(2 * self.grid - 1, max(0, int(share * 2 * self.grid))) for share in (seen.x, seen.y))
        cell, quarter = row // 2 * self.grid + column // 2, row % 2 * 2 + column % 2
        first = PARTS.stop + quarter
        features_PD[cell, first + 4 * kind] = score
        features_PD[cell, first + 4 * CLASSES] = seen.width
        features_PD[cell, first + 4 * (CLASSES + 1)] = seen.height


def inside(seen: Seen, grid: int, *, share: float) -> Tensor:
    """(grid * grid,) true for cells whose middle lies in that share of a thing's box, and for the one in its middle."""
    middle = (torch.arange(grid) + 0.5) / grid
    across = (middle - seen.x).abs() <= share * seen.width / 2
    down = (middle - seen.y).abs() <= share * seen.height / 2
    cells = down[:, None] & across[None]
    row, column = (min(grid - 1, max(0, int(place * grid))) for place in (seen.y, seen.x))
    cells[row, column] = True
    return cells.flatten()


@cache
def classifier() -> Tensor:
    """(K, L): ImageNet's classes on the tower's features, as published beside it."""
    from safetensors import safe_open

    with safe_open(asset_path("photograph-tower") / "imagenet.safetensors", framework="pt") as stored:
        weight: Tensor = stored.get_tensor("weight").float()
    return weight
