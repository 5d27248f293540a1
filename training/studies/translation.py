"""How good must a translation be? The paper's captions were translated at a BLEU of 0.47 on average; here what is not
English is spoilt by shares, and its BLEU against the clean text is told beside what comes of it."""

from dataclasses import replace
from statistics import fmean

from training.studies.spoiling import bleu
from training.studies.study import Claim, Plan, Study

SHARES = (0.0, 0.4, 0.2, 0.1, 0.05)
OTHERS = ("zh", "fr", "es", "ru", "hi", "ja", "ar", "bn", "ur")


def label(share: float) -> str:
    return f"{100 * share:.0f} % spoilt" if share else "clean"


def bleus() -> str:
    told = [f"{label(share)} {fmean(bleu(share, code) for code in OTHERS):.1f}" for share in SHARES[1:]]
    return f"BLEU of what is spoilt against the clean text, mean over nine languages: {', '.join(told)}."


STUDY = Study(
    beside=bleus,
    name="translation",
    question="From which share of spoilt translations on do answers suffer?",
    arms={label(share): [replace(Plan(), spoilt=share)] for share in SHARES},
    claims=[
        Claim(
            text=f"Clean translations make better answers than {label(share)} ones, English aside.",
            better="clean",
            worse=label(share),
            languages=OTHERS,
        )
        for share in SHARES[1:]
    ],
    published=[
        "python -m training.translate run --help",
        "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS --images PICTURES --out stage-1",
        "python -m training.finetune --model stage-1 --data PALO --images PICTURES --out maya",
    ],
)
