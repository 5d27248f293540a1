"""What the training loop reads: samples, their order, and batches.

A data set is anything with `__len__` and `__getitem__(index) -> Sample`. Order is a pure function of (seed, position), so
every process computes the same one and a run resumes exactly where it stopped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from maya_core.processor import IGNORED, MayaProcessor
from maya_core.prompt import Message, Piece, prompt_pieces

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training conversation; it ends with an answer."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """Many conversations about one picture, which each of them shows first; none sees another."""

    conversations: tuple[tuple[Message, ...], ...]


class SampleDataset(Protocol):
    """Conversations by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(size, generator=generator)


def sample_index(position: int, *, size: int, seed: int) -> int:
    """Which of `size` samples stands at `position` of the endless shuffled order: each exactly once an epoch."""
    return int(_permutation(size, seed, position // size)[position % size])


def batch_indices(*, size: int, batch_size: int, seed: int, start: int, steps: int) -> Iterator[list[int]]:
    """The indices of batches `start` up to `steps`."""
    for step in range(start, steps):
        positions = range(step * batch_size, (step + 1) * batch_size)
        yield [sample_index(position, size=size, seed=seed) for position in positions]


def load_batches(
    dataset: Any, collate: Callable[[list[Any]], Batch], indices: Iterator[list[int]], *, workers: int
) -> Iterator[Batch]:
    """Batches in order, made in `workers` processes beside the training (0: in this one)."""
    return iter(
        DataLoader(
            dataset,
            batch_sampler=list(indices),
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            persistent_workers=False,
        )
    )


@dataclass(frozen=True)
class ConversationCollator:
    """Samples -> one right-padded training batch."""

    processor: MayaProcessor

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        encoded = [self.processor.encode(sample.messages, answer_next=False) for sample in samples]
        return self.processor.collate(encoded, padding_side="right")


@dataclass(frozen=True)
class PackedCollator:
    """Packed samples -> one batch in which a picture's tokens stand once for all its conversations.

    Beside input_ids, labels and pixel_values: position_ids (B, T), counted on from the picture in each conversation, and
    visible (B, 1, T, T), true where a position may look: back at the picture and at its own conversation. A conversation
    so gives the loss that it gives alone, at a fraction of the work.
    """

    processor: MayaProcessor

    def __call__(self, samples: Sequence[PackedSample]) -> Batch:
        packed = [self._pack(sample) for sample in samples]
        longest = max(len(one["input_ids"]) for one in packed)
        pad = self.processor.config.text.pad_token_id or 0
        padding = {"input_ids": pad, "labels": IGNORED, "positions": 0, "branch": -1}
        stacked = {
            name: torch.tensor([one[name] + [value] * (longest - len(one[name])) for one in packed])
            for name, value in padding.items()
        }
        images = [sample.conversations[0][0].images[0] for sample in samples]
        return {
            "input_ids": stacked["input_ids"],
            "labels": stacked["labels"],
            "position_ids": stacked["positions"],
            "visible": _visible(stacked["branch"]),
            "pixel_values": torch.stack([self.processor.preparation.pixels(image) for image in images]),
        }

    def _pack(self, sample: PackedSample) -> dict[str, list[int]]:
        """Ids, labels, positions and branches (0: the picture's, which all share) of one sample."""
        prompt_format = self.processor.config.prompt_format
        pieces = [prompt_pieces(turns, prompt_format, answer_next=False) for turns in sample.conversations]
        ids = self.processor.ids_of([piece for one in pieces for piece in one])
        shared = [piece.kind for piece in pieces[0]].index("image") + 1
        packed: dict[str, list[int]] = {"input_ids": [], "labels": [], "positions": [], "branch": []}
        start = 0
        for branch, conversation in enumerate(pieces, start=1):
            position = start
            for number, piece in enumerate(conversation):
                piece_ids = next(ids)
                if number >= shared or branch == 1:
                    _append(packed, piece, piece_ids, position, branch=branch if number >= shared else 0)
                    position += len(piece_ids)
                if number + 1 == shared and branch == 1:
                    start = position
        return packed


def _append(packed: dict[str, list[int]], piece: Piece, ids: list[int], position: int, *, branch: int) -> None:
    packed["input_ids"] += ids
    packed["labels"] += ids if piece.learnt else [IGNORED] * len(ids)
    packed["positions"] += range(position, position + len(ids))
    packed["branch"] += [branch] * len(ids)


def _visible(branch_BT: Tensor) -> Tensor:
    """(B, T) branches -> (B, 1, T, T): backwards only, and only the shared part and the own branch."""
    length = branch_BT.shape[1]
    backwards_TT = torch.ones(length, length, dtype=torch.bool).tril()
    own_BTT = branch_BT[:, :, None] == branch_BT[:, None, :]
    shared_B1T = (branch_BT == 0)[:, None, :]
    return ((own_BTT | shared_B1T) & backwards_TT)[:, None]
