"""Scenes of photographs, and questions that they answer."""

import random
from pathlib import Path

import pytest
from PIL import Image

from maya_core.languages import CODES
from training.photo_vqa.phrases import FAMILIES
from training.photo_vqa.questions import ask, questions
from training.photo_vqa.scenes import Scene, Seen, caltech, coco, mosaic, mosaics
from training.photo_vqa.things import load_things

# Two dogs and a cat: the dogs at the top left and at the bottom right, the cat, which is small, in the middle.
THINGS = (
    Seen(thing="dog", x=0.2, y=0.2, width=0.4, height=0.4),
    Seen(thing="dog", x=0.8, y=0.8, width=0.4, height=0.4),
    Seen(thing="cat", x=0.5, y=0.5, width=0.2, height=0.2),
    Seen(thing="ball", x=0.85, y=0.15, width=0.1, height=0.1),
)
SCENE = Scene(photographs=(), things=THINGS, lists_all=True)
ONE = Scene(photographs=(), things=(Seen(thing="husky"),), lists_all=False)


def asked(scene, family, language="en", tries=40):
    """What a family asks about a scene: every answer that comes by chance, with its text."""
    found = (ask(scene, family, language, random.Random(seed)) for seed in range(tries))
    return [question for question in found if question]


def answers(scene, family, language="en"):
    return {question.answer for question in asked(scene, family, language)}


def picture(file: Path, colour: tuple[int, int, int], size=(60, 40)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


@pytest.fixture
def folders(tmp_path):
    for number in range(12):
        for name in ("elephant", "dalmatian", "accordion", "Faces", "BACKGROUND_Google", "unheard_of"):
            picture(tmp_path / "caltech" / name / f"image_{number:04}.jpg", (20 * number, 60, 90))
    picture(tmp_path / "coco" / "images" / "1.jpg", (9, 9, 9))
    (tmp_path / "coco" / "labels").mkdir()
    (tmp_path / "coco" / "labels" / "1.txt").write_text("16 0.25 0.5 0.3 0.4\n15 0.75 0.5 0.2 0.2\n")
    return tmp_path


def test_photographs_are_read_from_both_folders(folders):
    photographs = list(caltech(folders / "caltech"))
    assert {tuple(seen.thing for seen in one.things) for one in photographs} == {
        ("elephant",), ("dalmatian",), ("accordion",), ("person",), ()}  # fmt: skip
    [labelled] = coco(folders / "coco")
    assert [(seen.thing, seen.x, seen.cell) for seen in labelled.things] == [("dog", 0.25, 3), ("cat", 0.75, 5)]
    assert labelled.lists_all


def test_a_photograph_stays_in_its_split(folders):
    splits = {one.file: one.split for one in caltech(folders / "caltech")}
    assert set(splits.values()) == {"train", "test"}
    for file in sorted(splits)[::2]:
        file.unlink()
    assert all(splits[one.file] == one.split for one in caltech(folders / "caltech"))


def test_four_photographs_on_one_picture(folders):
    photographs = tuple(caltech(folders / "caltech"))
    made = list(mosaics(photographs, 6, seed=1))
    assert made == list(mosaics(photographs, 6, seed=1))
    for scene in made:
        assert [seen.cell for seen in scene.things] == [0, 2, 6, 8]
        whole = scene.render(64)
        assert whole.size == (64, 64)
    assert [seen.thing for seen in mosaic(tuple(one for one in photographs if one.things)[:4]).things] == ["person"] * 4


def test_one_thing():
    assert answers(ONE, "what") == {"A husky"}
    [first, *_] = asked(ONE, "what")
    assert first.is_right("husky")
    assert first.is_right("A dog.")
    assert not first.is_right("cat")
    assert answers(ONE, "kind") == {"An animal"}
    assert answers(ONE, "either") == {"A husky"}
    assert answers(ONE, "check") == {"Yes", "No, it is a husky."}
    assert answers(ONE, "count") == set()  # there may be more of them
    assert answers(ONE, "where") == set()


def test_several_things():
    assert answers(SCENE, "what") == set()
    assert answers(SCENE, "count") == {"Two dogs", "One cat", "One ball"}
    assert answers(SCENE, "where") == {"In the middle", "At the top right"}
    assert answers(SCENE, "side") >= {"A cat"}
    assert answers(SCENE, "larger") == {"A cat"}
    assert answers(SCENE, "left") == {"A cat"}
    assert answers(SCENE, "right") == {"A ball"}
    assert answers(SCENE, "above") == {"A ball"}
    assert answers(SCENE, "below") == {"A cat"}
    there = asked(SCENE, "exists")
    assert {question.answer.split(",")[0] for question in there} == {"Yes", "No"}


def test_what_is_asked_for_and_not_there_is_really_another_thing():
    """Of COCO's classes where those are all that is listed, and never a sort of what is there."""
    for question in asked(SCENE, "exists", tries=200):
        if question.answer.startswith("No"):
            assert not any(word in question.text.lower() for word in (" dog", " cat", " ball"))
    things = load_things()
    for seed in range(100):
        question = ask(ONE, "either", "en", random.Random(seed))
        assert question is not None
        assert "dog" not in question.text.lower().split()
    assert things["husky"].parent == "dog"


@pytest.mark.parametrize("code", CODES)
def test_in_every_language_both_parts_of_wordings(code):
    for wording in ("train", "held"):
        rng = random.Random(5)
        found = [question for scene in (ONE, SCENE) for question in questions(scene, code, rng, wording=wording)]
        assert {"what", "exists", "count", "where", "kind", "either", "check", "left"} <= {one.family for one in found}
        for question in found:
            assert question.family in FAMILIES
            assert question.is_right(question.answer)
            assert question.text.strip()
