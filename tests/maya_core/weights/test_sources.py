"""What can be wrong with a model's files is one sentence, told from their headers before anything takes long; and the
commands that write a model leave what is there."""

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import maya_core.cli as cli
from maya_core.answering.session import load_best, load_session
from maya_core.errors import (
    CheckpointError,
    CheckpointMismatch,
    CheckpointNotFound,
    CheckpointUnsafe,
    DiskFull,
    TokenizerMissing,
)
from maya_core.hardware import in_words
from maya_core.weights import adapters, checkpoint
from maya_core.weights.checkpoint import (
    assemble,
    base_for_adapter,
    bytes_on_disk,
    fingerprint_of,
    load_model,
    require_whole,
    save_model,
    stored_dtype,
)
from maya_core.weights.destination import FRESH
from maya_core.weights.export import convert, export_llava, quantize_checkpoint
from tests.tiny import tiny_session

FIXTURE = Path(__file__).parents[2] / "fixtures" / "maya-llava-tiny"
SHARD, OTHER = "model-00003-of-00010.safetensors", "model-00002-of-00010.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "published"))


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Path:
    """A model in our layout, in float32."""
    session = tiny_session()
    folder = tmp_path_factory.mktemp("sources") / "ours"
    save_model(session.model, session.processor, folder)
    return folder


@pytest.fixture
def adapter(ours, tmp_path) -> Path:
    settings = adapters.LoraSettings(rank=2)
    model = load_model(ours)
    adapters.add_lora(model, settings)
    trained = {name: part.detach() for name, part in model.named_parameters() if "lora_" in name}
    adapters.save_adapter(trained, settings, tmp_path / "adapter", base=base_for_adapter(ours))
    return tmp_path / "adapter"


def maya(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    """The exit status, and what was said on stderr."""
    monkeypatch.setattr(sys, "argv", ["maya", *map(str, arguments)])
    capsys.readouterr()
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0), capsys.readouterr().err
    return 0, capsys.readouterr().err


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- adapters and what they belong to ---


def test_an_adapter_is_merged_and_nothing_else_is(ours, adapter, tmp_path, monkeypatch, capsys):
    assert maya(monkeypatch, capsys, "merge", adapter, tmp_path / "whole") == (0, "")
    merged, wanted = load_model(tmp_path / "whole").state_dict(), load_model(adapter).state_dict()
    assert all(torch.equal(merged[name], tensor) for name, tensor in wanted.items())
    assert maya(monkeypatch, capsys, "merge", ours, tmp_path / "no") == (
        2,
        "ours is no adapter; there is nothing to merge.\n",
    )


def test_an_adapter_names_a_repository_by_its_commit(tmp_path):
    base = adapters.Base(f"owner/name@{'a' * 40}", "mark")
    adapters.save_adapter({}, adapters.LoraSettings(rank=2), tmp_path / "adapter", base=base)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/name", "a" * 40)
    assert adapters.base_of(tmp_path / "adapter") == base.name


def test_a_fingerprint_is_of_weights_and_not_of_names(ours, adapter, tmp_path):
    shutil.copytree(ours, tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"transformers_version": "9"}))
    assert fingerprint_of(tmp_path / "copy") == fingerprint_of(ours)
    assert fingerprint_of(adapter) != fingerprint_of(ours)
    tensors = load_file(tmp_path / "copy" / "model.safetensors")
    for name in tensors:
        changed = tensors | {name: tensors[name] + 1}
        save_file(changed, tmp_path / "copy" / "model.safetensors")
        assert fingerprint_of(tmp_path / "copy") != fingerprint_of(ours), name


# --- what is wrong with a source ---


def cut(folder: Path) -> None:
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(content[:-1])


def zeroed(folder: Path) -> None:
    (folder / SHARD).write_bytes(bytes(1000))


def pointer(folder: Path) -> None:
    (folder / SHARD).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def missing(folder: Path) -> None:
    (folder / SHARD).unlink()


def swapped(folder: Path) -> None:
    shutil.copyfile(folder / OTHER, folder / SHARD)


def surplus(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.layers.9.surprise"] = SHARD
    (folder / INDEX).write_text(json.dumps(index))


def without_a_map(folder: Path) -> None:
    (folder / INDEX).write_text('{"weight_map": [1]}')


def pickled(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()
    torch.save({}, folder / "pytorch_model.bin")


DAMAGES = (
    (cut, CheckpointMismatch, f"{SHARD} is damaged or cut off"),
    (zeroed, CheckpointMismatch, f"{SHARD} is damaged or cut off"),
    (
        pointer,
        CheckpointMismatch,
        f"{SHARD} is what git keeps in the place of a large file; `git lfs pull` fetches it.",
    ),
    (missing, CheckpointNotFound, f"{SHARD} is missing from published; get a whole copy."),
    (swapped, CheckpointMismatch, f"{SHARD} has other content than {INDEX} says, without model."),
    (surplus, CheckpointMismatch, f"{SHARD} has other content than {INDEX} says, without model.layers.9.surprise;"),
    (without_a_map, CheckpointMismatch, f"{INDEX} does not say which tensor is in which file; get it again."),
    (pickled, CheckpointUnsafe, "The weights in published are pickles (pytorch_model.bin), which can run code"),
)


@pytest.mark.parametrize(("damage", "kind", "sentence"), DAMAGES, ids=[damage.__name__ for damage, _, _ in DAMAGES])
def test_damage_is_told_before_weights_are_read(copy, damage, kind, sentence, monkeypatch):
    damage(copy)
    monkeypatch.setattr(checkpoint, "_fill", lambda *given, **options: pytest.fail("weights were read"))
    for use in (require_whole, load_model):
        with pytest.raises(kind) as told:
            use(copy)
        assert str(told.value).startswith(sentence)


@pytest.mark.parametrize("command", ["info", "convert", "quantize", "export"])
def test_each_command_tells_damage_in_one_sentence_with_status_2(copy, tmp_path, monkeypatch, capsys, command):
    cut(copy)
    given = ("--model", copy) if command == "info" else (copy, tmp_path / "out")
    status, said = maya(monkeypatch, capsys, command, *given)
    assert status == 2
    assert said.startswith(f"{SHARD} is damaged or cut off")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (None, "vision_feature_layer", 99),
        (None, "prompt_format", "shouted"),
        (None, "connector_config", "mlp"),
        ("vision_config", "model_type", "x"),
        ("text_config", "hidden_act", "x"),
        ("text_config", "num_attention_heads", 0),
        ("text_config", "hidden_size", -3),
        ("text_config", "rope_parameters", {"rope_type": "x"}),
    ],
)
def test_a_value_that_no_model_can_have_is_told(ours, tmp_path, part, name, value):
    for file in ours.iterdir():
        (tmp_path / file.name).symlink_to(file)
    fields = json.loads((ours / "config.json").read_text())
    (fields[part] if part else fields)[name] = value
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(fields))
    for use in (require_whole, load_best):
        with pytest.raises(CheckpointMismatch, match=r"config\.json in .* has a value that no model can have") as told:
            use(tmp_path)
        assert "\n" not in str(told.value)


def test_a_lost_part_of_a_four_bit_model_is_told(ours, tmp_path):
    quantize_checkpoint(ours, tmp_path / "small")
    require_whole(tmp_path / "small")
    file = tmp_path / "small" / "model.safetensors"
    tensors = load_file(file)
    lost = min(name for name in tensors if name.endswith("k_proj.weight.quant_map"))
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file)
    with pytest.raises(CheckpointMismatch, match=f"1 missing: {lost}"):
        require_whole(tmp_path / "small")


def test_float32_becomes_four_bits_and_sixteen(ours, tmp_path):
    assert stored_dtype(ours) == torch.float32
    quantize_checkpoint(ours, tmp_path / "small")
    plain = {
        name: t for name, t in load_file(tmp_path / "small" / "model.safetensors").items() if ".weight." not in name
    }
    assert {tensor.dtype for tensor in plain.values()} == {torch.uint8, torch.bfloat16}
    convert(ours, tmp_path / "whole")
    assert stored_dtype(tmp_path / "whole") == torch.float32


def test_a_missing_tokenizer_is_told_as_that(copy, monkeypatch, capsys):
    with pytest.raises(TokenizerMissing, match=r"has no tokenizer\.json; copy the tokenizer files"):
        load_session(copy)
    assert not issubclass(TokenizerMissing, CheckpointNotFound)  # "There is no model there"
    status, said = maya(monkeypatch, capsys, "info", "--model", copy)
    assert (status, len(said.splitlines())) == (2, 1)
    for damaged in ('{"half', "{}", "[]", ""):
        (copy / "tokenizer.json").write_text(damaged)
        with pytest.raises(CheckpointMismatch, match=r"tokenizer\.json is damaged"):
            load_session(copy)


def test_what_is_wrong_with_an_adapter_is_told(ours, adapter, tmp_path):
    require_whole(adapter)
    weights, config = adapter / adapters.ADAPTER_WEIGHTS, adapter / adapters.ADAPTER_CONFIG
    whole, fields = weights.read_bytes(), json.loads(config.read_text())

    def sentence(kind: type[CheckpointError]) -> str:
        with pytest.raises(kind) as told:
            load_model(adapter)
        return str(told.value)

    weights.write_bytes(whole[:-1])
    assert "adapter_model.safetensors is damaged or cut off" in sentence(CheckpointMismatch)
    weights.unlink()
    assert "adapter_model.safetensors is missing from adapter" in sentence(CheckpointNotFound)
    torch.save({}, adapter / "adapter_model.bin")
    assert "are pickles (adapter_model.bin)" in sentence(CheckpointUnsafe)
    tensors = load_file(FIXTURE / SHARD)
    save_file(tensors, weights)
    assert f"{len(tensors)} tensors of the adapter in adapter fit nothing" in sentence(CheckpointMismatch)
    weights.write_bytes(whole)
    halved = load_file(weights)
    name = next(name for name in halved if "lora_A" in name)
    save_file(halved | {name: halved[name][:1].contiguous()}, weights)
    assert "its base takes [2," in sentence(CheckpointMismatch)
    del halved[name]
    save_file(halved, weights)
    assert "adapter_model.safetensors in adapter lacks language_model" in sentence(CheckpointMismatch)
    weights.write_bytes(whole)
    config.write_text(json.dumps(fields | {"base_model_name_or_path": str(tmp_path / "gone")}))
    assert "adapter is an adapter, and what it belongs to is not where adapter_config.json" in sentence(
        CheckpointNotFound
    )
    shutil.copytree(adapter, tmp_path / "under")
    config.write_text(json.dumps(fields | {"base_model_name_or_path": str(tmp_path / "under")}))
    assert "adapter is an adapter on an adapter" in sentence(CheckpointMismatch)
    config.write_text('{"peft_ty')
    assert "adapter_config.json is not valid JSON" in sentence(CheckpointMismatch)


def test_a_new_maya_is_made_of_plain_parts(ours, adapter, tmp_path):
    for part, says in ((ours, "ours is a Maya already"), (adapter, "adapter is an adapter")):
        with pytest.raises(CheckpointMismatch, match=says if part is adapter else "is a Maya already"):
            assemble(part, FIXTURE)
        with pytest.raises(CheckpointMismatch, match=says):
            assemble(FIXTURE / "siglip-tower", part)
    aya = Path(shutil.copytree(ours, tmp_path / "aya"))
    (aya / "config.json").write_text('{"model_type": "cohere", "quantization_config": {}}')
    with pytest.raises(CheckpointMismatch, match="aya is quantised"):
        assemble(FIXTURE / "siglip-tower", aya)


# --- what is there already ---


@pytest.mark.parametrize("command", ["convert", "quantize", "export"])
def test_nothing_that_is_there_is_lost(ours, tmp_path, monkeypatch, capsys, command):
    source = Path(shutil.copytree(ours, tmp_path / "source"))
    keep = tmp_path / "keep"
    (keep / "photos").mkdir(parents=True)
    (keep / "photos" / "1.png").write_bytes(b"a photograph")
    (keep / "more").mkdir()
    before = tree(tmp_path)
    for destination, says in (
        (keep, "keep is not empty and no model that Maya wrote (more, photos)"),
        (source, "source holds a model already"),
        (source / "out", "out lies in source, which is read"),
        (keep / "photos" / "1.png", "1.png is a file"),
    ):
        status, said = maya(monkeypatch, capsys, command, source, destination)
        assert (status, len(said.splitlines())) == (2, 1)
        assert said.startswith(says)
    status, said = maya(monkeypatch, capsys, command, source, source, "--overwrite")
    assert (status, said) == (2, "source is itself what is read; give another folder.\n")
    assert tree(tmp_path) == before
    assert maya(monkeypatch, capsys, command, source, keep / "more")[0] == 0  # an empty folder
    (keep / "more" / "photo.png").write_bytes(b"another")
    again = maya(monkeypatch, capsys, command, source, keep / "more")
    assert again[0] == 2
    assert again[1].startswith("more holds a model already; give another folder, or --overwrite")
    assert maya(monkeypatch, capsys, command, source, keep / "more", "--overwrite")[0] == 0
    after = tree(tmp_path)
    assert after["keep/more/photo.png"] == b"another"
    assert before.items() <= after.items()
    assert not any(FRESH in name for name in after)


def test_what_lies_under_an_adapter_is_not_replaced_by_it(ours, adapter):
    before = tree(ours)
    with pytest.raises(cli.MayaError, match="ours is itself what is read"):
        convert(adapter, ours, overwrite=True)
    assert tree(ours) == before


@pytest.mark.parametrize("write", [convert, quantize_checkpoint, export_llava])
def test_the_disk_is_looked_at_before_weights_are_read(ours, tmp_path, monkeypatch, write):
    size = {convert: bytes_on_disk(ours, torch.float32), export_llava: bytes_on_disk(ours, torch.float32)}
    needed = size.get(write, bytes_on_disk(ours, torch.bfloat16, four_bit=True))
    usage = namedtuple("usage", "total used free")(2**40, 0, needed // 2)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda folder: usage)
        patched.setattr(checkpoint, "_fill", lambda *given, **options: pytest.fail("weights were read"))
        with pytest.raises(DiskFull, match=f"make room for {in_words(needed - needed // 2)} more"):
            write(ours, tmp_path / "out")
    write(ours, tmp_path / "out")
    written = sum(file.stat().st_size for file in (tmp_path / "out").iterdir())
    assert needed == pytest.approx(written, rel=0.1)


def test_what_was_written_is_read_back(ours, tmp_path, monkeypatch):
    real = checkpoint.save_torch_state_dict

    def forgetful(state, folder):
        real({name: tensor for name, tensor in state.items() if name != "connector.layers.0.bias"}, folder)

    monkeypatch.setattr(checkpoint, "save_torch_state_dict", forgetful)
    with pytest.raises(CheckpointMismatch, match=r"1 missing: connector\.layers\.0\.bias"):
        convert(ours, tmp_path / "out")
    assert not (tmp_path / "out").exists()
