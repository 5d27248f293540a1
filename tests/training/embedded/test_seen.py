"""Seen scenes: what the tower sees is kept, and a run that was cut goes on where it stopped."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from maya_core.model.processor import ImagePreparation
from tests.training.embedded import conftest
from tests.training.embedded.conftest import GRID, ROWS, WIDTH
from training.embedded.__main__ import tower_of, untrained
from training.embedded.seen import COLOURS, FEATURES, SeenScenes
from training.photo_vqa.scenes import Scenes, photographs

PREPARATION = ImagePreparation(size=48)
SHAPE = (GRID**2, 3)


class Tower:
    """Sees the mean colour of each cell; counts what it has seen."""

    def __init__(self):
        self.pictures = 0

    def vision_features(self, pixels_1CHW):
        self.pictures += len(pixels_1CHW)
        return adaptive_avg_pool2d(pixels_1CHW.float(), (GRID, GRID)).flatten(2).transpose(1, 2)


@pytest.fixture
def scenes(folders):
    return Scenes(photographs(folders / "caltech", folders / "coco", "train"))


def fill(seen, **options):
    tower = Tower()
    seen.fill(tower, PREPARATION, workers=0, **options)
    return tower.pictures


def test_scenes_and_features_come_back_as_they_were_seen(scenes, tmp_path):
    seen, done = SeenScenes(scenes, tmp_path / "run" / "seen", SHAPE, 70), []
    assert fill(seen, on_done=done.append) == len(seen) == 70
    assert done == [64]
    for index in (0, 7, 33, 69):
        picture = scenes[index].render()
        wanted_PD = Tower().vision_features(PREPARATION.pixels(picture)[None])[0]
        torch.testing.assert_close(seen.features(index), wanted_PD.half())
        assert seen.scene(index) == scenes[index].with_colours(picture)
        assert seen.scene(index).drawing == scenes[index].drawing
    assert any(thing.colour for index in range(70) for thing in seen.scene(index).things)
    features_PD = seen.features(3)
    features_PD += 1  # a copy: what is kept stays
    assert not torch.equal(features_PD, seen.features(3))
    assert fill(seen) == 0


class Cut(Exception):
    pass


class UntilCut:
    """Scenes, of which number `last` is the end of the run."""

    def __init__(self, scenes, last):
        self.scenes, self.last = scenes, last

    def __getitem__(self, index):
        if index == self.last:
            raise Cut
        return self.scenes[index]


@pytest.mark.parametrize("half_a_line", [False, True])
def test_a_run_that_was_cut_goes_on_where_it_stopped(scenes, tmp_path, half_a_line):
    """Also where the machine stopped in the middle of a line."""
    with pytest.raises(Cut):
        fill(SeenScenes(UntilCut(scenes, 5), tmp_path / "cut", SHAPE, 12))
    lines = tmp_path / "cut" / COLOURS
    assert lines.read_text().count("\n") == 5
    if half_a_line:
        lines.write_bytes(lines.read_bytes()[:-4])
    seen = SeenScenes(scenes, tmp_path / "cut", SHAPE, 12)
    assert fill(seen) == (8 if half_a_line else 7)
    whole = SeenScenes(scenes, tmp_path / "whole", SHAPE, 12)
    fill(whole)
    for file in (COLOURS, FEATURES):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert [seen.scene(index) for index in range(12)] == [whole.scene(index) for index in range(12)]


def test_more_scenes_may_be_seen_later_and_fewer_read(scenes, tmp_path):
    fill(SeenScenes(scenes, tmp_path, SHAPE, 6))
    few, many = SeenScenes(scenes, tmp_path, SHAPE, 4), SeenScenes(scenes, tmp_path, SHAPE, 9)
    assert fill(few) == 0
    assert fill(many) == 3
    assert torch.equal(few.features(2), many.features(2))
    assert few.scene(3) == many.scene(3)
    assert many.features(8).any()


def test_workers_see_the_same(scenes, tmp_path):
    seen = [SeenScenes(scenes, tmp_path / str(workers), SHAPE, 6) for workers in (0, 2)]
    for workers, one in zip((0, 2), seen, strict=True):
        one.fill(Tower(), PREPARATION, workers=workers)
    assert all(torch.equal(seen[0].features(index), seen[1].features(index)) for index in range(6))


@pytest.mark.long(10)
def test_the_photograph_tower_sees_the_same_whether_kept_or_not(scenes, tmp_path):
    """But for the rounding of the numbers it is kept in."""
    model, processor = untrained(512, conftest.TOWER)
    seen = SeenScenes(scenes, tmp_path, (ROWS, WIDTH), 2)
    seen.fill(model, processor.preparation, workers=0)
    for index in range(2):
        with torch.inference_mode():
            [wanted_PD] = model.vision_features(processor.preparation.pixels(scenes[index].render())[None])
        likeness = np.corrcoef(wanted_PD.flatten().numpy(), seen.features(index).float().flatten().numpy())[0, 1]
        assert likeness > 0.99
    stored = tower_of(conftest.TOWER)
    assert all(torch.equal(stored[name], tensor) for name, tensor in model.vision_tower.state_dict().items())
