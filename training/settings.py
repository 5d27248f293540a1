"""Settings of a stage in a file: YAML or JSON, named as the flags are, or the recipe.json beside a result."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from maya_core.errors import MayaError

_PARTS = ("train", "lora")  # of a recipe.json, whose settings are flags themselves
_OF_A_RESULT = ("run", "weights", "made_from", "figures")  # in a recipe.json, and nothing to be given


def read_settings(file: Path) -> dict[str, Any]:
    """What a file says, one setting a name. Raises MayaError where it cannot be read."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError:
        raise MayaError(f"There is no file {file} that can be read; check --config.") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise MayaError(f"{file.name} is neither YAML nor JSON in UTF-8; mend it.") from None
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise MayaError(f"{file.name} should have a line `name: value` for each setting.")
    is_result = "made_from" in content
    settings = {name: value for name, value in content.items() if not (is_result and name in _OF_A_RESULT)}
    for part in _PARTS:
        settings |= settings.pop(part, None) or {}
    return settings


def as_flags(settings: Mapping[str, Any]) -> Iterator[str]:
    """The same as on the command line; empty lists are left out."""
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        elif value not in ([], {}):
            yield f"--{flag}"
            yield from _words(value)


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from (str(key), str(one))
    elif isinstance(value, list):
        yield from map(str, value)
    else:
        yield str(value)
