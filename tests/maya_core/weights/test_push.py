"""Models sent through the hub's own client to a hub on this machine: what goes there, who sees it, and each trouble."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from maya_core import cli
from maya_core.errors import CheckpointNotFound, DestinationError, HubBusy, HubUnreachable, SignInNeeded
from maya_core.weights.adapters import LoraSettings, add_lora, save_adapter
from maya_core.weights.checkpoint import base_for_adapter, load_model, save_model
from maya_core.weights.export import merge_adapter, quantize_checkpoint
from maya_core.weights.push import pack, send
from tests.local_hub import Fault, LocalHub, local_hub, use_hub
from tests.tiny import tiny_session

MINE, BASE = "me/mine", "me/base"
PRIVATE = ("secret-photos", "clinic.json", "Aunt")
RECIPE = {
    "recipe": "lora",
    "data": ["/home/me/secret-photos/clinic.json"],
    "images": "secret-photos",
    "run": "../secret-photos.run",
    "train": {"batch_size": 4, "learning_rates": {"lora_A": 1e-4, "lora_B": 1e-3, "model.connector": 0}},
    "lora": {"rank": 2, "alpha": 4, "dora": False, "targets": []},
    "figures": {
        "steps": 12,
        "records": {"en": 20, "hi": 1000},
        "loss": {"all": 1.5, "en": 1.25, "hi": None},
        "held_out": {"all": 1.75, "hi": 2.0},
        "exact_match": {"all": 12.5, "hi": 100.0},
        "chrf": {"all": 33.333},
    },
    "of_a_later_version": "Aunt",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("secret-photos") / "mine"
    session = tiny_session()
    save_model(session.model, session.processor, folder)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    (folder / "notes.txt").write_text("Aunt")
    return folder


@pytest.fixture(scope="module")
def adapter(model) -> Path:
    folder, settings = model.with_name("adapter"), LoraSettings(rank=2, alpha=4)
    tuned = load_model(model)
    add_lora(tuned, settings)
    trained = {n: p.detach() + 0.1 for n, p in tuned.named_parameters() if "lora_" in n or n.startswith("connector.")}
    save_adapter(trained, settings, folder, base=base_for_adapter(model))
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with nothing in it, and a person who is signed in."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    with local_hub() as local:
        use_hub(local, tmp_path, monkeypatch)
        local.tokens |= {"hf_me": "me"}
        (tmp_path / "token").write_text("hf_me")
        yield local


def asked(hub: LocalHub) -> list[str]:
    return [f"{one.method} {one.path}" for one in hub.requests]


def test_what_is_sent_comes_back_and_nobody_else_sees_it(hub, model):
    assert send(pack(model, MINE)) == f"{hub.address}/{MINE}"
    assert hub.private == {MINE}
    sent = [one for one in hub.requests if one.path.startswith(("/api/repos/", "/api/models/"))]
    assert sent
    assert {one.token for one in sent} == {"hf_me"}
    there, here = load_model(MINE).state_dict(), load_model(model).state_dict()
    assert all(torch.equal(there[name], here[name]) for name in here)
    send(pack(model, "me/open", public=True))
    assert hub.private == {MINE}


def test_an_adapter_finds_its_base_on_the_hub(hub, model, adapter):
    with pytest.raises(DestinationError, match="adapter belongs to a model in a folder here; say .* --base owner/name"):
        pack(adapter, MINE)
    send(pack(model, BASE))
    send(pack(adapter, MINE, base=f"{BASE}@{hub.commit_of(BASE)}"))
    config = json.loads(hub.files[MINE]["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == (BASE, hub.commit_of(BASE))
    there, here = load_model(MINE).state_dict(), load_model(adapter).state_dict()
    assert all(torch.equal(there[name], here[name]) for name in here)
    with pytest.raises(DestinationError, match="--base is of an adapter"):
        pack(model, MINE, base=BASE)


def test_what_was_tuned_is_told_of_its_other_forms_too(model, adapter, tmp_path):
    merge_adapter(adapter, tmp_path / "whole")
    quantize_checkpoint(model, tmp_path / "small")
    for form in ("whole", "small"):
        told = pack(tmp_path / form, MINE).card
        assert "1,020 conversations about pictures (en 20, hi 1,000)" in told
        assert "| loss on what was held out | 1.750 |" in told
        assert "run" not in json.loads((tmp_path / form / "recipe.json").read_text())


def test_nothing_of_the_data_or_of_folders_here_is_sent(hub, model, adapter):
    for folder, base in ((model, None), (adapter, BASE)):
        send(pack(folder, MINE if base else BASE, base=base))
    for files in hub.files.values():
        assert not {"notes.txt", "files.json"} & files.keys()
        for name, content in files.items():
            assert not [word for word in (*PRIVATE, str(model.parent)) if word.encode() in content], name


def test_the_card_says_what_it_is_and_what_it_learnt(model, adapter):
    card = pack(adapter, MINE, base=BASE, licence="mit").card
    for line in (
        "license: mit",
        "library_name: peft",
        f"base_model: {BASE}",
        "# mine",
        f"An adapter of rank 2 on [{BASE}](https://huggingface.co/{BASE}), which answers questions about pictures.",
        "1,020 conversations about pictures (en 20, hi 1,000). They are not part of this repository.",
        "`python -m training.finetune --recipe lora`, 12 steps of 4 conversations; learning rates lora_A 0.0001, lora_B "
        "0.001; adapters: rank 2, alpha 4. The rest is in recipe.json.",
        "| | all | en | hi |",
        "| loss in training, at the end | 1.500 | 1.250 | - |",
        "| loss on what was held out | 1.750 | - | 2.000 |",
        "| short answers to it that are right, % | 12.5 | - | 100.0 |",
        "| chrF of those answers | 33.3 | - | - |",
        '    maya ask PICTURE "QUESTION" --model me/mine',
    ):
        assert line in card.splitlines(), line
    whole = pack(model, MINE).card
    assert "license: other" in whole
    assert "A Maya, which answers questions about pictures: " in whole


def test_a_card_of_ones_own_is_sent_as_it_is(hub, model, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(model, own)
    (own / "README.md").write_text("---\nlicense: mit\n---\nMine.\n")
    send(pack(own, MINE))
    assert hub.files[MINE]["README.md"] == (own / "README.md").read_bytes()


def test_weights_of_the_model_before_go(hub, model):
    send(pack(model, MINE))
    hub.files[MINE] |= {"model-00001-of-00002.safetensors": b"", "adapter_config.json": b"{}", "notes.md": b"mine"}
    send(pack(model, MINE))
    assert hub.files[MINE].keys() == {*pack(model, MINE).files, "notes.md"}


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(hub, model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["maya", "push", str(model), MINE, "--dry-run"])
    cli.main()
    told = capsys.readouterr().out
    assert f"To {MINE}, which nobody but you may see:" in told
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md", "recipe.json"):
        assert f"  {name}, " in told
    assert "# mine" in told
    assert told.endswith("Nothing was sent.\n")
    assert not asked(hub)


def test_the_command_tells_first_and_then_sends(hub, model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["maya", "push", str(model), MINE, "--public"])
    cli.main()
    told = capsys.readouterr().out
    assert told.startswith(f"To {MINE}, which everybody may see:\n")
    assert told.endswith(f"{hub.address}/{MINE}\n")


def test_nobody_is_signed_in(hub, model, tmp_path):
    (tmp_path / "token").unlink()
    with pytest.raises(SignInNeeded, match="Nobody is signed in; sign in with `maya login`"):
        send(pack(model, MINE))
    assert not asked(hub)


@pytest.mark.parametrize(
    ("fault", "expected", "says"),
    [
        ("reader", SignInNeeded, f"Your token may not write to {MINE}"),
        ("unknown", SignInNeeded, "The hub does not accept your token"),
        ("busy", HubBusy, f"Sending {MINE} stopped; the same command sends what is not there yet."),
        ("no network", HubUnreachable, "cannot be reached"),
        ("offline", HubUnreachable, "Maya was told to stay offline"),
    ],
)
def test_each_trouble_is_one_sentence(hub, model, tmp_path, monkeypatch, fault, expected, says):
    if fault == "reader":
        hub.readers.add("hf_me")
    elif fault == "unknown":
        (tmp_path / "token").write_text("hf_other")
    elif fault == "busy":
        hub.faults.append(Fault("/commit/", "status", status=500, commands=("POST",)))
    elif fault == "no network":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(expected, match=says):
        send(pack(model, MINE))
    assert not hub.files.get(MINE)


def test_a_repository_that_others_see_gets_nothing_that_was_to_be_private(hub, model):
    send(pack(model, "me/open", public=True))
    before = dict(hub.files["me/open"])
    with pytest.raises(DestinationError, match="there already, and public; give --public, or another name"):
        send(pack(model, "me/open", licence="mit"))
    send(pack(model, MINE))
    with pytest.raises(DestinationError, match="there already, and private; leave --public out"):
        send(pack(model, MINE, public=True))
    assert hub.files["me/open"] == before


def test_what_is_no_model_is_said(hub, model, tmp_path):
    run = tmp_path / "mine.run"
    (run / "checkpoints").mkdir(parents=True)
    for name in ("metrics.jsonl", "run.json", "config.json"):  # a run of a new model has its configuration in it
        (run / name).write_text("{}")
        with pytest.raises(CheckpointNotFound, match=r"mine\.run is a run and not its result; finish it"):
            pack(run, MINE)
    with pytest.raises(CheckpointNotFound, match="holds no model"):
        pack(tmp_path, MINE)
    with pytest.raises(DestinationError, match="give owner/name"):
        pack(model, "mine")
    assert not asked(hub)
