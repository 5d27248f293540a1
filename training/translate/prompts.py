"""What a model is asked, and what it replied: one text as it is, or several as JSON."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from maya_core.errors import DataError
from maya_core.languages import get_language
from training.endpoint import without_repeats
from training.engine import ReplyUnusable

CANDIDATES = Path(__file__).with_name("preambles.toml")
ALL = "*"  # in a file of chosen preambles: every language that is not named
_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
_SEVERAL = (
    "The texts follow as a JSON list. Reply with a JSON list of the same form alone: the same ids, each with its text "
    "translated."
)


def load_candidates(file: Path = CANDIDATES) -> dict[str, str]:
    """The preambles in a file by name, in its order. Raises DataError."""
    try:
        entries = tomllib.loads(file.read_text("utf-8"))["preamble"]
        found = {str(entry["name"]): str(entry["text"]).strip() for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{file.name} cannot be read; it needs [[preamble]] tables, each with name and text.") from None
    for name, text in found.items():
        _check(name, text, file)
    return found


def load_preambles(chosen: str) -> dict[str, str]:
    """Preambles by language: of a name in preambles.toml the same for all, of a file those that a search has chosen.

    Raises DataError.
    """
    candidates = load_candidates()
    if chosen in candidates:
        return {ALL: candidates[chosen]}
    file = Path(chosen)
    if not file.is_file():
        raise DataError(
            f"There is no preamble {chosen}; name one of {', '.join(candidates)}, or a file of chosen ones."
        )
    try:
        found: dict[str, str] = json.loads(file.read_text("utf-8"))["preambles"]
        for name, text in found.items():
            _check(name, text, file)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{file.name} is no file of chosen preambles; the search of preambles writes one.") from None
    return found


def _check(name: str, text: str, file: Path) -> None:
    if "{language}" not in text:
        raise DataError(f"{file.name}: the preamble {name} does not say into which {{language}}.")


def prompt(preambles: Mapping[str, str], language: str, texts: Sequence[str]) -> str:
    """What is asked for texts, whose ids are their places from 1. Raises DataError where there is no preamble."""
    preamble = preambles.get(language) or preambles.get(ALL)
    if preamble is None:
        raise DataError(f"There is no preamble for {language}; search for it too.")
    asked = preamble.replace("{language}", get_language(language).english_name)
    if len(texts) == 1:
        return f"{asked}\n\n{texts[0]}"
    listed = [{"id": number, "text": text} for number, text in enumerate(texts, start=1)]
    return f"{asked}\n{_SEVERAL}\n\n{json.dumps(listed, ensure_ascii=False)}"


def replies(said: str, texts: int) -> dict[int, str]:
    """The translations in a reply to so many texts, by their places from 0; of an id that is missing or stands twice none.

    Raises ReplyUnusable where it is no such JSON.
    """
    if texts == 1:
        return {0: said}
    fenced = _FENCE.match(said.strip())
    try:
        listed = json.loads(fenced[1] if fenced else said, object_pairs_hook=without_repeats)
        pairs = [(entry["id"], entry["text"]) for entry in listed]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ReplyUnusable("not-json") from None
    counted: dict[int, list[str]] = {}
    for number, text in pairs:
        if isinstance(number, int) and 1 <= number <= texts and isinstance(text, str):
            counted.setdefault(number - 1, []).append(text)
    return {place: found[0] for place, found in counted.items() if len(found) == 1}
