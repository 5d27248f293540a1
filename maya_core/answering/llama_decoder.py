"""The language model in llama.cpp's hands, for a session as our own decoder is: it is given ids and, in the place of image
slots, what the connector makes of pictures, and gives scores.

Shape letters: B rows (one), T positions, I pictures, N visual tokens, D vision width, E width, V vocabulary.
"""

from itertools import groupby

import torch
from torch import Tensor

from maya_core.answering.decoder import BUCKET
from maya_core.llama import LlamaContext, LlamaModel
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.progress import OnProgress, untold


class LlamaMemory:
    """What one conversation's context holds, in a context that grows with it."""

    def __init__(self, model: LlamaModel, most: int) -> None:
        self._model, self._most = model, most
        self._context: LlamaContext | None = None

    @property
    def length(self) -> int:
        return self._context.length if self._context else 0

    @length.setter
    def length(self, length: int) -> None:
        if self._context:
            self._context.length = length

    def reserved(self, columns: int) -> LlamaContext:
        """The context, with room for `columns` in all; what is there stays. It doubles, because moving costs."""
        if self._context is None or columns > self._context.capacity:
            doubled = 2 * self._context.capacity if self._context else 0
            room = min(max(-(-columns // BUCKET) * BUCKET, doubled), max(self._most, columns))
            threads = torch.get_num_threads()
            context = self._context
            self._context = context.grown(room) if context else self._model.new_context(room, threads=threads)
        return self._context


class LlamaDecoder:
    """The GGUF file of a model whose tower and connector are `model`'s."""

    reads_rows = False  # one conversation at a time

    def __init__(self, model: MayaForConditionalGeneration, llama: LlamaModel) -> None:
        self.model, self.llama = model, llama

    def new_cache(self, rows: int) -> LlamaMemory:
        assert rows == 1
        return LlamaMemory(self.llama, self.model.config.text.max_position_embeddings)

    def read(
        self,
        ids_BT: Tensor,
        features_IND: Tensor | None,
        cache: LlamaMemory,
        *,
        may_look_BS: Tensor | None = None,
        on_progress: OnProgress = untold,
    ) -> Tensor:
        """New ids with the pictures in them -> scores (1, V) of what comes next. on_progress: told which share is read."""
        assert may_look_BS is None
        context = cache.reserved(cache.length + ids_BT.shape[1])
        embeds_SE = torch.empty(0) if features_IND is None else self.model.connector(features_IND).flatten(0, 1).float()
        slots_T = self.model.slots(ids_BT)[0]
        assert int(slots_T.sum()) == len(embeds_SE)
        seen, start = 0, cache.length
        for is_slot, run in groupby(zip(ids_BT[0].tolist(), slots_T.tolist(), strict=True), key=lambda pair: pair[1]):
            on_progress((cache.length - start) / ids_BT.shape[1])
            ids = [number for number, _ in run]
            if is_slot:
                context.read_embeds(embeds_SE[seen : seen + len(ids)].numpy())
                seen += len(ids)
            else:
                context.read_ids(ids)
        return torch.from_numpy(context.scores())[None]
