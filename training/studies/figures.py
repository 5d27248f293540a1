"""How much an arm answers, by how much two differ, and how sure that is.

Both questions and seeds are drawn anew: three trainings are a small sample of all that there could be, and an interval over
questions alone would hide it. Questions are paired: both arms answer the same.

Shape letters: S seeds, Q questions, R draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.studies.journal import Entry

DRAWS = 2000
Right = NDArray[np.float64]  # (S, Q): 1 where a question was answered


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Percent of the questions, or points of difference, and where 95 % of the draws lie."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether it leaves zero out."""
        return self.low > 0 or self.high < 0


def rights(entries: Sequence[Entry], languages: Sequence[str] = ()) -> Mapping[str, Right]:
    """By arm, the mean over languages of each question."""
    arms: dict[str, list[Right]] = {}
    for entry in sorted(entries, key=lambda entry: entry.seed):
        of = entry.outcome.right
        rows = [np.array([int(figure) for figure in of[code]], dtype=np.float64) for code in languages or of]
        arms.setdefault(entry.arm, []).append(np.mean(rows, axis=0))
    return {arm: np.stack(seeds) for arm, seeds in arms.items()}


def share(right_SQ: Right) -> Interval:
    return _interval(100 * right_SQ.mean(), 100 * _draws(right_SQ, 0))


def difference(one_SQ: Right, other_SQ: Right) -> Interval:
    """Of `one` less `other`."""
    drawn_R = _draws(one_SQ, 0, 1) - _draws(other_SQ, 0, 2)
    return _interval(100 * (one_SQ.mean() - other_SQ.mean()), 100 * drawn_R)


def _draws(right_SQ: Right, questions: int, seeds: int = 1) -> NDArray[np.float64]:
    """(R,) means; equal seeds of the draw give the same questions, whatever the arm."""
    of_questions, of_seeds = np.random.default_rng(questions), np.random.default_rng((1, seeds))
    number_S, number_Q = right_SQ.shape
    drawn = np.empty(DRAWS)
    for draw in range(DRAWS):
        chosen_Q = of_questions.integers(number_Q, size=number_Q)
        chosen_S = of_seeds.integers(number_S, size=number_S)
        drawn[draw] = right_SQ[chosen_S][:, chosen_Q].mean()
    return drawn


def _interval(value: float, drawn_R: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(drawn_R, (2.5, 97.5))
    return Interval(value=float(value), low=float(low), high=float(high))
