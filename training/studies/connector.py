"""The paper's first open question: is a Q-Former or gated cross-attention a better connector than the MLP? At about equal
parameters."""

from collections.abc import Mapping
from dataclasses import replace

from training.studies.study import Claim, Plan, Study

PLAN = Plan(vision_size=384)
MLP: Mapping[str, int | str] = {"kind": "mlp", "depth": 2, "hidden_size": 3840}
TIMED = ("Q-Former", "cross-attention")
HEADS: Mapping[str, int] = {"num_attention_heads": 4, "head_dim": 64}
QFORMER: Mapping[str, int | str] = {
    "kind": "qformer",
    "depth": 1,
    "num_query_tokens": 32,
    **HEADS,
    "num_attention_heads": 6,
}
CROSS_ATTENTION: Mapping[str, int | str] = {
    "kind": "cross_attention",
    "depth": 1,
    "num_latents": 32,
    "cross_attn_every_n_layers": 4,
    **HEADS,
}

STUDY = Study(
    name="connector",
    question="MLP, Q-Former or gated cross-attention, at equal parameters, and in equal time?",
    arms={
        "MLP": [replace(PLAN, connector=MLP)],
        "Q-Former": [replace(PLAN, connector=QFORMER)],
        "cross-attention": [replace(PLAN, connector=CROSS_ATTENTION)],
    },
    timed=TIMED,
    claims=[
        Claim(
            text="An MLP answers more than a Q-Former.",
            better="MLP",
            worse="Q-Former",
            paper="Open: is the MLP better than a Q-Former?",
        ),
        Claim(
            text="An MLP answers more than gated cross-attention.",
            better="MLP",
            worse="cross-attention",
            paper="Open: is the MLP better than gated cross-attention?",
        ),
        *(
            Claim(text=f"An MLP answers more than {arm} in the same time.", better="MLP", worse=f"{arm}, as long")
            for arm in TIMED
        ),
    ],
    published=[
        line
        for kind in ("mlp", "qformer", "cross_attention")
        for line in (
            "python -m training.pretrain --tower TOWER --language-model AYA --data CAPTIONS --images PICTURES "
            f"--connector {kind} --out stage-1-{kind}",
            f"python -m training.finetune --model stage-1-{kind} --data PALO --images PICTURES --out maya-{kind}",
        )
    ],
)
