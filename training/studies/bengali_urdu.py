"""The paper's third open question: are Bengali and Urdu better learnt in pretraining too, or in tuning alone?"""

from dataclasses import replace

from maya_core.languages import CODES, PRETRAINED_CODES
from training.studies.study import Claim, Plan, Study

BOTH = ("bn", "ur")
PLAN = Plan()

STUDY = Study(
    name="bengali_urdu",
    question="Do Bengali and Urdu belong into pretraining, or is tuning enough?",
    arms={
        "in tuning": [PLAN],
        "in pretraining too": [replace(PLAN, caption_languages=CODES)],
        "in neither": [replace(PLAN, tuned_languages=PRETRAINED_CODES)],
    },
    claims=[
        Claim(
            text="Captions in Bengali and Urdu make better answers there than tuning alone.",
            better="in pretraining too",
            worse="in tuning",
            languages=BOTH,
            paper="Open: are Bengali and Urdu better in pretraining too?",
        ),
        Claim(
            text="Tuning in Bengali and Urdu makes better answers there than eight other languages do.",
            better="in tuning",
            worse="in neither",
            languages=BOTH,
        ),
        Claim(
            text="Captions in two further languages cost the eight nothing.",
            better="in pretraining too",
            worse="in tuning",
            languages=PRETRAINED_CODES,
        ),
        *(
            Claim(
                text=f"Tuning in Bengali and Urdu helps {name}, which is in neither stage.",
                better="in tuning",
                worse="in neither",
                languages=(code,),
                of="transfer",
            )
            for code, name in (("fa", "Persian"), ("mr", "Marathi"))
        ),
    ],
    published=[
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --out maya-tuning",
        "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS-IN-TEN --images PICTURES "
        "--out stage-1-ten",
        "python -m training.finetune --model stage-1-ten --data PALO --images PICTURES --out maya-ten",
        "python -m training.finetune --model STAGE-1 --data PALO-IN-EIGHT --images PICTURES --out maya-eight",
    ],
    remark="The desk's language model has answered in all ten languages before; what is new to it is the connector.",
)
