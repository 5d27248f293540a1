"""Figures that others have reported, which a report shows beside ours."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from training.benchmarks.registry import get_benchmark


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A model's figure by language, or its mean over those that it was measured in. figure: what our runs call the same.
    counts: what was counted, as the benchmark's own `counts` names it, where that is published too."""

    benchmark: str
    figure: str
    model: str
    source: str
    values: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    judge: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def value(self) -> float | None:
        """In English, or the mean over languages."""
        return self.values.get("en") if self.mean is None else self.mean

    def recomputed(self) -> float | None:
        """What the benchmark's own formula makes of the counts; None where there are none."""
        if not self.counts:
            return None
        sums = {(self.figure, what): np.array([float(count)]) for what, count in self.counts.items()}
        return float(get_benchmark(self.benchmark).figures(sums)[self.figure][0])  # type: ignore[arg-type]


@cache
def reported() -> tuple[Reported, ...]:
    """All of them, from published.toml."""
    fields = tomllib.loads((Path(__file__).parent / "published.toml").read_text("utf-8"))
    return tuple(Reported(**one) for one in fields["reported"])


def as_markdown(model: str) -> str:
    """What is reported of a model but for figures a language, and what comes out of the published counts."""
    lines = ["| benchmark | figure | published | recomputed | from |", "|---|---|---|---|---|"]
    for one in reported():
        if one.model != model or len(one.values) > 1:
            continue
        again = one.recomputed()
        told = "-" if again is None else f"{again:.3f}" if again < 1 else f"{again:.2f}"
        counted = ", ".join(f"{count:,} {what}" for what, count in one.counts.items()) or "-"
        lines.append(f"| {one.benchmark} | {one.figure} | {one.value} | {told} | {counted} |")
    return "\n".join(lines)
