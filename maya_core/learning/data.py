"""What the training loop reads: samples, their order, and the batches of a step.

A data set is anything with `__len__` and `__getitem__(index)`. Order is a pure function of (seed, position), so every
process computes the same one and a run resumes exactly where it stopped. A step always learns from the same samples;
how they are divided over processes and over batches that fit into memory changes nothing but speed.

Shape letters: B batch, T positions.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from maya_core.errors import DataError, MayaError
from maya_core.languages import CODES
from maya_core.learning.losses import LANGUAGES
from maya_core.model.processor import IGNORED, Encoded, MayaProcessor
from maya_core.model.prompt import Message, Picture, Piece, PromptFormat, prompt_pieces

Batch = dict[str, Tensor]
Indexed = tuple[int, Any]  # a sample's index in the data set, and the prepared sample


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One training conversation; it ends with an answer. language: its code, where it is known."""

    messages: tuple[Message, ...]
    language: str | None = None


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """Many conversations about one picture, which each of them shows first; none sees another.

    languages: of each conversation, or none at all.
    """

    conversations: tuple[tuple[Message, ...], ...]
    languages: tuple[str, ...] = ()


class SampleDataset(Protocol):
    """Samples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


# --- order ---


@lru_cache(maxsize=2)
def _permutation(size: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(size, generator=generator)


def sample_index(position: int, *, size: int, seed: int) -> int:
    """Which of `size` samples stands at `position` of the endless shuffled order: each exactly once an epoch."""
    return int(_permutation(size, seed, position // size)[position % size])


def step_indices(step: int, *, size: int, batch_size: int, seed: int, most: int | None = None) -> list[int]:
    """The samples of a step (0-based); no position from `most` on is taken, so the last step may be short."""
    end = (step + 1) * batch_size if most is None else min((step + 1) * batch_size, most)
    return [sample_index(position, size=size, seed=seed) for position in range(step * batch_size, end)]


def plan_step(lengths: Sequence[int], *, ranks: int, token_budget: int | None) -> list[list[list[int]]]:
    """Divide the samples of a step: for each rank its batches, for each batch the samples' numbers.

    The longest go first, each to the rank with the fewest tokens so far, and there into the first batch that has room;
    one that is longer than the budget stands alone. All ranks get the same number of batches, because they compute in
    step; a rank that has too few samples for that gets empty ones. Computed from `lengths` alone, without a word between
    ranks.
    """
    loads = [(0, rank) for rank in range(ranks)]
    bins: list[list[tuple[int, list[int]]]] = [[] for _ in range(ranks)]
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        load, rank = heapq.heappop(loads)
        heapq.heappush(loads, (load + lengths[number], rank))
        _first_fit(bins[rank], number, lengths[number], token_budget)
    most = max(len(of_rank) for of_rank in bins)
    return [[sorted(batch) for _, batch in of_rank] + [[]] * (most - len(of_rank)) for of_rank in bins]


def _first_fit(bins: list[tuple[int, list[int]]], number: int, length: int, budget: int | None) -> None:
    for place, (filled, batch) in enumerate(bins):
        if budget is None or filled + length <= budget:
            bins[place] = (filled + length, [*batch, number])
            return
    bins.append((length, [number]))


# --- from samples to batches ---


class Collator:
    """Makes batches in two phases, so that lengths are known before any picture is opened.

    languages: of which losses are told apart; a batch has their numbers.
    """

    languages: Sequence[str] = CODES

    def prepare(self, sample: Any) -> Any:
        """A sample with all that is cheap to know about it. Raises MayaError where it cannot be used."""
        return sample

    def length(self, prepared: Any) -> int:
        """How much of a batch's token budget it takes."""
        return 1

    def collate(self, prepared: Sequence[Any]) -> Batch:
        """One batch. Raises MayaError where a picture cannot be used."""
        raise NotImplementedError

    def language_number(self, code: str | None) -> int:
        """The place of a language among those that are told apart; -1 for none and for others."""
        return self.languages.index(code) if code in self.languages[:LANGUAGES] else -1


@dataclass(frozen=True, kw_only=True)
class PreparedConversation:
    """Ids, labels and pictures, and the number of the language among the collator's (-1 for none)."""

    encoded: Encoded
    language: int


@dataclass(frozen=True)
class ConversationCollator(Collator):
    """Samples -> one batch without padding: all conversations one behind the other, none seeing another.

    input_ids, labels, position_ids and languages (1, T); sequence_starts (conversations + 1,) int32, the last is T;
    pixel_values (images, 3, H, W) where there are pictures. prompt_format: where it is not the model's own.
    max_length: tokens of a conversation that are kept. see: makes what the model gets of pictures, where that is not their
    pixels (`features.FeatureStore.batch`).
    """

    processor: MayaProcessor
    prompt_format: PromptFormat | None = None
    max_length: int | None = None
    see: Callable[[Sequence[Picture]], Batch] | None = None
    languages: Sequence[str] = CODES

    def prepare(self, sample: Sample) -> PreparedConversation:
        encoded = self.processor.encode(
            sample.messages, answer_next=False, prompt_format=self.prompt_format, max_length=self.max_length
        )
        return PreparedConversation(encoded=encoded, language=self.language_number(sample.language))

    def length(self, prepared: PreparedConversation) -> int:
        return len(prepared.encoded.input_ids)

    def collate(self, prepared: Sequence[PreparedConversation]) -> Batch:
        ids = [one.encoded.input_ids for one in prepared]
        lengths = [len(ids_T) for ids_T in ids]
        labels = [one.encoded.labels.clone() for one in prepared]
        for labels_T in labels:
            labels_T[0] = IGNORED  # or it would be learnt from the end of the conversation before
        languages = [torch.full((length,), one.language) for length, one in zip(lengths, prepared, strict=True)]
        batch = {
            "input_ids": torch.cat(ids)[None],
            "labels": torch.cat(labels)[None],
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "languages": torch.cat(languages)[None],
            "sequence_starts": torch.tensor([0, *accumulate(lengths)], dtype=torch.int32),
        }
        pictures = [picture for one in prepared for picture in one.encoded.pictures]
        return batch | (self._seen(pictures) if pictures else {})

    def _seen(self, pictures: Sequence[Picture]) -> Batch:
        return self.see(pictures) if self.see else {"pixel_values": self.processor.pixel_values(pictures)}


@dataclass(frozen=True, kw_only=True)
class PreparedPack:
    """columns: input_ids, labels, position_ids, languages and branch, one number a position."""

    columns: dict[str, list[int]]
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class PackedCollator(Collator):
    """Packed samples -> one batch in which a picture's tokens stand once for all its conversations.

    Beside input_ids, labels, languages (B, T) and pixel_values: position_ids (B, T), counted on from the picture in each
    conversation, and visible (B, 1, T, T), true where a position may look: back at the picture and at its own
    conversation. A conversation so gives the loss that it gives alone, at a fraction of the work.
    prompt_format: where it is not the model's own.
    """

    processor: MayaProcessor
    prompt_format: PromptFormat | None = None

    def prepare(self, sample: PackedSample) -> PreparedPack:
        return PreparedPack(columns=self._pack(sample), pictures=sample.conversations[0][0].images)

    def length(self, prepared: PreparedPack) -> int:
        return len(prepared.columns["input_ids"])

    def collate(self, prepared: Sequence[PreparedPack]) -> Batch:
        pictures = [picture for one in prepared for picture in one.pictures]
        return self.stacked(prepared) | {"pixel_values": self.processor.pixel_values(pictures)}

    def stacked(self, prepared: Sequence[PreparedPack]) -> Batch:
        """The batch but for its pictures."""
        longest = max(self.length(one) for one in prepared)
        pad = self.processor.config.text.pad_token_id or 0
        padding = {"input_ids": pad, "labels": IGNORED, "position_ids": 0, "languages": -1, "branch": -1}
        stacked = {
            name: torch.tensor([one.columns[name] + [value] * (longest - self.length(one)) for one in prepared])
            for name, value in padding.items()
        }
        return stacked | {"visible": _visible(stacked.pop("branch"))}

    def _pack(self, sample: PackedSample) -> dict[str, list[int]]:
        """Ids, labels, positions, languages and branches (0: the picture's, which all share) of one sample."""
        prompt_format = self.prompt_format or self.processor.config.prompt_format
        pieces = [prompt_pieces(turns, prompt_format, answer_next=False) for turns in sample.conversations]
        languages = [self.language_number(code) for code in sample.languages] or [-1] * len(pieces)
        ids = self.processor.ids_of([piece for one in pieces for piece in one])
        shared = [piece.kind for piece in pieces[0]].index("image") + 1
        packed: dict[str, list[int]] = {
            name: [] for name in ("input_ids", "labels", "position_ids", "languages", "branch")
        }
        start = 0
        for branch, (conversation, language) in enumerate(zip(pieces, languages, strict=True), start=1):
            position = start
            for number, piece in enumerate(conversation):
                piece_ids = next(ids)
                if number >= shared or branch == 1:
                    _append(packed, piece, piece_ids, position, language, branch=branch if number >= shared else 0)
                    position += len(piece_ids)
                if number + 1 == shared and branch == 1:
                    start = position
        return packed


def _append(
    packed: dict[str, list[int]], piece: Piece, ids: list[int], position: int, language: int, *, branch: int
) -> None:
    packed["input_ids"] += ids
    packed["labels"] += ids if piece.learnt else [IGNORED] * len(ids)
    packed["position_ids"] += range(position, position + len(ids))
    packed["languages"] += [language] * len(ids)
    packed["branch"] += [branch] * len(ids)


def _visible(branch_BT: Tensor) -> Tensor:
    """(B, T) branches -> (B, 1, T, T): backwards only, and only the shared part and the own branch."""
    length = branch_BT.shape[1]
    backwards_TT = torch.ones(length, length, dtype=torch.bool).tril()
    own_BTT = branch_BT[:, :, None] == branch_BT[:, None, :]
    shared_B1T = (branch_BT == 0)[:, None, :]
    return ((own_BTT | shared_B1T) & backwards_TT)[:, None]


# --- the batches of a step ---


@dataclass(frozen=True, kw_only=True)
class StepData:
    """What one process learns from in one step.

    indices: the samples of the whole step, of all processes. tokens: that they take together. batches: of this process.
    refused: samples that could not be used, with the reason; they are counted, never replaced.
    """

    indices: list[int]
    tokens: int
    batches: list[Batch]
    refused: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Steps(Dataset[StepData]):
    """The steps of a run as a data set, so that worker processes make whole steps ahead of the training.

    most: positions of the endless order that the run takes (epochs x size). rank, ranks: of this process.
    """

    dataset: SampleDataset
    collator: Collator
    batch_size: int
    seed: int
    most: int
    token_budget: int | None = None
    rank: int = 0
    ranks: int = 1

    def __getitem__(self, step: int) -> StepData:
        size = len(self.dataset)
        indices = step_indices(step, size=size, batch_size=self.batch_size, seed=self.seed, most=self.most)
        refused: list[tuple[int, str]] = []
        usable = list(self._prepared(indices, refused))
        if not usable:
            raise DataError(f"None of the {len(indices)} samples of step {step + 1} can be used: {refused[0][1]}")
        lengths = [self.collator.length(prepared) for _, prepared in usable]
        plan = plan_step(lengths, ranks=self.ranks, token_budget=self.token_budget)[self.rank]
        if self.rank:
            refused.clear()  # every rank met the same ones; the first counts them
        batches = [self._batch([usable[number] for number in batch], usable, refused) for batch in plan]
        return StepData(indices=indices, tokens=sum(lengths), batches=batches, refused=refused)

    def _prepared(self, indices: list[int], refused: list[tuple[int, str]]) -> Iterator[Indexed]:
        for index in indices:
            try:
                yield index, self.collator.prepare(self.dataset[index])
            except MayaError as error:
                refused.append((index, str(error)))

    def _batch(self, chosen: list[Indexed], usable: list[Indexed], refused: list[tuple[int, str]]) -> Batch:
        """A batch of the chosen samples, without those whose picture cannot be used."""
        if not chosen:
            return self._idle_batch(usable)
        try:
            return self.collator.collate([prepared for _, prepared in chosen])
        except MayaError as error:
            if len(chosen) == 1:
                refused.append((chosen[0][0], str(error)))
                return self._idle_batch(usable)
            readable = [one for one in chosen if self._is_readable(one, refused)]
            return self._batch(readable, usable, refused)

    def _is_readable(self, one: Indexed, refused: list[tuple[int, str]]) -> bool:
        try:
            self.collator.collate([one[1]])
        except MayaError as error:
            refused.append((one[0], str(error)))
            return False
        return True

    def _idle_batch(self, usable: list[Indexed]) -> Batch:
        """A batch that teaches nothing, for a process that must compute in step with the others."""
        for one in sorted(usable, key=lambda one: self.collator.length(one[1])):
            if self._is_readable(one, []):
                batch = self.collator.collate([one[1]])
                return batch | {"labels": torch.full_like(batch["labels"], IGNORED)}
        raise DataError("No sample of a step can be used; check the pictures with `python -m training.validate`.")


def load_steps(steps: Steps, *, start: int, total: int, workers: int, timeout: float = 0) -> Iterator[StepData]:
    """Steps `start` up to `total`, in order, made by `workers` processes beside the training (0: in this one).

    timeout: seconds that a step may take to be made, 0 for any.
    """
    return iter(
        DataLoader(
            steps,
            batch_size=None,
            sampler=range(start, total),
            num_workers=workers,
            prefetch_factor=2 if workers else None,
            timeout=timeout if workers else 0,
        )
    )
