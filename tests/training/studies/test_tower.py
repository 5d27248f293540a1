"""The study of towers: pictures and names are brought together by either loss."""

import pytest
import torch

from maya_core.assets import asset_path
from maya_core.languages import CODES
from training.studies import tower
from training.studies.tower import Together, TowerPlan, make_tower
from training.studies.world import World, named

THINGS = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.studies.world.neighbours", lambda: {"cat2": {"fa": "گربه", "mr": "मांजर"}})
        yield World.of(asset_path("maya-tiny"), tmp_path_factory.mktemp("world"), None, None, scenes=1, held=1)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(tower, "THINGS", THINGS)
    monkeypatch.setattr(tower, "ROUNDS", 1)


@pytest.mark.parametrize(
    ("begins", "loss", "steps"),
    [("nothing", "sigmoid", 60), ("nothing", "softmax", 60), ("photographs", "softmax", 20)],
)
def test_names_are_learnt(few, world, tmp_path, begins, loss, steps):
    plan = TowerPlan(begins=begins, loss=loss, batch=THINGS, steps=steps, rate=3e-3)
    outcome = make_tower(plan, 0, asset_path("maya-tiny"), world, tmp_path)
    asked = THINGS * len(tower.VENDORS)
    assert {code: len(figures) for code, figures in outcome.right.items()} == dict.fromkeys(CODES, asked)
    share = sum(figures.count("1") for figures in outcome.right.values()) / asked / len(CODES)
    assert share > 1.8 / THINGS  # by chance 1 / THINGS
    assert (outcome.trained > outcome.connector + 2) == (begins == "nothing")


def test_both_losses_are_as_their_papers_write_them():
    """SigLIP's equation 1 and CLIP's, on likenesses of three pairs."""
    likeness = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -2.0], [1.0, 0.0, 3.0]])
    together = Together(TowerPlan(), features=4, words=4)
    total = sum(
        torch.log1p(torch.exp(-(1 if i == j else -1) * (likeness[i, j] - 10))) for i in range(3) for j in range(3)
    )
    assert together.loss(likeness, "sigmoid").item() == pytest.approx(total.item() / 3, rel=1e-5)
    over_names = -likeness.log_softmax(1).diag().mean()
    over_pictures = -likeness.log_softmax(0).diag().mean()
    assert together.loss(likeness, "softmax").item() == pytest.approx((over_names + over_pictures).item() / 2)


def test_every_thing_is_drawn_by_every_vendor(world):
    scenes = named()
    assert len(world.named) == len(scenes) == len(tower.VENDORS)
    drawings = [scenes[index].drawing.things[0] for index in range(len(scenes))]
    assert {one.vendor for one in drawings} == {*tower.VENDORS}
    assert {one.concept for one in drawings} == {scenes.concept(0)}
