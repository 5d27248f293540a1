"""A decoded token as one launch: the whole step of the decoder, with the choice of the token, recorded as a CUDA graph.

A graph knows no numbers but those in memory of its own: token and column are tensors, keys and values are written and
masked by them, and attention runs over a bucket of columns, with a graph for each bucket. The host reads a token only after
it has launched the next step, so that the device never waits for it.

Where there is no GPU the same step runs without being recorded, which is how it is tested.
Shape letters: as in decoder; B is 1.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from maya_core.answering.decoder import BUCKET, Decoder, KeyValues
from maya_core.answering.options import GenerationOptions
from maya_core.answering.sampling import Sampler, check_scores

WARM_UP = 3  # steps before recording, as torch's manual asks for
CHAT = 4096  # columns for which room is made at once, because a cache that moves makes its graphs useless


class StepGraph:
    """Steps of one decoder on one cache, one conversation, with one way to choose tokens."""

    def __init__(self, decoder: Decoder, cache: KeyValues, draw: Sampler) -> None:
        device = decoder.model.device
        self.decoder, self.draw = decoder, draw
        self.keys, self.values = cache.keys, cache.values  # not the cache, which holds these steps
        self.token_11 = torch.zeros(1, 1, dtype=torch.long, device=device)
        self.column_1 = torch.zeros(1, dtype=torch.long, device=device)
        self.best_1 = torch.zeros(1, device=device)
        embeds = decoder.model.get_input_embeddings()(self.token_11)
        positions = torch.arange(cache.capacity, device=device)[None]
        self.rotation_S1C = decoder.rotation(embeds.expand(1, cache.capacity, -1), positions)[0]
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def takes(self, draw: Sampler, cache: KeyValues) -> bool:
        """Whether the recorded steps serve for another answer too; if so its tokens are drawn anew, as `draw` would."""
        same = replace(self.draw.options, max_new_tokens=1, seed=None) == replace(
            draw.options, max_new_tokens=1, seed=None
        )
        if not same or self.keys is not cache.keys or self.values is not cache.values:
            return False
        self.draw.generator.manual_seed(draw.generator.initial_seed())
        if self.draw.said_BV is not None:
            self.draw.said_BV.zero_()
        return True

    def start(self, token: Tensor, column: int) -> None:
        """The next step reads this token at this column of the cache."""
        self.token_11.copy_(token.view(1, 1))
        self.column_1.fill_(column)

    def step(self, column: int) -> tuple[Tensor, Tensor]:
        """Read the token at its column and choose the next; it and its score, which the next call writes over."""
        bucket = -(-(column + 1) // BUCKET) * BUCKET
        if self.token_11.device.type == "cuda":
            if bucket not in self._graphs:
                self._graphs[bucket] = self._recorded(bucket)
            self._graphs[bucket].replay()
        else:
            self._run(bucket)
        return self.token_11.view(1), self.best_1

    def _run(self, bucket: int) -> None:
        """The step itself: nothing here may depend on what the tensors hold."""
        decoder = self.decoder
        hidden_11E = decoder.model.get_input_embeddings()(self.token_11)
        rotation = self.rotation_S1C.index_select(0, self.column_1)[None]
        mask = (torch.arange(bucket, device=self.column_1.device) <= self.column_1)[None, None, None]
        for number, layer in enumerate(decoder.layers):
            kept = (self.keys[number, :, :, :bucket], self.values[number, :, :, :bucket])
            hidden_11E = layer(hidden_11E, rotation, *kept, self.column_1, mask)
        token_1, best_1 = self.draw.choose(decoder.scores(hidden_11E[:, -1]))
        self.token_11.copy_(token_1.view(1, 1))
        self.best_1.copy_(best_1)
        self.column_1.add_(1)

    def _recorded(self, bucket: int) -> torch.cuda.CUDAGraph:
        changed = [self.token_11, self.column_1, self.best_1]
        if self.draw.said_BV is not None:
            changed.append(self.draw.said_BV)
        before = [tensor.clone() for tensor in changed]
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._run(bucket)
                self.column_1.copy_(before[1])
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.draw.generator)
        with torch.cuda.graph(graph):
            self._run(bucket)
        for tensor, kept in zip(changed, before, strict=True):  # the warm-up wrote over them
            tensor.copy_(kept)
        return graph


def drawn_by_graph(
    decoder: Decoder, cache: KeyValues, scores_1V: Tensor, options: GenerationOptions, room: int
) -> Iterator[Tensor]:
    """New tokens (1,), each read one step late, until the model ends or there are `room`; the end token is not given."""
    cache.reserve(max(cache.length + room, min(CHAT, decoder.config.max_position_embeddings)))
    draw = Sampler(options, decoder.model.config, 1, scores_1V.device)
    graph = cache.steps if isinstance(cache.steps, StepGraph) and cache.steps.takes(draw, cache) else None
    if graph is None:
        graph = cache.steps = StepGraph(decoder, cache, draw)
    draw = graph.draw
    token_1, best_1 = draw.choose(scores_1V)
    graph.start(token_1, cache.length)
    for left in reversed(range(room)):
        read = cache.length
        token_1, best_1 = token_1.clone(), best_1.clone()
        following = graph.step(read) if left else None  # launched before the host looks at this token
        check_scores(best_1)
        if bool(torch.isin(token_1, draw.end_ids).any()):
            return
        yield token_1
        if following is None:
            return
        cache.length = read + 1
        token_1, best_1 = following
