"""Folders that are either whole or not there, whatever happens while they are written.

A version is a folder `step-00000250` of files with `manifest.json` (the SHA-256 and size of each) and `COMPLETE` (the
manifest's own SHA-256), which is written last. It is built under another name, synced to the disk and renamed; the one
before it is deleted only after the new one has been read back.

safetensors and torch.load notice neither a flipped bit nor a block of zeros, and neither of them syncs: hence this file.
"""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from maya_core.errors import CheckpointMismatch, DestinationError, DiskFull, RunBusy

log = logging.getLogger(__name__)

MANIFEST, MARKER, LOCK = "manifest.json", "COMPLETE", "lock"
_NAME = re.compile(r"step-(\d{8})(?:-(\d+))?")


@dataclass(frozen=True, order=True)
class Version:
    """One committed folder, the step it was written at, and which attempt at that step it is (a rerun writes anew)."""

    step: int
    attempt: int
    folder: Path


def commit(parent: Path, step: int, write: Callable[[Path], None], *, keep: int = 2) -> Version:
    """Let `write` fill a folder and make it the newest version under `parent`, of which `keep` stay.

    Where anything fails, what was there stays and the half-written folder is removed. Raises what `write` or the disk
    raises, CheckpointMismatch where the disk gives back other bytes than were written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    attempt = next((version.attempt + 1 for version in versions(parent) if version.step == step), 0)
    target = parent / (f"step-{step:08d}-{attempt}" if attempt else f"step-{step:08d}")
    fresh = parent / f".{target.name}.new"
    for leftover in parent.glob(".step-*"):
        shutil.rmtree(leftover)
    fresh.mkdir()
    try:
        write(fresh)
        share(fresh)
        _seal(fresh, step)
        os.replace(fresh, target)
        sync(parent)
        verify(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    for old in versions(parent)[keep:]:
        _remove(old.folder)
    return Version(step, attempt, target)


def newest(parent: Path) -> Version | None:
    """The newest version that is whole; damaged ones are named in the log and passed over."""
    for version in versions(parent):
        try:
            verify(version.folder)
        except CheckpointMismatch as damage:
            log.warning("%s", damage)
            continue
        return version
    return None


def versions(parent: Path) -> list[Version]:
    """All folders that bear a version's name, newest first; not verified."""
    found = []
    for folder in parent.glob("step-*"):
        match = _NAME.fullmatch(folder.name)
        if match:
            found.append(Version(int(match[1]), int(match[2] or 0), folder))
    return sorted(found, reverse=True)


def verify(folder: Path) -> None:
    """Raise CheckpointMismatch, naming the file, unless every byte is as it was written and no file is new."""
    manifest = folder / MANIFEST
    if not (folder / MARKER).is_file() or not manifest.is_file():
        raise CheckpointMismatch(f"{folder.name} was not written to its end; the version before it is used.")
    if (folder / MARKER).read_text(errors="replace").strip() != digest(manifest):
        raise CheckpointMismatch(f"{folder.name}/{MANIFEST} is damaged; the version before it is used.")
    written: dict[str, dict[str, int | str]] = json.loads(manifest.read_text())["files"]
    present = {file.name for file in folder.iterdir()} - {MANIFEST, MARKER}
    for name in sorted(present ^ set(written)):
        state = "is missing" if name in written else "does not belong there"
        raise CheckpointMismatch(f"{folder.name}/{name} {state}; the version before it is used.")
    for name, file in written.items():
        if (folder / name).stat().st_size != file["bytes"] or digest(folder / name) != file["sha256"]:
            raise CheckpointMismatch(f"{folder.name}/{name} is damaged; the version before it is used.")


def share(folder: Path) -> None:
    """Give a folder's weights the mode that the user's umask gives to new files; safetensors lets their owner alone read."""
    probe = folder / ".new-file"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file, or what a folder lists."""
    if os.name == "nt" and path.is_dir():
        return  # Windows syncs a folder by itself and lets nobody ask for it
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: Exception) -> bool:
    """Whether an error says that a disk has no room; safetensors says it in words of its own."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) if isinstance(error, OSError) else "os error 28" in str(error)


@contextmanager
def room_on_disk(folder: Path) -> Iterator[None]:
    """DiskFull in the place of what says so when something is written in `folder`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not is_full(error):
            raise
        raise DiskFull(f"The disk is full: {folder.name} was not written; make room and try again.") from None


@contextmanager
def file_written(file: Path) -> Iterator[Path]:
    """A file to write, of the same ending, which takes the place of `file` where it is whole; folders are made for it.

    Raises DiskFull or DestinationError where the disk gives out.
    """
    try:
        with replaced(file) as fresh:
            yield fresh
    except OSError as error:
        if is_full(error):
            raise DiskFull(f"The disk is full: {file.name} was not written; make room and try again.") from None
        raise DestinationError(f"{file} could not be written ({error.strerror}); give another file.") from None


@contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """As `file_written`, but for its errors: an OSError stays what it is."""
    fresh = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        os.replace(fresh, file)
    finally:
        with suppress(OSError):
            fresh.unlink()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process; a second one gets RunBusy. The system frees it when the process ends, however."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise RunBusy(f"Another process is using {folder.name}; wait for its end, or use another folder.") from None


def _seal(folder: Path, step: int) -> None:
    """Sync all files, then write manifest and marker, each synced."""
    files = sorted(folder.iterdir())
    for file in files:
        sync(file)
    content = {"step": step, "files": {f.name: {"bytes": f.stat().st_size, "sha256": digest(f)} for f in files}}
    _write(folder / MANIFEST, json.dumps(content, indent=1))
    _write(folder / MARKER, digest(folder / MANIFEST))
    sync(folder)


def _write(file: Path, text: str) -> None:
    file.write_text(text)
    sync(file)


def _remove(folder: Path) -> None:
    """Delete a version: first its name, so that half of it is never taken for a whole."""
    going = folder.with_name(f".{folder.name}.old")
    os.replace(folder, going)
    shutil.rmtree(going)
