"""Questions about scenes and their answers, in ten languages. The words lie in `phrases/*.toml`, one file a language."""

import random
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from babel.lists import format_list

from maya_core.languages import get_language
from training.emoji_vqa.scenes import CELLS, COLOURS, Scene, Split, Thing
from training.emoji_vqa.vocabulary import CATEGORIES, load_vocabulary

Family = Literal["name", "place", "where", "exists", "count_all", "count", "colour", "category", "relation", "describe"]
FAMILIES: tuple[Family, ...] = get_args(Family)
RELATIONS = ("left", "right", "above", "below", "larger")

MOST_DESCRIBED = 4  # things in a scene that is described
CLEAR_SHIFT = 0.15  # of the picture's side: less apart than this, nothing is asked about left or above
CLEAR_ORDER = 0.05
CLEAR_RATIO = 1.2  # of sizes


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """What one language needs to ask and to answer. wordings: by kind of question, the last one never trained; later: more
    of some kinds, of words that the tokenizer may not know, for the last stage of training."""

    wordings: Mapping[str, tuple[str, ...]]
    later: Mapping[str, tuple[str, ...]]
    places: tuple[str, ...]
    yes: str
    no: str
    colours: Mapping[str, str]
    categories: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question in `language` with the answer that its scene gives."""

    family: Family
    language: str
    text: str
    answer: str


@cache
def load_phrases(language: str) -> Phrases:
    fields = tomllib.loads((Path(__file__).parent / "phrases" / f"{language}.toml").read_text("utf-8"))
    phrases = Phrases(
        wordings={kind: tuple(wordings) for kind, wordings in fields["questions"].items()},
        later={kind: tuple(wordings) for kind, wordings in fields["later"].items()},
        places=tuple(fields["places"]),
        yes=fields["yes"],
        no=fields["no"],
        colours=fields["colours"],
        categories=fields["categories"],
    )
    assert len(phrases.places) == CELLS
    assert set(phrases.colours) == set(COLOURS)
    assert set(phrases.categories) == set(CATEGORIES)
    return phrases


def is_spaced(language: str) -> bool:
    """Whether a language sets a space before a word."""
    return any(" " in wording for wording in load_phrases(language).wordings["name"])


def concept_name(concept: int, language: str) -> str:
    return load_vocabulary()[concept].names[language]


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
    _, _, answer = _ASKERS[family](scene, answer_language, same_chance)
    phrases = load_phrases(language)
    choice = phrases.wordings[kind][-1:] if held_out else phrases.wordings[kind][:-1]
    if kind == "describe" and not held_out:
        choice += phrases.wordings["name"][:2]  # "What is this?" of several things asks for all of them
    if later and not held_out:
        choice += phrases.later.get(kind, ())
    text = without_words(rng.choice(choice), dropped, rng).format(**fields)
    return Question(family=family, language=language, text=text, answer=answer)


def without_words(wording: str, share: float, rng: random.Random) -> str:
    """A wording with each of its words (where none are marked by spaces: its characters) left out with chance `share`; the
    whole wording where nothing would be left."""
    if not share:
        return wording
    kept = (part for part in _PARTS.findall(wording) if "{" in part or rng.random() >= share)
    return "".join(kept).strip() or wording


# A field, a character of a script that is written without spaces, any other word; each with the space before it.
_PARTS = re.compile(r"\s*(?:\{\w+\}|[\u3040-\u30ff\u3400-\u9fff]|[^\s{\u3040-\u30ff\u3400-\u9fff]+)")


def _name(scene: Scene, language: str, _: random.Random) -> tuple[str, dict[str, str], str]:
    return "name", {}, concept_name(scene.concepts[0], language)


def _place(scene: Scene, language: str, rng: random.Random) -> tuple[str, dict[str, str], str]:
    thing = rng.choice(scene.things)
    return "place", {"place": load_phrases(language).places[thing.cell]}, concept_name(thing.concept, language)


def _where(scene: Scene, language: str, rng: random.Random) -> tuple[str, dict[str, str], str]:
    thing = rng.choice(_single(scene))
    return "where", {"name": concept_name(thing.concept, language)}, load_phrases(language).places[thing.cell]


def _exists(scene: Scene, language: str, rng: random.Random) -> tuple[str, dict[str, str], str]:
    phrases = load_phrases(language)
    if rng.random() < 0.5:
        return "exists", {"name": concept_name(rng.choice(scene.concepts), language)}, phrases.yes
    absent = rng.choice([concept for concept in range(len(load_vocabulary())) if concept not in scene.concepts])
    return "exists", {"name": concept_name(absent, language)}, phrases.no


def _count_all(scene: Scene, language: str, _: random.Random) -> tuple[str, dict[str, str], str]:
    return "count_all", {}, str(len(scene.things))


def _count(scene: Scene, language: str, rng: random.Random) -> tuple[str, dict[str, str], str]:
    concept = rng.choice(scene.concepts)
    return "count", {"name": concept_name(concept, language)}, str(scene.concepts.count(concept))


def _colour(scene: Scene, language: str, _: random.Random) -> tuple[str, dict[str, str], str]:
    return "colour", {}, load_phrases(language).colours[scene.colour]


def _category(scene: Scene, language: str, _: random.Random) -> tuple[str, dict[str, str], str]:
    return "category", {}, load_phrases(language).categories[load_vocabulary()[scene.concepts[0]].category]


def _relation(scene: Scene, language: str, rng: random.Random) -> tuple[str, dict[str, str], str]:
    relation, one, other = rng.choice(_relations(scene))
    answer = concept_name(one.concept, language)
    names = [answer, concept_name(other.concept, language)]
    rng.shuffle(names)
    return relation, dict(zip("ab", names, strict=True)), answer


def _describe(scene: Scene, language: str, _: random.Random) -> tuple[str, dict[str, str], str]:
    return "describe", {}, caption(scene, language)


_ASKERS: Mapping[Family, Callable[[Scene, str, random.Random], tuple[str, dict[str, str], str]]] = {
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
    names = [concept_name(thing.concept, language) for thing in sorted(scene.things, key=lambda thing: thing.x)]
    return format_list(names, locale=get_language(language).locale)


# --- for the tokenizer ---


def sentences(language: str) -> Iterator[str]:
    """What a training conversation in a language is made of, about as often as it is used there.

    Wordings and lists come in parts: were they whole, what is written without spaces would become one token, and a question
    that differs in one word would have nothing in common with it.
    """
    phrases, locale = load_phrases(language), get_language(language).locale
    parts = [
        part for wordings in phrases.wordings.values() for wording in wordings[:-1] for part in _PARTS.findall(wording)
    ]
    before = ("", " ") if is_spaced(language) else ("",)
    names = [concept.names[language] for concept in load_vocabulary()]
    answers = [*phrases.colours.values(), *phrases.categories.values(), phrases.yes, phrases.no, *map(str, range(10))]
    lists = [format_list(["1", "2", "3", "4"][:number], locale=locale) for number in (2, 3, 4)]
    yield from (space + name for space in before for name in names * 4)
    yield from (space + place for space in before for place in phrases.places * 20)
    yield from [*(part for part in parts if "{" not in part), *answers, *lists] * 20
