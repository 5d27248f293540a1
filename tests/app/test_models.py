"""Which model answers: chosen by the person, fetched only when asked for, paused and gone on with."""

import json
import sys
import time
from dataclasses import replace

import pytest

from app.models import LEAST_MEMORY, Computer, Models, look, place_of, small_folder
from maya_core.answering import footprint
from maya_core.answering.footprint import best_plan
from maya_core.assets import PUBLISHED, PUBLISHED_TOKENIZER, asset_path
from maya_core.errors import CheckpointError, DownloadError, HubBusy, ModelTooLarge, RepositoryGated, SignInNeeded
from maya_core.hardware import Machine
from maya_core.model.config import MayaConfig
from maya_core.weights import quantization
from tests.local_hub import hub_environment, local_hub, use_hub

# `maya download`: tells ten pieces, a tenth of a second each, from where the last one stopped.
DOWNLOADER = """
import json, sys, time
from pathlib import Path
file = Path({file!r})
done = int(file.read_text()) if file.exists() else 0
while done < 10:
    done += 1
    file.write_text(str(done))
    print(json.dumps({{"done": done, "size": 10}}), flush=True)
    time.sleep(0.1)
print({last!r})
sys.exit({status})
"""


def models(tmp_path, status=0, last="{}", **changes):
    command = [sys.executable, "-c", DOWNLOADER.format(file=str(tmp_path / "done"), status=status, last=last)]
    return Models(lambda model: None, command=command, **changes)


def until(condition):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < 120
        time.sleep(0.01)


def test_a_download_is_followed_paused_and_gone_on_with(tmp_path):
    chosen = models(tmp_path)
    assert chosen.download.state == "none"
    chosen.fetch()
    until(lambda: chosen.download.done >= 2)
    chosen.pause()
    assert chosen.download.state == "paused"
    stopped_at = chosen.download.done
    assert stopped_at < 10
    chosen.fetch()
    until(lambda: chosen.download.state != "running")
    assert (chosen.download.state, chosen.download.done, chosen.download.size) == ("done", 10, 10)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"error": "HubBusy"}, HubBusy),
        ({"error": "RepositoryGated", "repositories": ["a/b"]}, RepositoryGated),
        ({"error": "Exception"}, DownloadError),
        ("Killed", DownloadError),
    ],
)
def test_a_download_that_fails_is_told_by_its_class_and_can_be_tried_again(tmp_path, last, kind):
    chosen = models(tmp_path, status=2, last=last if isinstance(last, str) else json.dumps(last))
    (tmp_path / "done").write_text("9")
    for _ in range(2):
        chosen.fetch()
        until(lambda: chosen.download.state != "running")
        assert chosen.download.state == "failed"
        assert type(chosen.download.trouble) is kind
    if kind is RepositoryGated:
        assert chosen.download.trouble.repositories == ("a/b",)


@pytest.fixture
def own_hub(tmp_path, monkeypatch):
    """A hub that the `maya` command knows as the only one; what it and this process keep lies in `tmp_path`."""
    with local_hub() as hub:
        for name, value in hub_environment(hub, tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as the page's own process has it
        use_hub(hub, tmp_path, monkeypatch)
        yield hub


def test_from_nothing_to_the_published_model(own_hub, tmp_path):
    """Signed in, refused, licences accepted, fetched, in processes of their own; the page's asks nobody."""
    own_hub.tokens = {"hf_good": "somebody"}
    own_hub.gated = {PUBLISHED: set(), PUBLISHED_TOKENIZER: set()}
    config = {"model_type": "llava_cohere", "vocab_size": 256_000}
    own_hub.files[PUBLISHED] = {"config.json": json.dumps(config).encode(), "model.safetensors": bytes(100_000)}
    own_hub.files[PUBLISHED_TOKENIZER] = {"tokenizer.json": b"{}"}
    chosen = Models(lambda model: None)
    with pytest.raises(SignInNeeded):
        chosen.sign_in("hf_bad")
    assert not (tmp_path / "token").exists()
    chosen.sign_in_by_code()
    until(lambda: chosen.signing.state != "running")
    assert (chosen.signing.state, chosen.signing.address, chosen.signing.code) == ("done", own_hub.address, "ABCD")
    assert look().signed_in
    (tmp_path / "token").unlink()
    chosen.sign_in("hf_good")
    assert (tmp_path / "token").read_text() == "hf_good"
    chosen.fetch()
    until(lambda: chosen.download.state != "running")
    assert isinstance(chosen.download.trouble, RepositoryGated)
    assert chosen.download.trouble.repositories == (PUBLISHED, PUBLISHED_TOKENIZER)
    assert not look().fetched
    own_hub.gated = {PUBLISHED: {"hf_good"}, PUBLISHED_TOKENIZER: {"hf_good"}}
    asked = len(own_hub.requests)
    chosen.fetch()
    until(lambda: chosen.download.state != "running")
    assert (chosen.download.state, chosen.download.done) == ("done", chosen.download.size)
    assert chosen.download.size > 100_000
    assert [one for one in own_hub.requests[asked:] if one.token != "hf_good"] == []
    assert look().fetched
    assert look().signed_in


# `maya quantize`: writes a model into the folder that is named last.
SHRINKER = """
import sys
from pathlib import Path
assert sys.argv[1:5] == ["quantize", "--as-json", "--forget", "maya-multimodal/maya"]
folder = Path(sys.argv[5])
folder.mkdir()
(folder / "config.json").write_text("{}")
print('{"done": 100, "size": 100}')
"""


def test_maya_8b_in_four_bits_is_used_from_then_on(tmp_path, monkeypatch):
    monkeypatch.setattr("app.models.data_folder", lambda: tmp_path)
    used = []
    chosen = Models(used.append, command=[sys.executable, "-c", SHRINKER])
    assert place_of(PUBLISHED) == PUBLISHED
    chosen.shrink()
    until(lambda: chosen.shrinking.state != "running")
    assert (chosen.shrinking.state, chosen.shrinking.done, chosen.shrinking.size) == ("done", 100, 100)
    assert (look().fetched, look().small) == (True, True)
    chosen.use(PUBLISHED)
    assert (used, chosen.model) == ([str(small_folder())], PUBLISHED)


def test_nothing_is_fetched_offline(tmp_path):
    chosen = models(tmp_path, offline=True)
    chosen.fetch()
    assert chosen.download.state == "none"
    assert not (tmp_path / "done").exists()


def test_a_folder_without_a_model_is_refused_and_the_old_one_stays(tmp_path):
    used = []
    chosen = Models(used.append)
    with pytest.raises(CheckpointError):
        chosen.use(str(tmp_path))
    assert (used, chosen.model) == ([], None)
    for model in (str(asset_path("maya-tiny")), PUBLISHED, None):
        chosen.use(model)
        assert chosen.model == model
    assert used == [str(asset_path("maya-tiny")), PUBLISHED, None]


@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu"])
def test_maya_8b_is_offered_where_it_can_run(kind, monkeypatch):
    for module in (footprint, quantization):  # a processor with a 4-bit kernel holds more, in that kernel's order
        monkeypatch.setattr(module, "has_kernel", lambda: True)
    least = LEAST_MEMORY[kind]
    computer = Computer(kind=kind, device="", memory=least, free=0, fetched=False)
    assert computer.pace == ("slow" if kind == "cpu" else "fast")
    assert replace(computer, memory=least - 1).pace is None
    best_plan(
        MayaConfig.published(), Machine(device=kind, name="", memory=least, cores=2)
    )  # raises where it does not fit
    with pytest.raises(ModelTooLarge):
        best_plan(MayaConfig.published(), Machine(device=kind, name="", memory=int(0.75 * least), cores=2))


def test_this_computer_is_seen_without_asking_anybody():
    seen = look()
    assert seen.memory > 0
    assert seen.free > 0
