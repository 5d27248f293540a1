"""What the resting tower sees of the scenes of photo_vqa: computed once, read in every stage after that.

Beside the features lies what the scenes' pictures show of colours, for a scene that is made again does not know them.

Shape letters: P cells of a picture, D vision width.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maya_core.hardware import cores, has_bfloat16
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation
from training.photo_vqa.scenes import Scene, Scenes

FEATURES, COLOURS = "features.bin", "colours.jsonl"
Colours = dict[str, Any]  # of one scene: `ground`, and `things` in their order


@dataclass(frozen=True)
class SeenScenes:
    """Scenes 0 to `size` of `scenes`, with the features of each. Workers get a copy: it holds no array."""

    scenes: Scenes | Sequence[Scene]
    folder: Path
    shape: tuple[int, int]
    size: int

    def __len__(self) -> int:
        return self.size

    def scene(self, index: int) -> Scene:
        """As it was made, with its colours."""
        scene, colours = self.scenes[index], _colours(self.folder)[index]
        things = tuple(
            replace(seen, colour=colour) for seen, colour in zip(scene.things, colours["things"], strict=True)
        )
        return replace(scene, things=things, ground=colours["ground"])

    def features(self, index: int) -> Tensor:
        """(P, D) in float16."""
        return torch.from_numpy(_stored(self.folder, "r", (self.size, *self.shape))[index].copy())

    def fill(
        self,
        model: MayaForConditionalGeneration,
        preparation: ImagePreparation,
        *,
        workers: int,
        on_done: Callable[[int], None] = lambda scenes: None,
    ) -> None:
        """See what has not been seen yet. workers: processes, of which no more are started than there are cores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = self.folder / COLOURS
        done = _whole_lines(lines)
        if done == self.size:
            return
        stored = _stored(self.folder, "r+" if done else "w+", (self.size, *self.shape))
        unseen = _Unseen(self.scenes, model, preparation, done, self.size)
        workers = min(workers, cores())
        _colours.cache_clear()
        with lines.open("a", encoding="utf-8") as file:
            for number, (features_PD, colours) in enumerate(DataLoader(unseen, batch_size=None, num_workers=workers)):
                stored[done + number] = features_PD
                file.write(json.dumps(colours) + "\n")
                if number % 64 == 63:
                    stored.flush()
                    file.flush()
                    on_done(done + number + 1)
            stored.flush()


def _whole_lines(file: Path) -> int:
    """How many there are; half of one, which is left of a run that was cut, is taken away."""
    file.touch()
    text = file.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if len(whole) < len(text):
        file.write_bytes(whole)
    return whole.count(b"\n")


@cache
def _stored(folder: Path, mode: Any, shape: tuple[int, int, int]) -> np.memmap[Any, np.dtype[np.float16]]:
    return np.memmap(folder / FEATURES, np.float16, mode, shape=shape)


@cache
def _colours(folder: Path) -> list[Colours]:
    return [json.loads(line) for line in (folder / COLOURS).read_text("utf-8").splitlines()]


class _Unseen(Dataset[tuple[NDArray[np.float16], Colours]]):
    """Each scene is drawn and seen in a worker, in one thread: so the tower is quickest."""

    def __init__(
        self,
        scenes: Scenes | Sequence[Scene],
        model: MayaForConditionalGeneration,
        preparation: ImagePreparation,
        first: int,
        size: int,
    ) -> None:
        self.scenes, self.model, self.preparation, self.first, self.size = scenes, model, preparation, first, size

    def __len__(self) -> int:
        return max(0, self.size - self.first)

    def __getitem__(self, number: int) -> tuple[NDArray[np.float16], Colours]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        scene = self.scenes[self.first + number]
        picture = scene.render()
        scene = scene.with_colours(picture)
        pixels_1CHW = self.preparation.pixels(picture)[None]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
            [features_PD] = self.model.vision_features(pixels_1CHW)
        return features_PD.half().numpy(), {"ground": scene.ground, "things": [seen.colour for seen in scene.things]}
