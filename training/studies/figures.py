"""How much an arm answers, by how much two differ, and how sure that is.

Both scenes and seeds are drawn anew: three trainings are a small sample of all that there could be, and an interval over
scenes alone would hide it. A few seeds, drawn anew, differ too little, so that what they add is widened to where Student's t
has 95 %. Both are paired: two arms answer the same questions, and with equal seeds they began alike and saw the same data in
the same order.

Shape letters: S seeds, C scenes (or drawings), L languages, Q questions, R draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.studies.journal import Entry
from training.studies.making import Outcome

DRAWS = 2000
# Student's t beyond which 2.5 % lie, by degrees of freedom, and for many of them.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 8: 2.306, 10: 2.228}
T_MANY = 1.96
Figures = NDArray[np.float64]  # (S, C)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean, or a difference of two, and where 95 % of the draws lie."""

    value: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether it leaves zero out."""
        return self.low > 0 or self.high < 0


def rights(entries: Sequence[Entry], languages: Sequence[str] = ()) -> Mapping[str, Figures]:
    """By arm, the share of each scene's questions that are answered, mean over languages."""

    def of(outcome: Outcome) -> NDArray[np.float64]:
        chosen = [outcome.right[code] for code in languages or outcome.right]
        right_LQ = np.array([[int(figure) for figure in figures] for figures in chosen], dtype=np.float64)
        scenes_C: NDArray[np.float64] = right_LQ.mean(0).reshape(-1, outcome.asked).mean(1)
        return scenes_C

    return _by_arm(entries, of)


def losses(entries: Sequence[Entry], languages: Sequence[str] = ()) -> Mapping[str, Figures]:
    """By arm, the loss of each scene's answers in nats a token, mean over languages; of those whose loss is told."""
    told = [entry for entry in entries if entry.outcome.lost]
    return _by_arm(told, lambda outcome: np.mean([outcome.lost[code] for code in languages or outcome.lost], axis=0))


def transfers(entries: Sequence[Entry], languages: Sequence[str]) -> Mapping[str, Figures]:
    """By arm, of each drawing the share of names in these languages that are likelier with it than with another."""
    return _by_arm(
        entries,
        lambda outcome: np.mean([[int(figure) for figure in outcome.transfer[code]] for code in languages], axis=0),
    )


def _by_arm(entries: Sequence[Entry], of: Callable[[Outcome], NDArray[np.float64]]) -> Mapping[str, Figures]:
    arms: dict[str, list[NDArray[np.float64]]] = {}
    for entry in sorted(entries, key=lambda entry: entry.seed):
        arms.setdefault(entry.arm, []).append(of(entry.outcome))
    return {arm: np.stack(seeds) for arm, seeds in arms.items()}


def mean(figures_SC: Figures) -> Interval:
    return _interval(figures_SC.mean(), _draws(figures_SC))


def difference(one_SC: Figures, other_SC: Figures) -> Interval:
    """Of `one` less `other`, on the first seeds, which both have."""
    seeds = min(len(one_SC), len(other_SC))
    return mean(one_SC[:seeds] - other_SC[:seeds])


def _draws(figures_SC: Figures) -> NDArray[np.float64]:
    """(R,) means."""
    number_S, number_C = figures_SC.shape
    share_RC = np.random.default_rng(0).multinomial(number_C, np.full(number_C, 1 / number_C), DRAWS) / number_C
    share_RS = np.random.default_rng(1).multinomial(number_S, np.full(number_S, 1 / number_S), DRAWS) / number_S
    of_scenes_RS = share_RC @ figures_SC.T
    mean_R: NDArray[np.float64] = of_scenes_RS.mean(1)
    if number_S == 1:
        return mean_R
    wider = (number_S / (number_S - 1)) ** 0.5 * T_95.get(number_S - 1, T_MANY) / T_MANY
    wider_R: NDArray[np.float64] = mean_R + wider * ((of_scenes_RS * share_RS).sum(1) - mean_R)
    return wider_R


def _interval(value: float, drawn_R: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(drawn_R, (2.5, 97.5))
    return Interval(value=float(value), low=float(low), high=float(high))
