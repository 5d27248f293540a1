"""LoRA was given up in the paper, for A and B shared one rate. Here: one rate, LoRA+ at several ratios, rsLoRA, DoRA and all
weights, each with the best of several rates."""

from collections.abc import Sequence
from dataclasses import replace

from maya_core.weights.adapters import LoraSettings
from training.recipes import CONNECTOR, LANGUAGE_MODEL, LORA_A, LORA_B
from training.studies.study import Claim, Plan, Study

RANK = 16
PLAN = Plan()
LORA = LoraSettings(rank=RANK, alpha=2 * RANK)


def lora(rates: Sequence[float], ratio: float, settings: LoraSettings = LORA) -> list[Plan]:
    """One plan a rate of A; B's is `ratio` times it."""
    connector = PLAN.rates[CONNECTOR]
    return [
        replace(PLAN, lora=settings, rates={CONNECTOR: connector, LORA_A: rate, LORA_B: ratio * rate}) for rate in rates
    ]


STUDY = Study(
    name="adapters",
    question="Do adapters learn what all weights learn, and with which rates?",
    arms={
        "all weights": [replace(PLAN, rates=dict(PLAN.rates) | {LANGUAGE_MODEL: rate}) for rate in (2e-4, 5e-4, 1e-3)],
        "LoRA, one rate": lora((1e-3, 3e-3, 1e-2), 1),
        "LoRA+, ratio 4": lora((5e-4, 1e-3, 2e-3, 4e-3), 4),
        "LoRA+, ratio 16": lora((1e-4, 2e-4, 5e-4, 1e-3), 16),
        "rsLoRA, one rate": lora((3e-4, 1e-3, 3e-3), 1, replace(LORA, rslora=True)),
        "DoRA, one rate": lora((1e-3, 3e-3, 1e-2), 1, replace(LORA, dora=True)),
    },
    claims=[
        Claim(
            text="All weights learn more than LoRA at one rate.",
            better="all weights",
            worse="LoRA, one rate",
            paper="LoRA falls short of training all weights.",
        ),
        Claim(
            text="LoRA+ at 16 learns more than LoRA at one rate.",
            better="LoRA+, ratio 16",
            worse="LoRA, one rate",
            paper="LoRA falls short because A and B share one rate.",
        ),
        Claim(text="All weights learn more than LoRA+ at 16.", better="all weights", worse="LoRA+, ratio 16"),
    ],
    published=[
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --out maya-all",
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --recipe lora "
        "--loraplus-ratio 1 --out maya-lora",
        *(
            f"python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --recipe lora {more}"
            for more in (
                "--loraplus-ratio 4 --out maya-loraplus-4",
                "--loraplus-ratio 16 --out maya-loraplus-16",
                "--loraplus-ratio 1 --rslora --out maya-rslora",
                "--loraplus-ratio 1 --dora --out maya-dora",
            )
        ),
    ],
)
