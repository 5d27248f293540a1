"""What is learnt: an objective is a module that turns a batch into a `LossSum`. This one is to answer.

Shape letters: B rows, T positions, S supervised positions, E text width, V vocabulary.
"""

from typing import Any

from torch import Tensor, nn

from maya_core.learning.data import Batch
from maya_core.learning.losses import LossSum, Supervised, next_token_loss
from maya_core.model.attention import UNPADDED, no_mask
from maya_core.model.maya import MayaForConditionalGeneration

PICTURES = ("pixel_values", "vision_features")  # of a batch, one or the other, or neither


class AnswerObjective(nn.Module):
    """Learn to write the supervised tokens of a conversation."""

    def __init__(self, model: MayaForConditionalGeneration, *, recompute: bool = False) -> None:
        super().__init__()
        self.model = model
        model.language_model.set_attn_implementation(UNPADDED)
        if recompute:
            decoder = model.language_model  # transformers renames the method in version 6
            getattr(decoder, "activation_checkpointing_enable", decoder.gradient_checkpointing_enable)()

    def forward(self, batch: Batch) -> LossSum:
        """batch: as `data.ConversationCollator` or `data.PackedCollator` make it."""
        supervised = Supervised.of(batch["labels"], batch.get("languages"))
        hidden_1SE = self.model.hidden_states(**self.inputs(batch), supervised=supervised.positions_S)
        head_VE = self.model.get_output_embeddings().weight
        assert isinstance(head_VE, Tensor)
        scale = self.model.config.text.logit_scale
        assert scale is not None
        loss = next_token_loss(hidden_1SE[0], supervised, head_VE, scale)
        return loss if any(name in batch for name in PICTURES) else self._with_connector(loss)

    @staticmethod
    def inputs(batch: Batch) -> dict[str, Any]:
        """What of a batch `hidden_states` takes."""
        read = {name: batch[name] for name in ("input_ids", "position_ids", *PICTURES) if name in batch}
        if "visible" in batch:
            return read | {"attention_mask": batch["visible"]}
        starts = batch["sequence_starts"]
        unpadded = {"sequence_starts": starts, "longest": int(starts.diff().max())}
        return read | {"attention_mask": no_mask(starts)} | unpadded

    def _with_connector(self, loss: LossSum) -> LossSum:
        """The same loss in a graph that holds the connector: all processes must reduce the same gradients."""
        trained = [parameter for parameter in self.model.connector.parameters() if parameter.requires_grad]
        nothing = sum((parameter.sum() * 0 for parameter in trained), start=loss.total.new_zeros(()))
        return LossSum(loss.total + nothing, loss.count, loss.by_language)
