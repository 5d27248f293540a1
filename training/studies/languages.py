"""The paper's first experiment and its central claim: a connector that is pretrained in eight languages, from a balanced
subset, against one that is pretrained on as many records in English alone; both are tuned in ten."""

from dataclasses import replace

from maya_core.languages import PRETRAINED_CODES
from training.studies.study import CAPTION_STEPS, Claim, Plan, Study

RECORDS = 800  # the paper took 10,000
OTHERS = ("zh", "fr", "es", "ru", "hi", "ja", "ar")
UNSEEN = ("bn", "ur")
PLAN = Plan(captions=RECORDS, captions_at_once=1, caption_steps=2 * CAPTION_STEPS)

STUDY = Study(
    name="languages",
    question="Does pretraining in eight languages make better answers than as many captions in English alone?",
    arms={
        "eight languages": [PLAN],
        "English alone": [replace(PLAN, caption_languages=("en",))],
        "blind": [replace(PLAN, blind=True)],
        "English, same pictures": [replace(PLAN, caption_languages=("en",), captions=RECORDS // len(PRETRAINED_CODES))],
    },
    claims=[
        Claim(
            text="Eight languages answer more than English alone.",
            better="eight languages",
            worse="English alone",
            paper="A connector is better pretrained in eight languages than in English, with as many captions.",
        ),
        Claim(
            text="Eight languages answer more than English alone about the same pictures.",
            better="eight languages",
            worse="English, same pictures",
            paper="A connector is better pretrained in eight languages than in English, on the same pictures.",
        ),
        Claim(
            text="Eight languages answer more than English alone in the other seven.",
            better="eight languages",
            worse="English alone",
            languages=OTHERS,
        ),
        Claim(
            text="Eight languages answer more than English alone in Bengali and Urdu, which neither saw.",
            better="eight languages",
            worse="English alone",
            languages=UNSEEN,
        ),
        Claim(text="Who sees the picture answers more than who does not.", better="eight languages", worse="blind"),
    ],
    published=[
        "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS --images PICTURES --take 10000 "
        "--out stage-1-eight",
        "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS/english.json --images PICTURES "
        "--take 10000 --out stage-1-english",
        "python -m training.finetune --model stage-1-eight --data PALO --images PICTURES --out maya-eight",
        "python -m training.finetune --model stage-1-english --data PALO --images PICTURES --out maya-english",
    ],
    remark="English alone has as many captions as eight languages, so it shows eight times as many different pictures; each "
    "arm learns from as many captions, some of them twice.",
)
