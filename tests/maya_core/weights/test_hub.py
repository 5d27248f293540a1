"""Downloads: pinned, safetensors only, and every failure as a sentence. The hub is scripted; nothing leaves the machine."""

import hashlib
import json
from types import SimpleNamespace

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from maya_core.errors import CheckpointNotFound, CheckpointUnsafe, DiskFull, DownloadInterrupted, RepositoryGated
from maya_core.weights import hub

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def scripted(monkeypatch, tmp_path):
    """A hub with one repository; `calls` notes what is asked of it, `trouble` is raised instead."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"x")
    state = SimpleNamespace(calls=[], trouble=None, folder=folder, sha=SHA, pins=tmp_path / "pins.json")

    def snapshot_download(repo, *, revision, allow_patterns):
        state.calls.append((repo, revision, tuple(allow_patterns)))
        if state.trouble:
            raise state.trouble
        return str(folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(hub, "HfApi", lambda: SimpleNamespace(model_info=lambda repo: SimpleNamespace(sha=state.sha)))
    return state


def test_the_first_commit_is_remembered(scripted):
    assert hub.fetch("owner/maya", pins=scripted.pins) == scripted.folder
    scripted.sha = "f" * 40  # the repository moves on; we do not
    hub.fetch("owner/maya", pins=scripted.pins)
    assert [revision for _, revision, _ in scripted.calls] == [SHA, SHA]
    assert json.loads(scripted.pins.read_text()) == {"owner/maya": SHA}


def test_a_commit_that_is_given_is_taken(scripted):
    hub.fetch(f"owner/maya@{'a' * 40}", pins=scripted.pins)
    assert scripted.calls[0][1] == "a" * 40
    assert not scripted.pins.exists()


def test_code_and_pickles_are_never_fetched(scripted):
    hub.fetch("owner/maya", pins=scripted.pins)
    patterns = scripted.calls[0][2]
    assert "*.safetensors" in patterns
    assert not any(
        pattern.endswith((".py", ".bin", ".pt", ".pth", "*")) and pattern != "LICENSE*" for pattern in patterns
    )
    (scripted.folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointUnsafe, match="no safetensors"):
        hub.fetch("owner/maya", pins=scripted.pins)


def answer(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://127.0.0.1/"))


@pytest.mark.parametrize(
    ("trouble", "expected", "says"),
    [
        (GatedRepoError("no", response=answer(403)), RepositoryGated, "accept its licence"),
        (RepositoryNotFoundError("no", response=answer(404)), CheckpointNotFound, "check the name"),
        (LocalEntryNotFoundError("no"), DownloadInterrupted, "connect to the network"),
        (httpx.ReadTimeout("slow"), DownloadInterrupted, "same command continues"),
        (OSError(5, "Input/output error"), DownloadInterrupted, "same command continues"),
        (OSError(28, "No space left"), DiskFull, "make room"),
    ],
)
def test_each_trouble_is_one_sentence(scripted, trouble, expected, says):
    scripted.trouble = trouble
    with pytest.raises(expected, match=says):
        hub.fetch("owner/maya", pins=scripted.pins)


@pytest.mark.parametrize("name", ["", "maya", "a/b/c", "owner/maya@main", "https://example.org/a/b", "../a/b"])
def test_what_is_no_repository_is_said(name, scripted):
    with pytest.raises(CheckpointNotFound):
        hub.fetch(name, pins=scripted.pins)
    assert scripted.calls == []


def test_progress_is_reported_and_what_came_is_checked(scripted, monkeypatch):
    blobs = scripted.folder.parent / "blobs"
    blobs.mkdir()
    good, bad = b"good weights", b"weights with a flipped bit"
    for name, content, named_for in (("model.safetensors", good, good), ("second.safetensors", bad, b"weights")):
        blob = blobs / hashlib.sha256(named_for).hexdigest()
        blob.write_bytes(content)
        (scripted.folder / name).unlink(missing_ok=True)
        (scripted.folder / name).symlink_to(blob)
    told = []

    def snapshot_download(repo, *, revision, allow_patterns, tqdm_class=None, dry_run=False):
        if dry_run:
            return [SimpleNamespace(file_size=5, will_download=True)]
        with tqdm_class(total=10, unit="B") as bar:
            bar.update(4)
            bar.update(6)
        return str(scripted.folder)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(DownloadInterrupted, match="second.safetensors came damaged"):
        hub.fetch("owner/maya", pins=scripted.pins, report=lambda done, size: told.append((done, size)))
    assert told == [(4, 10), (10, 10)]
    assert sorted(blob.read_bytes() for blob in blobs.iterdir()) == [good]


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(scripted, monkeypatch):
    def snapshot_download(repo, *, revision, allow_patterns, dry_run):
        assert dry_run
        return [
            SimpleNamespace(file_size=10**18, will_download=True),
            SimpleNamespace(file_size=1, will_download=False),
        ]

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(DiskFull, match=r"needs 1000000000\.0 GB more"):
        hub.fetch("owner/maya", pins=scripted.pins, report=lambda done, size: None)
