"""The GPU benchmark's whole logic on small shapes, and on a GPU that recorded steps say what plain ones say."""

import pytest
import torch

from maya_core.answering import generation
from maya_core.answering.decoder import Decoder
from maya_core.answering.options import GenerationOptions
from maya_core.weights.quantization import quantize
from tests.gpu import inference
from tests.speed.report import Row
from tests.tiny import tiny_model

WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


def test_the_benchmark_runs_at_toy_size(capsys):
    rows = inference.main(["--toy"])
    assert [row.what for row in rows] == [
        "tokens a second, NF4", "first token, with a picture, NF4", "loading in NF4", "tokens a second, NF4",
        "loading in NF4",
    ]  # fmt: skip
    told = capsys.readouterr().out
    assert "GB/s" in told
    assert "a first token: " in told
    assert "kernels" in told


def test_parts_can_be_chosen(capsys):
    assert inference.main(["--toy", "--only", "ceilings"]) == []
    assert "GB/s" in capsys.readouterr().out


def test_a_part_that_fails_is_told_and_the_others_are_measured(capsys):
    def breaks(bench):
        raise RuntimeError("no memory")

    def measured(bench):
        return [Row(what="tokens", peer="a peer", ours="2", theirs="1", ratio=2.0, agreement="the same")]

    with pytest.raises(SystemExit, match="failed, as told above: first"):
        inference.run("inference", {"first": breaks, "second": measured}, None, ["--toy"])
    told = capsys.readouterr()
    assert "RuntimeError: no memory" in told.err
    assert "a peer" in told.out


@pytest.mark.gpu
@pytest.mark.parametrize("four_bit", [False, True])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
@torch.inference_mode()
def test_recorded_steps_are_the_plain_ones_on_a_gpu(four_bit, penalty):
    model = tiny_model(text=WIDE | {"eos_token_id": None, "max_position_embeddings": 2048}).cuda()
    if four_bit:
        quantize(model.bfloat16(), device="cuda")
    options = GenerationOptions(max_new_tokens=300, repetition_penalty=penalty)
    read = generation.Reading(Decoder(model))
    ids = torch.randint(0, 500, (1, 40), device="cuda")
    for _ in range(2):
        read.cache.length = 0
        recorded = [int(token) for token in generation.drawn(read, read.on(ids), options)]
        plain = generation.Reading(Decoder(model))
        draw = generation.Sampler(options, model.config, 1, ids.device)
        scores, tokens = plain.on(ids), []
        for _ in range(300):
            tokens.append(int(draw(scores)))
            scores = plain.on(torch.tensor([[tokens[-1]]], device="cuda"))
        assert recorded == tokens
