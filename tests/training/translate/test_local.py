"""Models of transformers as engines: here, and on two workers of a cluster."""

import asyncio
import os
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.tiny import tiny_tokenizer
from tests.training.translate.conftest import plan, record, records, write
from tests.training.translate.fake_endpoint import translate as by_rote
from training.engine import Completion, EngineRefused, EngineUnavailable, ReplyUnusable
from training.translate.bulk import most_output, translate
from training.translate.cluster import Worker
from training.translate.cluster import translate as translate_on_cluster
from training.translate.local_model import LocalModel
from training.translate.prompts import load_preambles, prompt

SOURCES = ("A cat sleeps in the house.", "A dog runs.")
SAID = "Un chien et un chat sont dans la maison."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that has learnt one sentence of French by heart, whatever it is asked."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer()
    end = tokenizer.convert_tokens_to_ids("<|END_OF_TURN_TOKEN|>")
    torch.manual_seed(0)
    learner = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, bos_token_id=tokenizer.bos_token_id, eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
    ))  # fmt: skip
    answer = [*tokenizer(SAID, add_special_tokens=False)["input_ids"], end]
    samples = []
    for source in SOURCES:
        asked = prompt(load_preambles("bare"), "fr", [source])
        if tokenizer.chat_template:
            asked = tokenizer.apply_chat_template(
                [{"role": "user", "content": asked}], tokenize=False, add_generation_prompt=True
            )
        samples.append(tokenizer(asked, add_special_tokens=not tokenizer.chat_template)["input_ids"])
    longest = max(map(len, samples))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(one)) + one + answer for one in samples])
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * (len(one) + len(answer)) for one in samples])
    labels = torch.where(torch.arange(ids.shape[1]) >= longest, ids, -100)
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.01)
    for _ in range(300):
        loss = learner(input_ids=ids, attention_mask=mask, labels=labels).loss
        if loss.item() < 0.02:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02
    learner.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_here_translates_in_batches(model, begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", [record(n, "<image>", source) for n, source in enumerate(SOURCES)]))
    engine = LocalModel(str(model), batch=4)
    sizes, generate = [], engine.generate

    def noted(prompts, *others):
        sizes.append(len(prompts))
        return generate(prompts, *others)

    engine.generate = noted
    asyncio.run(translate(journal, engine, plan(preambles=load_preambles("bare"), concurrency=2)))
    assert journal.counts()["fr"]["done"] == 2
    assert sizes == [2]
    assert journal.spent("answered")["fr"].output > 20


def test_a_reply_without_an_end_is_cut_off(model):
    asked = [prompt(load_preambles("bare"), "fr", [source]) for source in SOURCES]
    replies = LocalModel(str(model)).generate(asked, 5)
    assert all(isinstance(reply, ReplyUnusable) and reply.output_tokens == 5 for reply in replies)
    whole = LocalModel(str(model)).generate(asked, most_output([SAID]))
    assert [reply.text for reply in whole] == [SAID, SAID]


def test_a_model_that_is_none_is_told(tmp_path):
    with pytest.raises(EngineRefused, match="cannot be loaded"):
        LocalModel(str(tmp_path))


def test_a_worker_whose_model_is_none_says_so_instead_of_dying(tmp_path):
    asked = {"call": [1, 2], "prompt": ["a", "b"], "most_tokens": [9, 9], "temperature": [0.0, 0.3]}
    told = Worker(str(tmp_path))({name: np.array(column) for name, column in asked.items()})
    assert all("cannot be loaded" in refused for refused in told["refused"])
    assert [len(column) for column in told.values()] == [2] * 6


def test_a_cluster_that_does_not_start_is_told(begun, tmp_path, monkeypatch):
    def start(**_):
        raise Exception("The node timed out.")  # as Ray does

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=start))
    journal = begun(write(tmp_path / "in.json", records(2)))
    with pytest.raises(EngineUnavailable, match=r"no cluster: The node timed out\. What is done is kept"):
        translate_on_cluster(journal, "any", plan())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Ray's own
def test_two_workers_of_a_cluster_translate_everything_once(begun, tmp_path, monkeypatch):
    """Takes half a minute: Ray starts its own processes."""
    ray = pytest.importorskip("ray")

    class Rote:
        def __init__(self):
            self.file = tmp_path / f"worker-{os.getpid()}"
            self.file.touch()

        def generate(self, prompts, most_tokens, temperature):
            until = time.monotonic() + 100
            while len(list(tmp_path.glob("worker-*"))) < 2 and time.monotonic() < until:
                time.sleep(0.05)  # until both are there: one alone would be done before the other begins
            with self.file.open("a") as file:
                file.write("\n" * len(prompts))
            time.sleep(0.05)
            said = [by_rote(one.split("\n\n")[1], "fr") for one in prompts]
            return [Completion(text=text, input_tokens=1, output_tokens=2) for text in said]

    class Translator(Worker):
        def load(self, model):
            return Rote()

    source = write(tmp_path / "in.json", records(200))
    journal = begun(source)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        translate_on_cluster(journal, "rote", plan(), workers=2, worker=Translator)
        lost = begun(source, folder="lost")
        with pytest.raises(EngineRefused, match="cannot be loaded"):
            translate_on_cluster(lost, str(tmp_path / "none"), plan(), workers=2)
        assert lost.counts()["fr"]["pending"] == 202
    finally:
        ray.shutdown()
    assert journal.counts()["fr"]["done"] == 202
    assert journal.spent("answered")["fr"] == (202, 404)
    asked = [len(file.read_text()) for file in tmp_path.glob("worker-*")]
    assert len(asked) == 2
    assert sum(asked) == 202
    assert min(asked) > 10
