"""Four bits: the same from a quantised checkpoint and on the way in, as much memory as was said, and little lost."""

import gc
import json
import logging
import subprocess
import sys
import time
from copy import copy

import pytest
import torch
from bitsandbytes.functional import (
    _convert_weight_packed_for_cpu,
    dequantize_4bit,
    get_4bit_type,
    quantize_4bit,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BitsAndBytesConfig

from maya_core.answering import footprint as footprints
from maya_core.answering import session as sessions
from maya_core.answering.footprint import best_plan, footprint
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import load_best, load_session
from maya_core.errors import CheckpointError, CheckpointMismatch, ModelTooLarge
from maya_core.hardware import GIB, Machine
from maya_core.model.config import MayaConfig
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.prompt import Message
from maya_core.weights import adapters, quantization
from maya_core.weights.checkpoint import base_for_adapter, load_config, load_model, save_model
from maya_core.weights.export import quantize_checkpoint
from maya_core.weights.quantization import (
    BLOCK,
    QUANTIZATION_CONFIG,
    FourBitHead,
    in_panels,
    join_four_bit,
    quantize,
    quantized,
)
from tests.tiny import picture, tiny_config, tiny_model, tiny_session

WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2}
QUESTION = [Message(role="user", text="What is in the picture?", images=(picture(),))]
OPTIONS = GenerationOptions(max_new_tokens=10)


def test_one_message_of_bitsandbytes_is_not_passed_on_and_no_other(caplog):
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s.", "no kernels")
    log.warning("Failed to load something else")
    assert caplog.messages == ["Failed to load something else"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint in bfloat16, and the same in four bits."""
    folder = tmp_path_factory.mktemp("four-bit")
    session = tiny_session(text=WIDE)
    save_model(session.model, session.processor, folder / "whole", dtype=torch.bfloat16)
    quantize_checkpoint(folder / "whole", folder / "four-bit")
    return folder / "whole", folder / "four-bit"


def scores(model, session):
    inputs = session.processor.prompts([QUESTION])
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    with torch.inference_mode():
        return model(**inputs).logits


def test_both_ways_give_equal_scores(folders):
    whole, four_bit = folders
    stored = load_session(four_bit, dtype=torch.bfloat16)
    on_the_way = load_session(whole, dtype=torch.bfloat16, quantization="nf4")
    assert stored.token_ids(QUESTION, OPTIONS) == on_the_way.token_ids(QUESTION, OPTIONS)
    torch.testing.assert_close(scores(stored.model, stored), scores(on_the_way.model, stored), atol=0, rtol=0)


def test_stock_transformers_loads_it_with_equal_scores(folders):
    _, four_bit = folders
    session = load_session(four_bit, dtype=torch.bfloat16)
    stock = MayaForConditionalGeneration.from_pretrained(four_bit, dtype=torch.bfloat16, device_map="cpu")
    torch.testing.assert_close(scores(stock, session), scores(session.model, session), atol=0, rtol=0)


@pytest.mark.parametrize("way", ["stored, by transformers", "on the way, by transformers", "on the way, by ours"])
def test_saved_again_by_transformers_it_is_the_same(folders, way, tmp_path):
    whole, four_bit = folders
    session = load_session(four_bit, dtype=torch.bfloat16)
    if way == "stored, by transformers":
        model = MayaForConditionalGeneration.from_pretrained(four_bit, dtype=torch.bfloat16, device_map="cpu")
    elif way == "on the way, by ours":
        model = load_model(whole, dtype=torch.bfloat16, quantization="nf4")
    else:
        config = BitsAndBytesConfig(
            **{name: value for name, value in QUANTIZATION_CONFIG.items() if name != "quant_method"}
        )
        model = MayaForConditionalGeneration.from_pretrained(
            whole, dtype=torch.bfloat16, device_map="cpu", quantization_config=config
        )
    model.save_pretrained(tmp_path)
    session.processor.save_pretrained(tmp_path)
    again = load_session(tmp_path, dtype=torch.bfloat16)
    torch.testing.assert_close(scores(again.model, session), scores(model, session), atol=0, rtol=0)
    stock = MayaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="cpu")
    torch.testing.assert_close(scores(stock, session), scores(model, session), atol=0, rtol=0)


@pytest.mark.parametrize("text", [WIDE, {}], ids=["whole blocks", "odd sizes"])
def test_the_decoders_linear_layers_are_four_bit_and_no_other(text, tmp_path):
    session = tiny_session(text=text)
    save_model(session.model, session.processor, tmp_path / "whole")
    model = load_model(tmp_path / "whole", dtype=torch.bfloat16, quantization="nf4")
    inside = set(model.get_decoder().modules())
    assert {type(part).__name__ for part in inside if isinstance(part, nn.Linear)} == {"Linear4bit"}
    assert not any(type(part).__name__ == "Linear4bit" for part in set(model.modules()) - inside)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert {parameter.dtype for parameter in model.vision_tower.parameters()} == {torch.bfloat16}


def test_saving_again_changes_nothing(folders, tmp_path):
    _, four_bit = folders
    session = load_session(four_bit, dtype=torch.bfloat16)
    session.answer(QUESTION, OPTIONS)  # the decoder has joined the weights by now
    save_model(session.model, session.processor, tmp_path / "again")
    first, second = (load_file(folder / "model.safetensors") for folder in (four_bit, tmp_path / "again"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    fields = json.loads((tmp_path / "again" / "config.json").read_text())
    assert fields["quantization_config"]["bnb_4bit_compute_dtype"] == "bfloat16"


def test_an_answered_model_is_saved_as_it_was(tmp_path):
    session = tiny_session()
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    session.answer(QUESTION, OPTIONS)
    save_model(session.model, session.processor, tmp_path / "saved")
    after = load_model(tmp_path / "saved").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_quantised_already_or_otherwise_is_told(folders, tmp_path):
    _, four_bit = folders
    with pytest.raises(CheckpointError, match="already"):
        quantize_checkpoint(four_bit, tmp_path / "twice")
    other = tmp_path / "other"
    other.mkdir()
    for file in four_bit.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    fields = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(fields | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(CheckpointMismatch, match="gptq"):
        load_model(other)
    (other / "config.json").write_text(json.dumps(fields))
    tensors = load_file(other / "model.safetensors")
    lost = min(name for name in tensors if name.endswith("k_proj.weight.absmax"))
    del tensors[lost]
    save_file(tensors, other / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match=f"1 missing: {lost}"):
        load_model(other)


def test_an_adapter_on_a_quantised_model_is_merged_and_quantised_again(folders, tmp_path):
    _, four_bit = folders
    session = load_session(four_bit, dtype=torch.bfloat16)
    tuned = load_model(four_bit, dtype=torch.bfloat16)
    settings = adapters.LoraSettings(rank=2, alpha=4)
    adapters.add_lora(tuned, settings)
    trained = {name: torch.zeros_like(p) for name, p in tuned.named_parameters() if "lora_" in name}
    trained |= {name: p.detach() for name, p in tuned.named_parameters() if name.startswith("connector.")}
    adapters.save_adapter(trained, settings, tmp_path / "adapter", base=base_for_adapter(four_bit))
    merged = load_model(tmp_path / "adapter", dtype=torch.bfloat16)
    difference = (scores(merged, session) - scores(session.model, session)).float().abs().max()
    assert difference < 0.1 * scores(session.model, session).float().abs().max()


@pytest.mark.parametrize("in_bfloat16", [True, False])
def test_the_joined_projection_is_bitsandbytes_own(in_bfloat16, monkeypatch):
    monkeypatch.setattr(quantization, "has_bfloat16", lambda device: in_bfloat16)
    model, stock = (tiny_model(text=WIDE).bfloat16() for _ in range(2))
    for each in (model, stock):
        quantize(each, device="cpu")
    attention, theirs = (each.get_decoder().layers[0].self_attn for each in (model, stock))
    joined = join_four_bit([attention.q_proj, attention.k_proj, attention.v_proj], eight_bits=False)
    assert joined is not None
    for rows in (1, 7, 96, 97, 300):
        inputs = torch.randn(2, rows, 256, generator=torch.Generator().manual_seed(rows)).bfloat16()
        with torch.inference_mode():
            expected = torch.cat([theirs.q_proj(inputs), theirs.k_proj(inputs), theirs.v_proj(inputs)], dim=-1)
            torch.testing.assert_close(joined(inputs), expected, atol=0.06, rtol=0.02)  # dtypes, too


def without_kernel(monkeypatch):
    """A processor on which bitsandbytes dequantises the weights for each product."""
    for module in (quantization, footprints):
        monkeypatch.setattr(module, "has_kernel", lambda: False)


def test_without_the_kernel_no_layer_is_dequantised_for_an_answer(folders, monkeypatch):
    without_kernel(monkeypatch)
    session = load_session(folders[1], dtype=torch.bfloat16)
    session.prepared()
    monkeypatch.setattr(torch.ops.bitsandbytes, "dequantize_4bit", lambda *_: pytest.fail("weights were dequantised"))
    assert session.token_ids(QUESTION, OPTIONS)


@pytest.mark.parametrize("in_bfloat16", [True, False])
@torch.inference_mode()
def test_a_copy_in_eight_bits_is_near_the_four(in_bfloat16, monkeypatch):
    monkeypatch.setattr(quantization, "has_bfloat16", lambda device: in_bfloat16)
    monkeypatch.setattr(quantization, "NUMBERS_TO_EIGHT_BITS", 2**16)  # several tiles, the last a small one
    generator = torch.Generator().manual_seed(0)
    upper, lower = (torch.randn(rows, 2048, generator=generator).bfloat16() for rows in (96, 32))
    upper[5] = 0
    bias = torch.randn(128, generator=generator).bfloat16()
    matrices = quantized([upper, lower], "cpu")
    exact_NK = torch.cat([dequantize_4bit(*matrix) for matrix in matrices]).float()
    ours = quantization.EightBitsOnCPU(matrices, bias)
    copied_NK = ours.weight_NK * ours.scale_N[:, None].float()
    share_N = (copied_NK * exact_NK).sum(1) / exact_NK.square().sum(1).clamp(min=1e-3)
    assert share_N[exact_NK.any(1)].std() < 8e-4  # no row is a little too large or too small
    for rows in (1, 7, 12, 13, 300):
        inputs = torch.randn(rows, 2, 2048, generator=generator).bfloat16()[:, 0]  # not in one piece
        product, expected = ours(inputs), inputs.float() @ exact_NK.T + bias
        assert product.dtype == torch.bfloat16
        assert (product - expected).norm() < 0.015 * expected.norm()
        assert product[:, 5].equal(bias[5].expand(rows))


@pytest.mark.parametrize("mode", [False, True])
def test_four_bits_are_bitsandbytes_own_bit_for_bit(mode, monkeypatch):
    monkeypatch.setattr(quantization, "NUMBERS_IN_CACHE", 2**13)  # many pieces
    weights = torch.randn(600, 128, generator=torch.Generator().manual_seed(0)).bfloat16()
    weights[3, :64] = 0
    weights[4, :64] = 1e-39
    code = get_4bit_type("nf4", device="cpu")
    weights[5, 0], weights[5, 1:16] = 1, (code[1:] + code[:-1]) / 2  # as near the bounds between codes as can be
    weights[6, 0], weights[6, 1:16] = 3, 3 * (code[1:] + code[:-1]) / 2
    with torch.inference_mode(mode):
        [(data, state)] = quantized([weights], "cpu")
    theirs, their_state = quantize_4bit(weights, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
    assert torch.equal(data, theirs)
    mine, other = state.as_dict(packed=True), their_state.as_dict(packed=True)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_weights_are_brought_into_the_order_of_bitsandbytes_kernel():
    weights = torch.randn(96, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    [(data, state)] = quantized([weights], "cpu")
    theirs, repacked = _convert_weight_packed_for_cpu(data, copy(state))
    assert torch.equal(in_panels(data.view(96, 128)), theirs)
    ours = quantization.FourBitOnCPU([(data, state)], None)
    assert torch.equal(ours.scales_NS.T, repacked.absmax)


@pytest.mark.skipif(not quantization.has_kernel(), reason="this processor has no 4-bit kernel")
@torch.inference_mode()
def test_a_table_read_in_four_bits_finds_the_likeliest_word_and_its_exact_score():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(20_000, 256, generator=generator).bfloat16()
    last = torch.randn(64, 256, generator=generator).bfloat16()
    exact = last @ table.T
    scores = FourBitHead(table)(last)
    best = exact.float().max(dim=-1).values
    found = scores.argmax(dim=-1)
    torch.testing.assert_close(exact.gather(1, found[:, None])[:, 0].float(), best, atol=0, rtol=0.01)
    torch.testing.assert_close(scores.float().max(dim=-1).values, best, atol=0, rtol=0.01)
    assert (scores.float() - exact.float()).std() < 0.15 * exact.float().std()


@pytest.mark.skipif(not quantization.has_kernel(), reason="this processor has no 4-bit kernel")
def test_answers_are_the_same_with_the_table_in_four_bits(folders, monkeypatch):
    _, four_bit = folders
    plain = load_session(four_bit, dtype=torch.bfloat16)
    expected = plain.token_ids(QUESTION, OPTIONS)
    monkeypatch.setattr(quantization, "LARGE_TABLE", 1)
    session = load_session(four_bit, dtype=torch.bfloat16)
    assert session.token_ids(QUESTION, OPTIONS) == expected
    assert isinstance(session.decoder.head, FourBitHead)
    assert not isinstance(plain.decoder.head, FourBitHead)


@pytest.mark.parametrize("form", [None, "nf4"])
def test_loading_tells_how_far_it_is_and_ends_where_nobody_wants_it(folders, form):
    for folder in folders:
        shares = []
        load_model(folder, dtype=torch.bfloat16, quantization=form, on_progress=shares.append)
        assert len(shares) > 20
        assert shares == sorted(shares)
        assert shares[-1] == 1

    def enough(share):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_model(folders[0], quantization=form, on_progress=enough)


@pytest.mark.parametrize("large_table", [1, 10**9])
def test_a_model_is_loaded_when_it_can_answer_and_not_before(folders, monkeypatch, large_table):
    monkeypatch.setattr(quantization, "LARGE_TABLE", large_table)
    for folder in folders:
        shares, plans = [], []
        session = load_best(folder, on_plan=plans.append, on_progress=shares.append)
        assert session._decoder is not None
        assert shares == sorted(shares)
        assert (shares[0] > 0, shares[-1]) == (True, 1)

    def enough(share):
        if share > 0.8:  # the weights are there
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_best(folders[1], on_progress=enough)


def test_a_matrix_of_which_nobody_wants_the_rest_is_quantised_no_further(monkeypatch):
    monkeypatch.setattr(quantization, "NUMBERS_IN_CACHE", 64)
    begun = []
    fill = quantization._fill_nf4
    monkeypatch.setattr(
        quantization, "_fill_nf4", lambda *piece: (begun.append(piece), time.sleep(0.001), fill(*piece))
    )

    def enough(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantization.quantized([torch.ones(2000, 64, dtype=torch.bfloat16)], "cpu", enough)
    assert len(begun) < 1000


# --- memory ---

BIGGER = {
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": 8192, "max_position_embeddings": 2048,
}  # fmt: skip


def held() -> int:
    """Bytes of all tensors alive, shared memory once."""
    storages = {}
    for one in gc.get_objects():
        if not issubclass(type(one), torch.Tensor):  # isinstance would wake objects that warn
            continue
        if one.is_mkldnn:
            storages[id(one)] = one.numel() * one.dtype.itemsize
        elif one.device.type == "cpu":
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize(
    ("dtype", "form", "large_table", "changes"),
    [
        (torch.float32, None, 2**27, {}),
        (torch.bfloat16, None, 2**27, {}),
        (torch.bfloat16, "nf4", 2**27, {}),
        (torch.bfloat16, "nf4", 1, {}),
        (torch.bfloat16, "nf4", 2**27, {"eight_bits": True}),
        (torch.bfloat16, "nf4", 2**27, {"eight_bits": False}),
    ],
)
def test_as_much_memory_is_used_as_was_said(dtype, form, large_table, changes, tmp_path, monkeypatch):
    if changes:
        without_kernel(monkeypatch)
    monkeypatch.setattr(quantization, "LARGE_TABLE", large_table)
    config = tiny_config(text=BIGGER)
    session = tiny_session(text=BIGGER | {"vocab_size": 8192})
    save_model(session.model, session.processor, tmp_path / "model")
    del session
    gc.collect()
    before = held()
    session = load_session(tmp_path / "model", dtype=dtype, quantization=form)
    session.prepared(**changes)
    session.answer([Message(role="user", text="What? " * 150)], OPTIONS)
    gc.collect()
    used = held() - before
    columns = session._read.cache.capacity
    said = footprint(config, dtype=dtype, quantization=form, device="cpu", columns=columns, **changes)
    assert abs(said / used - 1) < 0.05, (said, used)


LOAD = """
import sys, torch, threading, time, os
from maya_core.weights.checkpoint import base_for_adapter, load_model
import bitsandbytes
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) * 1024
torch.set_num_threads(1)
before, most, done = anonymous(), 0, False
def watch():
    global most
    while not done:
        most = max(most, anonymous())
        time.sleep(0.002)
watcher = threading.Thread(target=watch); watcher.start()
model = load_model(sys.argv[1], dtype=torch.bfloat16, quantization="nf4")
done = True; watcher.join()
kept = sum(p.nbytes for p in model.parameters())
print(most - before - kept)
"""


@pytest.mark.long(10)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_needs_little_beside_what_it_keeps(tmp_path):
    """Host memory beside the model itself stays under 1.3 of the largest file of weights, here the only one."""
    session = tiny_session(text=BIGGER | {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 8})
    save_model(session.model, session.processor, tmp_path / "model", dtype=torch.bfloat16)
    size = (tmp_path / "model" / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "model")], capture_output=True, text=True, timeout=200
    )
    assert int(done.stdout) < 1.3 * size, done.stderr


@pytest.mark.parametrize(
    ("device", "gib", "form"),
    [
        ("cuda", 80, (torch.bfloat16, None)),
        ("cuda", 12, (torch.bfloat16, "nf4")),
        ("cuda", 8, (torch.bfloat16, "nf4")),
        ("cpu", 16, (torch.bfloat16, "nf4")),
        ("mps", 32, (torch.bfloat16, None)),
    ],
)
def test_the_published_model_takes_the_form_that_fits(device, gib, form):
    plan = best_plan(MayaConfig.published(), Machine(device=device, name="X", memory=gib * GIB, cores=8))
    assert (plan.dtype, plan.quantization) == form
    assert plan.needed < gib * GIB
    said = footprint(MayaConfig.published(), dtype=plan.dtype, quantization=plan.quantization, device=device)
    assert plan.needed == said + (0 if device == "cuda" else GIB // 2)  # of the main memory the process takes some too


@pytest.mark.parametrize(("gib", "eight_bits"), [(16, True), (12, False)])
def test_without_the_kernel_the_published_model_has_a_copy_in_eight_bits_where_it_fits(gib, eight_bits, monkeypatch):
    without_kernel(monkeypatch)
    plan = best_plan(MayaConfig.published(), Machine(device="cpu", name="X", memory=gib * GIB, cores=8))
    assert (plan.quantization, plan.eight_bits) == ("nf4", eight_bits)
    assert (plan.needed > 12 * GIB) == eight_bits


@pytest.mark.parametrize("eight_bits", [True, False])
def test_a_model_is_opened_as_it_was_planned(folders, eight_bits, monkeypatch):
    without_kernel(monkeypatch)
    needed = footprint(load_config(folders[1]), dtype=torch.bfloat16, quantization="nf4", eight_bits=eight_bits)
    memory = int((needed + footprints.BESIDE) / (1 - footprints.SPARE)) + 2
    monkeypatch.setattr(sessions, "inspect_machine", lambda: Machine(device="cpu", name="X", memory=memory, cores=2))
    layer = load_best(folders[1]).decoder.layers[0]
    kind = quantization.EightBitsOnCPU if eight_bits else quantization.FourBitOnCPU
    assert {type(part) for part in (layer.inward, layer.o_proj, layer.down_proj)} == {kind}


def test_a_model_that_fits_in_no_form_is_told_with_both_numbers():
    machine = Machine(device="cuda", name="X", memory=4 * GIB, cores=8)
    with pytest.raises(ModelTooLarge, match=r"needs 6\.\d GiB, and X has 4\.0"):
        best_plan(MayaConfig.published(), machine)
    assert best_plan(tiny_config(), machine).quantization is None
    small = Machine(device="cpu", name="X", memory=4 * GIB, cores=2)
    assert best_plan(tiny_config(), small).dtype == torch.float32
    assert best_plan(tiny_config(), small, is_quantized=True).quantization == "nf4"


@pytest.mark.parametrize("shape", [(128, 128), (48, 80), (300, 64)])
def test_it_is_bitsandbytes_own_quantisation(shape, monkeypatch):
    from bitsandbytes.functional import quantize_4bit

    monkeypatch.setattr(quantization, "NUMBERS_AT_ONCE", 4096)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).bfloat16()
    data, state = quantize_4bit(weight, blocksize=BLOCK, quant_type="nf4", compress_statistics=True)
    [(our_data, our_state)] = quantization.quantized([weight], "cpu")
    assert torch.equal(our_data, data)
    assert our_state.as_dict().keys() == state.as_dict().keys()
    for name, value in state.as_dict().items():
        mine = our_state.as_dict()[name]
        assert torch.equal(mine, value) if isinstance(value, torch.Tensor) else mine == value, name
