"""Defects of a benchmark's folder, before a run is spent on it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maya_core.answering.language import answer_language
from maya_core.errors import DataError, ImageError
from maya_core.languages import CODES
from maya_core.model.images import open_image
from training.benchmarks.base import Benchmark, Item

PLACES = 5  # of each kind that are shown
ENOUGH = 12  # letters; of fewer the language is not asked about
HARMLESS = ("name-differs", "corrected-beside-first", "other-language", "duplicate-question", "miscounted")


@dataclass
class Found:
    """Defects of a kind: how many, and where the first are."""

    count: int = 0
    first: list[str] = field(default_factory=list)


def check(
    benchmark: Benchmark, folder: Path, on_item: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, Mapping[str, Found]]:
    """How many items there are, and what is wrong with them, by kind. on_item: is told how many are done, of how many."""
    kinds: dict[str, Found] = defaultdict(Found)
    try:
        items = benchmark.read(folder)
        remarks = list(benchmark.remarks(folder))
    except DataError as error:
        kinds["unreadable"] = Found(count=1, first=[str(error)])
        return 0, kinds
    pictures: dict[Path, str] = {}
    seen: dict[tuple[str, object], str] = {}
    for kind, place in remarks:
        _note(kinds, kind, place)
    for done, item in enumerate(items, start=1):
        place = f"{item.language}:{item.id}"
        for kind in _defects(item, benchmark, pictures):
            _note(kinds, kind, place)
        for kind, key in (("duplicate-id", item.id), ("duplicate-question", (item.prompt, _shown(item)))):
            if (item.language, key) in seen:
                _note(kinds, kind, f"{place} as {seen[item.language, key]}")
            seen.setdefault((item.language, key), place)
        on_item(done, len(items))
    return len(items), kinds


def can_run(kinds: Iterable[str]) -> bool:
    """Whether a run on the folder would measure what it should."""
    return all(kind in HARMLESS for kind in kinds)


def _defects(item: Item, benchmark: Benchmark, pictures: dict[Path, str]) -> Iterator[str]:
    if not item.prompt.strip():
        yield "empty-question"
    if item.reference in (None, "", [], ()):
        yield "empty-reference"
    if benchmark.answers_as_asked and _is_elsewhere(item):
        yield "other-language"
    if isinstance(item.picture, Path):
        if item.picture not in pictures:
            pictures[item.picture] = _wrong_with(item.picture)
        if pictures[item.picture]:
            yield pictures[item.picture]
    elif item.picture is not None and (wrong := _wrong_with(item.picture)):
        yield wrong


def _is_elsewhere(item: Item) -> bool:
    """Whether a question is plainly in another language than its folder's."""
    if item.language not in CODES or sum(map(str.isalpha, item.prompt)) < ENOUGH:
        return False
    found = answer_language(item.prompt, conversation=item.language)
    return bool(found.notice) or (found.is_plain and found.code != item.language)


def _wrong_with(picture: Path | bytes) -> str:
    if isinstance(picture, Path) and not picture.is_file():
        return "missing-picture"
    try:
        open_image(picture)
    except ImageError:
        return "unreadable-picture"
    return ""


def _shown(item: Item) -> object:
    return item.picture if isinstance(item.picture, Path) else hash(item.picture)


def _note(kinds: dict[str, Found], kind: str, place: str) -> None:
    found = kinds[kind]
    found.count += 1
    if len(found.first) < PLACES:
        found.first.append(place)
