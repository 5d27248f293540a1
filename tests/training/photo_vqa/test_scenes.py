"""Scenes: which photographs and drawings they show, where their things lie, and which colours they have."""

import random
import shutil
from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maya_core.errors import DataError
from training.emoji_vqa import scenes as emoji
from training.emoji_vqa.vocabulary import load_vocabulary
from training.photo_vqa import scenes as photo
from training.photo_vqa.colours import main_colour, named
from training.photo_vqa.phrases import COLOURS
from training.photo_vqa.scenes import (
    SPLITS,
    Photograph,
    Piece,
    Scene,
    Scenes,
    Seen,
    alone,
    caltech,
    coco,
    drawn,
    mosaic,
    pasted,
    photographs,
)
from training.photo_vqa.things import load_things

# --- photographs ---


def test_photographs_are_read_from_both_folders(folders):
    found = list(caltech(folders / "caltech"))
    assert {one.file.parent.name: [seen.thing for seen in one.things] for one in found} == {
        "accordion": ["accordion"], "dalmatian": ["dalmatian"], "elephant": ["elephant"], "Faces": ["person"],
        "BACKGROUND_Google": [], "snoopy": []}  # fmt: skip
    assert not any(one.lists_all for one in found)
    labelled = {one.file.stem: one for one in coco(folders / "coco")}
    assert [(seen.thing, seen.x, seen.cell) for seen in labelled["000000000009"].things] == [
        ("dog", 0.25, 3), ("cat", 0.75, 5)]  # fmt: skip
    assert labelled["000000000036"].things == ()
    assert all(one.lists_all for one in labelled.values())


def test_a_photograph_stays_in_its_split_whatever_else_is_there(folders, tmp_path):
    every = photographs(folders / "caltech", folders / "coco", "train")
    splits = {split: photographs(folders / "caltech", folders / "coco", split) for split in SPLITS}
    assert sum(map(len, splits.values())) == len({one.file for some in splits.values() for one in some}) == 80
    assert all(splits.values())
    assert splits["train"] == every
    assert len(splits["train"]) > len(splits["test"]) + len(splits["calibration"])
    shutil.copytree(folders / "caltech", tmp_path / "elsewhere")
    moved = {one.file.relative_to(tmp_path / "elsewhere"): one.split for one in caltech(tmp_path / "elsewhere")}
    for file in sorted(moved)[::2]:
        (tmp_path / "elsewhere" / file).unlink()
    left = list(caltech(tmp_path / "elsewhere"))
    assert len(left) == len(moved) // 2
    assert all(moved[one.file.relative_to(tmp_path / "elsewhere")] == one.split for one in left)


def test_one_folder_is_enough_and_none_is_told(folders):
    assert len(photographs(folders / "caltech", None, "test")) < len(list(caltech(folders / "caltech")))
    assert all(one.lists_all for one in photographs(None, folders / "coco", "train"))
    with pytest.raises(DataError, match="There are no photographs; "):
        Scenes(photographs(None, None, "train"))
    with pytest.raises(
        DataError, match="There are no photographs in .*neither; training/photo_vqa/README.md says where"
    ):
        photographs(folders / "caltech", folders / "neither", "train")


# --- where things lie ---

BOX = (0.3, 0.2, 0.4, 0.3)  # left, top, width, height of the red thing in the picture below


@pytest.fixture(scope="module")
def red_on_white(tmp_path_factory):
    """A photograph of 400 by 300 px, white, with something red in a box; its file is lossless."""
    pixels = np.full((300, 400, 3), 255, np.uint8)
    pixels[60:150, 120:280] = (255, 0, 0)
    file = tmp_path_factory.mktemp("red") / "red.png"
    Image.fromarray(pixels).save(file)
    left, top, width, height = BOX
    seen = Seen(thing="ball", x=left + width / 2, y=top + height / 2, width=width, height=height)
    return Photograph(file=file, things=(seen,), lists_all=False)


def red_box(picture):
    """left, top, right, bottom of what is red, in shares of the picture; none where nothing is."""
    red = np.asarray(picture).astype(int)
    is_red = (red[..., 0] > 180) & (red[..., 1] < 120)
    if not is_red.any():
        return None
    (rows, columns), (height, width) = np.nonzero(is_red), is_red.shape
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_box_moves_with_its_picture(red_on_white, data):
    """What is red after a photograph was mirrored, cut and laid somewhere lies where the thing is said to lie."""
    share = st.floats(0, 1)
    sides = [data.draw(st.floats(0.4, 1)) for _ in range(2)]
    crop = (*(data.draw(share) * (1 - side) for side in sides), *sides)
    sizes = [data.draw(st.floats(0.3, 0.9)) for _ in range(2)]
    box = (*(data.draw(share) * (1 - size) for size in sizes), *sizes)
    piece = Piece(photograph=red_on_white, box=box, crop=crop, flipped=data.draw(st.booleans()))
    things = tuple(piece.things())
    scene = Scene(pieces=(piece,), things=things)
    shown = red_box(scene.render(400))
    if things:
        assert shown == pytest.approx(things[0].box, abs=0.015)
    else:
        left, top = (1 - BOX[0] - BOX[2] if piece.flipped else BOX[0]), BOX[1]
        across = min(left + BOX[2], crop[0] + crop[2]) - max(left, crop[0])
        down = min(top + BOX[3], crop[1] + crop[3]) - max(top, crop[1])
        assert max(0, across) * max(0, down) < photo.LEAST_KEPT * BOX[2] * BOX[3]


def test_a_thing_of_which_little_is_left_is_not_there(red_on_white):
    def things(left):
        return len(list(Piece(photograph=red_on_white, crop=(left, 0.0, 1 - left, 1.0)).things()))

    assert [things(left) for left in (0.0, 0.3, 0.49, 0.51, 0.8)] == [1, 1, 1, 0, 0]


def test_alone_a_photograph_keeps_its_proportions_and_by_chance_is_mirrored_and_cut(red_on_white):
    whole = alone(red_on_white)
    assert whole.render(64).size == (400, 300)
    assert whole.things[0].box == pytest.approx(red_on_white.things[0].box)
    assert not whole.are_counted
    assert alone(replace(red_on_white, lists_all=True)).are_counted
    varied = [alone(red_on_white, random.Random(seed)) for seed in range(60)]
    assert {scene.pieces[0].flipped for scene in varied} == {True, False}
    assert 5 < sum(scene.pieces[0].crop == (0, 0, 1, 1) for scene in varied) < 35
    for scene in varied[:20]:
        if scene.things:
            assert red_box(scene.render()) == pytest.approx(scene.things[0].box, abs=0.015)


def test_four_photographs_in_two_rows(folders, red_on_white):
    every = list(caltech(folders / "caltech"))
    four = [one for one in every if one.things][::12][:4]
    scene = mosaic(four)
    assert [seen.thing for seen in scene.things] == ["person", "accordion", "dalmatian", "elephant"]
    assert [seen.cell for seen in scene.things] == [0, 2, 6, 8]
    assert all((seen.width, seen.height) == (0.5, 0.5) for seen in scene.things)
    assert scene.are_counted
    assert scene.render(64).size == (64, 64)
    pixels = np.asarray(scene.render(64)).astype(int)
    for seen, one in zip(scene.things, four, strict=True):
        there = pixels[round(64 * seen.y) - 8 : round(64 * seen.y) + 8, round(64 * seen.x) - 8 : round(64 * seen.x) + 8]
        own = np.asarray(alone(one).render().resize((32, 32))).astype(int)[8:24, 8:24]
        assert np.abs(there.mean((0, 1)) - own.mean((0, 1))).max() < 15
    nothing = next(one for one in every if not one.things)
    assert not mosaic([*four[:3], nothing]).are_counted
    [only] = mosaic([nothing, nothing, red_on_white, nothing]).things
    left, top, width, height = (side / 2 for side in BOX)
    assert only.box == pytest.approx((left, 0.5 + top, left + width, 0.5 + top + height))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_is_pasted_lies_inside_and_never_one_on_the_other(red_on_white, number):
    grounds = Counter()
    for seed in range(60):
        scene = pasted([red_on_white] * number, random.Random(seed))
        assert 1 <= len(scene.pieces) <= number
        assert len(scene.things) == len(scene.pieces)
        boxes = [piece.box for piece in scene.pieces]
        for left, top, width, height in boxes:
            assert min(left, top) >= 0
            assert max(left + width, top + height) <= 1
        for one, other in combinations(boxes, 2):
            across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
            down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
            assert across <= 0 or down <= 0
        grounds[scene.ground] += 1
        assert np.abs(np.array(scene.tint) - emoji.COLOURS[scene.ground]).max() <= 12
    assert len(grounds) > 8
    [*_, last] = scene.pieces
    corner = (round(128 * (last.box[0] + last.box[2] / 2)), round(128 * (last.box[1] + last.box[3] * 0.95) - 1))
    assert min(scene.render(128).getpixel(corner)) > 200  # the photograph's own white


# --- drawings ---


def test_every_drawing_is_a_thing_and_lies_where_it_is_drawn():
    known = {name: thing.id for thing in load_things().values() for name in thing.emoji}
    assert set(known) == {concept.id for concept in load_vocabulary()}
    for index in range(60):
        drawing = emoji.make_scene("train", index, size=photo.SIDE)
        scene = drawn(drawing)
        assert [seen.thing for seen in scene.things] == [
            known[load_vocabulary()[concept].id] for concept in drawing.concepts
        ]
        assert scene.are_counted
        assert scene.ground == drawing.colour
        if len(drawing.things) > 1:
            assert [seen.cell for seen in scene.things] == [thing.cell for thing in drawing.things]
    assert scene.render(64).size == (64, 64)


def test_a_drawing_that_is_none_of_our_things_is_not_among_them_and_then_nothing_is_counted(monkeypatch):
    drawing = emoji.make_scene("train", 3, number=3)
    other, *rest = [load_vocabulary()[concept].id for concept in drawing.concepts]
    monkeypatch.setattr(photo, "by_emoji", lambda: dict.fromkeys(rest, "dog"))
    scene = drawn(drawing)
    assert other not in rest
    assert [seen.thing for seen in scene.things] == ["dog", "dog"]
    assert not scene.are_counted


# --- endless scenes ---


def test_a_scene_is_the_same_for_equal_photographs(folders):
    scenes, again = (Scenes(photographs(folders / "caltech", folders / "coco", "train")) for _ in range(2))
    for index in range(40):
        one, other = scenes[index], again[index]
        assert (one, one.drawing) == (other, other.drawing)
        assert one.render(96).tobytes() == other.render(96).tobytes()
    assert len({repr(scenes[index]) for index in range(40)}) == 40


def test_scenes_are_of_every_kind(folders):
    train = photographs(folders / "caltech", folders / "coco", "train")
    scenes = [Scenes(train)[index] for index in range(400)]
    kinds = Counter(
        "drawn" if scene.drawing else "listed" if scene.lists_all else "together" if len(scene.pieces) > 1
        or scene.pieces[0].box[2] < 1 else "alone" if scene.things else "unknown" for scene in scenes)  # fmt: skip
    assert set(kinds) == {"drawn", "listed", "together", "alone", "unknown"}
    assert 90 < kinds["drawn"] < 170
    assert min(kinds["listed"], kinds["alone"]) > 20
    assert kinds["together"] > 80
    shown = {piece.photograph for scene in scenes for piece in scene.pieces}
    assert shown <= set(train)
    counted = Counter(len(scene.things) - len({seen.thing for seen in scene.things}) for scene in scenes)
    assert counted[0] < 360  # in others something is there more than once
    asked = {scene.drawing.split for scene in (Scenes(train, "test")[index] for index in range(50)) if scene.drawing}
    assert asked == {"test"}


# --- colours ---


@pytest.mark.parametrize("colour", COLOURS)
def test_each_colour_of_the_drawings_is_called_by_its_name(colour):
    """Also as grounds vary it: at least nine in ten of its shades."""
    assert tuple(emoji.COLOURS) == COLOURS
    plain = np.array([emoji.COLOURS[colour]], np.uint8)
    assert main_colour(plain, least=1.0) == colour
    steps = np.arange(-12, 13, 4)
    shades = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3) + emoji.COLOURS[colour]
    names = named(shades.clip(0, 255).astype(np.uint8))
    assert (names == COLOURS.index(colour)).mean() > 0.9


def test_a_colour_that_is_not_clear_is_none():
    half = np.array([[emoji.COLOURS["red"], emoji.COLOURS["blue"]]] * 8, np.uint8)
    assert main_colour(half, least=0.6) == ""
    assert main_colour(half, least=0.5) in ("red", "blue")
    assert main_colour(half, least=0.6, but="red") == "blue"
    assert main_colour(half[:, :1], least=0.6, but="red") == "red"  # nearly all of it: the thing is red as well


def test_the_colour_of_a_thing_is_not_that_of_the_ground_around_it():
    """A thing whose box shows more ground than thing, one that is as its ground, and one of three colours."""
    pixels = np.full((96, 96, 3), emoji.COLOURS["blue"], np.uint8)
    pixels[10:40, 20:30] = emoji.COLOURS["red"]  # slim, in a wide box
    for number, colour in enumerate(("green", "yellow", "black")):
        pixels[60:80, 10 * number : 10 * number + 10] = emoji.COLOURS[colour]
    things = tuple(
        Seen(thing=name, x=x / 96, y=y / 96, width=width / 96, height=height / 96)
        for name, x, y, width, height in (("ball", 25, 25, 50, 40), ("cat", 75, 25, 40, 40), ("kite", 15, 70, 30, 20))
    )
    scene = Scene(things=things).with_colours(Image.fromarray(pixels))
    assert scene.ground == "blue"
    assert [seen.colour for seen in scene.things] == ["red", "blue", ""]
    assert Scene(things=things, ground="black").with_colours(Image.fromarray(pixels)).ground == "black"


def test_a_photograph_has_a_ground_only_where_its_edge_has_one_colour(red_on_white):
    scene = alone(red_on_white)
    coloured = scene.with_colours(scene.render())
    assert (coloured.ground, coloured.things[0].colour) == ("white", "red")
    mixed = np.zeros((64, 64, 3), np.uint8)
    mixed[:, :32], mixed[:, 32:] = emoji.COLOURS["green"], emoji.COLOURS["orange"]
    assert scene.with_colours(Image.fromarray(mixed)).ground == ""
