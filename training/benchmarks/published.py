"""Figures that others have reported, which a report shows beside ours."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A model's figure by language, or its mean over those that it was measured in. figure: what our runs call the same."""

    benchmark: str
    figure: str
    model: str
    source: str
    values: Mapping[str, float] = field(default_factory=dict)
    mean: float | None = None
    judge: str | None = None


@cache
def reported() -> tuple[Reported, ...]:
    """All of them, from published.toml."""
    fields = tomllib.loads((Path(__file__).parent / "published.toml").read_text("utf-8"))
    return tuple(Reported(**one) for one in fields["reported"])
