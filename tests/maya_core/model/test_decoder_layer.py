"""What the last layer leaves out in training changes no value and no gradient."""

import pytest
import torch

from maya_core.learning.data import ConversationCollator, PackedCollator, PackedSample, Sample
from maya_core.learning.losses import Supervised
from maya_core.learning.objective import AnswerObjective
from tests.maya_core.learning.test_packing import batch_of, conversations
from tests.tiny import picture, tiny_session

CONVERSATIONS = (*conversations(picture((200, 0, 0)), 4), *conversations(picture((0, 0, 200)), 2))
UNPADDED = "one behind the other", ConversationCollator, [Sample(messages=turns) for turns in CONVERSATIONS]
PACKED = (
    "rows, with a mask",
    PackedCollator,
    [PackedSample(conversations=CONVERSATIONS[:4]), PackedSample(conversations=CONVERSATIONS[4:])],
)
batches = pytest.mark.parametrize(
    ("collator", "samples"), [pytest.param(*made, id=name) for name, *made in (UNPADDED, PACKED)]
)


class Hidden(AnswerObjective):
    """The hidden states that the loss is made of: as training asks for them, and as transformers' own layers give them."""

    def both(self, batch):
        positions_S = Supervised.of(batch["labels"]).positions_S
        inputs = self.inputs(batch)
        whole_BTE = self.model.hidden_states(**inputs)
        return self.model.hidden_states(**inputs, supervised=positions_S)[0], whole_BTE.flatten(0, 1)[positions_S]


@batches
@pytest.mark.parametrize("text", [{}, {"use_qk_norm": True}, {"hidden_act": "gelu"}], ids=str)
@pytest.mark.parametrize("recompute", [False, True])
def test_it_gives_what_transformers_layers_give(collator, samples, text, recompute):
    session = tiny_session(text=text)
    model = session.model.train()
    ours_SE, theirs_SE = Hidden(model, recompute=recompute).both(batch_of(collator(session.processor), samples))
    torch.testing.assert_close(ours_SE, theirs_SE, rtol=1e-4, atol=1e-4)
    trained = dict(model.named_parameters())
    direction_SE = torch.randn_like(ours_SE)
    mine, stock = (
        torch.autograd.grad((hidden * direction_SE).sum(), list(trained.values()), allow_unused=True)
        for hidden in (ours_SE, theirs_SE)
    )
    assert any(gradient is not None for gradient in mine)
    for name, one, other in zip(trained, mine, stock, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            assert (one - other).norm() <= 1e-4 * other.norm() + 1e-5, name


@pytest.mark.parametrize("rests_in", [torch.bfloat16, torch.float32])
def test_in_bfloat16_norms_are_of_float32(rests_in):
    session = tiny_session()
    objective = Hidden(session.model.to(rests_in))
    batch = batch_of(ConversationCollator(session.processor), UNPADDED[2])
    batch["pixel_values"] = batch["pixel_values"].to(rests_in)
    with torch.autocast("cpu", torch.bfloat16):
        ours_SE, theirs_SE = objective.both(batch)
    assert ours_SE.dtype == theirs_SE.dtype
    assert (ours_SE - theirs_SE).norm() < 0.02 * theirs_SE.norm()


@batches
def test_the_last_feed_forward_part_meets_supervised_positions_alone(collator, samples):
    session = tiny_session()
    met = []
    for layer in session.model.get_decoder().layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda _, inputs: met.append(inputs[0].shape[:-1].numel()))
    batch = batch_of(collator(session.processor), samples)
    loss = AnswerObjective(session.model)(batch)
    *others, last = met
    assert last == int(loss.count) < batch["input_ids"].numel()
    assert set(others) == {batch["input_ids"].numel()}
