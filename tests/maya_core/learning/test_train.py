"""The loop: it learns, it repeats itself, it resumes where it stopped, it leaves out what is not finite."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from maya_core.errors import CheckpointMismatch, DataError, DiskFull, OutOfMemory, RunBusy, RunDiverged, TrainingError
from maya_core.languages import CODES
from maya_core.learning.data import ConversationCollator, Sample, load_steps
from maya_core.learning.held_out import HeldOut
from maya_core.learning.losses import LossSum, Supervised, next_token_loss
from maya_core.learning.metrics import read_records
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.optim import Muon, build_optimizers, orthogonal, parameter_groups, warmup_cosine
from maya_core.learning.stop_signals import StopSignals
from maya_core.learning.train import TrainConfig, train
from maya_core.model.prompt import Message
from maya_core.weights.durable import exclusive, newest
from tests.tiny import picture, tiny_session
from training.plot import _of_languages, _plot_languages, plot
from training.progress import told

ROOT = Path(__file__).parents[3]

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


def run(folder, config=CONFIG, *, dataset=None, stop_after=None, text=None, held_out=None, languages=CODES):
    session = tiny_session(text=text)
    records = []

    def note(record):
        records.append(record)
        if stop_after and record.step >= stop_after:
            raise KeyboardInterrupt

    collate = ConversationCollator(session.processor, languages=languages)
    objective = AnswerObjective(session.model)
    train(objective, dataset or Colours(), collate, config, folder, on_record=note, held_out=held_out)
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


WIDE = {"hidden_size": 96, "intermediate_size": 192}  # matrices that are large enough for moments in 8 bits


@pytest.mark.parametrize(
    ("settings", "text"),
    [({}, {}), ({"muon_rates": {"model.language_model": 1e-3}}, {}), ({"optimizer": "adamw8bit"}, WIDE)],
    ids=["adamw", "muon", "adamw8bit"],
)
def test_interrupted_and_resumed_is_uninterrupted(tmp_path, settings, text):
    config = replace(CONFIG, **settings)
    whole, _ = run(tmp_path / "whole", config, text=text)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", config, stop_after=6, text=text)  # the checkpoint is of step 4
    resumed, _ = run(tmp_path / "parts", config, text=text)
    assert equal(whole, resumed)
    moments = load_file(newest(tmp_path / "parts" / "checkpoints").folder / "optimizer.safetensors")
    eight_bit = config.optimizer == "adamw8bit"
    assert any(tensor.dtype == torch.uint8 for tensor in moments.values()) == eight_bit
    assert sum("qmap" in name for name in moments) == (2 if eight_bit else 0)  # which all parameters share
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6, 8]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    first, _ = run(tmp_path)
    again, records = run(tmp_path)
    assert equal(first, again)
    assert records == []


def test_a_run_of_other_settings_is_refused_by_name(tmp_path):
    run(tmp_path)
    with pytest.raises(CheckpointMismatch, match=r"batch_size 4 \(now 2\), seed 3 \(now 9\)"):
        run(tmp_path, replace(CONFIG, seed=9, batch_size=2))


class Poisoned(Colours):
    """Some pictures give NaN."""

    def __init__(self, bad):
        self.bad = bad


class PoisonedCollator(ConversationCollator):
    bad = frozenset()

    def collate(self, prepared):
        batch = super().collate(prepared)
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
        with pytest.raises(RunDiverged, match=r"4 steps in a row up to step \d"):
            train(*arguments, on_record=records.append)
    else:
        train(*arguments, on_record=records.append)
        assert records[-1].skipped == len(bad)
    assert all(parameter.isfinite().all() for parameter in session.model.parameters())


def test_a_step_that_is_left_out_has_no_loss(tmp_path):
    session = tiny_session()
    PoisonedCollator.calls, PoisonedCollator.bad = 0, frozenset({2})
    records = []
    config = replace(CONFIG, steps=3, log_every=1)
    collator = PoisonedCollator(session.processor)
    train(AnswerObjective(session.model), Colours(), collator, config, tmp_path, on_record=records.append)
    assert [math.isnan(record.loss) for record in records] == [False, True, False]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert "NaN" not in lines[1]
    assert [record["loss"] is None for record in read_records(tmp_path / "metrics.jsonl")] == [False, True, False]
    assert "nothing learnt" in told(records[1], 3, None)
    plot(read_records(tmp_path / "metrics.jsonl"), tmp_path / "plot.png", "a run")


def test_a_plot_tells_every_language_that_there_is():
    record = {"step": 1, "loss_by_language": {"de": 1.0, "klingonese": 3.0, "hi": 2.0}}
    axis = Figure().subplots()
    _plot_languages(axis, [record], "loss_by_language")
    lines = {line.get_label(): line.get_color() for line in _of_languages([axis], [record])}
    assert list(lines) == ["hi Hindi", "de German", "klingonese"]
    assert len(set(lines.values())) == 3


def test_a_full_disk_is_told_and_the_checkpoint_before_stays(tmp_path, monkeypatch):
    run(tmp_path / "one")
    before = newest(tmp_path / "one" / "checkpoints")

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("maya_core.learning.checkpoints.save_file", full)
    with pytest.raises(DiskFull, match="was not written; make room"):
        run(tmp_path / "again")
    assert newest(tmp_path / "one" / "checkpoints") == before
    assert not list((tmp_path / "again" / "checkpoints").glob("*"))


def test_the_loss_in_chunks_is_the_stock_loss(monkeypatch):
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 9, 5, requires_grad=True), torch.randn(7, 5)
    labels = torch.randint(0, 7, (2, 9))
    labels[0, :4] = -100
    supervised = Supervised.of(labels)
    learnt = hidden.flatten(0, 1)[supervised.positions_S]
    whole = next_token_loss(learnt, supervised, head, 0.5)
    logits = hidden[:, :-1] @ head.T * 0.5
    stock = nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    assert whole.total.item() == pytest.approx(stock.item(), rel=1e-5)
    assert int(whole.count) == int((labels[:, 1:] != -100).sum())
    monkeypatch.setattr("maya_core.learning.losses.CHUNK", 3 * len(head))
    chunked = next_token_loss(learnt, supervised, head, 0.5)
    assert chunked.total.item() == pytest.approx(stock.item(), rel=1e-5)
    one, other = (torch.autograd.grad(loss.total, hidden, retain_graph=True)[0] for loss in (whole, chunked))
    assert torch.allclose(one, other, atol=1e-5)


def test_a_batch_without_answers_has_no_loss():
    supervised = Supervised.of(torch.full((1, 4), -100))
    loss = next_token_loss(torch.randn(0, 3), supervised, torch.randn(5, 3), 1.0)
    assert isinstance(loss, LossSum)
    assert (float(loss.total), int(loss.count)) == (0.0, 0)


def test_the_rate_rises_then_falls():
    shares = [warmup_cosine(step, steps=100, warmup=10) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert max(shares) == shares[9] == shares[10] == 1
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] < 0.01


def test_a_part_that_does_not_exist_is_named():
    with pytest.raises(TrainingError, match="no part 'conector' to train; the parts are vision_tower, .* connector"):
        parameter_groups(tiny_session().model, {"conector": 1.0}, weight_decay=0)
    with pytest.raises(TrainingError, match="Muon has rates for conector, and only connector train"):
        build_optimizers(tiny_session().model, {"connector": 1.0}, muon_rates={"conector": 1.0})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("steps", (0, -1)),
        ("batch_size", (0,)),
        ("token_budget", (0,)),
        ("save_every", (0,)),
        ("log_every", (0,)),
        ("epochs", (0, -1, math.inf, math.nan)),
        ("learning_rates", ({"model": -1e-3}, {"model": math.nan}, {"model": math.inf})),
        ("muon_rates", ({"model": -1e-3}, {"model": math.nan})),
        ("warmup", (-0.1, 1.1, math.nan)),
        ("weight_decay", (-1, math.nan, math.inf)),
        ("betas", ((0.9, 1), (-0.1, 0.9), (math.nan, 0.9))),
        ("clip_norm", (0, -1, math.nan)),
        ("seed", (-1, 2**32)),
        ("workers", (-1,)),
        ("worker_timeout", (-1, math.nan)),
    ],
)
def test_settings_that_cannot_be_are_named(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name}.* must be .*, not .*{re.escape(str(value)[-3:-1])}"):
            replace(CONFIG, **{name: value})


def test_a_small_part_of_an_epoch_is_one_sample(tmp_path):
    _, records = run(tmp_path, replace(CONFIG, steps=None, epochs=0.01))
    assert [record.step for record in records] == [1]


def test_the_steps_that_were_taken_are_told(tmp_path):
    def taken() -> int:
        session = tiny_session()
        collator = ConversationCollator(session.processor)
        return train(AnswerObjective(session.model), Colours(), collator, CONFIG, tmp_path)

    assert taken() == CONFIG.steps
    assert taken() == 0


def test_a_part_of_a_part_trains_at_its_own_rate():
    model = tiny_session().model
    table = model.get_input_embeddings().weight
    groups = parameter_groups(
        model, {"language_model": 1e-3, "language_model.model.embed_tokens": 1e-4}, weight_decay=0
    )
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(list(model.language_model.parameters()))
    assert rates.pop(table) == 1e-4
    assert set(rates.values()) == {1e-3}


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


def test_muon_steps_as_torch_does_which_iterates_in_bfloat16():
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(24, 16))
    theirs = nn.Parameter(ours.detach().clone())
    before = ours.detach().clone()
    muon = Muon([{"params": [ours], "lr": 2e-2, "weight_decay": 0.1}])
    reference = torch.optim.Muon([theirs], lr=2e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        ours.grad = torch.randn(24, 16)
        theirs.grad = ours.grad.clone()
        muon.step()
        reference.step()
    moved = (ours - before).abs().mean()
    assert (ours - theirs).abs().mean() < 0.02 * moved


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (16, 16)])
def test_an_update_has_like_singular_values(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(-2, 0, shape[1])
    update = orthogonal(matrix)
    assert update.dtype == torch.float32
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.svdvals(update)
    assert values.max() < 1.35
    assert values.median() > 0.6
    assert torch.nn.functional.cosine_similarity(update.flatten(), (left @ right).flatten(), dim=0) > 0.9


def test_a_cpu_without_bfloat16_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr("maya_core.learning.train.has_bfloat16", lambda device: False)
    asked, _ = run(tmp_path / "asked", replace(CONFIG, steps=3, bf16=True))
    plain, _ = run(tmp_path / "plain", replace(CONFIG, steps=3))
    assert equal(asked, plain)
    monkeypatch.setattr("maya_core.learning.train.has_bfloat16", lambda device: True)
    rough, _ = run(tmp_path / "rough", replace(CONFIG, steps=3, bf16=True))
    assert not equal(rough, plain)


def test_weights_at_rest_in_bfloat16_are_taken_as_they_are_on_any_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr("maya_core.learning.train.has_bfloat16", lambda device: False)
    session = tiny_session()
    session.model.language_model.bfloat16()
    session.model.vision_tower.bfloat16()
    config = replace(CONFIG, steps=3, bf16=True, learning_rates={"model.connector": 1e-3})
    before = session.model.connector.layers[0].weight.clone()
    train(AnswerObjective(session.model), Colours(), ConversationCollator(session.processor), config, tmp_path)
    assert not torch.equal(session.model.connector.layers[0].weight, before)


def test_muon_learns(tmp_path):
    rates = {"model.connector": 2e-2, "model.language_model": 2e-2}
    _, records = run(tmp_path, replace(CONFIG, steps=80, learning_rates=rates, muon_rates=rates))
    assert records[-1].loss < 0.5 * records[0].loss


def test_the_token_budget_changes_nothing_but_memory(tmp_path):
    whole, _ = run(tmp_path / "whole", replace(CONFIG, token_budget=None))
    cut, _ = run(tmp_path / "cut", replace(CONFIG, token_budget=60))
    for one, other in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_recomputing_changes_nothing_but_memory(tmp_path):
    config = replace(CONFIG, recompute=True)
    session = tiny_session()
    objective = AnswerObjective(session.model, recompute=True)
    train(objective, Colours(), ConversationCollator(session.processor), config, tmp_path / "again")
    kept, _ = run(tmp_path / "kept")
    assert equal(session.model, kept)


def test_an_epoch_is_every_sample_once(tmp_path):
    _, records = run(tmp_path, replace(CONFIG, steps=None, epochs=1.5, batch_size=5, log_every=1))
    assert [record.step for record in records] == [1, 2, 3, 4]  # 18 of 12 samples
    lengths = [record.tokens for record in records]
    assert lengths[3] < lengths[0]  # three samples are left for the last


def test_losses_are_recorded_by_language(tmp_path):
    class Hindi(Colours):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), language="hi" if index % 2 else None)

    _, records = run(tmp_path, dataset=Hindi())
    assert set(records[-1].loss_by_language) == {"hi"}
    assert records[-1].loss_by_language["hi"] != pytest.approx(records[-1].loss)


def test_losses_of_other_languages_are_told_apart(tmp_path):
    class Others(Colours):
        def __getitem__(self, index):
            return replace(super().__getitem__(index), language=("hi", "de", "tok pisin")[index % 3])

    held_out = HeldOut(dataset=Others(), every=CONFIG.steps)
    languages = (*CODES, "de", "tok pisin")
    _, records = run(tmp_path, dataset=Others(), held_out=held_out, languages=languages)
    assert set(records[-1].loss_by_language) == {"hi", "de", "tok pisin"}
    assert set(records[-1].held_out) == {"all", "hi", "de", "tok pisin"}
    assert len(set(records[-1].loss_by_language.values())) == 3


def test_eight_bit_moments_learn_and_resume(tmp_path):
    config = replace(CONFIG, optimizer="adamw8bit", learning_rates={"model.connector": 2e-2})
    whole, records = run(tmp_path / "whole", replace(config, steps=60))
    assert records[-1].loss < records[0].loss
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", config, stop_after=6)
    resumed, _ = run(tmp_path / "parts", config)
    whole, _ = run(tmp_path / "again", config)
    assert equal(whole, resumed)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_step_saves_and_leaves(tmp_path, number, status):
    session = tiny_session()

    class Signalling(ConversationCollator):
        def collate(self, prepared):
            Signalling.calls += 1
            if Signalling.calls == 3:
                signal.raise_signal(number)
            return super().collate(prepared)

    Signalling.calls = 0
    with pytest.raises(SystemExit) as left:
        train(AnswerObjective(session.model), Colours(), Signalling(session.processor), CONFIG, tmp_path)
    assert left.value.code == status
    assert newest(tmp_path / "checkpoints").step == 3
    resumed, _ = run(tmp_path)
    whole, _ = run(tmp_path / "whole")
    assert equal(resumed, whole)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_interrupt_leaves_at_once(tmp_path):
    session = tiny_session()

    class Impatient(ConversationCollator):
        def collate(self, prepared):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return super().collate(prepared)

    with pytest.raises(KeyboardInterrupt):
        train(AnswerObjective(session.model), Colours(), Impatient(session.processor), CONFIG, tmp_path)
    assert newest(tmp_path / "checkpoints") is None


def test_an_interrupt_at_the_terminal_is_left_to_the_first_process():
    with StopSignals() as stop:
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            os._exit(stop.received)
        assert os.waitpid(child, 0)[1] == 0


def test_a_step_that_does_not_fit_saves_and_says_what_to_do(tmp_path):
    class Hungry(AnswerObjective):
        calls = 0

        def forward(self, batch):
            self.calls += 1
            if self.calls == 6:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(batch)

    session = tiny_session()
    with pytest.raises(OutOfMemory, match="Step 6 does not fit into memory; lower --token-budget"):
        train(Hungry(session.model), Colours(), ConversationCollator(session.processor), CONFIG, tmp_path)
    assert newest(tmp_path / "checkpoints").step == 5
    resumed, _ = run(tmp_path)
    whole, _ = run(tmp_path / "whole")
    assert equal(resumed, whole)


class Unreadable(Colours):
    """Some samples show a file that is not there."""

    def __init__(self, bad, size):
        self.bad, self.size = bad, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index not in self.bad:
            return sample
        user, answer = sample.messages
        return Sample(messages=(replace(user, images=(Path(f"{index}.png"),)), answer))


def test_samples_that_cannot_be_used_are_counted_and_too_many_stop_the_run(tmp_path):
    config = replace(CONFIG, steps=None, epochs=1)
    _, records = run(tmp_path / "one", config, dataset=Unreadable({3}, 32))
    assert records[-1].refused == 1
    with pytest.raises(DataError, match=r"2 samples up to step \d cannot be used.*training.validate"):
        run(tmp_path / "two", config, dataset=Unreadable({3, 4}, 32))


DYING = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from maya_core.learning.data import ConversationCollator, step_indices
from maya_core.errors import DataError
from maya_core.learning.train import train
from maya_core.learning.objective import AnswerObjective
from tests.maya_core.learning.test_train import CONFIG, Colours
from tests.tiny import tiny_session

class Dying(Colours):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        if index == step_indices(6, size=100, batch_size=4, seed=CONFIG.seed)[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)

session = tiny_session()
config, collator = replace(CONFIG, workers=1), ConversationCollator(session.processor)
try:
    train(AnswerObjective(session.model), Dying(), collator, config, Path(sys.argv[1]))
except DataError as error:
    print(error)
"""


def test_a_worker_that_dies_stops_the_run_with_a_checkpoint(tmp_path):
    script = tmp_path / "dying.py"  # in a process of its own: the signal of a child's death may fall into any line
    script.write_text(DYING)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    assert re.search(r"died, or took longer than 600 s, at step \d; start again", done.stdout), done.stdout
    assert newest(tmp_path / "checkpoints").step >= 4


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_worker_that_dies_while_it_hands_over_a_batch_is_told_as_any_other(tmp_path, monkeypatch, error):
    def broken(steps, *, start, total, workers, timeout):
        yield from load_steps(steps, start=start, total=5, workers=0, timeout=0)
        raise error

    monkeypatch.setattr("maya_core.learning.train.load_steps", broken)
    monkeypatch.setattr("maya_core.learning.train.LONGEST_DYING", 0.01)
    with pytest.raises(DataError, match="died, or took longer than 600 s, at step 6; start again"):
        run(tmp_path, replace(CONFIG, workers=1))
    assert newest(tmp_path / "checkpoints").step == 5


def test_a_folder_has_one_run(tmp_path):
    with exclusive(tmp_path), pytest.raises(RunBusy):
        run(tmp_path)


def test_a_run_that_diverges_keeps_the_last_good_weights(tmp_path):
    session = tiny_session()
    PoisonedCollator.calls, PoisonedCollator.bad = 0, frozenset(range(3, 20))
    with pytest.raises(RunDiverged):
        train(AnswerObjective(session.model), Colours(), PoisonedCollator(session.processor), CONFIG, tmp_path)
    weights = load_file(newest(tmp_path / "checkpoints").folder / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    whole, _ = run(tmp_path)
    file = newest(tmp_path / "checkpoints").folder / "optimizer.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    again, records = run(tmp_path)
    assert [record.step for record in records] == [6, 8]
    assert equal(whole, again)


def test_tensorboard_gets_what_the_records_hold(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    held_out = HeldOut(dataset=Colours(), every=4, answers=lambda: {"exact_match": {"all": 50.0, "hi": 25.0}})
    _, records = run(tmp_path, replace(CONFIG, trackers=("tensorboard",)), held_out=held_out)
    [events] = tmp_path.rglob("events.out.*")
    shown = EventAccumulator(str(events)).Reload()
    assert [(point.step, point.value) for point in shown.Scalars("exact_match/hi")] == [(4, 25), (8, 25)]
    assert [point.value for point in shown.Scalars("held_out/all")] == [
        pytest.approx(record.held_out["all"]) for record in records if record.held_out
    ]
    assert [(point.step, point.value) for point in shown.Scalars("loss")] == [
        (record.step, pytest.approx(record.loss)) for record in records
    ]


def test_a_tracker_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TrainingError, match="no tracker nowhere"):
        run(tmp_path, replace(CONFIG, trackers=("nowhere",)))
