"""A model is written whole or not at all, and what a person keeps stays: on folders of small files."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from maya_core.errors import CheckpointNotFound, DestinationError, DiskFull
from maya_core.weights import destination
from maya_core.weights.destination import FRESH, claim, written
from maya_core.weights.files import read_config

OLD = {
    "config.json": '{"model_type": "maya", "is": "old"}',
    "model-00001-of-00002.safetensors": "old",
    "model-00002-of-00002.safetensors": "old",
    "model.safetensors.index.json": "old",
    "recipe.json": "old",
}
NEW = {"config.json": '{"model_type": "maya", "is": "new"}', "model.safetensors": "new", "tokenizer_config.json": "new"}
OWN = {"README.md": "a card", "tokenizer.json": "put there by hand", "model-of-a-ship.safetensors": "no model's name"}


def put(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def a_persons_model(folder: Path) -> Path:
    """An old model, with what a person keeps beside it."""
    put(folder, OLD | OWN)
    put(folder / "photos", {"1.png": "a photograph"})
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def keep_nothing(folder: Path) -> None:
    """Verifies nothing."""


def write(folder: Path, verify=keep_nothing, *, trouble: BaseException | None = None, **options) -> None:
    """Write the new model, with trouble on the way."""
    with written(folder, verify, **options) as fresh:
        put(fresh, NEW)
        if trouble:
            raise trouble


KEPT = OWN | {"photos/1.png": "a photograph"}


@pytest.mark.parametrize("there", ["nothing", "an empty folder", "a link to an empty folder"])
def test_a_new_or_an_empty_folder_is_written(tmp_path, there):
    if there != "nothing":
        (tmp_path / "elsewhere").mkdir()
    if there == "an empty folder":
        (tmp_path / "elsewhere").rename(tmp_path / "out")
    if there == "a link to an empty folder":
        (tmp_path / "out").symlink_to("elsewhere")
    write(tmp_path / "out")
    assert content(tmp_path / "out") == NEW
    assert (tmp_path / "out").is_symlink() == (there == "a link to an empty folder")


def test_what_is_in_the_way_is_named_and_stays(tmp_path):
    def sentence(folder: Path, **options) -> str:
        before = content(tmp_path)
        with pytest.raises(DestinationError) as refused:
            claim(folder, **options)
        assert content(tmp_path) == before
        return str(refused.value)

    source = a_persons_model(tmp_path / "source")
    file = put(tmp_path / "files", {"notes.txt": "mine"}) / "notes.txt"
    assert "notes.txt is a file" in sentence(file)
    assert "notes.txt is a file" in sentence(file / "deeper" / "still")
    for overwrite in (False, True):
        said = sentence(source / "photos", overwrite=overwrite)
        assert said == "photos is not empty and no model that Maya wrote (1.png); give a new folder or an empty one."
        assert "itself what is read" in sentence(source, sources=[source], overwrite=overwrite)
        (tmp_path / "link").symlink_to(source)
        assert "itself what is read" in sentence(tmp_path / "link", sources=[source], overwrite=overwrite)
        assert "lies in source" in sentence(tmp_path / "link" / "new", sources=[source], overwrite=overwrite)
        (tmp_path / "link").unlink()
        assert "holds photos" in sentence(source, sources=[source / "photos"], overwrite=overwrite)
    assert "holds a model already; give another folder, or --overwrite" in sentence(source)
    put(tmp_path / "other", {"config.json": '{"model_type": "llava_cohere"}'})
    assert "no model that Maya wrote" in sentence(tmp_path / "other", overwrite=True)
    put(tmp_path / "damaged", {"config.json": '{"model_ty'})
    assert "no model that Maya wrote" in sentence(tmp_path / "damaged", overwrite=True)
    assert "File name too long" in sentence(tmp_path / ("n" * 300))


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="everything may be written")
def test_a_folder_that_may_not_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DestinationError, match="Nothing may be written"):
        claim(tmp_path / "out")


def test_a_model_is_replaced_and_nothing_else(tmp_path):
    folder = a_persons_model(tmp_path / "out")
    write(folder, overwrite=True)
    assert content(folder) == NEW | KEPT


def test_where_writing_or_verifying_fails_all_is_as_it_was(tmp_path):
    folder = a_persons_model(tmp_path / "out")
    before = content(folder)

    def refuse(fresh: Path) -> None:
        raise CheckpointNotFound("it is not whole")

    for target in (folder, tmp_path / "a" / "b" / "new"):
        with pytest.raises(CheckpointNotFound):
            write(target, refuse, overwrite=True)
        with pytest.raises(KeyboardInterrupt):
            write(target, overwrite=True, trouble=KeyboardInterrupt())
    assert content(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("trouble", "expected", "says"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            DiskFull,
            "The disk is full: out was not written, which takes",
        ),
        (SafetensorError("I/O error: No space left on device (os error 28)"), DiskFull, "The disk is full"),
        (OSError(errno.EROFS, "Read-only file system"), DestinationError, r"out could not be written \(Read-only file"),
        (SafetensorError("I/O error: (os error 5)"), DestinationError, r"out could not be written \(I/O error"),
    ],
)
def test_a_disk_that_gives_out_is_one_sentence(tmp_path, trouble, expected, says):
    with pytest.raises(expected, match=says):
        write(tmp_path / "out", needed=2**20, trouble=trouble)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_with_what_is_missing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(2**40, 0, 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    claim(tmp_path / "out", needed=2**30)
    with pytest.raises(DiskFull) as full:
        claim(tmp_path / "out", needed=2**32)
    assert str(full.value) == "out takes 4.0 GiB and its disk has 1.0 GiB free; make room for 3.0 GiB more."
    put(tmp_path / "out" / FRESH, {"half": "of an attempt that was killed, and goes"})
    claim(tmp_path / "out", needed=2**30 + 30)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with written(tmp_path / "out", keep_nothing) as fresh:
            put(fresh, NEW)
            save_file({"a": torch.ones(1)}, fresh / "model.safetensors")
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()} == dict.fromkeys(NEW, mode)


def test_a_half_written_model_is_no_model_and_gives_way(tmp_path):
    put(tmp_path / "out" / FRESH, NEW | {"more.bin": "half"})
    with pytest.raises(CheckpointNotFound, match="out was not written to its end"):
        read_config(tmp_path / "out")
    write(tmp_path / "out")
    assert content(tmp_path / "out") == NEW


def test_a_folder_in_the_place_of_a_file_is_told_before_the_old_model_goes(tmp_path):
    folder = a_persons_model(tmp_path / "out")
    put(folder / "tokenizer_config.json", {"mine": "mine"})
    before = content(folder)
    with pytest.raises(DestinationError, match=r"tokenizer_config\.json in out is a folder"):
        write(folder, overwrite=True)
    assert content(folder) == before


def test_two_processes_do_not_write_one_folder(tmp_path):
    with written(tmp_path / "out", keep_nothing) as fresh:
        put(fresh, NEW)
        with pytest.raises(DestinationError, match="Another process is writing out"):
            write(tmp_path / "out")
    assert content(tmp_path / "out") == NEW


def test_everything_is_on_the_disk_before_it_is_in_place(tmp_path, monkeypatch):
    synced, moved = [], []
    real_sync, real_replace = destination.sync, os.replace

    def sync(path: Path) -> None:
        synced.append(path.name)
        real_sync(path)

    def replace(source, target) -> None:
        moved.append(Path(target).name)
        assert set(NEW) <= set(synced)
        real_replace(source, target)

    monkeypatch.setattr(destination, "sync", sync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path / "out")
    assert moved[-1] == "config.json"
    assert synced[-1] == "out"


KILLER = """
import os, sys
from pathlib import Path
from maya_core.errors import DestinationError
from tests.maya_core.weights.test_destination import FRESH, KEPT, NEW, OLD, a_persons_model, content, write
from tests.maya_core.weights.killing import state

def killed(folder, kill_at):
    process = os.fork()
    if not process:
        state.update(calls=0, kill_at=kill_at)
        write(folder, overwrite=True)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])

def check(folder, kill_at):
    '''What a person keeps is there; the model is the old one, none, or the new one.'''
    found = {name: text for name, text in content(folder).items() if not name.startswith(FRESH)}
    assert KEPT.items() <= found.items(), kill_at
    model = {name: text for name, text in found.items() if name not in KEPT}
    assert "config.json" not in model or model in (OLD, NEW), (kill_at, model)
    return model

root = Path(sys.argv[1])
a_persons_model(root / "count")
state["calls"] = 0
write(root / "count", overwrite=True)
calls, seen = state["calls"], set()
for kill_at in range(1, calls + 1):
    folder = a_persons_model(root / str(kill_at))
    assert killed(folder, kill_at), kill_at
    model = check(folder, kill_at)
    seen.add("config.json" in model and ("old" if model == OLD else "new"))
    killed(folder, 1 + kill_at * 7 % calls)  # and once more in the next attempt
    check(folder, kill_at)
    write(folder, overwrite=True)
    assert content(folder) == NEW | KEPT, kill_at
assert seen == {"old", False, "new"}
print(calls)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_killed_at_any_call_a_folder_has_a_whole_model_or_none(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLER, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_an_attempt_killed_as_it_put_things_in_place_is_brought_to_its_end(tmp_path):
    folder = put(tmp_path / "out", {"model.safetensors": "new"})
    put(folder / FRESH, {name: text for name, text in NEW.items() if name != "model.safetensors"})
    put(folder / FRESH, {"files.json": json.dumps(sorted(NEW))})
    with pytest.raises(DestinationError, match="holds a model already"):
        claim(folder)
    assert {name: text for name, text in content(folder).items() if not name.startswith(FRESH)} == NEW
