"""How held-out questions are answered while a model learns, where answers are short: exact match and chrF by language."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile, zip_longest

import torch

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.errors import MayaError
from maya_core.learning.data import Sample, SampleDataset, sample_index
from maya_core.learning.metrics import ALL
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.model.prompt import Message
from training.scoring import batches, exact_match, without_doubt

log = logging.getLogger(__name__)

LONGEST = 24  # tokens of an answer that is short
LOOKED_AT = 8  # samples for each that is asked
_TOGETHER = 8  # questions


@dataclass(frozen=True, kw_only=True)
class ShortAnswers:
    """A few of what is held out, the same at every measurement. places: in `dataset`. dtype: what is computed in."""

    dataset: SampleDataset
    places: Sequence[int]
    processor: MayaProcessor
    dtype: torch.dtype

    @classmethod
    def of(
        cls, dataset: SampleDataset, processor: MayaProcessor, *, most: int, dtype: torch.dtype
    ) -> "ShortAnswers | None":
        """As many as `most` whose first answer is short, as many of each language; None where there is none."""
        size = len(dataset)
        looked_at = (sample_index(place, size=size, seed=0) for place in range(min(size, LOOKED_AT * most)))
        short: dict[str | None, list[int]] = defaultdict(list)
        for place in looked_at:
            sample = dataset[place]
            if _is_short(_first(sample)[1], processor):
                short[sample.language].append(place)
        in_turn = [place for turn in zip_longest(*short.values()) for place in turn if place is not None]
        return cls(dataset=dataset, places=sorted(in_turn[:most]), processor=processor, dtype=dtype) if short else None

    def measure(self, model: MayaForConditionalGeneration) -> dict[str, dict[str, float]]:
        """Percent of answers that are the wanted ones, and chrF of all (arXiv W15-3049), by language and of ALL; chrF where
        sacrebleu is installed. The model is asked as it is, which must rest meanwhile."""
        given: dict[str, list[str]] = defaultdict(list)
        wanted: dict[str, list[str]] = defaultdict(list)
        right: dict[str, list[bool]] = defaultdict(list)
        for answer, reference, language in self._answered(model):
            for name in (ALL, language):
                given[name].append(answer)
                wanted[name].append(reference)
                right[name].append(exact_match(answer, reference, language))
        measured = {"exact_match": {name: 100 * sum(each) / len(each) for name, each in right.items()}}
        return measured | ({"chrf": {name: _chrf(given[name], wanted[name]) for name in given}} if has_chrf() else {})

    def _answered(self, model: MayaForConditionalGeneration) -> Iterator[tuple[str, str, str]]:
        """Of each question the answer that the model gives, the one that is wanted, and the language."""
        session = ChatSession(model, self.processor)
        options = GenerationOptions(max_new_tokens=LONGEST)
        device, doubts = model.device.type, model.config.doubts or {}
        for some in batches(iter(self.places), _TOGETHER):
            samples: list[Sample] = [self.dataset[place] for place in some]
            asked = [list(_first(sample)[0]) for sample in samples]
            try:
                with torch.autocast(device, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
                    answers = session.answers(asked, options)
            except MayaError as error:  # a run does not end because it is measured
                log.warning("not answered: %s", error)
                answers = [""] * len(asked)
            for answer, sample in zip(answers, samples, strict=True):
                language = sample.language or "und"
                yield without_doubt(answer, doubts.get(language)), _first(sample)[1], language


def has_chrf() -> bool:
    return find_spec("sacrebleu") is not None


def _chrf(given: Sequence[str], wanted: Sequence[str]) -> float:
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(given, [wanted]).score)


def _first(sample: Sample) -> tuple[Sequence[Message], str]:
    """The turns up to the first question, and what is answered to it."""
    asked = tuple(takewhile(lambda message: message.role != "assistant", sample.messages))
    return asked, sample.messages[len(asked)].text


def _is_short(answer: str, processor: MayaProcessor) -> bool:
    return len(processor.require_tokenizer().encode(answer, add_special_tokens=False)) <= LONGEST
