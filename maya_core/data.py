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

from maya_core.processor import MayaProcessor
from maya_core.prompt import Message

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training conversation; it ends with an answer."""

    messages: tuple[Message, ...]


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
