"""Questions that a scene answers, as people put them, in ten languages."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Literal, TypeVar

from training.photo_vqa.manner import PLAIN, Manner
from training.photo_vqa.phrases import FAMILIES, Family, Phrases, gender_of, load_phrases, words_of_doubt
from training.photo_vqa.scenes import Scene, Seen
from training.photo_vqa.things import Name, load_names, load_things
from training.scoring import normalise

Wording = Literal["train", "held"]
T = TypeVar("T")

CLEAR_SHIFT = 0.2  # of the picture's side: less apart than this, nothing is asked about left or above
CLEAR_RATIO = 1.5  # of areas
MAIN_RATIO = 2.0  # of areas: a picture is of a thing that takes so many times more of it than any other
ELSEWHERE = 0.7  # of questions about what is not there, those that ask for what other scenes show
MOST_COUNTED = 4
MOST_DESCRIBED = 4
# Of questions whether something is there, those about what is: taught half and half, a model says no too often of real
# photographs, where things are smaller and seen less surely than on pictures that are put together.
THERE = 0.6
LEAST_AREA = 0.01  # of a picture: smaller things are not asked about by place
# The sides of a picture, as phrases.SIDES, by the cells of a grid of three by three that belong to each.
CELLS_OF_SIDES = ((0, 3, 6), (2, 5, 8), (0, 1, 2), (6, 7, 8), (4,))
WITH_BREEDS = ("dog", "cat")
# What may be asked after a question of a family.
FOLLOWED_BY: Mapping[Family, Sequence[Family]] = {
    "what": ("follow_colour", "follow_kind", "follow_where", "follow_exists", "breed"),
    "describe": ("follow_side", "follow_exists"),
    "side": ("follow_side", "follow_colour", "follow_exists"),
    "exists": ("follow_exists", "follow_count", "follow_where", "follow_colour"),
    "count": ("follow_where", "follow_exists"),
    "where": ("follow_colour", "follow_exists"),
    "follow_side": ("follow_side",),
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """accepted: answers that say the same as `answer`, which is the one that is taught. doubted: those that say it with
    doubt. answer_language: where it is not the question's. thing: what it is about, or what the answer names."""

    family: Family
    language: str
    text: str
    answer: str
    accepted: tuple[str, ...] = ()
    doubted: tuple[str, ...] = ()
    answer_language: str = ""
    thing: str = ""

    def is_right(self, given: str) -> bool:
        """Whether an answer says what is wanted, without doubt and in the language that is wanted."""
        return self._is_among(given, (self.answer, *self.accepted))

    def is_right_with_doubt(self, given: str) -> bool:
        """Whether an answer calls it perhaps what it is, or says with doubt what is right."""
        unsure = words_of_doubt()[self.answer_language or self.language][0]
        right = (unsure.replace("{}", one) for one in (self.answer, *self.accepted))
        return self._is_among(given, (*self.doubted, *right))

    def _is_among(self, given: str, wanted: Sequence[str]) -> bool:
        language = self.answer_language or self.language
        said = normalise(given, language)
        return any(said == normalise(one, language) for one in wanted)


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """What is needed to put a question about a scene, and to answer it."""

    scene: Scene
    language: str
    answer_language: str
    wording: Wording
    rng: random.Random
    manner: Manner = PLAIN
    elsewhere: Sequence[str] = ()

    @property
    def languages(self) -> set[str]:
        """Of question and answer."""
        return {self.language, self.answer_language}

    @property
    def phrases(self) -> Phrases:
        """Of the answer."""
        return load_phrases(self.answer_language)

    @property
    def names(self) -> Mapping[str, Name]:
        """Of the answer."""
        return load_names(self.answer_language)

    def put(
        self,
        family: Family,
        answer: str,
        accepted: Sequence[str] = (),
        things: Sequence[str] = (),
        side: int | None = None,
        doubted: Sequence[str] = (),
        about: str = "",
    ) -> Question:
        phrases, names = load_phrases(self.language), load_names(self.language)
        wordings = getattr(phrases.asked[family], self.wording)
        wording = self.manner.worded(self.rng.choice(wordings), self.language, self.rng)
        text = phrases.question(wording, *(names[thing] for thing in things), side=side)
        return Question(
            family=family,
            language=self.language,
            text=text,
            answer=answer,
            accepted=tuple(accepted),
            doubted=tuple(doubted),
            answer_language=self.answer_language,
            thing=about or (things[0] if things else ""),
        )

    def naming(self, thing: str) -> tuple[str, list[str]]:
        """An answer that names a thing, and all that say the same."""
        return self.phrases.named(self.names[thing]), list(_all_names(self.answer_language, thing))

    # --- what there is ---

    def what(self) -> Question | None:
        kinds = {seen.thing for seen in self.scene.things}
        if not kinds:
            knows_nothing = bool(self.scene.pieces) and not self.scene.lists_all
            return self.put("what", self.phrases.said["unknown"]) if knows_nothing else None
        if self.scene.perhaps:
            return self.doubted("what")
        thing = self.main()
        if thing is None:
            return self.listing("what")
        answer, accepted = self.naming(thing)
        number = self.counts()[thing]
        if self.scene.are_counted and 1 < number <= MOST_COUNTED:  # it need not count to say what it is
            accepted.append(self.phrases.counted(number, self.names[thing]))
        parent = load_things()[thing].parent
        accepted += _all_names(self.answer_language, parent) if parent else ()
        doubted = [self.phrases.sentence("unsure", self.names[one]) for one in (thing, parent) if one]
        return self.put("what", answer, accepted, doubted=doubted, about=thing)

    def describe(self) -> Question | None:
        return self.doubted("describe") if self.scene.perhaps else self.listing("describe")

    def doubted(self, family: Family) -> Question:
        return self.put(family, self.phrases.sentence("unsure", self.names[self.scene.perhaps]))

    def listing(self, family: Family) -> Question | None:
        """All things from left to right, those that are there more than once with their number; of many, the largest."""
        by_thing: dict[str, list[Seen]] = {}
        for seen in self.scene.things:
            by_thing.setdefault(seen.thing, []).append(seen)
        areas = {thing: sum(seen.width * seen.height for seen in those) for thing, those in by_thing.items()}
        largest = sorted(areas, key=lambda thing: -areas[thing])
        if self.scene.lists_all:
            largest = [thing for thing in largest[:3] if areas[thing] >= LEAST_AREA]
        if not 1 <= len(largest) <= MOST_DESCRIBED:
            return None
        parts, alike = [], []
        for thing in sorted(largest, key=lambda thing: min(seen.x for seen in by_thing[thing])):
            number = len(by_thing[thing])
            name = self.names[thing]
            if number == 1:
                parts.append(self.phrases.indefinite(name))
                alike.append([parts[-1], name["name"]])
            elif number <= MOST_COUNTED:
                parts.append(self.phrases.several(number, name))
                alike.append([parts[-1]])
            else:
                parts.append(name.forms.get("plural") or name.forms.get("nom_pl") or name["name"])
                alike.append([parts[-1]])
        return self.put(family, self.phrases.listed(parts), [self.phrases.listed(some) for some in product(*alike)])

    def exists(self) -> Question | None:
        return self._exists("exists")

    def follow_exists(self) -> Question | None:
        return self._exists("follow_exists")

    def _exists(self, family: Family) -> Question | None:
        there = sorted({seen.thing for seen in self.scene.things})
        if not there and not self.scene.lists_all:
            return None
        is_there = bool(there) and self.rng.random() < (THERE if self.wording == "train" else 0.5)
        return self.is_there(family, self.rng.choice(there) if is_there else self.absent())

    def is_there(self, family: Family, thing: str) -> Question:
        """Whether one thing is there."""
        is_there = thing in self.counts()
        said = self.phrases.sentence("there" if is_there else "not_there", self.names[thing])
        return self.put(family, said, [self.phrases.said["yes" if is_there else "no"]], [thing])

    def count(self) -> Question | None:
        if not self.scene.are_counted:
            return None
        if self.scene.things and self.rng.random() < 0.08:
            return self.put("count", self.phrases.said["none"], ("0",), [self.absent()])
        counts = self.counts()
        thing = self.one_of([thing for thing, number in counts.items() if number <= MOST_COUNTED])
        return self._count("count", thing)

    def _count(self, family: Family, thing: str | None) -> Question | None:
        number = self.counts().get(thing or "", 0)
        if thing is None or not self.scene.are_counted or not 1 <= number <= MOST_COUNTED:
            return None
        name = self.names[thing]
        accepted = (str(number), self.phrases.number(number, gender_of(name)))
        return self.put(family, self.phrases.counted(number, name), accepted, [thing])

    # --- where ---

    def where(self) -> Question | None:
        seen = self.one_of([seen for seen in self.single() if seen.width * seen.height < 0.5])
        return self._where("where", seen)

    def _where(self, family: Family, seen: Seen | None) -> Question | None:
        if seen is None or seen.width * seen.height >= 0.5:
            return None
        places = self.phrases.places
        accepted = [places[cell] for cell in seen.cells - {seen.cell}]
        return self.put(family, self.phrases.as_answer(places[seen.cell]), accepted, [seen.thing])

    def side(self) -> Question | None:
        return self._side("side", self.sides())

    def _side(self, family: Family, sides: Sequence[tuple[int, Seen]]) -> Question | None:
        found = self.one_of(sides)
        if found is None:
            return None
        side, seen = found
        answer, accepted = self.naming(seen.thing)
        return self.put(family, answer, accepted, side=side, about=seen.thing)

    # --- what it is like ---

    def colour_of(self) -> Question | None:
        seen = self.one_of([seen for seen in self.single() if seen.colour])
        return self._colour("colour_of", seen)

    def _colour(self, family: Family, seen: Seen | None) -> Question | None:
        if seen is None or not seen.colour:
            return None
        said = self.phrases.as_answer(self.phrases.colours[seen.colour])
        return self.put(family, said, (), [seen.thing])

    def background(self) -> Question | None:
        if not self.scene.ground:
            return None
        return self.put("background", self.phrases.as_answer(self.phrases.colours[self.scene.ground]))

    def kind(self) -> Question | None:
        return self._kind("kind", self.only())

    def _kind(self, family: Family, seen: Seen | None) -> Question | None:
        if seen is None:
            return None
        said = self.phrases.kinds[load_things()[seen.thing].kind]
        return self.put(family, self.phrases.as_answer(said), (), [seen.thing])

    def breed(self) -> Question | None:
        seen = self.only()
        if seen is None or load_things()[seen.thing].parent not in WITH_BREEDS:
            return None
        return self.put("breed", *self.naming(seen.thing), about=seen.thing)

    # --- guesses and comparisons ---

    def either(self) -> Question | None:
        seen = self.only()
        if seen is None:
            return None
        pair = [seen.thing, self.absent()]
        self.rng.shuffle(pair)
        return self.put("either", *self.naming(seen.thing), pair, about=seen.thing)

    def check(self) -> Question | None:
        seen = self.only()
        if seen is None:
            return None
        if self.rng.random() < 0.5:
            said = self.phrases.as_answer(self.phrases.said["yes"])
            return self.put("check", said, [self.phrases.sentence("there", self.names[seen.thing])], [seen.thing])
        said = self.phrases.sentence("is_not", self.names[seen.thing])
        return self.put("check", said, [self.phrases.said["no"]], [self.absent()])

    def compared(self, family: Family) -> Question | None:
        holds: Mapping[str, Callable[[Seen, Seen], bool]] = {
            "larger": lambda one, other: one.width * one.height >= CLEAR_RATIO * other.width * other.height,
            "left": lambda one, other: other.x - one.x >= CLEAR_SHIFT,
            "right": lambda one, other: one.x - other.x >= CLEAR_SHIFT,
            "above": lambda one, other: other.y - one.y >= CLEAR_SHIFT,
            "below": lambda one, other: one.y - other.y >= CLEAR_SHIFT,
        }
        pair = self.one_of([pair for pair in permutations(self.single(), 2) if holds[family](*pair)])
        if pair is None:
            return None
        asked = [seen.thing for seen in pair]
        self.rng.shuffle(asked)
        return self.put(family, *self.naming(pair[0].thing), asked, about=pair[0].thing)

    # --- what may follow a question ---

    def following(self, before: Question, family: Family) -> Question | None:
        """A question that is only understood after the one before."""
        seen = self.seen(before.thing)
        said_no = before.family in ("exists", "follow_exists") and before.thing not in self.counts()
        if family == "follow_exists":
            return self.follow_exists()
        if family == "follow_side":
            return self._side(family, self.sides())
        if family == "breed":
            return self.breed()
        if said_no:
            return None
        if family == "follow_count":
            return self._count(family, before.thing)
        if family == "follow_where":
            return self._where(family, seen)
        if family == "follow_colour":
            return self._colour(family, seen)
        return self._kind(family, self.only())

    # --- what they need ---

    def main(self) -> str | None:
        """The kind of thing that a picture is of: its only one, or one that takes much more of it than any other."""
        areas = dict.fromkeys(self.counts(), 0.0)
        for seen in self.scene.things:
            areas[seen.thing] += seen.width * seen.height
        largest = sorted(areas, key=lambda thing: -areas[thing])
        if len(largest) > 1 and areas[largest[0]] < MAIN_RATIO * areas[largest[1]]:
            return None
        return largest[0]

    def counts(self) -> dict[str, int]:
        things = [seen.thing for seen in self.scene.things]
        return {thing: things.count(thing) for thing in things}

    def only(self) -> Seen | None:
        """The one thing of a scene that shows nothing else that is known, and of which it is sure."""
        if len(self.scene.things) != 1 or self.scene.lists_all or self.scene.perhaps:
            return None
        return self.scene.things[0]

    def seen(self, thing: str) -> Seen | None:
        """The one of its kind."""
        return next((seen for seen in self.single() if seen.thing == thing), None)

    def single(self) -> list[Seen]:
        """Things whose like is not there a second time, and that are not too small."""
        counts = self.counts()
        return [
            seen
            for seen in self.scene.things
            if counts[seen.thing] == 1 and seen.width * seen.height >= LEAST_AREA and not self.scene.perhaps
        ]

    def sides(self) -> list[tuple[int, Seen]]:
        """Sides of the picture at which one thing lies, and no other."""
        found = []
        for side, cells in enumerate(CELLS_OF_SIDES):
            there = [seen for seen in self.scene.things if seen.cell in cells]
            if len(there) == 1 and len(self.scene.things) > 1 and there[0].width * there[0].height >= LEAST_AREA:
                found.append((side, there[0]))
        return found

    def absent(self) -> str:
        """A thing that is not in the scene, nor any that people call by one of its names or that it is a sort of."""
        there = {seen.thing for seen in self.scene.things}
        kinds = sorted({load_things()[thing].kind for thing in there})
        alike = self.rng.choice(kinds) if kinds and self.rng.random() < 0.4 else ""
        allowed = _choices(self.scene.lists_all, "")
        elsewhere: list[str] = []
        if self.elsewhere and self.rng.random() < ELSEWHERE:
            elsewhere = [thing for thing in self.elsewhere if thing in allowed]
        for choices in (elsewhere, _choices(self.scene.lists_all, alike), allowed):
            for thing in self.rng.sample(choices, len(choices)):
                if not any(_are_alike(thing, other, code) for other in there for code in self.languages):
                    return thing
        raise AssertionError("no scene shows everything")

    def one_of(self, choices: Sequence[T]) -> T | None:
        return self.rng.choice(list(choices)) if choices else None


@cache
def answers_that_name(language: str) -> Mapping[str, str]:
    """Normalised answers that are nothing but a thing's name, and that thing; of a name that several have, the last."""
    return {normalise(name, language): thing for thing in load_things() for name in _all_names(language, thing)}


@cache
def _all_names(language: str, thing: str) -> tuple[str, ...]:
    """Every form in which a thing's name is a whole answer."""
    name = load_names(language)[thing]
    forms = [name[form] for form in ("name", "a", "un", "the", "le", "el", "def", "acc") if form in name.forms]
    return (*forms, *name.also)


@cache
def _choices(lists_all: bool, kind: str) -> list[str]:
    """Things of a kind, or of all, of which it can be said that they are not there."""
    return [
        thing.id
        for thing in load_things().values()
        if kind in ("", thing.kind)
        and (
            thing.coco if lists_all else thing.id != "person"
        )  # people are in many a photograph that does not list them
    ]


def _are_alike(one: str, other: str, language: str) -> bool:
    """Whether two things are the same, one is a sort of the other, both of a third, or people call them the same."""
    things = load_things()
    families = [{thing, things[thing].parent} - {""} for thing in (one, other)]
    return bool(families[0] & families[1]) or bool(_called(language, one) & _called(language, other))


@cache
def _called(language: str, thing: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in load_names(language)[thing].said)


def ask(
    scene: Scene,
    family: Family,
    language: str,
    rng: random.Random,
    *,
    wording: Wording = "train",
    answer_language: str = "",
    manner: Manner = PLAIN,
    elsewhere: Sequence[str] = (),
) -> Question | None:
    """A question of a family about a scene; None where the scene does not answer it, or the family only follows another.

    answer_language: where it is another. manner: how the question strays from its wording. elsewhere: what other scenes
    show, as often as they do: where nobody asks in vain for what is often there, its name alone means yes.
    """
    asker = _Asker(
        scene=scene,
        language=language,
        answer_language=answer_language or language,
        wording=wording,
        rng=rng,
        manner=manner,
        elsewhere=elsewhere,
    )
    if family in ("larger", "left", "right", "above", "below"):
        return asker.compared(family)
    if family.startswith("follow_"):
        return None
    found: Question | None = getattr(asker, family)()
    return found


def ask_whether(scene: Scene, thing: str, language: str, rng: random.Random, *, wording: Wording = "train") -> Question:
    """Whether a thing is in a scene of which everything is known."""
    asker = _Asker(scene=scene, language=language, answer_language=language, wording=wording, rng=rng)
    return asker.is_there("exists", thing)


def follow(
    scene: Scene,
    before: Question,
    rng: random.Random,
    *,
    wording: Wording = "train",
    family: Family | None = None,
    manner: Manner = PLAIN,
    elsewhere: Sequence[str] = (),
) -> Question | None:
    """A question that goes on from `before`; None where there is none. family: one that may follow, or one by chance;
    the rest as in `ask`."""
    families = [family] if family else list(FOLLOWED_BY.get(before.family, ()))
    rng.shuffle(families)
    asker = _Asker(
        scene=scene,
        language=before.language,
        answer_language=before.answer_language,
        wording=wording,
        rng=rng,
        manner=manner,
        elsewhere=elsewhere,
    )
    asked = (asker.following(before, one) for one in families)
    return next((question for question in asked if question is not None), None)


def questions(scene: Scene, language: str, rng: random.Random, *, wording: Wording = "train") -> list[Question]:
    """One question of every family that the scene answers by itself."""
    asked = (ask(scene, family, language, rng, wording=wording) for family in FAMILIES)
    return [question for question in asked if question is not None]
