"""How questions are put and answers given, in ten languages: `phrases/*.toml`, one file a language, and the few rules of
grammar that a file cannot say.

A wording has slots: `{FORM}` for a thing (`{FORM1}` and `{FORM2}` for two), by the names in `things.FORMS`, and `{side}`;
`[m:...|f:...]` gives what agrees with the (first) thing's gender.
"""

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from babel.lists import format_list

from maya_core.languages import CODES, get_language
from training.photo_vqa.things import HERE, Name

Family = Literal[
    "what", "exists", "count", "where", "side", "colour_of", "background", "kind", "breed", "describe", "either", "check",
    "larger", "left", "right", "above", "below",
    "follow_side", "follow_exists", "follow_count", "follow_colour", "follow_where", "follow_kind",
]  # fmt: skip
FAMILIES: tuple[Family, ...] = get_args(Family)
ONE_THING = ("exists", "count", "where", "colour_of", "check", "follow_exists")
TWO_THINGS = ("either", "larger", "left", "right", "above", "below")
A_SIDE = ("side", "follow_side")

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "grey", "white", "black")
SIDES = ("left", "right", "top", "bottom", "middle")

_SLOT = re.compile(r"\{(\w+)\}")
_AGREEING = re.compile(r"\[((?:\w+:[^|\]]*\|)*\w+:[^|\]]*)\]")
# A slot, words that agree, a character of a script that is written without spaces, any other word; each with the space
# before it.
_PARTS = re.compile(r"\s*(?:\{\w+\}|\[[^\]]*\]|[\u3040-\u30ff\u3400-\u9fff]|[^\s{\[\u3040-\u30ff\u3400-\u9fff]+)")
_CASED = ("en", "fr", "es", "ru")
_INDEFINITE = {
    "en": "a",
    "fr": "un",
    "es": "un",
}  # the form of a name that an answer gives, where it is not the bare one
_ADJECTIVE, _ADJECTIVES = re.compile(r"(ого|его|ой|ей)$"), re.compile(r"(ых|их)$")  # Russian, genitive, one and many


@dataclass(frozen=True, kw_only=True)
class Wordings:
    """Of one family: those that are trained, and those that never are."""

    train: tuple[str, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Phrases:
    """One language. asked: by family. said: sentences with slots, by name. places: row by row of a grid of three by three;
    sides: as SIDES. numbers: one to ten, by gender where that matters, else under `""`."""

    language: str
    asked: Mapping[Family, Wordings]
    said: Mapping[str, str]
    places: tuple[str, ...]
    sides: tuple[str, ...]
    numbers: Mapping[str, tuple[str, ...]]
    colours: Mapping[str, str]
    kinds: Mapping[str, str]

    def question(self, wording: str, *things: Name, side: int | None = None) -> str:
        """A wording with its slots filled. side: its place in SIDES."""
        agreed = _AGREEING.sub(lambda match: _agreeing(match[1], things[0]), wording)

        def word(match: re.Match[str]) -> str:
            slot = match[1]
            if slot == "side":
                assert side is not None
                return self.sides[side]
            which = int(slot[-1]) - 1 if slot[-1].isdigit() else 0
            return things[which][slot.rstrip("12")]

        return _SLOT.sub(word, agreed)

    def sentence(self, name: str, thing: Name | None = None) -> str:
        """One of the sentences of `said`."""
        return self.question(self.said[name], *([thing] if thing else []))

    def indefinite(self, thing: Name) -> str:
        """What something is, inside a sentence: "a dog"."""
        return thing[_INDEFINITE.get(self.language, "name")]

    def named(self, thing: Name) -> str:
        """What something is, as an answer: "A dog"."""
        return self.as_answer(self.indefinite(thing))

    @property
    def begins_large(self) -> bool:
        """Whether a sentence begins with a capital letter."""
        return self.language in _CASED

    def as_answer(self, text: str) -> str:
        """As a sentence begins."""
        return text[:1].upper() + text[1:] if self.begins_large else text

    def listed(self, parts: Sequence[str]) -> str:
        """Things, each as inside a sentence, as one answer, as the language writes a list."""
        return self.as_answer(format_list(parts, locale=get_language(self.language).locale))

    def several(self, number: int, thing: Name) -> str:
        """How many there are, one to ten, inside a sentence: "two dogs"."""
        return _COUNTED.get(self.language, _plural)(self, number, thing)

    def counted(self, number: int, thing: Name) -> str:
        """How many there are, as an answer: "Two dogs"."""
        return self.as_answer(self.several(number, thing))

    def number(self, number: int, gender: str = "") -> str:
        """The word for one to ten before a noun."""
        return (self.numbers.get(gender) or self.numbers.get("") or self.numbers["m"])[number - 1]


def gender_of(thing: Name) -> str:
    """As numbers agree with it; empty where they do not."""
    if "un" in thing.forms and "gender" not in thing.forms:  # French says it by the article
        return "f" if thing["un"].startswith("une ") else "m"
    return thing.forms.get("gender", "")


def _agreeing(variants: str, thing: Name) -> str:
    chosen = dict(variant.split(":", 1) for variant in variants.split("|"))
    return chosen.get(thing["gender"], chosen.get("m", ""))


def parts_of(wording: str) -> list[str]:
    """The words of a wording, slots among them."""
    return _PARTS.findall(wording)


def without_words(wording: str, share: float, rng: random.Random) -> str:
    """A wording with each of its words (where none are marked by spaces: its characters) left out with chance `share`; the
    whole wording where nothing would be left. Slots stay."""
    if not share:
        return wording
    kept = (part for part in parts_of(wording) if "{" in part or rng.random() >= share)
    return "".join(kept).strip() or wording


# --- how many: what each language does with a number and a noun ---


def _plural(phrases: Phrases, number: int, thing: Name) -> str:
    return f"{phrases.number(number, gender_of(thing))} {thing['name' if number == 1 else 'plural']}"


def _french(phrases: Phrases, number: int, thing: Name) -> str:
    if number == 1:
        return thing["un"]
    return f"{phrases.number(number, gender_of(thing))} {thing['plural']}"


def _spanish(phrases: Phrases, number: int, thing: Name) -> str:
    """One is as the article, for "un águila" is feminine."""
    return thing["un"] if number == 1 else _plural(phrases, number, thing)


def _russian(phrases: Phrases, number: int, thing: Name) -> str:
    word = phrases.number(number, thing["gender"])
    if number == 1:
        return f"{word} {thing['name']}"
    if thing["gender"] == "pl" or number > 4:
        return f"{word} {thing['gen_pl']}"
    one, many = thing["gen"].split(), thing["gen_pl"].split()
    if len(one) != len(many):  # "кофе", but "две чашки кофе", "два куска сыра"
        portions, of = many[0], " ".join(many[1:])
        if portions.endswith("ов"):
            return f"{phrases.number(number, 'm')} {portions.removesuffix('ов')}а {of}"
        return f"{phrases.number(number, 'f')} {thing['nom_pl']}"
    # "два плюшевых мишки": an adjective is plural, its noun is not
    few = [
        plural if _ADJECTIVE.search(single) and _ADJECTIVES.search(plural) else single
        for single, plural in zip(one, many, strict=True)
    ]
    return f"{word} {' '.join(few)}"


def _arabic(phrases: Phrases, number: int, thing: Name) -> str:
    """Three to ten take the other gender's form, and the plural; two is the dual."""
    gender = thing["gender"]
    if number == 1:
        return f"{thing['name']} {phrases.number(1, gender)}"
    if number == 2:
        return thing["dual"]
    return f"{phrases.number(number, gender)} {thing['plural']}"


def _bengali(phrases: Phrases, number: int, thing: Name) -> str:
    word = "দু" if number == 2 else phrases.number(number)
    return f"{word}{thing['classifier']} {thing['name']}"


def _chinese(phrases: Phrases, number: int, thing: Name) -> str:
    return f"{phrases.number(number)}{thing['measure']}{thing['name']}"


def _japanese(_: Phrases, number: int, thing: Name) -> str:
    return f"{thing['name']}が{number}{thing['counter']}"


_COUNTED = {
    "fr": _french,
    "es": _spanish,
    "ru": _russian,
    "ar": _arabic,
    "bn": _bengali,
    "zh": _chinese,
    "ja": _japanese,
}


@cache
def words_of_doubt() -> dict[str, list[str]]:
    """As a model's config has them: by language what an answer in doubt is said with, and what is never said so."""
    said = {code: load_phrases(code).said for code in CODES}
    return {code: [_SLOT.sub("{}", one["unsure"]), one["yes"], one["no"]] for code, one in said.items()}


@cache
def load_phrases(language: str) -> Phrases:
    fields: dict[str, Any] = tomllib.loads((HERE / "phrases" / f"{language}.toml").read_text("utf-8"))
    asked = fields.pop("ask")
    numbers = fields.pop("numbers")
    return Phrases(
        language=language,
        asked={
            family: Wordings(train=tuple(asked[family]["train"]), held=tuple(asked[family]["held"]))
            for family in FAMILIES
        },
        places=tuple(fields.pop("places")),
        sides=tuple(fields.pop("sides")),
        numbers=_by_gender(numbers),
        colours=fields.pop("colours"),
        kinds=fields.pop("kinds"),
        said=fields,
    )


def _by_gender(numbers: Sequence[str] | Mapping[str, Sequence[str]]) -> Mapping[str, tuple[str, ...]]:
    if isinstance(numbers, Mapping):
        return {gender: tuple(words) for gender, words in numbers.items()}
    return {"": tuple(numbers)}
