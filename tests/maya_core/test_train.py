"""The loop: it learns, it repeats itself, it resumes where it stopped, it leaves out what is not finite."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from maya_core.data import ConversationCollator, Sample, batch_indices, sample_index
from maya_core.errors import CheckpointMismatch, GenerationError
from maya_core.losses import LossSum, next_token_loss
from maya_core.optim import build_optimizers, parameter_groups, warmup_cosine
from maya_core.prompt import Message
from maya_core.train import AnswerObjective, TrainConfig, train
from tests.tiny import picture, tiny_session

CONFIG = TrainConfig(
    steps=8,
    batch_size=4,
    learning_rates={"model.connector": 1e-3, "model.language_model": 1e-3},
    seed=3,
    bf16=False,
    save_every=4,
    log_every=2,
    workers=0,
)


class Colours:
    """Pictures of one colour, and its name."""

    names = ("red", "green", "blue", "white")
    values = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250))

    def __len__(self):
        return 12

    def __getitem__(self, index):
        user = Message(role="user", text="What?", images=(picture(self.values[index % 4]),))
        return Sample(messages=(user, Message(role="assistant", text=self.names[index % 4])))


def run(folder, config=CONFIG, *, dataset=None, stop_after=None):
    session = tiny_session()
    records = []

    def note(record):
        records.append(record)
        if stop_after and record.step >= stop_after:
            raise KeyboardInterrupt

    collate = ConversationCollator(session.processor)
    train(AnswerObjective(session.model), dataset or Colours(), collate, config, folder, on_record=note)
    return session.model, records


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_it_learns_and_only_what_it_is_told_to(tmp_path):
    before = tiny_session().model
    fast = dict.fromkeys(CONFIG.learning_rates, 2e-2)
    model, records = run(tmp_path, replace(CONFIG, steps=80, learning_rates=fast))
    assert records[-1].loss < 0.5 * records[0].loss
    assert equal(model.vision_tower, before.vision_tower)
    assert not equal(model.connector, before.connector)


def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, _ = run(tmp_path / "a")
    second, _ = run(tmp_path / "b")
    other, _ = run(tmp_path / "c", replace(CONFIG, seed=4))
    assert equal(first, second)
    assert not equal(first, other)


@pytest.mark.parametrize("muon_rates", [{}, {"model.language_model": 1e-3}])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, muon_rates):
    config = replace(CONFIG, muon_rates=muon_rates)
    whole, _ = run(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", config, stop_after=6)  # the checkpoint is of step 4
    resumed, _ = run(tmp_path / "parts", config)
    assert equal(whole, resumed)
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    first, _ = run(tmp_path)
    again, records = run(tmp_path)
    assert equal(first, again)
    assert records == []


def test_a_run_of_other_settings_is_refused_by_name(tmp_path):
    run(tmp_path)
    with pytest.raises(CheckpointMismatch, match="batch_size, seed"):
        run(tmp_path, replace(CONFIG, seed=9, batch_size=2))


class Poisoned(Colours):
    """Some pictures give NaN."""

    def __init__(self, bad):
        self.bad = bad


class PoisonedCollator(ConversationCollator):
    bad = frozenset()

    def __call__(self, samples):
        batch = super().__call__(samples)
        PoisonedCollator.calls += 1
        if PoisonedCollator.calls in self.bad:
            batch["pixel_values"][0] = torch.nan
        return batch


@pytest.mark.parametrize(("bad", "stops"), [({2, 5}, False), ({2, 3, 4, 5}, True)])
def test_a_step_that_is_not_finite_is_left_out_and_counted(tmp_path, bad, stops):
    session = tiny_session()
    PoisonedCollator.calls, PoisonedCollator.bad = 0, frozenset(bad)
    records = []
    arguments = (AnswerObjective(session.model), Colours(), PoisonedCollator(session.processor), CONFIG, tmp_path)
    if stops:
        with pytest.raises(GenerationError, match=r"4 steps in a row up to step \d"):
            train(*arguments, on_record=records.append)
    else:
        train(*arguments, on_record=records.append)
        assert records[-1].skipped == len(bad)
    assert all(parameter.isfinite().all() for parameter in session.model.parameters())


def test_every_sample_once_an_epoch_in_an_order_that_the_seed_makes():
    order = [index for batch in batch_indices(size=12, batch_size=4, seed=1, start=0, steps=6) for index in batch]
    assert sorted(order[:12]) == sorted(order[12:]) == list(range(12))
    assert order[:12] != order[12:]
    tail = [index for batch in batch_indices(size=12, batch_size=4, seed=1, start=2, steps=6) for index in batch]
    assert tail == order[8:]
    assert [sample_index(position, size=12, seed=2) for position in range(12)] != order[:12]


def test_the_loss_in_chunks_is_the_stock_loss(monkeypatch):
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 9, 5, requires_grad=True), torch.randn(7, 5)
    labels = torch.randint(0, 7, (2, 9))
    labels[0, :4] = -100
    whole = next_token_loss(hidden, labels, head, 0.5)
    logits = hidden[:, :-1] @ head.T * 0.5
    stock = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    assert whole.total.item() == pytest.approx(stock.item(), rel=1e-5)
    assert int(whole.count) == int((labels[:, 1:] != -100).sum())
    monkeypatch.setattr("maya_core.losses.CHUNK", 3)
    chunked = next_token_loss(hidden, labels, head, 0.5)
    assert chunked.total.item() == pytest.approx(stock.item(), rel=1e-5)
    one, other = (torch.autograd.grad(loss.total, hidden)[0] for loss in (whole, chunked))
    assert torch.allclose(one, other, atol=1e-5)


def test_a_batch_without_answers_has_no_loss():
    loss = next_token_loss(torch.randn(1, 4, 3), torch.full((1, 4), -100), torch.randn(5, 3), 1.0)
    assert isinstance(loss, LossSum)
    assert (float(loss.total), int(loss.count)) == (0.0, 0)


def test_the_rate_rises_then_falls():
    shares = [warmup_cosine(step, steps=100, warmup=10) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == shares[10] == 1
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] < 0.01


def test_a_part_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="no part 'conector' to train; the parts are vision_tower, connector"):
        parameter_groups(tiny_session().model, {"conector": 1.0}, weight_decay=0)


def test_muon_takes_the_hidden_matrices_and_nothing_else():
    model = tiny_session().model
    rates = {"connector": 1e-3, "language_model": 1e-3}
    adam, muon = build_optimizers(model, rates, muon_rates={"language_model": 2e-2})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = [names[id(parameter)] for group in muon.param_groups for parameter in group["params"]]
    left = [names[id(parameter)] for group in adam.param_groups for parameter in group["params"]]
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sorted(taken + left) == sorted(trained)
    assert all(name.startswith("language_model") and name.endswith("_proj.weight") for name in taken)
    assert any("embed_tokens" in name for name in left)
    assert any(name.startswith("connector") for name in left)
    assert {group["lr"] for group in muon.param_groups} == {2e-2}


def test_muon_learns(tmp_path):
    rates = {"model.connector": 2e-2, "model.language_model": 2e-2}
    _, records = run(tmp_path, replace(CONFIG, steps=80, learning_rates=rates, muon_rates=rates))
    assert records[-1].loss < 0.5 * records[0].loss
