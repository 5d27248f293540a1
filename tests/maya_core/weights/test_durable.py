"""Nothing lost: rows 1, 3 to 10 and 22 of the catalogue of faults, on folders of small files."""

import errno
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maya_core.errors import CheckpointMismatch, RunBusy
from maya_core.weights import durable
from maya_core.weights.durable import commit, exclusive, newest, verify, versions

FILES = {"weights.bin": 4096, "optimizer.bin": 1000, "state.json": 60}


def content(step, name):
    return random.Random(f"{step}/{name}").randbytes(FILES[name])


def writer(step):
    def write(folder):
        for name in FILES:
            (folder / name).write_bytes(content(step, name))

    return write


def holds(version, step):
    return version.step == step and all((version.folder / name).read_bytes() == content(step, name) for name in FILES)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_weights_have_the_mode_that_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        found = commit(tmp_path, 1, lambda folder: save_file({"a": torch.ones(1)}, folder / "weights.safetensors"))
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in found.folder.iterdir()} == dict.fromkeys(
        ("weights.safetensors", "manifest.json", "COMPLETE"), mode
    )


def test_a_version_is_whole_and_the_newest_is_found(tmp_path):
    for step in (10, 20, 30):
        commit(tmp_path, step, writer(step), keep=2)
    assert [version.step for version in versions(tmp_path)] == [30, 20]
    assert holds(newest(tmp_path), 30)
    assert newest(tmp_path / "nothing") is None


def test_a_step_written_again_stands_beside_the_first_until_it_is_whole(tmp_path):
    commit(tmp_path, 5, writer(4))
    again = commit(tmp_path, 5, writer(5))
    assert holds(newest(tmp_path), 5)
    (again.folder / "state.json").write_text("")
    assert newest(tmp_path).folder.name == "step-00000005"


def test_the_step_counts_and_not_the_clock(tmp_path):
    for step in (20, 30):
        commit(tmp_path, step, writer(step))
    os.utime(tmp_path / "step-00000020", (4e9, 4e9))
    assert newest(tmp_path).step == 30


KILLER = """
import os, sys
from pathlib import Path
from maya_core.weights.durable import commit, newest
from tests.maya_core.weights.test_durable import holds, writer
from tests.maya_core.weights.killing import state

def killed(folder, step, kill_at):
    process = os.fork()
    if not process:
        state.update(calls=0, kill_at=kill_at)
        commit(folder, step, writer(step), keep=1)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])

root = Path(sys.argv[1])
commit(root / "count", 1, writer(1), keep=1)
state["calls"] = 0
commit(root / "count", 2, writer(2), keep=1)
calls = state["calls"]
for kill_at in range(1, calls + 1):
    folder = root / str(kill_at)
    commit(folder, 1, writer(1), keep=1)
    assert killed(folder, 2, kill_at), kill_at
    assert holds(newest(folder), 1) or holds(newest(folder), 2), kill_at
    killed(folder, 2, 1 + kill_at * 7 % calls)  # and once more while it saves again
    assert holds(newest(folder), 1) or holds(newest(folder), 2), kill_at
    assert not killed(folder, 3, 0)
    assert holds(newest(folder), 3)
    assert [path.name for path in folder.iterdir()] == ["step-00000003"]
print(calls)
"""


def test_killed_at_any_call_of_a_save_the_newest_version_is_whole(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLER, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def damaged_files():
    names = [*FILES, durable.MANIFEST, durable.MARKER]
    return [(name, damage) for name in names for damage in ("flip", "zeros", "truncate", "empty", "missing")]


@pytest.mark.parametrize(("name", "damage"), damaged_files())
def test_damage_is_seen_named_and_passed_over(tmp_path, caplog, name, damage):
    for step in (1, 2):
        commit(tmp_path, step, writer(step))
    file = tmp_path / "step-00000002" / name
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    if damage == "flip":
        data[middle] ^= 1
    elif damage == "zeros":
        data[middle : middle + 16] = bytes(len(data[middle : middle + 16]))
    elif damage == "truncate":
        del data[-1:]
    elif damage == "empty":
        data.clear()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(data)
    assert holds(newest(tmp_path), 1)
    assert "step-00000002" in caplog.text


def test_every_flipped_bit_is_seen(tmp_path):
    version = commit(tmp_path, 1, writer(1))
    rng = random.Random(0)
    for _ in range(100):
        file = version.folder / rng.choice(sorted(FILES))
        whole = file.read_bytes()
        broken = bytearray(whole)
        broken[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        file.write_bytes(broken)
        with pytest.raises(CheckpointMismatch, match=file.name):
            verify(version.folder)
        file.write_bytes(whole)
    verify(version.folder)


def test_a_file_too_many_or_two_swapped_are_seen(tmp_path):
    def write(folder):
        for name, byte in (("a", b"a"), ("b", b"b")):
            (folder / name).write_bytes(byte * 9)

    folder = commit(tmp_path, 1, write).folder
    os.replace(folder / "a", tmp_path / "kept")
    os.replace(folder / "b", folder / "a")
    os.replace(tmp_path / "kept", folder / "b")
    with pytest.raises(CheckpointMismatch, match="/a is damaged"):
        verify(folder)
    folder = commit(tmp_path, 2, write).folder
    (folder / "c").write_bytes(b"")
    with pytest.raises(CheckpointMismatch, match="/c does not belong there"):
        verify(folder)


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_version_before(tmp_path, monkeypatch, code, call):
    commit(tmp_path, 1, writer(1))
    real = getattr(os, call)
    for fails_at in range(12):
        calls = iter(range(1000))

        def failing(*arguments, calls=calls, fails_at=fails_at):
            if next(calls) == fails_at:
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(os, call, failing)
            try:
                commit(tmp_path, 2, writer(2))
                failed = False
            except OSError:
                failed = True
        found = newest(tmp_path)
        assert holds(found, 1) or holds(found, 2)
        if failed:
            assert not list(tmp_path.glob(".step-*.new"))
    assert not failed  # the last ones fell behind the end of the save


def test_a_full_disk_leaves_the_version_before(tmp_path):
    commit(tmp_path, 1, writer(1))
    script = (
        "import resource, signal, sys; from pathlib import Path; from maya_core.weights import durable;"
        "from tests.maya_core.weights.test_durable import writer;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "durable.commit(Path(sys.argv[1]), 2, writer(2))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001"]
    assert holds(newest(tmp_path), 1)


def test_everything_is_on_the_disk_before_it_bears_its_name(tmp_path, monkeypatch):
    synced, at_rename = [], []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real_sync(descriptor)

    def replace(source, target):
        at_rename.append((Path(source), list(synced)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    commit(tmp_path, 1, writer(1))
    ((fresh, before),) = at_rename
    assert before == [fresh / name for name in sorted(FILES)] + [fresh / "manifest.json", fresh / "COMPLETE", fresh]
    assert synced[-1] == tmp_path


def test_the_manifest_says_what_is_there(tmp_path):
    folder = commit(tmp_path, 7, writer(7)).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["step"] == 7
    assert {name: file["bytes"] for name, file in manifest["files"].items()} == FILES


def test_one_folder_has_one_process(tmp_path):
    held = (
        "import sys; from pathlib import Path; from maya_core.weights.durable import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", held, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunBusy, match="Another process"), exclusive(tmp_path):
            pass
        other.kill()
    with exclusive(tmp_path):
        pass
