"""Two layers, or more? The paper compared projectors of depth 2, 4 and 8 by their training loss, and kept 2."""

from dataclasses import replace

from maya_core.languages import PRETRAINED_CODES
from training.studies.study import Claim, Plan, Study

HELD = ("hi", "ar")  # languages of which the connector sees no caption
SEEN = tuple(code for code in PRETRAINED_CODES if code not in HELD)


def arm(depth: int) -> list[Plan]:
    plan = Plan(caption_languages=SEEN)
    return [replace(plan, connector={**plan.connector, "depth": depth})]


STUDY = Study(
    name="depth",
    question="Is a connector of two layers better than one of 1, 4 or 8?",
    arms={f"depth {depth}": arm(depth) for depth in (2, 1, 4, 8)},
    claims=[
        *(
            Claim(
                text=f"Two layers answer more than {depth}.",
                better="depth 2",
                worse=f"depth {depth}",
                paper=f"A projector of two layers is better than one of {depth}." if depth > 1 else "",
            )
            for depth in (1, 4, 8)
        ),
        *(
            Claim(
                text=f"Two layers answer more than {depth} in languages that the connector was not trained in.",
                better="depth 2",
                worse=f"depth {depth}",
                languages=HELD,
            )
            for depth in (4, 8)
        ),
    ],
    published=[
        line
        for depth in (2, 1, 4, 8)
        for line in (
            "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS --images PICTURES "
            f"--depth {depth} --out stage-1-depth-{depth}",
            f"python -m training.finetune --model stage-1-depth-{depth} --data PALO --images PICTURES "
            f"--out maya-depth-{depth}",
        )
    ],
)
