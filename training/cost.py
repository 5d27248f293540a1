"""What the paper's way takes at full size: `python -m training.cost`, step by step, and the figure that each should reach.

Sizes and figures are the published ones; times follow from floating-point operations and a speed that was measured.
"""

import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from maya_core.errors import MayaError
from training.command import STOPPED, ended

if TYPE_CHECKING:
    from training.estimate import Work

MEASURED = Path(__file__).with_name("measured.toml")
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- cost -->\n", "<!-- /cost -->"

# Published (arXiv 2505.08910, and its checkpoints): captions, languages that they become, toxic ones by picture, by text and
# in all, conversations of stage 2, and the hours that each stage took on 8 H100 as others report them.
CAPTIONS, LANGUAGES = 558_128, 7
TOXIC_PICTURES, TOXIC_TEXTS, TOXIC = 7_111, 892, 7_531
CONVERSATIONS = 665_000 + 9 * 150_000
REFERENCES, PREAMBLES = 30, 6
HOURS, GPUS = {"pretrain": 20, "finetune": 48}, 8
PALO_QUESTIONS, PALO_LANGUAGES = 60, 10
# Parameters that a token passes: Aya-23-8B and Toxic-BERT without their tables, Aya-23-35B, LlavaGuard-7B; and tokens of a
# picture for the last, which is a LLaVA 1.5.
DECODER, TEXT_GUARD, TRANSLATOR, PICTURE_GUARD, GUARD_PICTURE = 6_979_457_024, 86e6, 35e9, 7e9, 576


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """Tell what each step of the paper's way takes at full size. What is not given was measured once (measured.toml);
    lengths that nobody has published are assumed, and are options."""

    tflops: Annotated[
        float | None, tyro.conf.arg(help="that models come to on one device, in 10^12 operations a second")
    ] = None
    devices: Annotated[int, tyro.conf.arg(help="how many of them")] = 1
    texts_a_second: Annotated[float | None, tyro.conf.arg(help="through the pipeline, its model left out")] = None
    caption_tokens: Annotated[int, tyro.conf.arg(help="of a caption in any language, assumed")] = 30
    conversation_tokens: Annotated[int, tyro.conf.arg(help="of a conversation's words in stage 2, assumed")] = 400
    preamble_tokens: Annotated[int, tyro.conf.arg(help="before a text that is translated, assumed")] = 60
    policy_tokens: Annotated[int, tyro.conf.arg(help="that a guard reads with a picture, assumed")] = 500
    reply_tokens: Annotated[int, tyro.conf.arg(help="that a guard writes, assumed")] = 100
    input_price: Annotated[float, tyro.conf.arg(help="of a million tokens of requests to the translator")] = 0.5
    output_price: Annotated[float, tyro.conf.arg(help="of a million tokens of its replies")] = 1.5
    write: Annotated[bool, tyro.conf.arg(help="write the table into training/README.md")] = False

    def __post_init__(self) -> None:
        for name in ("tflops", "devices", "texts_a_second", "caption_tokens", "conversation_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise MayaError(f"--{name.replace('_', '-')} is {value}; it must be more than 0.")


@dataclass(frozen=True, kw_only=True)
class Step:
    """size: in words. flops: of models. seconds: beside these. reach: the published figure."""

    name: str
    size: str
    reach: str
    flops: float = 0.0
    seconds: float = 0.0


def steps(options: CostOptions, texts_a_second: float) -> Iterator[Step]:
    """The paper's way, in its order."""
    tokens_in = options.preamble_tokens + options.caption_tokens

    def translating(requests: int) -> float:
        return 2 * TRANSLATOR * requests * (tokens_in + options.caption_tokens)

    there_and_back = 2 * REFERENCES * LANGUAGES
    yield Step(
        name="reference",
        size=f"{there_and_back} requests; people review {REFERENCES * LANGUAGES} translations",
        flops=translating(there_and_back),
        reach=f"{REFERENCES} texts a language",
    )
    searched = PREAMBLES * REFERENCES * LANGUAGES
    yield Step(
        name="search",
        size=f"{searched:,} requests",
        flops=translating(searched),
        reach="BLEU 0.47 on average, 0.4 to 0.5 by language",
    )
    texts = CAPTIONS * LANGUAGES
    price = texts * (tokens_in * options.input_price + options.caption_tokens * options.output_price) / 1e6
    yield Step(
        name="run",
        size=f"{texts:,} texts, {texts * tokens_in / 1e6:,.0f} M tokens in, "
        f"{texts * options.caption_tokens / 1e6:,.0f} M out, "
        f"{price:,.0f} at {options.input_price:g} and {options.output_price:g} a million",
        flops=translating(texts),
        seconds=texts / texts_a_second,
        reach=f"{CAPTIONS:,} records in each of {LANGUAGES} languages",
    )
    yield Step(
        name="scan, texts",
        size=f"{CAPTIONS:,} captions",
        flops=2 * TEXT_GUARD * CAPTIONS * options.caption_tokens,
        reach=f"{TOXIC_TEXTS:,} toxic",
    )
    of_guard = GUARD_PICTURE + options.policy_tokens + options.reply_tokens
    yield Step(
        name="scan, pictures",
        size=f"{CAPTIONS:,} pictures",
        flops=2 * PICTURE_GUARD * CAPTIONS * of_guard,
        reach=f"{TOXIC_PICTURES:,} toxic; {TOXIC:,} in all",
    )
    records = (CAPTIONS - TOXIC) * (LANGUAGES + 1)
    yield Step(name="remove", size=f"{LANGUAGES + 1} files", reach=f"{records:,} records")
    for name, samples, tokens in (
        ("pretrain", records, options.caption_tokens),
        ("finetune", CONVERSATIONS, options.conversation_tokens),
    ):
        flops = stage_flops(name, samples, tokens)
        each = flops / (HOURS[name] * 3600 * GPUS) / 1e12
        yield Step(
            name=name,
            size=f"{samples:,} samples",
            flops=flops,
            reach=f"{HOURS[name]} hours on {GPUS} H100, which is {each:.0f} TFLOP/s of each",
        )
    answers = PALO_QUESTIONS * PALO_LANGUAGES
    yield Step(
        name="evaluate, palo",
        size=f"{answers} answers, {2 * answers:,} judgements",
        reach="60.4 (Spanish) to 64.0 (Hindi) by gpt-4-0613",
    )


def stage_flops(name: str, samples: int, tokens: int) -> float:
    """Floating-point operations of a stage of the published model. tokens: of words in a sample; half of a conversation's
    are supervised."""
    from training import recipes
    from training.estimate import Lengths

    work = _published_work()
    recipe = recipes.pretrain() if name == "pretrain" else recipes.finetune()
    pictures = work.config.visual_tokens(work.config.image_size, work.config.image_size)
    supervised = tokens if name == "pretrain" else tokens / 2
    lengths = Lengths(tokens=pictures + tokens, supervised=supervised, pictures=1, longest=pictures + tokens)
    stage = replace(work, recipe=recipe, lengths=lengths)
    return stage.flops(samples * lengths.tokens, samples * supervised)


@cache
def _published_work() -> "Work":
    """Of the published model, whose tower and connector are counted once."""
    from maya_core.model.config import MayaConfig
    from training import recipes
    from training.estimate import Lengths, Work

    nothing = Lengths(tokens=1, supervised=0, pictures=1, longest=1)
    return Work.of(MayaConfig.published(), recipes.pretrain(), nothing)


def table(options: CostOptions) -> str:
    """Markdown: a row a step."""
    known = measured()
    prompt, pipeline = known["prompt"], known["pipeline"]
    speed, pace = options.tflops, options.texts_a_second
    told = f"{speed} TFLOP/s on each of {options.devices}"
    if speed is None:
        speed = 2 * DECODER * prompt["tokens"] / prompt["seconds"] / 1e12
        told = f"{speed:.3f} TFLOP/s on each of {options.devices} ({prompt['where']}; {prompt['what']})"
    if pace is None:
        pace = pipeline["texts_a_second"]
        told += f", {pace:g} texts a second through the pipeline ({pipeline['where']})"
    reached = speed * 1e12 * options.devices
    rows = [
        f"| {one.name} | {one.size} | {_exa(one.flops)} | {_time(max(one.flops / reached, one.seconds))} | {one.reach} |"
        for one in steps(options, pace)
    ]
    return "\n".join(
        [
            f"Times: models at {told}.",
            "",
            "| step | at full size | 10^18 operations | time | should reach |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def measured() -> dict[str, dict[str, Any]]:
    """What was measured once, by name: a value, where (with the day) and by which command."""
    return tomllib.loads(MEASURED.read_text("utf-8"))


def _exa(flops: float) -> str:
    return f"{flops / 1e18:.2g}" if flops else "-"


def _time(seconds: float) -> str:
    for size, name in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {name}"
    return "-" if not seconds else "minutes"


def write(text: str) -> None:
    """Put a table into the README in the place of the one there."""
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    README.write_text(f"{before}{BEGIN}{text}{END}{rest.partition(END)[2]}", "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given: dict[str, Any] = {"args": arguments, "prog": "python -m training.cost", "description": __doc__}

    def run() -> None:
        options = tyro.cli(CostOptions, **given)
        text = table(options)
        print(text)
        if options.write:
            write(text)

    return ended(run, STOPPED)


if __name__ == "__main__":
    sys.exit(main())
