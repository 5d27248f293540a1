"""How sure a figure is: units are drawn anew, many times, and the figure computed of each draw."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from training.benchmarks.base import Array, Figures, Sums, Tally

RESAMPLES = 1000
MOST = 10_000_000  # numbers of a block of draws
TAIL = 2.5  # percent that lie beyond each end of an interval

FiguresOf = Callable[[Sums], Figures]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure and its 95 % interval; None where there is nothing to divide by."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Difference(Figure):
    """Of two runs on the same units. p: how often, in draws around no difference, one as large would be seen."""

    p: float | None


def figures_of(tally: Tally, compute: FiguresOf, *, seed: int, resamples: int = RESAMPLES) -> dict[str, Figure]:
    """Every figure of a tally, with its interval."""
    keys, counts_UK = _table(tally, sorted(tally))
    values = _computed(compute, keys, counts_UK.sum(0)[None])
    draws: dict[str, list[Array]] = {name: [] for name in values}
    for weights_RU in _weights(len(counts_UK), seed, resamples):
        for name, drawn in _computed(compute, keys, weights_RU @ counts_UK).items():
            draws[name].append(drawn)
    return {
        name: Figure(value=_known(value[0]), **_ends(np.concatenate(draws[name]))) for name, value in values.items()
    }


def differences(
    one: Tally, other: Tally, compute: FiguresOf, *, seed: int, resamples: int = RESAMPLES
) -> dict[str, Difference]:
    """Figures of `other` less those of `one`, over the units that both have, which are drawn together."""
    units = sorted(one.keys() & other.keys())
    sides = [_table(tally, units) for tally in (one, other)]
    values = [_computed(compute, keys, counts_UK.sum(0)[None]) for keys, counts_UK in sides]
    names = [name for name in values[0] if name in values[1]]
    draws: dict[str, list[Array]] = {name: [] for name in names}
    for weights_RU in _weights(len(units), seed, resamples):
        first, second = (_computed(compute, keys, weights_RU @ counts_UK) for keys, counts_UK in sides)
        for name in names:
            draws[name].append(second[name] - first[name])
    return {name: _difference(values[1][name][0] - values[0][name][0], np.concatenate(draws[name])) for name in names}


def _table(tally: Tally, units: Sequence[str]) -> tuple[list[tuple[str, str]], Array]:
    keys = sorted({key for unit in units for key in tally[unit]})
    place = {key: column for column, key in enumerate(keys)}
    counts_UK = np.zeros((len(units), len(keys)))
    for row, unit in enumerate(units):
        for key, count in tally[unit].items():
            counts_UK[row, place[key]] = count
    return keys, counts_UK


def _computed(compute: FiguresOf, keys: Sequence[tuple[str, str]], sums_RK: Array) -> Figures:
    with np.errstate(divide="ignore", invalid="ignore"):
        return compute(dict(zip(keys, sums_RK.T, strict=True)))


def _weights(units: int, seed: int, resamples: int) -> Iterator[Array]:
    """How often each unit is drawn, (R, U), in blocks."""
    generator = np.random.default_rng(seed)
    block = max(1, min(resamples, MOST // max(1, units)))
    for start in range(0, resamples, block):
        drawn = generator.multinomial(units, np.full(units, 1 / units), size=min(block, resamples - start))
        yield drawn.astype(np.float64)


def _ends(drawn: Array) -> dict[str, float | None]:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return {"low": None, "high": None}
    low, high = np.percentile(drawn, [TAIL, 100 - TAIL])
    return {"low": float(low), "high": float(high)}


def _difference(value: float, drawn: Array) -> Difference:
    finite = drawn[np.isfinite(drawn)]
    beyond = float(np.mean(np.abs(finite - value) >= abs(value) - 1e-12)) if len(finite) else None
    return Difference(value=_known(value), p=beyond, **_ends(drawn))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
