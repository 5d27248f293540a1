"""Where a model is written: a folder that is new, empty or, where one asks for it, another model's; whole or not at all.

The files are made in `FRESH` inside that folder, synced, verified and listed in `LISTED`. Then they are moved to their
places, last what makes a model of them, the configuration; that of a model which was there goes first. So a process may
die at any moment: a folder holds its old model, none, or the new one, and the next attempt clears up. What a person keeps
there besides is never touched.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from maya_core.assets import typed_path
from maya_core.errors import CheckpointNotFound, DestinationError, DiskFull, RunBusy
from maya_core.hardware import in_words
from maya_core.weights.durable import LOCK, exclusive, is_full, share, sync

FRESH, LISTED = ".maya-new", "files.json"
CONFIGS = ("config.json", "adapter_config.json")  # what makes a folder a model's
RECIPE = "recipe.json"  # of what a training stage has made
RUN = "run.json"  # of a run, whose checkpoints lie one or two folders below
_WRITTEN_HERE = ("maya", "llava")  # values of model_type
# what goes with the model that is replaced; a tokenizer may be a person's own, and stays where no other comes
_REPLACED = re.compile(
    r"((adapter_)?model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
    r"|language_model\.gguf|(generation_|processor_|preprocessor_|adapter_)?config\.json|chat_template\.jinja|recipe\.json)"
)


def claim(folder: str | Path, *, sources: Iterable[Path] = (), overwrite: bool = False, needed: int = 0) -> None:
    """Raise DestinationError unless a model may be written into `folder`, DiskFull where fewer
    than `needed` bytes are free.

    sources: folders that are read, which it must neither be, hold nor lie in. overwrite: another model, though nothing
    else, may be replaced. Nothing is written, but where an attempt was killed as it moved its whole model into place,
    that is brought to its end.
    """
    place = _resolved(folder)
    with _told(place, needed):
        there = next(path for path in (place, *place.parents) if path.exists())
        if not there.is_dir():
            raise DestinationError(f"{there.name} is a file; give the name of a folder.")
        for source in sources:
            _keep_apart(place, source)
        if not os.access(there, os.W_OK | os.X_OK):
            raise DestinationError(f"Nothing may be written in {there.name}; give another folder.")
        if place.is_dir():
            _finish(place)
            _require_room_in(place, overwrite=overwrite)
        free = shutil.disk_usage(there).free + _size_of(place / FRESH)
        if needed > free:
            raise DiskFull(
                f"{place.name} takes {in_words(needed)} and its disk has {in_words(free)} free; "
                f"make room for {in_words(needed - free)} more."
            )


@contextmanager
def written(
    folder: str | Path, verify: Callable[[Path], None], *, overwrite: bool = False, needed: int = 0
) -> Iterator[Path]:
    """A folder to fill; what is in it at the end is verified and put into `folder`. Where anything fails, nothing is left.

    verify: raises where the files are not a whole model. Raises what `claim` does; DiskFull or DestinationError where
    the disk gives out.
    """
    claim(folder, overwrite=overwrite, needed=needed)
    place = _resolved(folder)
    made = [path for path in (place, *place.parents) if not path.exists()]
    try:
        with _told(place, needed), _alone(place) as fresh:
            _clear(fresh)
            yield fresh
            _seal(fresh, verify)
            _require_room_in(place, overwrite=overwrite)  # it took a while
            _list(fresh)
            _finish(place)
    finally:
        for path in made:
            with suppress(OSError):  # a folder that holds something stays
                path.rmdir()


def is_half_written(folder: Path) -> bool:
    """Whether a process died as it wrote a model there."""
    return (folder / FRESH).is_dir()


def no_model_in(folder: Path) -> CheckpointNotFound:
    """What is to be told of a folder without a model's configuration."""
    if is_half_written(folder):
        return CheckpointNotFound(f"{folder.name} was not written to its end; give the command again that wrote it.")
    return CheckpointNotFound(f"There is no config.json in {folder.name}; it is not a model's folder.")


# --- what may be replaced ---


def _resolved(folder: str | Path) -> Path:
    return typed_path(folder).resolve()


def _keep_apart(place: Path, source: Path) -> None:
    source = typed_path(source).resolve()
    if _is_same(place, source):
        raise DestinationError(f"{place.name} is itself what is read; give another folder.")
    if any(_is_same(parent, source) for parent in place.parents):
        raise DestinationError(f"{place.name} lies in {source.name}, which is read; give a folder outside it.")
    if any(_is_same(parent, place) for parent in source.parents):
        raise DestinationError(f"{place.name} holds {source.name}, which is read; give another folder.")


def _is_same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _require_room_in(place: Path, *, overwrite: bool) -> None:
    found = sorted(path.name for path in place.iterdir() if path.name != FRESH)
    if not found:
        return
    if not _is_our_model(place):
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise DestinationError(
            f"{place.name} is not empty and no model that Maya wrote ({some}); give a new folder or an empty one."
        )
    if not overwrite:
        raise DestinationError(
            f"{place.name} holds a model already; give another folder, or --overwrite to replace it."
        )


def _is_our_model(folder: Path) -> bool:
    def fields(name: str) -> dict[str, object]:
        try:
            content = json.loads((folder / name).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    whole, adapter = map(fields, CONFIGS)
    return whole.get("model_type") in _WRITTEN_HERE or adapter.get("peft_type") == "LORA"


# --- putting it there ---


def _seal(fresh: Path, verify: Callable[[Path], None]) -> None:
    share(fresh)
    for name in _others(fresh):
        sync(fresh / name)
    verify(fresh)


def _list(fresh: Path) -> None:
    """From now on what lies in `fresh` is whole."""
    names = _others(fresh)
    if clash := next((name for name in names if (fresh.parent / name).is_dir()), None):
        raise DestinationError(f"{clash} in {fresh.parent.name} is a folder, and a file's name; give another folder.")
    half = fresh / f"{LISTED}.half"
    half.write_text(json.dumps(names))
    sync(half)
    os.replace(half, fresh / LISTED)
    sync(fresh)


def _finish(place: Path) -> None:
    """Move listed files to their places; what is done already is not done again."""
    fresh = place / FRESH
    if not (fresh / LISTED).is_file():
        return
    names: list[str] = json.loads((fresh / LISTED).read_text())
    if any((fresh / config).exists() for config in CONFIGS):  # else it came to its end
        for config in CONFIGS:
            (place / config).unlink(missing_ok=True)
        sync(place)
        for file in list(place.iterdir()):
            if _REPLACED.fullmatch(file.name) and file.name not in names:
                file.unlink()
        for name in sorted(names, key=CONFIGS.__contains__):
            if (fresh / name).exists():
                os.replace(fresh / name, place / name)
        sync(place)
    (fresh / LISTED).unlink(missing_ok=True)


def _others(fresh: Path) -> list[str]:
    """What was written there, without our own."""
    return sorted(path.name for path in fresh.iterdir() if path.name not in (LOCK, LISTED))


def _clear(fresh: Path) -> None:
    for name in _others(fresh):
        path = fresh / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) if folder.is_dir() else 0


@contextmanager
def _alone(place: Path) -> Iterator[Path]:
    """The folder to write in, this process's alone. It goes at the end, unless what it holds is whole and not yet moved."""
    fresh, is_held = place / FRESH, False
    try:
        with exclusive(fresh):
            is_held = True
            yield fresh
    except RunBusy:
        raise DestinationError(
            f"Another process is writing {place.name}; wait for its end, or give another folder."
        ) from None
    finally:
        if is_held and not (fresh / LISTED).exists():
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def _told(place: Path, needed: int) -> Iterator[None]:
    """What the disk refuses, as one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if is_full(error):
            size = f", which takes {in_words(needed)}" if needed else ""
            raise DiskFull(f"The disk is full: {place.name} was not written{size}; make room and try again.") from None
        reason = error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
        raise DestinationError(f"{place.name} could not be written ({reason}); give another folder.") from None
