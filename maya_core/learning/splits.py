"""Which of a folder's files are for training, and which for measuring: said by their names, as `datasets` reads them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maya_core.errors import DataError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
OTHERS = "others"  # files whose name says none
EVERY = "all"  # split: all that a folder holds
HELD_OUT = (VALIDATION, TEST)  # what is measured, the first that is there
Tell = Callable[[str], None]  # hears a sentence

_CALLED = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}
_WORD = re.compile(rf"(?<![^\W\d_])({'|'.join(sorted(_CALLED, key=len, reverse=True))})(?![^\W\d_])", re.I)
_SHARD = re.compile(r"(\w+)-\d{5}-of-\d{5}")  # as the hub names files: of a split with any name
_DATASET, _SPLITS = "state.json", "dataset_dict.json"  # in folders that `datasets` writes
_ABOUT = (_DATASET, _SPLITS, "dataset_info.json", "dataset_infos.json")
_DATA = "data"  # where the hub keeps files


def no_tell(sentence: str) -> None:
    """Hear nothing."""


def files_in(
    folder: Path, suffixes: Sequence[str], *, splits: Sequence[str] = (TRAIN,), tell: Tell = no_tell
) -> list[Path]:
    """The files with these endings in a folder, in its `data`, or in its folders of splits, by name; those of one split
    where there are several, which is told.

    splits: names of those that are wanted, of which the first is taken that is there; EVERY for all files.
    Raises DataError where none of them is there.
    """
    if (folder / _SPLITS).is_file():
        folders = {name: [folder / name] for name in _json(folder / _SPLITS).get("splits", ())}
        chosen = _chosen(folder, folders, splits, tell)
        return [file for one in chosen for file in files_in(one, suffixes, splits=(EVERY,))]
    if (folder / _DATASET).is_file():
        return [folder / one["filename"] for one in _json(folder / _DATASET).get("_data_files", ())]
    by_split: dict[str, list[Path]] = {}
    for file in _files(folder, suffixes) or _files(folder / _DATA, suffixes):
        by_split.setdefault(split_of(file.name) or OTHERS, []).append(file)
    if not by_split:
        for inner in sorted(path for path in folder.glob("*") if path.is_dir() and split_of(path.name)):
            by_split.setdefault(split_of(inner.name), []).extend(_files(inner, suffixes))
    return _chosen(folder, {name: files for name, files in by_split.items() if files}, splits, tell)


def split_of(name: str) -> str:
    """The split that a file's name says; "" where it says none."""
    word = _WORD.search(name)
    return _CALLED[word[1].lower()] if word else ""


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    found = (file for file in folder.glob("*") if file.suffix.lower() in suffixes and file.name not in _ABOUT)
    return sorted(file for file in found if file.is_file())


def _chosen(folder: Path, by_split: Mapping[str, list[Path]], wanted: Sequence[str], tell: Tell) -> list[Path]:
    everything = [path for paths in by_split.values() for path in paths]
    if wanted == (EVERY,) or (len(by_split) < 2 and wanted in ((TRAIN,), HELD_OUT)):
        return sorted(everything)
    names = ", ".join(by_split)
    for split in wanted:
        paths = by_split.get(split) or _called(split, by_split)
        if not paths:
            continue
        if len(paths) < len(everything):
            tell(f"Of {folder.name}, which has the splits {names}, {split} is read; --split names another.")
        return paths
    absent = " or ".join(wanted)
    raise DataError(
        f"{folder.name} has the splits {names}, and none called {absent}; name one by --split, or {EVERY}.",
        kind="file",
    )


def _called(split: str, by_split: Mapping[str, list[Path]]) -> list[Path]:
    """What is of a split that its shards alone name, or by another of its names."""
    called = _CALLED.get(split.lower())
    same = [path for name, paths in by_split.items() if called and split_of(name) == called for path in paths]
    shards = [path for paths in by_split.values() for path in paths if _shard(path) == split]
    return shards or same


def _shard(path: Path) -> str:
    shard = _SHARD.match(path.name)
    return shard[1] if shard else ""


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{file.parent.name}/{file.name} cannot be read; get the folder again.", kind="file")
    return content
