"""A language model as GGUF: what the file says is what llama.cpp asks for, and what is read back answers as before."""

import shutil
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize

import maya_core.cli as cli
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession, load_session
from maya_core.assets import LANGUAGE_MODEL
from maya_core.errors import CheckpointError, CheckpointMismatch, CheckpointNotFound
from maya_core.weights import gguf_file
from maya_core.weights.checkpoint import load_config, load_model, require_whole, save_model
from maya_core.weights.export import convert, quantize_checkpoint
from maya_core.weights.fingerprint import fingerprint
from maya_core.weights.gguf_export import export_gguf
from maya_core.weights.gguf_file import stored_in
from maya_core.weights.hub import local_folder
from tests.tiny import picture, tiny_config, tiny_session

TEXT = {"hidden_size": 64, "intermediate_size": 128}  # blocks are of 32 numbers
LONG = GenerationOptions(max_new_tokens=64)
TABLE, NORM, DOWN = (
    f"language_model.model.{name}.weight" for name in ("embed_tokens", "norm", "layers.0.mlp.down_proj")
)


@pytest.fixture(scope="module")
def session() -> ChatSession:
    return tiny_session(text=TEXT)


@pytest.fixture(scope="module")
def ours(session, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gguf") / "ours"
    save_model(session.model, session.processor, folder)
    return folder


@pytest.fixture(scope="module")
def folders(ours) -> dict[str, Path]:
    """The same model with its language model in each kind of numbers."""
    made = {numbers: ours.parent / numbers for numbers in ("f16", "q8_0", "q4_0")}
    for numbers, folder in made.items():
        export_gguf(ours, folder, numbers=numbers)
    return made


def asked(session: ChatSession):
    return [session.processor.user_message("What is in the picture?", [picture(), picture((0, 0, 200))])]


def test_sixteen_bits_answer_as_before(session, folders):
    again = load_session(folders["f16"])
    assert again.token_ids(asked(again), LONG) == session.token_ids(asked(session), LONG)
    inputs = session.processor.prompts([asked(session)])
    with torch.inference_mode():
        expected, found = (each.model(**inputs).logits for each in (session, again))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("numbers", "error"), [("q8_0", 0.01), ("q4_0", 0.15)])
def test_blocks_are_read_as_they_are_written_and_near_what_they_were(session, folders, numbers, error):
    reader = gguf.GGUFReader(folders[numbers] / LANGUAGE_MODEL)
    by_name = {tensor.name: tensor for tensor in reader.tensors}
    read, before = load_model(folders[numbers]).state_dict(), session.model.state_dict()
    for ours, theirs in ((TABLE, "token_embd.weight"), (DOWN, "blk.0.ffn_down.weight"), (NORM, "output_norm.weight")):
        written = by_name[theirs]
        np.testing.assert_array_equal(read[ours].numpy(), dequantize(written.data, written.tensor_type))
    assert (by_name["output_norm.weight"].tensor_type.name, by_name["token_embd.weight"].tensor_type.name) == (
        "F32",
        "Q8_0",
    )
    assert by_name["blk.0.ffn_down.weight"].tensor_type.name == numbers.upper()
    difference = (read[DOWN] - before[DOWN]).norm() / before[DOWN].norm()
    assert 0 < difference < error
    torch.testing.assert_close(read["connector.layers.0.weight"], before["connector.layers.0.weight"])


def test_the_file_says_what_llama_cpp_asks_for(session, folders):
    text, tokenizer = session.model.config.text, session.processor.tokenizer
    reader = gguf.GGUFReader(folders["f16"] / LANGUAGE_MODEL)
    said = {name: field.contents() for name, field in reader.fields.items()}
    of_the_architecture = {
        "block_count": 3,
        "context_length": 512,
        "embedding_length": 64,
        "feed_forward_length": 128,
        "attention.head_count": 4,
        "attention.head_count_kv": 2,
        "attention.layer_norm_epsilon": pytest.approx(text.layer_norm_eps),
        "rope.freq_base": 10000.0,
        "rope.scaling.type": "none",
        "logit_scale": 0.0625,
        "vocab_size": text.vocab_size,
    }
    assert {f"command-r.{name}": value for name, value in of_the_architecture.items()}.items() <= said.items()
    names = {tensor.name for tensor in reader.tensors}
    kinds = gguf.MODEL_TENSORS[gguf.MODEL_ARCH.COMMAND_R]
    whole = {gguf.TENSOR_NAMES[kind] for kind in kinds if "NORM" not in kind.name or "_Q_" not in kind.name}
    assert {name.removesuffix(".weight").replace("blk.2.", "blk.{bid}.") for name in names if "blk.2." in name} == {
        name for name in whole if "{bid}" in name and "_norm" not in name.replace("attn_norm", "")
    } - {"blk.{bid}.attn_rot_embd"}
    words = said["tokenizer.ggml.tokens"]
    assert len(words) == text.vocab_size
    assert [words[number] for number in (0, 40, text.eos_token_id)] == tokenizer.convert_ids_to_tokens(
        [0, 40, text.eos_token_id]
    )
    assert said["tokenizer.ggml.token_type"][text.eos_token_id] == gguf.TokenType.CONTROL
    assert said["tokenizer.ggml.eos_token_id"] == text.eos_token_id
    assert "<|START_OF_TURN_TOKEN|>" in said["tokenizer.chat_template"]


def test_rows_that_blocks_do_not_fill_stay_in_sixteen_bits(tmp_path):
    session = tiny_session()  # 48 wide
    save_model(session.model, session.processor, tmp_path / "ours")
    export_gguf(tmp_path / "ours", tmp_path / "out", numbers="q4_0")
    kinds = {stored.name: stored.type.name for stored in stored_in(tmp_path / "out" / LANGUAGE_MODEL)}
    assert (kinds[TABLE], kinds[DOWN]) == ("F16", "Q4_0")
    require_whole(tmp_path / "out")


def test_what_large_models_are_computed_in_is_enough_to_read_a_large_table(folders, monkeypatch):
    whole = load_model(folders["q8_0"]).state_dict()[TABLE]
    monkeypatch.setattr(gguf_file, "LARGE", 1)
    monkeypatch.setattr(gguf_file, "ROWS", 100)
    assert torch.equal(load_model(folders["q8_0"]).state_dict()[TABLE], whole.bfloat16().float())


def test_it_is_converted_back_and_brought_to_four_bits(folders, tmp_path):
    convert(folders["f16"], tmp_path / "plain")
    assert not (tmp_path / "plain" / LANGUAGE_MODEL).exists()
    there, back = (load_model(folder).state_dict() for folder in (folders["f16"], tmp_path / "plain"))
    assert all(torch.equal(there[name].half(), back[name].half()) for name in there)
    quantize_checkpoint(folders["q8_0"], tmp_path / "small")
    require_whole(tmp_path / "small")
    assert fingerprint(folders["f16"]) != fingerprint(folders["q8_0"])


def test_a_model_of_another_form_takes_its_place_whole(ours, folders, tmp_path):
    model = Path(shutil.copytree(folders["f16"], tmp_path / "model"))
    convert(ours, model, overwrite=True)
    assert not (model / LANGUAGE_MODEL).exists()
    require_whole(model)
    export_gguf(ours, model, overwrite=True)
    assert (model / LANGUAGE_MODEL).exists()
    require_whole(model)


# --- one sentence ---


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ({"use_qk_norm": True}, "does not norm queries and keys"),
        ({"attention_bias": True}, "has no biases"),
        ({"hidden_act": "gelu"}, "computes with silu, this model with gelu"),
        ({"tie_word_embeddings": False}, "has one table"),
        ({"head_dim": 32}, "has heads that are together 48 wide"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "no rotation of type linear"),
    ],
)
def test_what_llama_cpp_cannot_compute_is_told_before_weights_are_read(text, sentence, tmp_path):
    tiny_config(text=text, tie_word_embeddings=text.get("tie_word_embeddings", True)).save_pretrained(tmp_path / "ours")
    with pytest.raises(CheckpointError, match=f"command-r .*{sentence}.*cannot be exported"):
        export_gguf(tmp_path / "ours", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_inside_the_language_model_and_four_bits_are_told(ours, tmp_path):
    connector = {"kind": "cross_attention", "cross_attn_every_n_layers": 1}
    tiny_config(connector_config=connector).save_pretrained(tmp_path / "looking")
    with pytest.raises(CheckpointError, match="looks at pictures inside its language model"):
        export_gguf(tmp_path / "looking", tmp_path / "out")
    quantize_checkpoint(ours, tmp_path / "small")
    with pytest.raises(CheckpointError, match="small is in four bits; export the model that it was made from"):
        export_gguf(tmp_path / "small", tmp_path / "out")


def spoilt(folders, tmp_path, change) -> Path:
    folder = Path(shutil.copytree(folders["q8_0"], tmp_path / "model"))
    change(folder / LANGUAGE_MODEL)
    return folder


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4000])


def cut_in_its_words(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def of_another_kind(file: Path) -> None:
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_tensor("token_embd.weight", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (cut, "is damaged or cut off"),
        (cut_in_its_words, "is damaged or cut off"),
        (empty, "is damaged or cut off"),
        (of_another_kind, "holds a llama model; Maya's language models are command-r"),
    ],
)
def test_damage_is_told_before_weights_are_read(folders, tmp_path, change, sentence):
    with pytest.raises(CheckpointMismatch, match=sentence):
        require_whole(spoilt(folders, tmp_path, change))


def test_a_model_is_opened_by_its_file_too(folders, tmp_path, monkeypatch, capsys):
    assert local_folder(folders["f16"] / LANGUAGE_MODEL) == folders["f16"]
    monkeypatch.setattr(sys, "argv", ["maya", "info", "--model", str(folders["q4_0"] / LANGUAGE_MODEL)])
    cli.main()
    assert "the language model as GGUF (Q4_0)" in " ".join(capsys.readouterr().out.split())
    alone = shutil.copy(folders["f16"] / LANGUAGE_MODEL, tmp_path / "aya.gguf")
    with pytest.raises(CheckpointNotFound, match=r"aya.gguf has no eyes"):
        load_config(local_folder(alone))


def test_the_command_writes_it(ours, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["maya", "export", str(ours), str(out), "--format", "gguf", "--numbers", "q8_0"])
    cli.main()
    assert capsys.readouterr().out.strip() == str(out)
    assert stored_in(out / LANGUAGE_MODEL)[-1].name.startswith("language_model.model.")
