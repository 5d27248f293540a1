"""Questions that a scene answers, as people put them, in ten languages."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeVar

from training.photo_vqa.phrases import FAMILIES, Family, Phrases, load_phrases
from training.photo_vqa.scenes import Scene, Seen
from training.photo_vqa.things import Name, load_names, load_things
from training.scoring import normalise

Wording = Literal["train", "held"]
T = TypeVar("T")

CLEAR_SHIFT = 0.2  # of the picture's side: less apart than this, nothing is asked about left or above
CLEAR_RATIO = 1.5  # of areas
MOST_COUNTED = 4
MOST_DESCRIBED = 3
LEAST_AREA = 0.01  # of a picture: smaller things are not asked about by place
# The sides of a picture, as phrases.SIDES, by the cells of a grid of three by three that belong to each.
CELLS_OF_SIDES = ((0, 3, 6), (2, 5, 8), (0, 1, 2), (6, 7, 8), (4,))


@dataclass(frozen=True, kw_only=True)
class Question:
    """accepted: answers that say the same as `answer`, which is the one that is taught."""

    family: Family
    language: str
    text: str
    answer: str
    accepted: tuple[str, ...] = ()

    def is_right(self, given: str) -> bool:
        """Whether an answer says what is wanted, in the question's language."""
        said = normalise(given, self.language)
        return any(said == normalise(one, self.language) for one in (self.answer, *self.accepted))


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """What is needed to put a question about a scene."""

    scene: Scene
    language: str
    wording: Wording
    rng: random.Random

    @property
    def phrases(self) -> Phrases:
        return load_phrases(self.language)

    @property
    def names(self) -> Mapping[str, Name]:
        return load_names(self.language)

    def put(
        self,
        family: Family,
        answer: str,
        accepted: Sequence[str] = (),
        things: Sequence[str] = (),
        side: int | None = None,
    ) -> Question:
        wordings = getattr(self.phrases.asked[family], self.wording)
        text = self.phrases.question(self.rng.choice(wordings), *(self.names[thing] for thing in things), side=side)
        return Question(family=family, language=self.language, text=text, answer=answer, accepted=tuple(accepted))

    def naming(self, thing: str) -> tuple[str, list[str]]:
        """An answer that names a thing, and all that say the same."""
        name = self.names[thing]
        forms = [name[form] for form in ("name", "a", "un", "the", "le", "el", "def", "acc") if form in name.forms]
        return self.phrases.named(name), [*forms, *name.also]

    # --- families ---

    def what(self) -> Question | None:
        if len(self.scene.things) != 1:
            return None
        answer, accepted = self.naming(self.scene.things[0].thing)
        parent = load_things()[self.scene.things[0].thing].parent
        return self.put("what", answer, [*accepted, *(self.naming(parent)[1] if parent else ())])

    def exists(self) -> Question | None:
        there = sorted({seen.thing for seen in self.scene.things})
        if there and self.rng.random() < 0.5:
            thing = self.rng.choice(there)
            return self.put(
                "exists", self.phrases.sentence("there", self.names[thing]), [self.phrases.said["yes"]], [thing]
            )
        thing = self.absent()
        return self.put(
            "exists", self.phrases.sentence("not_there", self.names[thing]), [self.phrases.said["no"]], [thing]
        )

    def count(self) -> Question | None:
        if not self.scene.lists_all and len(self.scene.photographs) < 2:  # there may be more of them
            return None
        counts = {
            seen.thing: sum(other.thing == seen.thing for other in self.scene.things) for seen in self.scene.things
        }
        thing = self.one_of([thing for thing, number in counts.items() if number <= MOST_COUNTED])
        if thing is None:
            return None
        number = counts[thing]
        accepted = (str(number), self.phrases.number(number, self.names[thing].forms.get("gender", "")))
        return self.put("count", self.phrases.counted(number, self.names[thing]), accepted, [thing])

    def where(self) -> Question | None:
        seen = self.one_of([seen for seen in self.single() if seen.width * seen.height < 0.5])
        if seen is None:
            return None
        return self.put("where", self.phrases.as_answer(self.phrases.places[seen.cell]), (), [seen.thing])

    def side(self) -> Question | None:
        sides = []
        for side, cells in enumerate(CELLS_OF_SIDES):
            there = [seen for seen in self.scene.things if seen.cell in cells]
            if len(there) == 1 and len(self.scene.things) > 1:
                sides.append((side, there[0]))
        found = self.one_of(sides)
        if found is None:
            return None
        side, seen = found
        answer, accepted = self.naming(seen.thing)
        return self.put("side", answer, accepted, side=side)

    def kind(self) -> Question | None:
        if len(self.scene.things) != 1:
            return None
        return self.put(
            "kind", self.phrases.as_answer(self.phrases.kinds[load_things()[self.scene.things[0].thing].kind])
        )

    def describe(self) -> Question | None:
        things = sorted(self.scene.things, key=lambda seen: seen.x)
        if not 1 <= len(things) <= MOST_DESCRIBED or len({seen.thing for seen in things}) < len(things):
            return None
        said = self.naming(things[0].thing)[0]
        for seen in things[1:]:
            second = self.naming(seen.thing)[0]
            second = second[:1].lower() + second[1:]
            said = self.phrases.said["and"].replace("{first}", said).replace("{second}", second)
        return self.put("describe", said)

    def either(self) -> Question | None:
        if len(self.scene.things) != 1:
            return None
        pair = [self.scene.things[0].thing, self.absent()]
        self.rng.shuffle(pair)
        answer, accepted = self.naming(self.scene.things[0].thing)
        return self.put("either", answer, accepted, pair)

    def check(self) -> Question | None:
        if len(self.scene.things) != 1:
            return None
        thing = self.scene.things[0].thing
        if self.rng.random() < 0.5:
            return self.put(
                "check",
                self.phrases.as_answer(self.phrases.said["yes"]),
                [self.phrases.sentence("there", self.names[thing])],
                [thing],
            )
        answer = self.phrases.sentence("is_not", self.names[thing])
        return self.put("check", answer, [self.phrases.said["no"]], [self.absent()])

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
        answer, accepted = self.naming(pair[0].thing)
        return self.put(family, answer, accepted, asked)

    # --- what they need ---

    def single(self) -> list[Seen]:
        """Things whose like is not there a second time, and that are not too small."""
        things = [seen.thing for seen in self.scene.things]
        return [
            seen
            for seen in self.scene.things
            if things.count(seen.thing) == 1 and seen.width * seen.height >= LEAST_AREA
        ]

    def absent(self) -> str:
        """A thing that is not in the scene, nor any that people call by one of its names or that it is a sort of."""
        things, there = load_things(), {seen.thing for seen in self.scene.things}
        said = {word.casefold() for thing in there for word in self.names[thing].said}
        kinds = {things[thing].kind for thing in there}
        related = ({things[thing].parent for thing in there} | there) - {""}
        listed = [thing for thing in things.values() if thing.coco or not self.scene.lists_all]
        free = [
            thing.id
            for thing in listed
            if thing.id not in related
            and thing.parent not in related
            and not said & {word.casefold() for word in self.names[thing.id].said}
        ]
        alike = [thing for thing in free if things[thing].kind in kinds]
        return self.rng.choice(alike if alike and self.rng.random() < 0.5 else free)

    def one_of(self, choices: Sequence[T]) -> T | None:
        return self.rng.choice(list(choices)) if choices else None


def ask(
    scene: Scene, family: Family, language: str, rng: random.Random, *, wording: Wording = "train"
) -> Question | None:
    """A question of a family about a scene; None where the scene does not answer it."""
    asker = _Asker(scene=scene, language=language, wording=wording, rng=rng)
    if family in ("larger", "left", "right", "above", "below"):
        return asker.compared(family)
    found: Question | None = getattr(asker, family, lambda: None)()
    return found


def questions(scene: Scene, language: str, rng: random.Random, *, wording: Wording = "train") -> list[Question]:
    """One question of every family that the scene answers."""
    asked = (ask(scene, family, language, rng, wording=wording) for family in FAMILIES)
    return [question for question in asked if question is not None]
