"""The paper's first open question: is a Q-Former or gated cross-attention a better connector than the MLP? At about equal
parameters."""

from dataclasses import replace

from training.studies.study import Claim, Plan, Study

PLAN = Plan()
MLP = {"kind": "mlp", "depth": 2, "hidden_size": 896}
HEADS = {"num_attention_heads": 4, "head_dim": 64}

STUDY = Study(
    name="connector",
    question="MLP, Q-Former or gated cross-attention, at equal parameters?",
    arms={
        "MLP": [replace(PLAN, connector=MLP)],
        "Q-Former": [
            replace(PLAN, connector={"kind": "qformer", "depth": 2, "num_query_tokens": 32} | HEADS),
        ],
        "cross-attention": [
            replace(
                PLAN,
                connector={"kind": "cross_attention", "depth": 1, "num_latents": 36, "cross_attn_every_n_layers": 2}
                | HEADS,
            )
        ],
    },
    claims=[
        Claim(text="An MLP answers more than a Q-Former.", better="MLP", worse="Q-Former"),
        Claim(text="An MLP answers more than gated cross-attention.", better="MLP", worse="cross-attention"),
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
