"""Questions about scenes and their answers, in ten languages. Their wordings lie in `phrases/*.toml`, one file a language;
names, and what answers say, are those of the world of photographs, so that a drawing is called what a photograph is."""

import random
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from training.emoji_vqa.scenes import Scene, Split, Thing
from training.emoji_vqa.vocabulary import load_vocabulary
from training.photo_vqa.phrases import load_phrases as answers_of
from training.photo_vqa.phrases import parts_of, without_words
from training.photo_vqa.things import Name, by_emoji, load_names, load_things

Family = Literal["name", "place", "where", "exists", "count_all", "count", "colour", "category", "relation", "describe"]
FAMILIES: tuple[Family, ...] = get_args(Family)
RELATIONS = ("left", "right", "above", "below", "larger")

MOST_DESCRIBED = 4  # things in a scene that is described
CLEAR_SHIFT = 0.15  # of the picture's side: less apart than this, nothing is asked about left or above
CLEAR_ORDER = 0.05
CLEAR_RATIO = 1.2  # of sizes


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """How one language asks. wordings: by kind of question, the last one never trained; later: more of some kinds."""

    wordings: Mapping[str, tuple[str, ...]]
    later: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question in `language` with the answer that its scene gives. accepted: answers that say the same."""

    family: Family
    language: str
    text: str
    answer: str
    accepted: tuple[str, ...] = ()


@cache
def load_phrases(language: str) -> Phrases:
    fields = tomllib.loads((Path(__file__).parent / "phrases" / f"{language}.toml").read_text("utf-8"))
    return Phrases(
        wordings={kind: tuple(wordings) for kind, wordings in fields["questions"].items()},
        later={kind: tuple(wordings) for kind, wordings in fields["later"].items()},
    )


def thing_of(concept: int) -> str:
    """The id of the thing that a drawing shows."""
    return by_emoji()[load_vocabulary()[concept].id]


def name_of(concept: int, language: str) -> Name:
    return load_names(language)[thing_of(concept)]


def concept_name(concept: int, language: str) -> str:
    return name_of(concept, language)["name"]


def naming(concept: int, language: str) -> "Said":
    """An answer that names a thing, and others that do."""
    name = name_of(concept, language)
    said = answers_of(language).named(name)
    return Said(said, (name["name"], *name.also, load_vocabulary()[concept].names[language]))


class Said(NamedTuple):
    """An answer, and others that say the same."""

    answer: str
    accepted: tuple[str, ...] = ()


# --- which questions a scene allows ---


def families_for(scene: Scene) -> tuple[Family, ...]:
    """The families that have one right answer on this scene."""
    alone = len(scene.things) == 1
    allowed: dict[Family, bool] = {
        "name": alone,
        "place": not alone,
        "where": not alone and bool(_single(scene)),
        "exists": True,
        "count_all": True,
        "count": True,
        "colour": True,
        "category": alone,
        "relation": bool(_relations(scene)),
        "describe": len(scene.things) <= MOST_DESCRIBED and _is_ordered(scene),
    }
    return tuple(family for family in FAMILIES if allowed[family])


def _is_ordered(scene: Scene) -> bool:
    places = sorted(thing.x for thing in scene.things)
    return all(right - left >= CLEAR_ORDER for left, right in pairwise(places))


def _single(scene: Scene) -> list[Thing]:
    """Things whose like is not there a second time."""
    return [thing for thing in scene.things if scene.concepts.count(thing.concept) == 1]


def _relations(scene: Scene) -> list[tuple[str, Thing, Thing]]:
    """(relation, the thing for which it holds, the other), between things that are there once."""
    single = _single(scene)
    found = []
    for one in single:
        for other in single:
            holds = {
                "left": other.x - one.x >= CLEAR_SHIFT,
                "right": one.x - other.x >= CLEAR_SHIFT,
                "above": other.y - one.y >= CLEAR_SHIFT,
                "below": one.y - other.y >= CLEAR_SHIFT,
                "larger": one.size >= CLEAR_RATIO * other.size,
            }
            found += [(relation, one, other) for relation in RELATIONS if holds[relation]]
    return found


# --- asking ---


def ask(
    scene: Scene,
    family: Family,
    language: str,
    rng: random.Random,
    split: Split | None = None,
    *,
    answer_language: str | None = None,
    dropped: float = 0.0,
    later: bool = False,
) -> Question:
    """A question of a family that the scene allows, worded by chance; `split` is the scene's where not given. The
    answer is in `answer_language`, where that is given. dropped: the chance of each word of the wording to be left out.
    later: whether the wordings of the last stage of training are among them.

    The split `phrasing` takes the wording that no other split takes.
    """
    held_out = (split or scene.split) == "phrasing"
    answer_language = answer_language or language
    same_chance = random.Random()
    same_chance.setstate(rng.getstate())
    kind, fields, _ = _ASKERS[family](scene, language, rng)
    _, _, said = _ASKERS[family](scene, answer_language, same_chance)
    phrases = load_phrases(language)
    choice = phrases.wordings[kind][-1:] if held_out else phrases.wordings[kind][:-1]
    if kind == "describe" and not held_out:
        choice += phrases.wordings["name"][:2]  # "What is this?" of several things asks for all of them
    if later and not held_out:
        choice += phrases.later.get(kind, ())
    text = without_words(rng.choice(choice), dropped, rng).format(**fields)
    return Question(family=family, language=language, text=text, answer=said.answer, accepted=said.accepted)


def _name(scene: Scene, language: str, _: random.Random) -> "Asked":
    return "name", {}, naming(scene.concepts[0], language)


def _place(scene: Scene, language: str, rng: random.Random) -> "Asked":
    thing = rng.choice(scene.things)
    return "place", {"place": answers_of(language).places[thing.cell]}, naming(thing.concept, language)


def _where(scene: Scene, language: str, rng: random.Random) -> "Asked":
    thing = rng.choice(_single(scene))
    phrases = answers_of(language)
    said = Said(phrases.as_answer(phrases.places[thing.cell]))
    return "where", {"name": concept_name(thing.concept, language)}, said


def _exists(scene: Scene, language: str, rng: random.Random) -> "Asked":
    is_there = rng.random() < 0.5
    absent = [concept for concept in range(len(load_vocabulary())) if concept not in scene.concepts]
    concept = rng.choice(scene.concepts if is_there else absent)
    phrases, name = answers_of(language), name_of(concept, language)
    said = phrases.sentence("there" if is_there else "not_there", name)
    return "exists", {"name": name["name"]}, Said(said, (phrases.said["yes" if is_there else "no"],))


def _count_all(scene: Scene, language: str, _: random.Random) -> "Asked":
    return "count_all", {}, Said(str(len(scene.things)))


def _count(scene: Scene, language: str, rng: random.Random) -> "Asked":
    concept = rng.choice(scene.concepts)
    number, name = scene.concepts.count(concept), name_of(concept, language)
    return "count", {"name": name["name"]}, Said(answers_of(language).counted(number, name), (str(number),))


def _colour(scene: Scene, language: str, _: random.Random) -> "Asked":
    phrases = answers_of(language)
    return "colour", {}, Said(phrases.as_answer(phrases.colours[scene.colour]))


def _category(scene: Scene, language: str, _: random.Random) -> "Asked":
    phrases = answers_of(language)
    return "category", {}, Said(phrases.as_answer(phrases.kinds[load_things()[thing_of(scene.concepts[0])].kind]))


def _relation(scene: Scene, language: str, rng: random.Random) -> "Asked":
    relation, one, other = rng.choice(_relations(scene))
    names = [concept_name(one.concept, language), concept_name(other.concept, language)]
    rng.shuffle(names)
    return relation, dict(zip("ab", names, strict=True)), naming(one.concept, language)


def _describe(scene: Scene, language: str, _: random.Random) -> "Asked":
    concepts = [thing.concept for thing in sorted(scene.things, key=lambda thing: thing.x)]
    plain = [concept_name(concept, language) for concept in concepts]
    return "describe", {}, Said(caption(scene, language), (answers_of(language).listed(plain),))


Asked = tuple[str, dict[str, str], Said]  # kind of wording, what its slots hold, answer

_ASKERS: Mapping[Family, Callable[[Scene, str, random.Random], Asked]] = {
    "name": _name,
    "place": _place,
    "where": _where,
    "exists": _exists,
    "count_all": _count_all,
    "count": _count,
    "colour": _colour,
    "category": _category,
    "relation": _relation,
    "describe": _describe,
}


def caption(scene: Scene, language: str) -> str:
    """Everything in the scene from left to right, as the language writes a list."""
    phrases = answers_of(language)
    things = sorted(scene.things, key=lambda thing: thing.x)
    return phrases.listed([phrases.indefinite(name_of(thing.concept, language)) for thing in things])


# --- for the tokenizer ---


def sentences(language: str) -> Iterator[str]:
    """The parts of a language's wordings, for a tokenizer: see `photo_vqa.texts.sentences`."""
    for wordings in load_phrases(language).wordings.values():
        for wording in wordings[:-1]:
            yield from (part for part in parts_of(wording) if "{" not in part)
