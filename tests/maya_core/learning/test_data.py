"""Order, division over processes, and batches without padding."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maya_core.errors import DataError, ImageUnreadable, PromptTooLong
from maya_core.languages import CODES
from maya_core.learning.data import (
    Collator,
    ConversationCollator,
    Sample,
    Steps,
    load_steps,
    plan_step,
    sample_index,
    step_indices,
)
from maya_core.learning.objective import AnswerObjective
from maya_core.model.processor import IGNORED
from maya_core.model.prompt import Message
from tests.tiny import SENTENCES, picture, tiny_session


class Numbers(Collator):
    """Samples are numbers; a batch holds them."""

    def length(self, prepared):
        return 1 + prepared % 7

    def collate(self, prepared):
        if any(number in self.unreadable for number in prepared):
            raise ImageUnreadable(f"the picture of {prepared} cannot be read")
        return {"labels": torch.tensor(prepared)}

    unreadable = frozenset()


def steps(**changes):
    fields = {"dataset": range(103), "collator": Numbers(), "batch_size": 16, "seed": 5, "most": 2 * 103}
    return Steps(**(fields | changes))


def seen(data):
    return [number for batch in data.batches for number in batch["labels"].tolist() if number != IGNORED]


def test_every_sample_once_an_epoch_in_an_order_that_the_seed_makes():
    order = [index for step in range(6) for index in step_indices(step, size=12, batch_size=4, seed=1)]
    assert sorted(order[:12]) == sorted(order[12:]) == list(range(12))
    assert order[:12] != order[12:]
    assert order[8:12] == step_indices(2, size=12, batch_size=4, seed=1)
    assert [sample_index(position, size=12, seed=2) for position in range(12)] != order[:12]


def test_eight_ranks_see_every_sample_once_an_epoch():
    everywhere = [steps(rank=rank, ranks=8, token_budget=20) for rank in range(8)]
    total = -(-2 * 103 // 16)
    of_step = [sorted(number for one in everywhere for number in seen(one[step])) for step in range(total)]
    alone = [sorted(seen(steps()[step])) for step in range(total)]
    assert of_step == alone
    everything = [number for numbers in of_step for number in numbers]
    assert sorted(everything) == sorted([*range(103), *range(103)])
    first_epoch = [index for step in range(7) for index in step_indices(step, size=103, batch_size=16, seed=5)][:103]
    assert sorted(first_epoch) == list(range(103))
    for step in range(total):
        assert len({len(one[step].batches) for one in everywhere}) == 1


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=50),
    ranks=st.integers(1, 9),
    budget=st.none() | st.integers(20, 90),
)
def test_a_plan_takes_each_once_within_the_budget_and_shares_fairly(lengths, ranks, budget):
    plan = plan_step(lengths, ranks=ranks, token_budget=budget)
    assert sorted(number for of_rank in plan for batch in of_rank for number in batch) == list(range(len(lengths)))
    assert len({len(of_rank) for of_rank in plan}) == 1
    loads = [sum(lengths[number] for batch in of_rank for number in batch) for of_rank in plan]
    assert max(loads) - min(loads) <= max(lengths)
    for of_rank in plan:
        for batch in of_rank:
            assert budget is None or len(batch) <= 1 or sum(lengths[number] for number in batch) <= budget


def test_the_last_step_is_short_and_resuming_starts_behind_what_was_learnt():
    data = list(load_steps(steps(most=103), start=0, total=7, workers=0))
    assert [len(seen(one)) for one in data] == [16] * 6 + [7]
    resumed = list(load_steps(steps(most=103), start=3, total=7, workers=0))
    assert [one.indices for one in resumed] == [one.indices for one in data[3:]]
    assert [one.tokens for one in data] == [sum(1 + index % 7 for index in one.indices) for one in data]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers):
    alone = list(load_steps(steps(), start=0, total=13, workers=0))
    helped = list(load_steps(steps(), start=0, total=13, workers=workers, timeout=60))
    assert [seen(one) for one in helped] == [seen(one) for one in alone]


def test_a_sample_that_cannot_be_read_is_counted_and_not_replaced():
    Numbers.unreadable = frozenset({3, 50})
    try:
        data = [steps(most=103)[step] for step in range(7)]
    finally:
        Numbers.unreadable = frozenset()
    assert sorted(number for one in data for number in seen(one)) == sorted(set(range(103)) - {3, 50})
    assert sorted(index for one in data for index, _ in one.refused) == [3, 50]
    assert all("cannot be read" in reason for one in data for _, reason in one.refused)


def test_a_step_of_nothing_usable_says_so():
    class Refusing(Numbers):
        def prepare(self, sample):
            raise PromptTooLong(f"{sample} is too long")

    with pytest.raises(DataError, match="None of the 16 samples of step 1 can be used: .* is too long"):
        steps(collator=Refusing())[0]


# --- conversations without padding ---


def samples(number, *, text_only=()):
    rng = random.Random(number)
    made = []
    for index in range(number):
        images = () if index in text_only else (picture((index * 20, 90, 40)),)
        turns = [Message(role="user", text=rng.choice(SENTENCES), images=images)]
        turns.append(Message(role="assistant", text=" ".join(rng.choices(SENTENCES, k=rng.randint(1, 4)))))
        made.append(Sample(messages=tuple(turns), language=CODES[index % len(CODES)]))
    return made


@pytest.mark.parametrize("text_only", [(), (1, 3), (0, 1, 2, 3, 4)])
def test_one_behind_the_other_is_one_by_one(text_only):
    session = tiny_session()
    objective = AnswerObjective(session.model)
    collator = ConversationCollator(session.processor)
    prepared = [collator.prepare(sample) for sample in samples(5, text_only=text_only)]
    together = objective(collator.collate(prepared))
    apart = [objective(collator.collate([one])) for one in prepared]
    total = sum(one.total for one in apart)
    assert int(together.count) == sum(int(one.count) for one in apart)
    assert together.total.item() == pytest.approx(total.item(), rel=1e-5)
    assert torch.allclose(together.by_language, sum(one.by_language for one in apart), rtol=1e-4)
    weights = list(session.model.parameters())
    for one, other in zip(
        torch.autograd.grad(together.total, weights, allow_unused=True),
        torch.autograd.grad(total, weights, allow_unused=True),
        strict=True,
    ):
        if one is None:
            assert other is None or not other.any()
        else:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_it_is_the_loss_of_the_model_itself():
    session = tiny_session()
    collator = ConversationCollator(session.processor)
    [prepared] = [collator.prepare(sample) for sample in samples(1)]
    batch = collator.collate([prepared])
    ours = AnswerObjective(session.model)(batch)
    stock = session.model(batch["input_ids"], batch["pixel_values"], labels=batch["labels"]).loss
    assert (ours.total / ours.count).item() == pytest.approx(stock.item(), rel=1e-5)


def test_losses_are_told_by_language():
    session = tiny_session()
    collator = ConversationCollator(session.processor)
    made = samples(3)
    loss = AnswerObjective(session.model)(collator.collate([collator.prepare(sample) for sample in made]))
    sums, counts = loss.by_language
    assert counts[:3].gt(0).all()
    assert not counts[3:].any()
    assert sums.sum().item() == pytest.approx(loss.total.item(), rel=1e-5)
    assert counts.sum() == loss.count


def test_a_conversation_too_long_is_cut_or_refused():
    session = tiny_session()
    slots = session.processor.image_slots
    [sample] = samples(1)
    whole = ConversationCollator(session.processor).prepare(sample).encoded
    cut = ConversationCollator(session.processor, max_length=len(whole.input_ids) - 2).prepare(sample).encoded
    assert torch.equal(cut.input_ids, whole.input_ids[:-2])
    for most in (slots - 2, slots + 8):
        with pytest.raises(PromptTooLong, match=f"its first {most} hold no answer"):
            ConversationCollator(session.processor, max_length=most).prepare(sample)


def test_a_caption_is_picture_and_text_and_no_end():
    session = tiny_session(prompt_format="maya-v1")
    turns = (
        Message(role="user", text="Describe it.", images=(picture(),)),
        Message(role="assistant", text="A dog."),
    )
    encoded = ConversationCollator(session.processor, prompt_format="caption").prepare(Sample(messages=turns)).encoded
    tokenizer = session.processor.require_tokenizer()
    learnt = encoded.labels != IGNORED
    assert tokenizer.decode(encoded.input_ids[learnt]) == "A dog.\n"
    assert (encoded.input_ids[~learnt][1:] == session.model.config.image_token_id).all()
    assert int((~learnt).sum()) == 1 + session.processor.image_slots
