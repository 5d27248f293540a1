"""Packed conversations give the losses and gradients that they give one by one."""

import pytest
import torch

from maya_core.learning.data import ConversationCollator, PackedCollator, PackedSample, Sample
from maya_core.learning.objective import AnswerObjective
from maya_core.model.prompt import Message
from tests.tiny import SENTENCES, picture, tiny_session


def batch_of(collator, samples):
    return collator.collate([collator.prepare(sample) for sample in samples])


def conversations(image, count):
    """Of one and two turns."""
    made = []
    for number in range(count):
        turns = [
            Message(role="user", text=SENTENCES[number], images=(image,)),
            Message(role="assistant", text="A dog."),
        ]
        if number % 2:
            turns += [Message(role="user", text="तस्वीर में क्या है?"), Message(role="assistant", text="कुत्ता।")]
        made.append(tuple(turns))
    return tuple(made)


@pytest.mark.parametrize("prompt_format", ["chat", "maya-v1"])
def test_packed_is_one_by_one(prompt_format):
    session = tiny_session(prompt_format=prompt_format)
    objective = AnswerObjective(session.model)
    samples = [
        PackedSample(conversations=conversations(picture((200, 0, 0)), 4)),
        PackedSample(conversations=conversations(picture((0, 0, 200)), 1)),
    ]
    packed = objective(batch_of(PackedCollator(session.processor), samples))
    packed_gradient = torch.autograd.grad(packed.total, session.model.connector.parameters())
    total, count = 0.0, 0
    for sample in samples:
        for turns in sample.conversations:
            one = objective(batch_of(ConversationCollator(session.processor), [Sample(messages=turns)]))
            total, count = total + one.total, count + int(one.count)
    assert int(packed.count) == count
    assert packed.total.item() == pytest.approx(total.item(), rel=1e-5)
    for one, other in zip(
        packed_gradient, torch.autograd.grad(total, session.model.connector.parameters()), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_the_picture_stands_once():
    session = tiny_session()
    [alone] = conversations(picture(), 1)
    batch = batch_of(PackedCollator(session.processor), [PackedSample(conversations=(alone,) * 5)])
    slots = int((batch["input_ids"] == session.model.config.image_token_id).sum())
    assert slots == session.processor.image_slots
    assert batch["pixel_values"].shape[0] == 1
    assert batch["visible"].any(-1).all()
