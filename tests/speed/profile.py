"""`python -m tests.speed.profile`: where the time of one decoded token goes, in transformers' `generate` and in ours.

Two models on one thread of the CPU: 32 thin layers, where a token is host work, and 177 M parameters in bfloat16, where it
is arithmetic. torch's profiler counts and times the operators; what a token takes beyond them is Python and dispatch. The
profiler slows both, which is why the last line gives a token's time without it.
"""

import copy
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch.profiler import ProfilerActivity, profile

from maya_core.answering.session import ChatSession
from maya_core.model.prompt import Message
from tests.speed.inference import (
    GENERATE,
    WORDS,
    medians,
    medium_model,
    our_token_seconds,
    stock_token_seconds,
    thin_model,
)
from tests.speed.report import hardware, today
from training.embedded.tokenizer import train_tokenizer

TOKENS, PLAIN_ROUNDS = 33, 5
PROFILE = Path(__file__).parent / "PROFILE.md"
KINDS: Mapping[str, str] = {  # kind: pattern of its operators' names
    "matrix products": r"t?mm|bmm|addmm|matmul|linear|_linear_pointwise|mkldnn_.*linear.*",
    "attention": r".*attention.*",
    "norms": r".*norm.*|mean|var|rsqrt|pow",
    "copies and casts": r"copy_|_to_copy|to|cat|clone|contiguous|index.*|stack|.*pad.*|repeat.*|fill_|zero_",
    "element by element": r"(mul|add|sub|neg|silu|cos|sin|div|sigmoid|exp|complex|where|masked_fill|eq|isin|logical_.*)_?",
}
OTHERS, BETWEEN = "views, checks and the rest", "Python and dispatch between operators"
ROWS = (*KINDS, OTHERS, BETWEEN)


@dataclass(frozen=True)
class Share:
    """Operators of a kind: calls, and seconds, of one token."""

    calls: float
    seconds: float


def kind_of(operator: str) -> str:
    """The row of the table that an operator (`aten::add`) belongs to."""
    name = operator.rpartition("::")[2]
    return next((kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)), OTHERS)


def shares_of(token_seconds: Callable[[int], float]) -> dict[str, Share]:
    """Calls and seconds of one token by kind. token_seconds: decodes as many tokens, gives the seconds of one.

    The prompt and the first token are taken off by profiling that alone, too.
    """
    token_seconds(2)  # warm
    long, short = _operators(token_seconds, TOKENS), _operators(token_seconds, 2)
    calls: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for sign, (events, _) in ((1, long), (-1, short)):
        for event in events:
            calls[kind_of(event.key)] += sign * event.count
            seconds[kind_of(event.key)] += sign * event.self_cpu_time_total * 1e-6
    further = TOKENS - 2
    shares = {kind: Share(calls[kind] / further, seconds[kind] / further) for kind in (*KINDS, OTHERS)}
    operators = sum(share.seconds for share in shares.values())
    return shares | {BETWEEN: Share(0, max(0.0, long[1] - operators))}


def _operators(token_seconds: Callable[[int], float], tokens: int) -> tuple[Any, float]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        seconds = token_seconds(tokens)
    return profiler.key_averages(), seconds


def table(theirs: Mapping[str, Share], ours: Mapping[str, Share], plain: tuple[float, float]) -> str:
    """Before and after, as Markdown."""
    lines = [
        "| a token | calls before | ms before | calls after | ms after |",
        "|---|---|---|---|---|",
    ]
    for kind in ROWS:
        before, after = theirs[kind], ours[kind]
        calls = [f"{share.calls:.0f}" if share.calls else "" for share in (before, after)]
        lines.append(f"| {kind} | {calls[0]} | {before.seconds * 1e3:.2f} | {calls[1]} | {after.seconds * 1e3:.2f} |")
    totals = [sum(share.calls for share in shares.values()) for shares in (theirs, ours)]
    times = [sum(share.seconds for share in shares.values()) * 1e3 for shares in (theirs, ours)]
    lines.append(f"| in all, with the profiler | {totals[0]:.0f} | {times[0]:.2f} | {totals[1]:.0f} | {times[1]:.2f} |")
    lines.append(f"| without the profiler | | {plain[0] * 1e3:.2f} | | {plain[1] * 1e3:.2f} |")
    return "\n".join(lines)


def compare(model: Any, processor: Any) -> str:
    """The table of one model."""
    stock, session = copy.deepcopy(model), ChatSession(model, processor)
    messages = [Message(role="user", text=WORDS)]
    inputs = processor.prompts([messages])

    def ours(tokens: int) -> float:
        return our_token_seconds(session, messages, tokens)

    def theirs(tokens: int) -> float:
        return stock_token_seconds(stock, inputs, tokens)

    before, after = shares_of(theirs), shares_of(ours)
    plain = medians(PLAIN_ROUNDS, lambda: theirs(TOKENS), lambda: ours(TOKENS))
    return table(before, after, (plain[0], plain[1]))


def main(record: Annotated[bool, tyro.conf.arg(help="write what is printed to PROFILE.md, too")] = False) -> None:
    """Where the time of one decoded token goes, before (transformers) and after (ours)."""
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(290, texts=[WORDS])
    parts = [
        "# Where a decoded token's time goes\n",
        f"{today()}, {hardware()}, one thread, `python -m tests.speed.profile --record`; before: {GENERATE}, after: ours.\n",
    ]
    for title, make in (("32 thin layers, float32", thin_model), ("177 M parameters, bfloat16", medium_model)):
        parts.append(f"## {title}\n\n{compare(*make(tokenizer))}\n")
    text = "\n".join(parts)
    print(text)
    if record:
        PROFILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
