"""The paper's first experiment and its central claim: a connector that is pretrained in eight languages, from a balanced
subset, against one that is pretrained on as many records in English alone; both are tuned in ten."""

from training.studies.study import Claim, Plan, Study

RECORDS = 2400  # the paper took 10,000
OTHERS = ("zh", "fr", "es", "ru", "hi", "ja", "ar")
UNSEEN = ("bn", "ur")

STUDY = Study(
    name="languages",
    question="Does pretraining in eight languages make better answers than as many captions in English alone?",
    arms={
        "eight languages": [Plan(captions=RECORDS)],
        "English alone": [Plan(captions=RECORDS, caption_languages=("en",))],
    },
    claims=[
        Claim(text="Eight languages answer more than English alone.", better="eight languages", worse="English alone"),
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
    ],
    published=[
        "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS --images PICTURES --take 10000 "
        "--out stage-1-eight",
        "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS/english.json --images PICTURES "
        "--take 10000 --out stage-1-english",
        "python -m training.finetune --model stage-1-eight --data PALO --images PICTURES --out maya-eight",
        "python -m training.finetune --model stage-1-english --data PALO --images PICTURES --out maya-english",
    ],
    remark="As many records, so English alone shows eight times as many different pictures.",
)
