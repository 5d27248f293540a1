"""How an answer is drawn. Nothing heavy is loaded for it: who asks wrongly is told at once."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """How an answer is drawn.

    max_new_tokens: most tokens in the answer.
    temperature: 0 takes the likeliest token each time (greedy); above 0 draws, the higher the more varied.
    top_p: draw only from the likeliest tokens that together hold this much probability, in (0, 1].
    repetition_penalty: 1 leaves scores alone; above 1 makes tokens that already stand in the answer less likely.
    seed: of the draws; None takes a fresh one.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}.")
        if not math.isfinite(self.temperature):
            raise ValueError(f"temperature must be a finite number, not {self.temperature}.")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}.")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be above 0, and finite, not {self.repetition_penalty}.")
