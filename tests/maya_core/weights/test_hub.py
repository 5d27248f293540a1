"""Downloads through the hub's own client, from a hub on this machine where everything goes wrong that can: pinned, checked,
gone on with where they stopped, and every trouble as a sentence.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

import maya_core.cli as cli
from maya_core.assets import PUBLISHED, PUBLISHED_TOKENIZER
from maya_core.errors import (
    CheckpointNotFound,
    CheckpointUnsafe,
    DiskFull,
    DownloadDamaged,
    DownloadInterrupted,
    HubBusy,
    HubUnreachable,
    NotTheHub,
    ProxyRefused,
    RepositoryGated,
    SignInNeeded,
    TokenizerMissing,
)
from maya_core.weights import account, hub, transfer
from maya_core.weights.hub_memory import HubMemory
from tests.local_hub import Fault, digest_of, hub_environment, local_hub, use_hub
from tests.tiny import picture

REPO = "owner/maya"
WEIGHTS = bytes(range(256)) * 2000  # 512 kB
TOKENIZER = b'{"model": {}}'
FILES = {
    "config.json": b'{"model_type": "maya"}',
    "tokenizer.json": TOKENIZER,
    "model.safetensors": WEIGHTS,
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"a pickle",
}
SHARDS = "model.safetensors"


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A hub with one repository, the only one that this process knows."""
    monkeypatch.setattr(transfer, "WAITS", (0.02, 0.02))
    with local_hub() as local:
        local.files[REPO] = dict(FILES)
        use_hub(local, tmp_path, monkeypatch)
        yield local


@pytest.fixture
def memory(tmp_path):
    return HubMemory(tmp_path / "hub.json")


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def partial(tmp_path: Path) -> Path:
    """Where what has come of the weights lies."""
    return next((tmp_path / "cache").rglob("blobs")) / f"{digest_of(SHARDS, WEIGHTS)}{transfer.PARTIAL}"


def sign_in(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)


def test_the_client_raises_what_is_caught():
    assert issubclass(HfHubHTTPError, httpx2.HTTPError)


# --- what is fetched ---


def test_the_commit_that_was_seen_first_is_kept(there, memory):
    folder = hub.fetch(REPO, memory=memory)
    assert (folder / SHARDS).read_bytes() == WEIGHTS
    there.files[REPO]["config.json"] = b"{}"  # the repository moves on; we do not
    asked = len(there.requests)
    assert hub.fetch(REPO, memory=memory) == folder
    assert len(there.requests) == asked  # nobody is asked again
    assert hub.fetch(f"{REPO}@{there.commit_of(REPO)}", memory=memory) != folder
    assert hub.fetch(REPO, memory=memory) == folder


def test_code_and_pickles_are_never_fetched(there, memory):
    assert names(hub.fetch(REPO, memory=memory)) == {"config.json", "tokenizer.json", SHARDS}
    del there.files[REPO][SHARDS]
    with pytest.raises(CheckpointUnsafe, match="no safetensors"):
        hub.fetch(f"{REPO}@{there.commit_of(REPO)}", memory=memory)


@pytest.mark.parametrize("name", ["../model.safetensors", "a/../../model.safetensors", "c:model.safetensors"])
def test_a_file_that_would_lie_elsewhere_is_refused(there, memory, tmp_path, name):
    there.files[REPO][name] = b"x"
    with pytest.raises(CheckpointUnsafe, match="outside"):
        hub.fetch(REPO, memory=memory)
    assert not names(tmp_path / "cache")


@pytest.mark.parametrize("name", ["", "maya", "a/b/c", "owner/maya@main", "https://example.org/a/b", "../a/b"])
def test_what_is_no_repository_is_said(there, memory, name):
    with pytest.raises(CheckpointNotFound):
        hub.fetch(name, memory=memory)
    assert there.requests == []


def test_progress_counts_what_is_here_already(there, memory):
    told = []
    hub.fetch(REPO, memory=memory, report=lambda done, size: told.append((done, size)))
    size = sum(len(FILES[name]) for name in ("config.json", "tokenizer.json", SHARDS))
    assert told[-1] == (size, size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert hub.downloaded(REPO, memory=memory)


def test_what_another_program_fetched_is_checked_and_taken(there, memory, tmp_path):
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(REPO, allow_patterns=list(hub.ALLOWED)))
    there.requests.clear()
    assert hub.fetch(REPO, memory=memory) == folder
    assert there.starts_of(SHARDS) == []


# --- the published model, whose tokenizer is in another repository ---


@pytest.fixture
def published(there):
    config = {"model_type": "llava_cohere", "vocab_size": 256_000}
    there.files[PUBLISHED] = {"config.json": json.dumps(config).encode(), SHARDS: WEIGHTS}
    there.files[PUBLISHED_TOKENIZER] = {"tokenizer.json": TOKENIZER, SHARDS: b"of a language model"}
    return there


def test_the_published_model_gets_its_language_models_tokenizer_and_nothing_else_of_it(published, memory):
    folder = hub.fetch(PUBLISHED, memory=memory)
    assert names(folder) == {"config.json", "tokenizer.json", SHARDS}
    assert (folder / "tokenizer.json").read_bytes() == TOKENIZER
    assert memory.commit(PUBLISHED_TOKENIZER) == published.commit_of(PUBLISHED_TOKENIZER)
    published.files["me/tuned"] = published.files[PUBLISHED]
    assert (hub.fetch("me/tuned", memory=memory) / "tokenizer.json").read_bytes() == TOKENIZER


def test_both_licences_are_asked_for_at_once_before_anything_is_fetched(published, memory, tmp_path):
    published.gated = {PUBLISHED: {"good"}, PUBLISHED_TOKENIZER: {"good"}}
    published.tokens = {"new": "somebody", "good": "who accepted"}
    with pytest.raises(SignInNeeded, match=f"{PUBLISHED}.*{PUBLISHED_TOKENIZER}.*maya login"):
        hub.fetch(PUBLISHED, memory=memory)
    sign_in(tmp_path, "new")
    with pytest.raises(RepositoryGated, match=f"{published.address}/{PUBLISHED_TOKENIZER}") as refused:
        hub.fetch(PUBLISHED, memory=memory)
    assert refused.value.repositories == (PUBLISHED, PUBLISHED_TOKENIZER)
    published.gated[PUBLISHED].add("new")
    with pytest.raises(RepositoryGated) as refused:
        hub.fetch(PUBLISHED, memory=memory)
    assert refused.value.repositories == (PUBLISHED_TOKENIZER,)
    assert not names(tmp_path / "cache")
    sign_in(tmp_path, "good")
    hub.fetch(PUBLISHED, memory=memory)


@pytest.mark.parametrize("kind", ["maya", "llava_cohere"])
def test_a_model_without_a_tokenizer_is_told_before_its_weights_are_fetched(there, memory, kind):
    there.files[REPO] = {"config.json": json.dumps({"model_type": kind, "vocab_size": 512}).encode(), SHARDS: WEIGHTS}
    with pytest.raises(TokenizerMissing, match="weights were not fetched"):
        hub.fetch(REPO, memory=memory)
    assert there.starts_of(SHARDS) == []


def test_a_part_for_a_new_model_needs_no_tokenizer(there, memory):
    there.files[REPO] = {"config.json": b'{"model_type": "dinov2"}', SHARDS: WEIGHTS}
    assert names(hub.fetch(REPO, memory=memory)) == {"config.json", SHARDS}


# --- signing in ---


def test_who_types_the_code_at_the_hub_is_signed_in(there, tmp_path):
    there.tokens = {"hf_of_the_browser": "somebody"}
    waits = {"status": 400, "times": 2, "body": b'{"error": "authorization_pending"}', "commands": ("POST",)}
    there.faults.append(Fault("/oauth/token", "status", **waits))
    shown = []
    account.sign_in_by_code(lambda *what: shown.append(what))
    assert shown == [(there.address, "ABCD")]
    assert (tmp_path / "token").read_text() == "hf_of_the_browser"


@pytest.mark.parametrize(
    ("step", "status", "body", "expected"),
    [
        ("token", 400, b'{"error": "access_denied"}', SignInNeeded),
        ("token", 400, b'{"error": "expired_token"}', SignInNeeded),
        ("device", 503, b"", HubBusy),
        ("device", 200, b"<html>Welcome</html>", NotTheHub),
        ("device", 200, b"{}", NotTheHub),
    ],
)
def test_who_is_not_let_in_by_a_code_is_told_why(there, tmp_path, step, status, body, expected):
    there.faults.append(Fault(f"/oauth/{step}", "status", status=status, body=body, commands=("POST",)))
    with pytest.raises(expected) as told:
        account.sign_in_by_code(lambda *what: None)
    assert str(told.value).count("\n") == 0
    assert not (tmp_path / "token").exists()


# --- trouble ---

EVERYWHERE, LISTING, FILE = "", "/api/models/", f"/{SHARDS}$"
PORTAL = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    ("fault", "expected", "says"),
    [
        (Fault(EVERYWHERE, "silent", seconds=1), HubBusy, "does not answer"),
        (Fault(FILE, "silent", seconds=1), HubBusy, "does not answer"),
        (Fault(LISTING, "reset"), DownloadInterrupted, "same command continues"),
        (Fault(FILE, "reset"), DownloadInterrupted, "same command continues"),
        (Fault(EVERYWHERE, "status", status=401), SignInNeeded, "maya login"),
        (Fault(FILE, "status", status=401), SignInNeeded, "maya login"),
        (Fault(FILE, "status", status=403), SignInNeeded, "does not let this token"),
        (Fault(LISTING, "status", status=404), CheckpointNotFound, "check the name"),
        (Fault(FILE, "status", status=404), CheckpointNotFound, "check the name"),
        (Fault(EVERYWHERE, "status", status=429), HubBusy, "status 429"),
        (Fault(FILE, "status", status=429, headers={"Retry-After": "300"}), HubBusy, "continues in 300 seconds"),
        (Fault(EVERYWHERE, "status", status=503), HubBusy, "status 503"),
        (Fault(FILE, "status", status=503), HubBusy, "status 503"),
        (Fault(EVERYWHERE, "status", status=511), NotTheHub, "login page"),
        (Fault(LISTING, "status", status=200, headers=PORTAL, body=b"<html>Welcome</html>"), NotTheHub, "login page"),
        (Fault(LISTING, "status", status=200, body=b"{}"), NotTheHub, "login page"),
        (Fault(FILE, "status", status=200, headers=PORTAL, body=b"<html>Welcome</html>"), NotTheHub, "login page"),
        (Fault(FILE, "status", status=302, headers={"Location": "/api/whoami-v2"}), NotTheHub, "login page"),
        (Fault(FILE, "flip", after=100_000), DownloadDamaged, "came damaged twice"),
    ],
    ids=lambda value: f"{value.kind}-{value.status}-{value.match}" if isinstance(value, Fault) else None,
)
def test_each_trouble_is_one_sentence(there, memory, tmp_path, monkeypatch, fault, expected, says):
    if fault.kind == "silent":
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    there.faults.append(fault)
    with pytest.raises(expected, match=says) as told:
        hub.fetch(REPO, memory=memory)
    assert str(told.value).count("\n") == 0
    assert not hub.downloaded(REPO, memory=memory)
    there.faults.clear()
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 10)
    assert (hub.fetch(REPO, memory=memory) / SHARDS).read_bytes() == WEIGHTS
    assert not list((tmp_path / "cache").rglob(f"*{transfer.PARTIAL}"))


@pytest.mark.parametrize(
    ("fault", "starts"),
    [
        (Fault(FILE, "reset", times=1, after=200_000), None),
        (Fault(FILE, "short", times=1, after=200_000), None),
        (Fault(FILE, "reset", times=2), [0, 0, 0]),
        (Fault(FILE, "status", times=2, status=503), [0, 0, 0]),
        (Fault(FILE, "status", times=1, status=429, headers={"Retry-After": "0"}), [0, 0]),
        (Fault(FILE, "flip", times=1, after=100_000), [0, 0]),
    ],
    ids=lambda value: f"{value.kind}-{value.status}-{value.after}" if isinstance(value, Fault) else None,
)
def test_what_passes_is_waited_for(there, memory, fault, starts):
    there.faults.append(fault)
    assert (hub.fetch(REPO, memory=memory) / SHARDS).read_bytes() == WEIGHTS
    if starts is None:
        first, second = there.starts_of(SHARDS)
        assert first == 0
        assert second > 0
    else:
        assert there.starts_of(SHARDS) == starts


def test_no_network_is_said_at_once(there, memory, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(HubUnreachable, match="connect to the network"):
            hub.fetch(REPO, memory=memory)


def test_a_name_that_nobody_knows_is_said(there, memory, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    with pytest.raises(HubUnreachable, match="hub.invalid cannot be reached"):
        hub.fetch(REPO, memory=memory)


def test_a_folder_that_is_not_there_is_said_before_the_hub(there, monkeypatch):
    with pytest.raises(CheckpointNotFound, match="no folder made/lora here, and .* no repository made/lora on the hub"):
        hub.local_folder("made/lora")
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    with pytest.raises(HubUnreachable, match="no folder made/lora here, and .*hub.invalid cannot be reached"):
        hub.local_folder("made/lora")


def test_offline_is_said(there, memory, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachable, match="started offline"):
        hub.fetch(REPO, memory=memory)
    assert there.requests == []


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "http://me:secret@{hub}", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_lets_nothing_through_is_named_without_its_password(there, memory, monkeypatch, proxy):
    """Of a proxy that answers, the local hub plays the part."""
    from huggingface_hub.utils import close_session

    monkeypatch.setenv("http_proxy", proxy.format(hub=there.address.removeprefix("http://")))
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.example")
    there.faults.append(Fault("", "status", status=407))
    with pytest.raises(ProxyRefused, match="127.0.0.1") as told:
        hub.fetch(REPO, memory=memory)
    assert "secret" not in str(told.value)
    close_session()  # it keeps the proxy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_a_disk_that_fills_up_is_said_and_gone_on_with(there, memory, tmp_path):
    blobs = tmp_path / "cache" / "models--owner--maya" / "blobs"
    blobs.mkdir(parents=True)
    place = blobs / f"{digest_of(SHARDS, WEIGHTS)}{transfer.PARTIAL}"
    place.symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="make room, and the same command continues"):
        hub.fetch(REPO, memory=memory)
    place.unlink()
    place.write_bytes(WEIGHTS[:300_000])
    there.requests.clear()
    hub.fetch(REPO, memory=memory)
    assert there.starts_of(SHARDS) == [300_000]


def test_a_disk_that_is_too_small_is_told_before_weights_are_fetched(there, memory, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(DiskFull, match=r"needs 0\.0 GB more.*0\.0 GB free"):
        hub.fetch(REPO, memory=memory)  # without a report, as `ask --model owner/name` does
    assert there.starts_of(SHARDS) == []


def test_a_byte_that_changed_later_is_found_and_the_file_brought_again(there, memory):
    folder = hub.fetch(REPO, memory=memory)
    blob = (folder / SHARDS).resolve()
    with blob.open("r+b") as opened:
        opened.seek(1000)
        opened.write(b"\0")
    os.utime(blob, ns=(1, 1))
    there.requests.clear()
    assert (hub.fetch(REPO, memory=memory) / SHARDS).read_bytes() == WEIGHTS
    assert there.starts_of(SHARDS) == [0]
    (folder / SHARDS).unlink()
    assert not hub.downloaded(REPO, memory=memory)


def test_two_processes_do_not_write_one_file(there, memory, tmp_path):
    from filelock import FileLock

    lock = tmp_path / "cache" / ".locks" / "models--owner--maya" / "maya.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(DownloadInterrupted, match="Another process"):
        hub.fetch(REPO, memory=memory)


# --- as a command ---


@pytest.mark.parametrize(
    "arguments",
    [
        ("download", REPO),
        ("download", "--as-json", REPO),
        ("ask", "{folder}/photo.png", "What is this?", "--model", REPO),
        ("info", "--model", REPO),
        ("convert", REPO, "{folder}/converted"),
        ("quantize", "--forget", REPO, "{folder}/small"),
        ("export", REPO, "{folder}/exported"),
    ],
    ids=lambda arguments: "-".join(arguments[:2]) if arguments[0] == "download" else arguments[0],
)
def test_each_command_checks_what_it_fetches_and_says_trouble_with_status_2(
    there, tmp_path, monkeypatch, capsys, arguments
):
    picture().save(tmp_path / "photo.png")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "argv", ["maya", *(part.format(folder=tmp_path) for part in arguments)])
    there.faults.append(Fault(FILE, "flip", after=100_000))
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert told.err.strip().splitlines()[-1].startswith(f"{SHARDS} of {REPO} came damaged twice")
    if "--as-json" in arguments:
        assert json.loads(told.out.splitlines()[-1]) == {"error": "DownloadDamaged"}
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(("sign", "status"), [("SIGINT", 130), ("SIGTERM", -15), ("SIGKILL", -9)])
def test_a_command_that_is_stopped_ends_at_once_and_goes_on_where_it_was(tmp_path, sign, status):
    """Ctrl-C, Pause on the page, and kill -9."""
    with local_hub() as local:
        local.files[REPO] = dict(FILES)
        local.faults.append(Fault(FILE, "slow", times=1, after=200_000, rate=10_000))  # 30 s and more
        command = [sys.executable, "-m", "maya_core.cli", "download", "--as-json", REPO]
        environment = os.environ | hub_environment(local, tmp_path)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if json.loads(line).get("done", 0) > 100_000:
                break
        process.send_signal(signal.Signals[sign])
        stopped = time.monotonic()
        assert process.wait(timeout=60) == status
        assert time.monotonic() - stopped < 15  # a fifth of a second where nothing else runs; the file takes 30
        assert "Traceback" not in process.stderr.read()
        process.stdout.close()
        process.stderr.close()
        come = partial(tmp_path).stat().st_size
        assert come > 90_000
        local.requests.clear()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert local.starts_of(SHARDS) == [come]
    folder = Path(json.loads(done.stdout.splitlines()[-1])["folder"])
    assert (folder / SHARDS).read_bytes() == WEIGHTS
