"""Which token comes next. Shape letters: B batch, V vocabulary."""

import torch
from torch import Tensor

from maya_core.answering.options import GenerationOptions
from maya_core.errors import GenerationError
from maya_core.model.config import MayaConfig


class Sampler:
    """Chooses the next token of each row, and remembers which rows have ended."""

    def __init__(
        self,
        options: GenerationOptions,
        config: MayaConfig,
        rows: int,
        device: torch.device,
        *,
        foreign_BV: Tensor | None = None,
    ) -> None:
        """foreign_BV: true for tokens that are never chosen."""
        self.options = options
        self.foreign_BV = foreign_BV
        self.pad = config.text.pad_token_id or 0
        end = config.text.eos_token_id
        self.end_ids = torch.tensor(end if isinstance(end, list) else [-1 if end is None else end], device=device)
        # an image slot is no word: it can be read but never said
        self.unsayable = config.image_token_id
        self.ended_B = torch.zeros(rows, dtype=torch.bool, device=device)
        vocabulary = config.text.vocab_size
        self.said_BV = (
            None if options.repetition_penalty == 1 else torch.zeros(rows, vocabulary, dtype=torch.bool, device=device)
        )
        self.generator = torch.Generator(device=device)
        if options.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(options.seed)

    @property
    def all_ended(self) -> bool:
        return bool(self.ended_B.all())

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """(B, V) scores -> (B,) ids, the pad id in rows that have ended. Raises GenerationError for scores that are NaN."""
        token_B, best_B = self.choose(logits_BV)
        check_scores(best_B)
        self.ended_B |= torch.isin(token_B, self.end_ids)
        return token_B.masked_fill(self.ended_B, self.pad)

    def choose(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """(B, V) scores -> (B,) ids and their scores, NaN where one of a row is. Nothing here waits for the device."""
        scores_BV = logits_BV.float()
        scores_BV[:, self.unsayable] = -torch.inf
        if self.foreign_BV is not None:
            scores_BV = scores_BV.masked_fill(self.foreign_BV, -torch.inf)
        scores_BV = self._penalised(scores_BV)
        if self.options.temperature > 0:
            scores_BV = self._disturbed(scores_BV)
        best_B, token_B = scores_BV.max(-1)  # torch holds NaN for greater than any number
        if self.said_BV is not None:
            self.said_BV.scatter_(1, token_B[:, None], True)
        return token_B, best_B

    def _penalised(self, scores_BV: Tensor) -> Tensor:
        """Divide positive and multiply negative scores of what was said (CTRL, arXiv 1909.05858, section 4.1)."""
        if self.said_BV is None:
            return scores_BV
        penalty = self.options.repetition_penalty
        weaker_BV = torch.where(scores_BV > 0, scores_BV / penalty, scores_BV * penalty)
        return torch.where(self.said_BV, weaker_BV, scores_BV)

    def _disturbed(self, scores_BV: Tensor) -> Tensor:
        """Scores whose greatest falls on each token as often as its probability says (the Gumbel-max trick); only on the
        likeliest that together hold top_p (nucleus sampling, arXiv 1904.09751)."""
        scores_BV = scores_BV / self.options.temperature
        if self.options.top_p < 1:
            sorted_BV, order_BV = scores_BV.sort(dim=-1, descending=True)
            probability_BV = torch.softmax(sorted_BV, dim=-1)
            outside_BV = probability_BV.cumsum(-1) - probability_BV >= self.options.top_p
            scores_BV = sorted_BV.masked_fill(outside_BV, -torch.inf).gather(-1, order_BV.argsort(-1))
        waiting_BV = torch.empty_like(scores_BV).exponential_(generator=self.generator)
        return scores_BV - waiting_BV.log()


def check_scores(best_B: Tensor) -> None:
    """Raises GenerationError where a chosen score is not a number."""
    if best_B.isnan().any():
        raise GenerationError("The model gave NaN instead of scores; its weights are damaged. Load it again.")
