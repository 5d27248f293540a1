"""What a person has chosen, kept in the platform's own folder for settings."""

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs

from maya_core.errors import MayaError
from maya_core.languages import CODES

Theme = Literal["system", "light", "dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)
MOST_TEMPERATURE = 1.5
MOST_TOKENS = (32, 1024)  # fewest and most for an answer's length


@dataclass(frozen=True, kw_only=True)
class Settings:
    """language: of the interface; None follows the browser. answer_language: None answers in the question's.
    native_digits: numbers in the language's own digits. model: None is the embedded one, else a folder or repository.
    """

    language: str | None = None
    answer_language: str | None = None
    theme: Theme = "system"
    native_digits: bool = False
    temperature: float = 0.0
    most_tokens: int = 256
    model: str | None = None

    def __post_init__(self) -> None:
        if self.language not in (None, *CODES) or self.answer_language not in (None, *CODES):
            raise ValueError(f"A language must be one of {', '.join(CODES)}.")
        if self.theme not in THEMES:
            raise ValueError(f"theme must be one of {', '.join(THEMES)}.")
        if not 0 <= self.temperature <= MOST_TEMPERATURE:
            raise ValueError(f"temperature must be 0 to {MOST_TEMPERATURE}, not {self.temperature}.")
        if not MOST_TOKENS[0] <= self.most_tokens <= MOST_TOKENS[1]:
            raise ValueError(f"most_tokens must be {MOST_TOKENS[0]} to {MOST_TOKENS[1]}, not {self.most_tokens}.")


class SettingsUnsaved(MayaError):
    """A choice holds until Maya ends, but cannot be written down."""


class SettingsFile:
    """The settings on the disk. A file that cannot be read counts as none; what is wrong in it is left out."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._unsaved: Settings | None = None  # what was chosen and could not be written
        self._change = threading.Lock()

    def load(self) -> Settings:
        return self._unsaved or self._read()

    def _read(self) -> Settings:
        try:
            kept = json.loads(self.file.read_text("utf-8"))
        except (OSError, ValueError):
            return Settings()
        settings = Settings()
        for field in fields(Settings):
            if isinstance(kept, dict) and field.name in kept:
                settings = _with(settings, field.name, kept[field.name])
        return settings

    def change(self, **changes: Any) -> Settings:
        """Save some fields anew; all of them come back. Raises ValueError for a value that cannot be, and SettingsUnsaved
        where the file cannot be written: then the choice holds all the same."""
        with self._change:
            settings = replace(self.load(), **changes)
            try:
                self._write(settings)
            except OSError as error:
                self._unsaved = settings
                raise SettingsUnsaved(
                    f"The settings cannot be written ({type(error).__name__}); look for free space and for the right to"
                    " write."
                ) from error
            self._unsaved = None
            return settings

    def _write(self, settings: Settings) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=self.file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                json.dump(asdict(settings), opened, indent=2)
            _put(fresh, self.file)
        except OSError:
            Path(fresh).unlink(missing_ok=True)
            raise


def _put(fresh: str, file: Path) -> None:
    """In the file's place. Windows refuses that while another process reads the file, which is soon over."""
    for patience in (0.05, 0.1, 0.2, 0.4, 0.0):
        try:
            os.replace(fresh, file)
            return
        except PermissionError:
            if not patience:
                raise
            time.sleep(patience)


def _with(settings: Settings, name: str, value: Any) -> Settings:
    numbers: dict[str, tuple[type, ...]] = {
        "native_digits": (bool,),
        "temperature": (int, float),
        "most_tokens": (int,),
    }
    if not isinstance(value, numbers.get(name, (str, type(None)))):
        return settings
    try:
        changed: dict[str, Any] = {name: value}
        return replace(settings, **changed)
    except ValueError:
        return settings


def settings_file() -> Path:
    return _at_home(platformdirs.user_config_path) / "settings.json"


def data_folder() -> Path:
    """Where conversations and their pictures are kept. Raises MayaError where the user has no home."""
    return _at_home(platformdirs.user_data_path)


def cache_folder() -> Path:
    """Where nothing is kept that could not be made anew. Raises MayaError where the user has no home."""
    return _at_home(platformdirs.user_cache_path)


def _at_home(place: Callable[[str], Path]) -> Path:
    try:
        return place("maya")
    except RuntimeError:  # platformdirs', where ~ stands for nothing
        raise MayaError("You have no home folder for Maya to keep things in; name one, such as HOME=/tmp/me.") from None
