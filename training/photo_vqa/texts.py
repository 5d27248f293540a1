"""What conversations about photographs are made of, for a tokenizer and for a table of words."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import chain

from training.photo_vqa.phrases import load_phrases, parts_of
from training.photo_vqa.things import load_names

# Forms of a name that are its own words: not an article before it, not a measure word.
INFLECTED = ("name", "plural", "gen", "acc", "nom_pl", "gen_pl", "obl", "obl_plural", "def", "dual", "latin")
COMMON = ("plural", "gen", "acc", "nom_pl", "gen_pl", "obl")
_AGREEING = re.compile(r"\w+:([^|\]]*)")


def is_spaced(language: str) -> bool:
    """Whether a language sets a space before a word."""
    return language not in ("zh", "ja")


@cache
def forms_of(language: str) -> dict[str, list[str]]:
    """The forms of all names, in the order of the things: by inflection, and `also` for what else most are called."""
    names = list(load_names(language).values())
    forms = {form: [name[form] for name in names] for form in INFLECTED if form in names[0].forms}
    return forms | {"also": [name.also[0] if name.also else name["name"] for name in names]}


def names_as_answers(language: str) -> list[str]:
    """What things are called where the name is all of an answer: with a large letter, where its language has them."""
    phrases = load_phrases(language)
    return [phrases.named(name) for name in load_names(language).values()]


def whole_answers(language: str) -> list[str]:
    """Names, places, colours, kinds and numbers as answers."""
    phrases = load_phrases(language)
    numbers = chain.from_iterable(phrases.numbers.values())
    said = [*phrases.places, *phrases.sides, *phrases.colours.values(), *phrases.kinds.values(), *numbers]
    return [*names_as_answers(language), *map(phrases.as_answer, said)]


def other_forms(language: str) -> list[list[tuple[str, str]]]:
    """Of each thing, its name and a form of it in which questions and answers have it."""
    forms = forms_of(language)
    others = [forms[form] for form in COMMON if form in forms]
    return [[(name, form[number]) for form in others] for number, name in enumerate(forms["name"])]


def sentences(language: str) -> Iterator[str]:
    """Names and parts of sentences, about as often as they should count.

    Sentences come in parts: were they whole, what is written without spaces would become one token, and a question that
    differs in one word would have nothing in common with it.
    """
    phrases = load_phrases(language)
    before = ("", " ") if is_spaced(language) else ("",)
    for form, names in forms_of(language).items():
        for name in names:
            yield from [space + name for space in before] * (24 if form == "name" else 8 if form != "also" else 2)
    yield from names_as_answers(language) * 24
    for named in load_names(language).values():
        yield from (space + other for space in before for other in named.also)
    for wordings in phrases.asked.values():
        for wording in wordings.train:
            yield from _plain_parts(wording)
    said = [*phrases.said.values(), *phrases.places, *phrases.sides, *phrases.colours.values(), *phrases.kinds.values()]
    for text in chain(said, *phrases.numbers.values()):
        yield from [*_plain_parts(text), *_plain_parts(phrases.as_answer(text))] * 20


def _plain_parts(text: str) -> Iterator[str]:
    for part in parts_of(text):
        if "[" in part:
            yield from _AGREEING.findall(part)
        elif "{" not in part:
            yield part
