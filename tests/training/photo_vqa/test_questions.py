"""Questions: what each family asks of scenes that were made by hand, and what is the right answer."""

import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from maya_core.languages import CODES
from training.photo_vqa.manner import Manner
from training.photo_vqa.phrases import FAMILIES, load_phrases
from training.photo_vqa.questions import FOLLOWED_BY, ask, follow, questions
from training.photo_vqa.scenes import Photograph, Piece, Scene, Seen, drawn
from training.photo_vqa.things import load_names, load_things

# Two dogs, a cat and a ball: the dogs at the top left and at the bottom right, the cat, which is small and black, in the
# middle, the ball, which is smaller and red, at the top right.
THINGS = (
    Seen(thing="dog", x=0.2, y=0.2, width=0.4, height=0.4, colour="white"),
    Seen(thing="dog", x=0.8, y=0.8, width=0.4, height=0.4, colour="brown"),
    Seen(thing="cat", x=0.5, y=0.5, width=0.2, height=0.2, colour="black"),
    Seen(thing="ball", x=0.85, y=0.15, width=0.1, height=0.1, colour="red"),
)
TOGETHER = Scene(things=THINGS, are_counted=True, ground="green")
LISTED = replace(TOGETHER, lists_all=True)  # as photographs of COCO
PHOTOGRAPH = Piece(photograph=Photograph(file=Path("nowhere.jpg"), things=(), lists_all=False))
ONE = Scene(pieces=(PHOTOGRAPH,), things=(Seen(thing="husky", colour="grey"),))
DOUBTED = replace(ONE, perhaps="wolf")
UNKNOWN = Scene(pieces=(PHOTOGRAPH,))
NOTHING_LISTED = Scene(pieces=(PHOTOGRAPH,), lists_all=True, are_counted=True)
ALONE = ("what", "exists", "either", "check", "kind", "breed", "colour_of")
FOLLOWING = [family for family in FAMILIES if family.startswith("follow_")]


def asked(scene, family, language="en", tries=60, **options):
    """What a family asks about a scene: every question that comes by chance."""
    found = (ask(scene, family, language, random.Random(seed), **options) for seed in range(tries))
    return [question for question in found if question]


def answers(scene, family, language="en", **options):
    return {question.answer for question in asked(scene, family, language, **options)}


def one(scene, family, language="en"):
    """A question whose answer is the only one of its family."""
    [question, *others] = asked(scene, family, language)
    assert {other.answer for other in others} <= {question.answer}
    return question


def followed(scene, before, tries=60, **options):
    found = (follow(scene, before, random.Random(seed), **options) for seed in range(tries))
    return [question for question in found if question]


def question_about(scene, family, thing):
    """A question of a family whose answer is about a thing."""
    return next(question for question in asked(scene, family, tries=400) if question.thing == thing)


# --- what there is ---


def test_one_thing_is_named():
    question = one(ONE, "what")
    assert question.answer == "A husky"
    for said in ("husky", "a husky.", "The husky", "HUSKY!", "A dog", "dog"):
        assert question.is_right(said), said
    for said in ("cat", "A wolf", "Two huskies", "I don't know what that is.", ""):
        assert not question.is_right(said), said
    assert question.thing == "husky"


def test_doubt_is_another_answer_than_a_name():
    question = one(ONE, "what")
    for said in ("I'm not sure; perhaps a husky.", "I'm not sure; perhaps a dog."):
        assert not question.is_right(said)
        assert question.is_right_with_doubt(said)
    assert not question.is_right_with_doubt("I'm not sure; perhaps a wolf.")
    assert not question.is_right_with_doubt("A husky")


def test_whatever_is_right_may_be_said_with_doubt():
    question = one(ONE, "describe")
    assert question.is_right_with_doubt("I'm not sure; perhaps a husky.")
    assert not question.is_right_with_doubt("I'm not sure; perhaps a wolf.")


def test_what_is_taken_for_something_else_is_named_with_doubt_and_asked_nothing_more():
    assert one(DOUBTED, "what").answer == "I'm not sure; perhaps a wolf."
    assert one(DOUBTED, "what", "fr").answer == "Je ne sais pas trop, c'est peut-être un loup."
    for family in ("either", "check", "kind", "breed", "colour_of", "where", "larger"):
        assert asked(DOUBTED, family) == [], family
    assert one(DOUBTED, "describe").answer == "I'm not sure; perhaps a wolf."
    assert followed(DOUBTED, one(DOUBTED, "what"), family="follow_kind") == []


def test_of_what_nobody_knows_it_is_said_that_nobody_knows():
    assert one(UNKNOWN, "what").answer == "I don't know what that is."
    for family in FAMILIES:
        assert family == "what" or asked(UNKNOWN, family) == [], family
    assert asked(NOTHING_LISTED, "what") == []  # its things may be none of COCO's, but a person could name them
    assert asked(Scene(ground="red"), "what") == []


def test_several_things_are_listed_from_left_to_right_with_their_number():
    assert answers(TOGETHER, "describe") == {"Two dogs, a cat, and a ball"}
    [main] = {question.answer: question for question in asked(TOGETHER, "what")}.values()
    assert main.answer == "A dog", "they take much more of the picture than anything else; nobody asked how many"
    assert main.is_right("Two dogs")
    question = one(TOGETHER, "describe")
    assert (
        question.is_right("two dogs, cat and the ball") is False
    )  # an article inside a list counts, unless it is left out
    assert question.is_right("two dogs, a cat, and ball")
    assert not question.is_right("A cat, a ball, and two dogs")
    mirrored = replace(TOGETHER, things=tuple(replace(seen, x=1 - seen.x) for seen in THINGS))
    assert answers(mirrored, "describe") == {"A ball, two dogs, and a cat"}
    five = tuple(Seen(thing="dog", x=0.1 + 0.2 * number, width=0.1, height=0.1) for number in range(5))
    assert answers(Scene(things=five), "describe") == {"Dogs"}
    assert answers(Scene(things=five[:1]), "describe") == {"A dog"}
    four = ("apple", "pear", "banana", "lemon")
    many = [Seen(thing=thing, x=0.1 + 0.2 * number, width=0.1) for number, thing in enumerate((*four, "cherry"))]
    assert answers(Scene(things=tuple(many[:4])), "describe") == {"An apple, a pear, a banana, and a lemon"}
    assert asked(Scene(things=tuple(many)), "describe") == []


def test_of_a_photograph_that_lists_all_the_three_largest_things_are_named_and_nothing_tiny():
    sizes = {"dog": 0.6, "cat": 0.09, "ball": 0.3, "car": 0.5, "person": 0.4}
    things = tuple(
        Seen(thing=thing, x=0.1 + 0.2 * number, width=size, height=size)
        for number, (thing, size) in enumerate(sizes.items())
    )
    assert answers(Scene(things=things, lists_all=True), "what") == {"A dog, a car, and a person"}
    assert answers(Scene(things=things[:3], lists_all=True), "describe") == {"A dog and a ball"}
    assert asked(Scene(things=things[1:2], lists_all=True), "describe") == []


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("en", "Two dogs, a cat, and a ball"),
        ("zh", "两只狗、猫和球"),
        ("fr", "Deux chiens, un chat et une balle"),
        ("es", "Dos perros, un gato y una pelota"),
        ("ru", "Две собаки, кошка и мяч"),
        ("hi", "दो कुत्ते, बिल्ली, और गेंद"),
        ("ja", "犬が2匹、猫、ボール"),
        ("ar", "كلبان وقطة وكرة"),
        ("bn", "দুটি কুকুর, বিড়াল এবং বল"),
        ("ur", "دو کتے، بلی، اور گیند"),
    ],
)
def test_a_list_is_written_as_the_language_writes_one(code, answer):
    assert answers(TOGETHER, "describe", code) == {answer}


def test_a_name_that_begins_large_does_so_inside_a_list_too():
    things = tuple(Seen(thing=thing, x=x, width=0.3) for thing, x in (("dog", 0.2), ("dna", 0.5), ("kaaba", 0.8)))
    assert answers(Scene(things=things), "describe", "ru") == {"Собака, ДНК и Кааба"}
    assert answers(Scene(things=things[::2]), "describe", "es") == {"Un perro y la Kaaba"}


# --- whether and how many ---


def test_what_is_there_and_what_is_not_are_examined_alike():
    said = Counter(question.answer.split(",")[0] for question in asked(TOGETHER, "exists", tries=300, wording="held"))
    assert 0.41 < said["Yes"] / said.total() < 0.59


def test_whether_something_is_there():
    found = asked(TOGETHER, "exists", tries=300)
    there = {"Yes, there is a dog.", "Yes, there is a cat.", "Yes, there is a ball."}
    said = Counter(question.answer.split(",")[0] for question in found)
    assert set(said) == {"Yes", "No"}
    assert 0.51 < said["Yes"] / said.total() < 0.69  # 0.6, and chance
    assert {question.answer for question in found if question.answer.startswith("Yes")} == there
    for question in found:
        short, other = ("Yes", "No") if question.thing in {"dog", "cat", "ball"} else ("No", "Yes")
        assert question.answer.startswith(short)
        assert question.is_right(short)
        assert not question.is_right(other)
        assert load_names("en")[question.thing]["name"] in question.answer
    assert {question.answer[:3] for question in asked(NOTHING_LISTED, "exists")} == {"No,"}


def test_what_is_said_to_be_absent_is_no_sort_of_what_is_there():
    """Nor what that is a sort of, nor another sort of the same."""
    things = load_things()
    for scene in (ONE, TOGETHER, LISTED):
        there = {seen.thing for seen in scene.things}
        absent = {question.thing for question in asked(scene, "exists", tries=2000)} - there
        assert len(absent) > (40 if scene.lists_all else 200)
        for thing in absent:
            for other in there:
                assert things[thing].parent != other, (thing, other)
                assert not things[other].parent or things[other].parent not in (thing, things[thing].parent)
            assert things[thing].coco if scene.lists_all else thing != "person"
    kinds = Counter(things[question.thing].kind for question in asked(ONE, "exists", tries=400))
    assert kinds["animal"] > 0.5 * kinds.total()  # the husky, and what could be mistaken for it


def test_what_other_scenes_show_is_often_asked_for_in_vain():
    """Where people are in most photographs and nobody asks for them in others, "person" alone means yes."""
    elsewhere = ["person"] * 11 + ["cat"]
    in_vain = [
        question.thing
        for question in asked(replace(LISTED, things=THINGS[:2]), "exists", tries=600, elsewhere=elsewhere)
        if question.thing != "dog"
    ]
    assert 0.5 < in_vain.count("person") / len(in_vain) < 0.8
    assert len(set(in_vain)) > 20
    assert "person" not in {question.thing for question in asked(ONE, "exists", tries=300, elsewhere=elsewhere)}


def test_what_is_said_to_be_absent_has_no_name_of_what_is_there():
    """Spanish calls clocks and watches the same; English does not."""
    clock = Scene(things=(Seen(thing="clock"),))
    spanish, english = ({question.thing for question in asked(clock, "exists", code, 8000)} for code in ("es", "en"))
    assert len(spanish) > 300
    assert "watch" not in spanish
    assert "watch" in english


def test_how_many():
    found = asked(TOGETHER, "count", tries=300)
    assert {question.answer for question in found} == {"Two dogs", "One cat", "One ball", "None"}
    for question in found:
        number = {"dog": "2", "cat": "1", "ball": "1"}.get(question.thing, "0")
        assert question.is_right(number)
        assert not question.is_right(str(int(number) + 1))
    two = question_about(TOGETHER, "count", "dog")
    assert two.is_right("two dogs.")
    assert two.is_right("Two")
    assert asked(replace(TOGETHER, are_counted=False), "count") == []
    many = Scene(things=(THINGS[2],) * 5 + THINGS[3:], are_counted=True)
    assert answers(many, "count") - {"None"} == {"One ball"}


def test_a_number_agrees_with_what_is_counted_where_it_stands_alone():
    scene = Scene(things=(Seen(thing="apple"),), are_counted=True)
    question = next(question for question in asked(scene, "count", "fr") if question.thing == "apple")
    assert question.answer == "Une pomme"
    assert question.is_right("une")
    assert not question.is_right("deux")


# --- where, and what it is like ---


def test_where_things_lie():
    assert answers(TOGETHER, "where") == {"In the middle", "At the top right"}  # there are two dogs
    assert asked(ONE, "where") == []  # it fills the picture
    [nearly_above] = asked(Scene(things=(replace(THINGS[2], y=0.31),)), "where", tries=1)
    assert nearly_above.answer == "At the top in the middle"
    assert nearly_above.is_right("in the middle")
    assert not nearly_above.is_right("at the top right")
    [clear] = asked(Scene(things=(THINGS[2],)), "where", tries=1)
    assert not clear.accepted
    low = Seen(thing="cat", x=0.1, y=0.9, width=0.2, height=0.2)
    assert answers(Scene(things=(low,)), "where") == {"At the bottom left"}
    assert asked(Scene(things=(replace(low, width=0.05, height=0.05),)), "where") == []


def test_what_lies_at_a_side():
    two = Scene(things=(replace(THINGS[2], x=0.1), THINGS[3]), ground="green")
    sides = {}
    for question in asked(two, "side", tries=300):
        for number, side in enumerate(load_phrases("en").sides):
            if side in question.text:
                sides.setdefault(number, set()).add(question.answer)
    assert sides[0] == {"A cat"}
    assert sides[1] == {"A ball"}
    assert sides[2] == {"A ball"}
    assert 3 not in sides
    assert answers(TOGETHER, "side") == {"A dog", "A cat"}  # on the left, at the bottom; in the middle
    assert asked(Scene(things=THINGS[:1]), "side") == []  # of one thing nobody asks so


def test_which_colour():
    assert answers(TOGETHER, "colour_of") == {"Black", "Red"}
    assert answers(ONE, "colour_of") == {"Grey"}
    assert asked(replace(ONE, things=(Seen(thing="husky"),)), "colour_of") == []
    assert answers(TOGETHER, "background") == {"Green"}
    assert asked(replace(TOGETHER, ground=""), "background") == []


def test_which_kind_and_which_breed():
    assert answers(ONE, "kind") == {"An animal"}
    assert answers(ONE, "breed") == {"A husky"}
    assert not one(ONE, "breed").is_right("A dog")
    assert asked(replace(ONE, things=(Seen(thing="dog"),)), "breed") == []
    for family in ("kind", "breed", "either", "check"):
        assert asked(TOGETHER, family) == []
        assert asked(replace(ONE, lists_all=True), family) == []


def test_either_and_check_put_a_wrong_guess_beside_the_right_one():
    places = Counter()
    for question in asked(ONE, "either", tries=100):
        assert question.answer == "A husky"
        places[question.text.lower().rstrip("?. ").endswith("husky")] += 1
    assert min(places.values()) > 20
    said = {question.answer: question for question in asked(ONE, "check")}
    assert set(said) == {"Yes", "No, it is a husky."}
    assert said["Yes"].thing == "husky"
    assert said["Yes"].is_right("Yes, there is a husky.")
    assert "husky" not in said["No, it is a husky."].text
    assert said["No, it is a husky."].is_right("no")


@pytest.mark.parametrize(
    ("family", "answer"),
    [("larger", "A cat"), ("left", "A cat"), ("right", "A ball"), ("above", "A ball"), ("below", "A cat")],
)
def test_comparisons(family, answer):
    found = asked(TOGETHER, family)
    assert {question.answer for question in found} == {answer}
    assert all("cat" in question.text and "ball" in question.text for question in found)
    orders = {question.text.index("cat") < question.text.index("ball") for question in found}
    assert orders == {True, False}
    alike = (THINGS[2], replace(THINGS[2], thing="ball", x=0.55, y=0.55, width=0.22))
    assert asked(Scene(things=alike), family) == []


# --- what follows ---


def test_every_following_question_follows_some_and_comes_by_itself_never():
    assert set(FOLLOWING) <= {family for families in FOLLOWED_BY.values() for family in families}
    assert not any(asked(scene, family) for family in FOLLOWING for scene in (ONE, TOGETHER))
    assert followed(ONE, one(ONE, "breed")) == []


def test_what_may_follow_the_name_of_one_thing():
    found = followed(ONE, one(ONE, "what"), tries=300)
    by_family = {question.family: question for question in found}
    assert set(by_family) == {"follow_colour", "follow_kind", "follow_exists", "breed"}  # where: it fills the picture
    assert by_family["follow_colour"].answer == "Grey"
    assert by_family["follow_kind"].answer == "An animal"
    assert by_family["breed"].answer == "A husky"
    assert not by_family["breed"].is_right("a dog")


def test_what_may_follow_whether_something_is_there():
    there, absent = question_about(TOGETHER, "exists", "cat"), None
    absent = next(one for one in asked(TOGETHER, "exists") if one.answer.startswith("No"))
    by_family = {question.family: question.answer for question in followed(TOGETHER, there, tries=300)}
    by_family.pop("follow_exists")
    assert by_family == {"follow_where": "In the middle", "follow_colour": "Black", "follow_count": "One cat"}
    assert {question.family for question in followed(TOGETHER, absent)} == {"follow_exists"}


def test_what_may_follow_how_many_and_a_side():
    cat = question_about(TOGETHER, "count", "cat")
    assert {question.family for question in followed(TOGETHER, cat)} == {"follow_where", "follow_exists"}
    assert {question.answer for question in followed(TOGETHER, cat, family="follow_where")} == {"In the middle"}
    dogs = question_about(TOGETHER, "count", "dog")
    assert followed(TOGETHER, dogs, family="follow_where") == []  # which of the two?
    side = question_about(TOGETHER, "side", "cat")
    assert {question.answer for question in followed(TOGETHER, side, family="follow_colour")} == {"Black"}
    again = followed(TOGETHER, side, family="follow_side")
    assert {question.answer for question in again} == {"A dog", "A cat"}
    assert {question.family for question in followed(TOGETHER, again[0])} == {"follow_side"}


def test_a_question_that_follows_speaks_the_language_of_the_one_before():
    before = next(ask(TOGETHER, "exists", "hi", random.Random(seed), answer_language="es") for seed in range(99))
    after = followed(TOGETHER, before, family="follow_exists")
    assert {(question.language, question.answer_language) for question in after} == {("hi", "es")}
    assert all(question.answer[:2] in ("Sí", "No") for question in after)


# --- languages ---


def test_an_answer_may_be_wanted_in_another_language():
    [question, *_] = asked(ONE, "what", answer_language="fr")
    assert question.text in {question.text for question in asked(ONE, "what", tries=999)}
    assert question.answer == "Un husky"
    assert (question.language, question.answer_language) == ("en", "fr")
    assert question.is_right("le husky")
    assert not question.is_right("A dog")
    assert question.is_right_with_doubt("Je ne sais pas trop, c'est peut-être un chien.")
    assert answers(TOGETHER, "where", answer_language="ja") == {"真ん中", "右上"}
    assert answers(TOGETHER, "count", answer_language="zh") >= {"两只狗", "一只猫"}


@pytest.mark.parametrize("wording", ["train", "held"])
@pytest.mark.parametrize("code", CODES)
def test_in_every_language_each_family_is_asked_in_whole_sentences(code, wording):
    seen = set()
    scenes = (ONE, TOGETHER, LISTED, DOUBTED, UNKNOWN, NOTHING_LISTED, drawn_scene())
    for number in range(4):
        for scene in scenes:
            rng = random.Random(number)
            for first in questions(scene, code, rng, wording=wording):
                families = FOLLOWED_BY.get(first.family, ())
                after = [follow(scene, first, rng, wording=wording, family=family) for family in families]
                for question in (first, *filter(None, after)):
                    seen.add(question.family)
                    for text in (question.text, question.answer, *question.accepted, *question.doubted):
                        assert text.strip()
                        assert not re.search(r"[{}\[\]|]", text), text
                    assert question.is_right(question.answer)
                    assert (question.language, question.answer_language) == (code, code)
    assert seen == set(FAMILIES)


def drawn_scene():
    from training.emoji_vqa.scenes import make_scene

    return drawn(make_scene("train", 0, number=3))


@pytest.mark.parametrize("code", CODES)
def test_words_that_are_held_back_are_never_trained(code):
    """Of questions without slots, whose text is the wording itself."""
    trained, held = ({one.text for one in asked(ONE, "what", code, 400, wording=part)} for part in ("train", "held"))
    assert not trained & held
    assert held == set(load_phrases(code).asked["what"].held)
    dropped = {question.text for question in asked(ONE, "what", code, 40, manner=Manner(dropped=0.3))}
    assert dropped - trained


def test_a_question_repeats_with_its_seed():
    for family in FAMILIES:
        for scene in (ONE, TOGETHER):
            first, again = (ask(scene, family, "bn", random.Random(3)) for _ in range(2))
            assert first == again
