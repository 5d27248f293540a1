"""Simulated scenes: cells are made into those of other things, and all else stays as it was seen."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maya_core.model.config import OVERVIEWS, PhotographTowerConfig
from maya_core.model.towers import photograph
from maya_core.model.towers.efficientnet_lite import FEATURES
from maya_core.model.towers.nanodet import CLASSES, Found
from maya_core.model.towers.photograph import MIDDLES, NOTICED, PARTS, PhotographTower, overviews
from tests.training.embedded.conftest import GRID, ROWS, WIDTH
from training.embedded import simulated
from training.embedded.__main__ import looks_of
from training.embedded.looking import NOTHING, UNKNOWN, lain_behind
from training.embedded.simulated import LOUDNESS, MURMUR, SCORES, Simulator, classifier, inside
from training.emoji_vqa.scenes import make_scene
from training.photo_vqa.scenes import COCO, Photograph, Piece, Scene, Seen, drawn
from training.photo_vqa.things import load_things
from training.recipes import MOST_THINGS

THINGS = slice(PARTS.stop, PARTS.stop + 4 * (CLASSES + 2))  # what a detector found, by quarters
COLOURS_AND_PLACES = slice(THINGS.stop, WIDTH)
PIECE = Piece(photograph=Photograph(file=Path("nowhere.jpg"), things=(), lists_all=False))
CAT = Seen(thing="cat", x=0.25, y=0.25, width=0.5, height=0.5)
ONE = Scene(pieces=(PIECE,), things=(CAT,))
TOGETHER = Scene(pieces=(PIECE, PIECE), things=(CAT, replace(CAT, x=0.75), replace(CAT, thing="piano", y=0.75)))
LISTED = replace(TOGETHER, lists_all=True, are_counted=True)


@pytest.fixture(scope="module")
def simulator():
    """On features by chance."""
    torch.manual_seed(0)
    mixed_LL = torch.randn(FEATURES, FEATURES) / FEATURES**0.5
    looks = {thing: (0.6 + torch.randn(400, FEATURES) @ mixed_LL).clamp(0, 6) for thing in ("cat", "piano", "person")}
    return Simulator.of(looks, classifier(), GRID)


@pytest.fixture
def features_PD():
    features_PD = torch.rand(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    features_PD[GRID**2 + OVERVIEWS + 3 :] = 0  # three things were found
    return features_PD


# --- which cells ---


def test_cells_of_a_thing_are_those_whose_middle_lies_in_its_box():
    grid = inside(CAT, 6, share=1.0).view(6, 6)
    assert grid[:3, :3].all()
    assert grid.sum() == 9
    assert inside(CAT, 6, share=0.5).view(6, 6).nonzero().tolist() == [[1, 1]]
    tiny = replace(CAT, x=0.99, y=0.4, width=0.01, height=0.01)
    assert inside(tiny, 6, share=1.0).nonzero().tolist() == [[2 * 6 + 5]]


# --- what is found lies where the tower would say it ---


@pytest.mark.parametrize(
    ("thing", "x", "y", "width", "height"),
    [("dog", 0.3, 0.71, 0.4, 0.2), ("person", 0.01, 0.99, 0.02, 0.02), ("toothbrush", 0.52, 0.49, 0.9, 0.8)],
)
def test_what_is_found_has_the_towers_own_layout(monkeypatch, simulator, thing, x, y, width, height):
    """Class, cell, quarter and size, as `PhotographTower` lays them out for a detector that finds the same box."""
    side, kind = 384, COCO.index(load_things()[thing].coco)
    box = [side * edge for edge in (x - width / 2, y - height / 2, x + width / 2, y + height / 2)]
    one = Found(torch.tensor([0.75]), torch.tensor([kind]), torch.tensor([box]))
    monkeypatch.setattr(photograph, "found", lambda maps, **_: one)
    monkeypatch.setattr(simulated, "SURER", 0)  # else what is small is hardly found
    monkeypatch.setattr(simulated, "BESIDE", 0)
    monkeypatch.setattr(simulated, "TWICE", 0)
    tower = PhotographTower(PhotographTowerConfig(most_things=MOST_THINGS, hidden_size=WIDTH)).eval()
    with torch.inference_mode():
        [seen_PD] = tower.features(torch.zeros(1, 3, side, side), layers=tower.config.num_hidden_layers)
    assert seen_PD.shape == (ROWS, WIDTH)
    made_PD = torch.zeros_like(seen_PD)
    seen = Seen(thing=thing, x=x, y=y, width=width, height=height)
    simulator._find(made_PD, seen, random.Random(0))
    assert (made_PD[:, THINGS] > 0).nonzero().tolist() == (seen_PD[:, THINGS] > 0).nonzero().tolist()
    sizes = slice(THINGS.start + 4 * CLASSES, THINGS.stop)
    torch.testing.assert_close(made_PD[:, sizes], seen_PD[:, sizes], rtol=0.16, atol=0)
    found = made_PD[:, THINGS.start : sizes.start]
    assert NOTICED <= found.max() <= SCORES[1]
    parts_P = made_PD[: GRID**2, FEATURES + kind]
    assert torch.equal(parts_P > 0, inside(seen, GRID, share=0.9))
    assert parts_P.max() == found.max()
    assert not made_PD[: GRID**2, COLOURS_AND_PLACES].any()
    behind_PD = made_PD[GRID**2 :]
    torch.testing.assert_close(behind_PD[OVERVIEWS:, -2:], seen_PD[GRID**2 + OVERVIEWS :, -2:])
    assert (behind_PD[:, PARTS] > 0).nonzero().tolist() == [[OVERVIEWS, kind]]
    wanted = list(load_things()).index(thing)
    assert lain_behind(LISTED, behind_PD).tolist() == lain_behind(LISTED, seen_PD[GRID**2 :]).tolist()
    found = lain_behind(LISTED, behind_PD)[OVERVIEWS:]
    assert found.tolist()[:2] == [wanted, UNKNOWN]


def test_the_smaller_a_thing_the_less_sure_it_is_found(simulator):
    scores = {}
    for side in (0.05, 0.3, 1.0):
        one = Seen(thing="dog", x=0.5, y=0.5, width=side, height=side)
        made = []
        for seed in range(60):
            simulator._find(made_PD := torch.zeros(ROWS, WIDTH), one, random.Random(seed))
            made.append(float(made_PD[: GRID**2, PARTS].max()))
        scores[side] = sum(made) / len(made)
    assert scores[0.05] < 0.3 < scores[0.3] < 0.55 < scores[1.0]


def test_of_a_thing_that_no_detector_knows_nothing_is_found(simulator):
    made_PD = torch.zeros(GRID**2, WIDTH)
    simulator._find(made_PD, replace(CAT, thing="piano"), random.Random(0))
    assert not made_PD.any()


# --- what becomes of a scene ---


def test_the_whole_is_what_is_alone_in_the_picture(features_PD):
    behind_ND, cat = features_PD[GRID**2 :], list(load_things()).index("cat")
    large, small = (replace(CAT, width=side, height=side) for side in (0.5, 0.4))
    for scene, wanted in (
        (replace(ONE, things=(large,)), cat),
        (replace(ONE, things=(small,)), UNKNOWN),
        (replace(ONE, things=(large, large)), UNKNOWN),
        (replace(ONE, things=(large,), lists_all=True), UNKNOWN),
        (replace(ONE, things=()), UNKNOWN),
    ):
        assert int(lain_behind(scene, behind_ND)[0]) == wanted
    assert lain_behind(ONE, behind_ND[:0]).tolist() == []


def test_a_part_of_the_picture_is_what_lies_there():
    cat, piano = (list(load_things()).index(thing) for thing in ("cat", "piano"))
    told = lain_behind(TOGETHER, torch.zeros(OVERVIEWS, WIDTH))
    empty = [NOTHING] * 3
    assert told.tolist() == [UNKNOWN, cat, NOTHING, cat, *empty, piano, NOTHING, NOTHING]


def varied(simulator, scene, features_PD, tries=200, **options):
    before_PD = features_PD.clone()
    made = [simulator.vary(scene, features_PD, random.Random(seed), **options) for seed in range(tries)]
    assert torch.equal(before_PD, features_PD)  # what was seen is not touched
    return made


def test_some_scenes_get_other_things_in_the_same_places(simulator, features_PD):
    changed = 0
    for scene, made_PD in varied(simulator, TOGETHER, features_PD):
        assert [(seen.x, seen.y, seen.width) for seen in scene.things] == [
            (seen.x, seen.y, seen.width) for seen in TOGETHER.things
        ]
        if scene is TOGETHER:
            assert torch.equal(made_PD, features_PD)
            continue
        changed += 1
        first, second, third = (seen.thing for seen in scene.things)
        assert first == second  # two cats become two of another thing
        assert {first, third} <= simulator.made.keys()
        behind_ND, made_PD, seen_PD = made_PD[GRID**2 :], made_PD[: GRID**2], features_PD[: GRID**2]
        known = {seen.thing for seen in scene.things if load_things()[seen.thing].coco}
        torch.testing.assert_close(behind_ND[:OVERVIEWS], overviews(made_PD, (GRID, GRID)))
        told = [number for number in lain_behind(scene, behind_ND)[OVERVIEWS:].tolist() if number != UNKNOWN]
        assert len(set(told)) <= 3 + len(known)
        scores = behind_ND[OVERVIEWS:, MIDDLES].amax(1).tolist()
        assert scores[: len(set(told))] == sorted(scores[: len(set(told))], reverse=True)
        outside_P = ~torch.stack([inside(seen, GRID, share=1.0) for seen in scene.things]).any(0)
        assert outside_P.sum() == 9
        assert torch.equal(made_PD[outside_P], seen_PD[outside_P])
        assert torch.equal(made_PD[:, COLOURS_AND_PLACES], seen_PD[:, COLOURS_AND_PLACES])
        assert (made_PD[~outside_P, :FEATURES] != seen_PD[~outside_P, :FEATURES]).any(1).all()
        assert made_PD[:, :FEATURES].min() >= 0
        assert made_PD[:, :FEATURES].max() <= 6
    assert 50 < changed < 110


def test_what_a_detector_found_of_the_thing_before_is_forgotten(simulator, features_PD):
    features_PD[:, THINGS] = 0.9
    cells_P = inside(CAT, GRID, share=1.0)
    kinds = Counter()
    for scene, made_PD in varied(simulator, ONE, features_PD):
        if scene is ONE:
            continue
        made_PD = made_PD[: GRID**2]
        name = load_things()[scene.things[0].thing].coco
        left_PK = made_PD[cells_P, THINGS].unflatten(1, (CLASSES + 2, 4)).amax(2)
        kinds[bool(name)] += 1
        allowed = {COCO.index(name), CLASSES, CLASSES + 1} if name else set()
        assert set((left_PK > 0).nonzero()[:, 1].tolist()) <= allowed
        parts_PK = made_PD[cells_P, PARTS]
        if name:
            parts_PK = parts_PK[:, [kind for kind in range(CLASSES) if kind != COCO.index(name)]]
        assert parts_PK.max() <= MURMUR
        assert (made_PD[~cells_P, THINGS] == 0.9).all()
    assert min(kinds.values()) >= 3


def test_something_unknown_is_no_thing_of_ours(simulator, features_PD):
    made = varied(simulator, ONE, features_PD, tries=100, unknown=0.5)
    unknown = [(scene, made_PD) for scene, made_PD in made if not scene.things]
    assert 30 < len(unknown) < 70
    for scene, made_PD in unknown:
        assert not scene.are_counted
        assert not torch.equal(made_PD[:, :FEATURES], features_PD[:, :FEATURES])
    assert all(scene.things for scene, _ in varied(simulator, TOGETHER, features_PD, tries=50, unknown=1.0))
    assert all(scene.things for scene, _ in varied(simulator, ONE, features_PD, tries=50))


def test_something_between_two_things_is_perhaps_the_one_it_is_nearer_to(simulator, features_PD):
    made = varied(simulator, ONE, features_PD, tries=100, between=0.5)
    doubtful = [(scene, made_PD) for scene, made_PD in made if scene.perhaps]
    assert 30 < len(doubtful) < 70
    nearer = 0
    for scene, made_PD in doubtful:
        assert [seen.thing for seen in scene.things] == [scene.perhaps]
        change_L = (made_PD - features_PD)[:, :FEATURES].abs().sum(0)
        assert change_L.max() > 0
        kind = load_things()[scene.perhaps].kind
        alike = {one: made_L for one, made_L in simulator.made.items() if load_things()[one].kind == kind}
        [cell] = inside(scene.things[0], GRID, share=0.0).nonzero()[:, 0].tolist()
        changed_L = (made_PD - features_PD)[cell, :FEATURES] + simulator.means.get(ONE.things[0].thing, 0)
        likeness = {one: float(torch.cosine_similarity(changed_L, made_L, dim=0)) for one, made_L in alike.items()}
        nearer += scene.perhaps in sorted(likeness, key=lambda one: -likeness[one])[:2]
    assert nearer > 0.8 * len(doubtful)
    assert not any(scene.perhaps for scene, _ in varied(simulator, TOGETHER, features_PD, tries=50, between=1.0))


def test_on_photographs_that_list_all_another_detectors_things_are_found(simulator, features_PD):
    found = 0
    for scene, made_PD in varied(simulator, LISTED, features_PD, tries=120):
        if scene is LISTED:
            assert torch.equal(made_PD, features_PD)
            continue
        found += 1
        assert scene.lists_all
        assert scene.are_counted
        assert all(load_things()[seen.thing].coco for seen in scene.things)
        heard_PK = made_PD[: GRID**2, THINGS].unflatten(1, (CLASSES + 2, 4)).amax(2)[:, :CLASSES]
        kinds = {COCO.index(load_things()[seen.thing].coco) for seen in scene.things}
        assert set((heard_PK > 0).nonzero()[:, 1].tolist()) <= kinds
        for seen in scene.things:
            left, top, right, bottom = seen.box
            assert min(left, top) >= 0
            assert max(right, bottom) <= 1
    assert 40 < found < 80


def test_a_drawing_stays_as_it_is(simulator, features_PD):
    scene = drawn(make_scene("train", 1))
    assert all(made is scene for made, _ in varied(simulator, scene, features_PD, tries=30, unknown=1.0))


def test_what_is_made_is_what_the_classifier_looks_for(simulator):
    """Of all that the classifier knows, nearly nothing scores as high on a thing's means as the thing."""
    classes_KL, things = classifier(), load_things()
    ranks = []
    for thing in list(simulator.made)[::5]:
        scores_K = classes_KL @ simulator.made[thing]
        own = scores_K[list(things[thing].imagenet)].max()
        ranks.append(int((scores_K > own).sum()))
    assert sum(rank == 0 for rank in ranks) > 0.8 * len(ranks)
    known = {number for thing in things.values() for number in thing.imagenet}
    assert len(simulator.others) == 1000 - len(known)


def test_a_cell_that_was_made_into_another_thing_is_taken_for_it(simulator):
    """By ImageNet's classifier, among its first five of a thousand: hardly ever before, and often after."""
    rng, heard, tries = random.Random(0), Counter(), 30
    torch.manual_seed(1)
    cells_P = inside(CAT, GRID, share=1.0)
    for _ in range(tries):
        thing = rng.choice(list(simulator.made))
        features_PD = torch.zeros(GRID**2, WIDTH)
        features_PD[:, :FEATURES] = (0.6 + 0.9 * torch.randn(GRID**2, FEATURES)).clamp(0, 6)
        made_PD = features_PD.clone()
        simulator._change(made_PD, CAT, sum(LOUDNESS) / 2 * simulator.made[thing], rng)
        for name, seen_PD in (("before", features_PD), ("after", made_PD)):
            first_five = (seen_PD[cells_P, :FEATURES] @ classifier().T).topk(5).indices
            own = torch.isin(first_five, torch.tensor(load_things()[thing].imagenet))
            heard[name] += int(own.any(1).sum())
    assert heard["before"] < 0.03 * tries * cells_P.sum()
    assert heard["after"] > 0.3 * tries * cells_P.sum(), heard


def test_looks_are_of_photographs_that_show_one_thing_large(seen):
    looks = looks_of(seen, GRID)
    wanted = Counter()
    for index in range(len(seen)):
        scene = seen.scenes[index]
        for thing in scene.things:
            if scene.pieces and not scene.lists_all and min(thing.width, thing.height) >= 0.45:
                wanted[thing.thing] += int(inside(thing, GRID, share=0.7).sum())
    assert {thing: len(cells) for thing, cells in looks.items()} == dict(wanted)
    assert {cells.shape[1] for cells in looks.values()} == {FEATURES}
