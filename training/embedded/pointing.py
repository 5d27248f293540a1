"""The stages of answers: learn to answer; beside it, to point, and to keep cells and words alike, for as long as all else
moves."""

from typing import Any

from torch import Tensor, nn

from maya_core.languages import CODES
from maya_core.learning.data import Batch
from maya_core.learning.losses import LossSum
from maya_core.learning.objective import AnswerObjective
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from training.embedded.grounding import CellObjective, words_of
from training.embedded.looking import PLACES

LAYERS = 2  # of the decoder, from the first, that are asked
MATCHING = 0.5  # weight of cells that match words, beside the answers


class PointingObjective(nn.Module):
    """What `places` answer with is thrown away after training."""

    def __init__(self, model: MayaForConditionalGeneration, processor: MayaProcessor) -> None:
        super().__init__()
        self.model = model
        self.answers = AnswerObjective(model)
        self.cells = CellObjective(model, words_of(processor, CODES))
        self.places = nn.ModuleList(nn.Linear(model.config.text.hidden_size, PLACES) for _ in range(LAYERS))

    def forward(self, batch: Batch) -> LossSum:
        """batch: as `LookingCollator` makes it."""
        decoder: Any = self.model.get_decoder()
        layers = decoder.layers[:LAYERS]
        states: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda _, inputs, output: states.append(output)) for layer in layers]
        answers = self.answers(batch)
        for hook in hooks:
            hook.remove()
        rows_K, ends_K = batch["name_ends"].T
        matching = self.cells(batch)
        beside = MATCHING * matching.total / matching.count
        for place, state_BTE in zip(self.places, states, strict=True):
            state_KE = state_BTE[rows_K, ends_K].float()
            logits_KP = place(nn.functional.layer_norm(state_KE, state_KE.shape[-1:]))
            beside = beside + nn.functional.binary_cross_entropy_with_logits(logits_KP, batch["cells"])
        return LossSum(answers.total + answers.count * beside, answers.count, answers.by_language)
