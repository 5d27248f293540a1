"""What a model is not sure of is said with doubt.

A small model names what it does not know as readily as what it knows. But the probability that it gives its own words tells
one from the other (arXiv 2207.05221), better than words of doubt that it was taught to begin with. Shape letters: B batch,
V vocabulary.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import torch
from tokenizers import Tokenizer
from torch import Tensor

from maya_core.answering.generation import Reading
from maya_core.model.config import MayaConfig

SHORT = 8  # tokens of the longest answer that is put in doubt: a name
# How likely words of doubt must be as an answer to fit the question: as they are where something is to be named, and are not
# where it is a colour or a number, or whether something is there.
FITTING = math.log(5e-4)
SENTENCE_ENDS = ".!?。！？।۔؟"


class Doubts:
    """How a model doubts, by the answer's language."""

    def __init__(self, config: MayaConfig, tokenizer: Tokenizer) -> None:
        self.sure_from = math.log(config.sure_from)
        self._said = {code: said for code, (said, *_) in (config.doubts or {}).items()}
        self._never = {code: frozenset(map(str.casefold, plain)) for code, (_, *plain) in (config.doubts or {}).items()}
        begins = {code: said.partition("{}")[0].rstrip() for code, said in self._said.items()}
        self._begins = {code: tokenizer.encode(said, add_special_tokens=False).ids for code, said in begins.items()}

    def begins(self, code: str | None) -> list[int]:
        """The tokens with which an answer in doubt begins; none where it has no language."""
        return self._begins.get(code or "", [])

    def said(self, answer: str, code: str) -> str:
        """An answer in doubt; a whole sentence stays as it is. Its first letter becomes small, but not that of a word in
        capitals."""
        name = answer.strip()
        if not name or name.casefold() in self._never[code] or name[-1] in SENTENCE_ENDS:
            return answer
        return self._said[code].replace("{}", name if name[1:2].isupper() else name[:1].lower() + name[1:])


class Doubting:
    """Answers under way, a row each: which of them are to be said with doubt, which is known at their end."""

    def __init__(self, doubts: Doubts, codes: Sequence[str | None]) -> None:
        """codes: the answers' languages; None where one is not to be doubted."""
        self.doubts, self.codes = doubts, codes
        self.may_be_unsure = [False] * len(codes)
        self.is_unsure = [False] * len(codes)

    def begin(self, read: Reading, scores_BV: Tensor) -> None:
        """read: the questions, behind which the scores are of the first tokens."""
        self._read, self._asked, self._first_BV = read, read.cache.length, scores_BV
        self._likely_B = scores_BV.new_zeros(len(scores_BV), dtype=torch.float32)
        self._tokens_B = torch.zeros_like(self._likely_B)
        self._begins = [self.doubts.begins(code) for code in self.codes]
        likely = self._likelihoods([tokens[:1] for tokens in self._begins])
        self.may_be_unsure = [one >= FITTING for one in likely]

    def add(self, scores_BV: Tensor, token_B: Tensor, ended_B: Tensor) -> None:
        """The next tokens, and the scores by which they were chosen."""
        self._likely_B += _log_probability(scores_BV, token_B).masked_fill(ended_B, 0)
        self._tokens_B += ~ended_B

    def end(self) -> None:
        """The answers are whole. Where one may be in doubt, what was read of them is forgotten."""
        unsure_B = (self._likely_B < self.doubts.sure_from) & (self._tokens_B <= SHORT)
        unsure = [may and one for may, one in zip(self.may_be_unsure, unsure_B.tolist(), strict=True)]
        if any(unsure):
            self._read.forget_columns(self._asked)
            likely = self._likelihoods([words if one else [] for words, one in zip(self._begins, unsure, strict=True)])
            self._read.forget_columns(self._asked)
            self.is_unsure = [one >= FITTING for one in likely]

    def said(self, answers: Iterable[str]) -> list[str]:
        """The answers, with doubt where the model is unsure."""
        rows = zip(answers, self.codes, self.is_unsure, strict=True)
        return [self.doubts.said(answer, code) if code and is_unsure else answer for answer, code, is_unsure in rows]

    def whole(self, pieces: Iterable[str]) -> Iterator[str]:
        """As many pieces of a single answer; where it may be in doubt, the text of a short one comes with the last."""
        held: list[str] = []
        is_short = True
        for piece in pieces:
            held.append(piece)
            is_short = is_short and len(held) <= SHORT and self.may_be_unsure[0]
            if not is_short:
                yield from held
                held.clear()
        if held and self.is_unsure[0]:
            held = [*[""] * (len(held) - 1), *self.said(["".join(held)])]
        yield from held

    def _likelihoods(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """How likely each row's tokens are behind the questions, as far as any fits; -inf where there are none."""
        scores_BV, token_B = self._first_BV, torch.zeros(len(rows), dtype=torch.long, device=self._first_BV.device)
        total_B = torch.tensor([0.0 if tokens else -math.inf for tokens in rows], device=token_B.device)
        for step, tokens in enumerate(zip_longest(*rows)):
            if step:
                scores_BV = self._read.on(token_B[:, None])
            token_B = torch.tensor([token or 0 for token in tokens], device=token_B.device)
            is_over_B = torch.tensor([token is None for token in tokens], device=token_B.device)
            total_B += _log_probability(scores_BV, token_B).masked_fill(is_over_B, 0)
            if not (total_B >= FITTING).any():
                break
        return total_B.tolist()


def _log_probability(scores_BV: Tensor, token_B: Tensor) -> Tensor:
    return scores_BV.float().log_softmax(-1).gather(-1, token_B[:, None])[:, 0]
