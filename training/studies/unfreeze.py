"""The paper's second open question: how much of the language model must move?"""

from dataclasses import replace

from training.recipes import CONNECTOR
from training.studies.study import Claim, Plan, Study

PLAN = Plan()

STUDY = Study(
    name="unfreeze",
    question="How many of the decoder's layers must train in stage 2?",
    arms={
        "all layers": [PLAN],
        "connector alone": [replace(PLAN, rates={CONNECTOR: PLAN.rates[CONNECTOR]})],
        "last layer": [replace(PLAN, last_layers=1)],
        "last two layers": [replace(PLAN, last_layers=2)],
    },
    claims=[
        Claim(
            text="All layers answer more than none.",
            better="all layers",
            worse="connector alone",
            paper="Open: must more than the connector train in stage 2?",
        ),
        Claim(text="All layers answer more than the last one.", better="all layers", worse="last layer"),
        Claim(text="All layers answer more than the last two.", better="all layers", worse="last two layers"),
        Claim(text="The last layer answers more than none.", better="last layer", worse="connector alone"),
    ],
    published=[
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --out maya-all",
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES "
        "--learning-rates model.language_model 0 "
        "--out maya-connector",
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --recipe unfreeze_layers "
        "--last-layers 1 --out maya-1",
        "python -m training.finetune --model STAGE-1 --data PALO --images PICTURES --recipe unfreeze_layers "
        "--last-layers 2 --out maya-2",
    ],
    remark="The desk's decoder has four layers, the published one 32. The tower rests in every arm.",
)
