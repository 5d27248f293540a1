"""The paper's choice of tower: SigLIP's sigmoid loss against CLIP's softmax, on the same tower, data and steps; and a tower
that was trained on photographs, at rest, against a small one that begins from nothing.

Pictures of one drawing each and its name, in ten languages, are brought together in one space; then each of the names is
held against pictures that were not learnt from. Words are the base's own table, at rest, with one layer on it.

Shape letters: B pictures of a step, N names, C colours, H and W pixels, P patches, D tower width, E width of the table, S of
the space.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import SiglipVisionConfig

from maya_core.languages import CODES
from maya_core.model.towers import SiglipTower
from maya_core.weights.checkpoint import load_model, load_processor
from training.embedded.seen import SeenScenes
from training.emoji_vqa.vocabulary import VENDORS, load_vocabulary
from training.studies.making import Outcome
from training.studies.study import Claim, Study, mark_of
from training.studies.world import Single, World

THINGS = 50  # of EmojiVQA's vocabulary, evenly
ROUNDS = 2  # with grounds of their own, that are learnt from
SPACE = 128
SMALL = SiglipVisionConfig(
    hidden_size=96,
    intermediate_size=384,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=64,
    patch_size=8,
    vision_use_head=False,
)


@dataclass(frozen=True, kw_only=True)
class TowerPlan:
    """begins: the tower, from nothing and training, or trained on photographs and at rest. batch: pictures of a step, of as
    many different things."""

    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    begins: Literal["nothing", "photographs"] = "nothing"
    steps: int = 120
    batch: int = 40
    rate: float = 2e-3

    @property
    def mark(self) -> str:
        """The same for equal plans alone."""
        return mark_of(self)

    def shortened(self, steps: int) -> "TowerPlan":
        return replace(self, steps=steps)


class Together(nn.Module):
    """Pictures and names in one space. scale, shift: of a pair's likeness, as each loss begins with them."""

    def __init__(self, plan: TowerPlan, *, features: int, words: int) -> None:
        super().__init__()
        self.tower: SiglipTower | None = SiglipTower(SMALL) if plan.begins == "nothing" else None
        self.sight = nn.Linear(SMALL.hidden_size if self.tower else features, SPACE)
        self.words = nn.Linear(words, SPACE)
        is_sigmoid = plan.loss == "sigmoid"
        self.scale = nn.Parameter(torch.tensor(math.log(10 if is_sigmoid else 1 / 0.07)))
        self.shift = nn.Parameter(torch.tensor(-10.0), requires_grad=is_sigmoid)

    def forward(self, seen: Tensor, names_NE: Tensor) -> Tensor:
        """(B, N) likenesses. seen: pixels (B, C, H, W), or what the other tower saw (B, D)."""
        if self.tower is not None:
            seen = self.tower.features(seen, layers=SMALL.num_hidden_layers).mean(1)
        pictures_BS = functional.normalize(self.sight(seen), dim=-1)
        names_NS = functional.normalize(self.words(names_NE), dim=-1)
        return pictures_BS @ names_NS.T * self.scale.exp()

    def loss(self, likeness_BB: Tensor, kind: str) -> Tensor:
        """Each picture belongs to the name of its own row alone."""
        own_BB = torch.eye(len(likeness_BB))
        if kind == "sigmoid":
            return -functional.logsigmoid((2 * own_BB - 1) * (likeness_BB + self.shift)).sum(1).mean()
        rows_B = torch.arange(len(likeness_BB))
        return (functional.cross_entropy(likeness_BB, rows_B) + functional.cross_entropy(likeness_BB.T, rows_B)) / 2


def make_tower(plan: TowerPlan, seed: int, base: Path, world: World, run: Path) -> Outcome:
    """Bring pictures and names together, and name what was held back."""
    started = time.monotonic()
    numbers = things()
    trained = Single("train", numbers), ROUNDS * THINGS * len(VENDORS)
    held = Single("test", numbers), THINGS * len(VENDORS)
    names = _names(base, numbers)
    learnt, asked = (_seen(plan, scenes, size, base, world) for scenes, size in (trained, held))
    torch.manual_seed(seed)
    together = Together(plan, features=learnt.shape[-1], words=names["en"].shape[-1])
    began = time.process_time()
    _learn(together, plan, learnt, names, random.Random(f"tower/{seed}"))
    step = (time.process_time() - began) / plan.steps
    return Outcome(
        right=_named(together, asked, names),
        connector=sum(parameter.numel() for parameter in (*together.sight.parameters(), *together.words.parameters())),
        trained=sum(parameter.numel() for parameter in together.parameters() if parameter.requires_grad),
        seconds=round(time.monotonic() - started, 1),
        answer_step=round(step, 3),
    )


def things() -> Sequence[int]:
    """Numbers in the vocabulary."""
    return [number * len(load_vocabulary()) // THINGS for number in range(THINGS)]


def _names(base: Path, numbers: Sequence[int]) -> dict[str, Tensor]:
    """By language (N, E): mean of what the base's table has for the tokens of each name, of length 1."""
    model, tokenizer = load_model(base, dtype=torch.float32), load_processor(base).require_tokenizer()
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    table_VE = embeddings.weight.detach()
    vocabulary = load_vocabulary()
    return {
        code: torch.stack(
            [
                functional.normalize(
                    table_VE[tokenizer.encode(f" {vocabulary[number].names[code]}", add_special_tokens=False)].mean(0),
                    dim=0,
                )
                for number in numbers
            ]
        )
        for code in CODES
    }


def _seen(plan: TowerPlan, scenes: Single, size: int, base: Path, world: World) -> Tensor:
    """Small pixels (size, C, H, W), or what the photograph tower saw (size, D): mean and largest over its cells."""
    if plan.begins == "nothing":
        pictures = [np.asarray(scenes[index].render(SMALL.image_size), np.float32) for index in range(size)]
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 127.5 - 1
    model, processor = load_model(base, dtype=torch.float32), load_processor(base)
    folder = world.kept / f"single-{scenes.split}-{size}"
    seen = SeenScenes(scenes, folder, world.trained.shape, size)  # type: ignore[arg-type]
    seen.fill(model, processor.preparation, workers=0)
    mean_D, spread_D = world.loudness
    features = [(seen.features(index).float() - mean_D) / spread_D for index in range(size)]
    return torch.stack([torch.cat([one_PD.mean(0), one_PD.amax(0)]) for one_PD in features])


def _learn(together: Together, plan: TowerPlan, seen: Tensor, names: dict[str, Tensor], rng: random.Random) -> None:
    optimizer = torch.optim.AdamW(together.parameters(), lr=plan.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, plan.steps, pct_start=0.1)
    each = len(VENDORS)
    for _ in range(plan.steps):
        chosen = rng.sample(range(THINGS), plan.batch)
        pictures = [rng.randrange(ROUNDS) * THINGS * each + thing * each + rng.randrange(each) for thing in chosen]
        names_BE = torch.stack([names[rng.choice(CODES)][thing] for thing in chosen])
        optimizer.zero_grad()
        together.loss(together(seen[pictures], names_BE), plan.loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


@torch.inference_mode()
def _named(together: Together, seen: Tensor, names: dict[str, Tensor]) -> dict[str, str]:
    """By language, a figure a picture: 1 where of all names its own is the likest."""
    own = [index // len(VENDORS) for index in range(len(seen))]
    likest = {code: together(seen, names_NE).argmax(1).tolist() for code, names_NE in names.items()}
    return {code: "".join(str(int(a == b)) for a, b in zip(of, own, strict=True)) for code, of in likest.items()}


STUDY = Study(
    name="tower",
    question="The sigmoid or the softmax loss, and a tower trained on photographs or one from nothing?",
    arms={
        "from nothing, sigmoid": [TowerPlan()],
        "from nothing, softmax": [TowerPlan(loss="softmax")],
        "photograph tower, sigmoid": [TowerPlan(begins="photographs")],
        "photograph tower, softmax": [TowerPlan(begins="photographs", loss="softmax")],
    },
    claims=[
        Claim(
            text="The sigmoid loss names more than the softmax, with a tower from nothing.",
            better="from nothing, sigmoid",
            worse="from nothing, softmax",
            paper="SigLIP is the better tower: its loss, on a tower from nothing.",
        ),
        Claim(
            text="The sigmoid loss names more than the softmax, with the photograph tower at rest.",
            better="photograph tower, sigmoid",
            worse="photograph tower, softmax",
            paper="SigLIP is the better tower: its loss, on what a tower at rest sees.",
        ),
        Claim(
            text="The photograph tower at rest names more than one from nothing.",
            better="photograph tower, sigmoid",
            worse="from nothing, sigmoid",
        ),
    ],
    published=[
        "python -m training.pretrain --tower SIGLIP --language-model AYA --data CAPTIONS --images PICTURES "
        "--out stage-1-siglip",
        "python -m training.pretrain --tower CLIP --language-model AYA --data CAPTIONS --images PICTURES "
        "--out stage-1-clip",
        "python -m training.finetune --model stage-1-siglip --data PALO --images PICTURES --out maya-siglip",
        "python -m training.finetune --model stage-1-clip --data PALO --images PICTURES --out maya-clip",
    ],
    remark=f"Of {THINGS} names in a language one is right: {100 / THINGS:g} % is chance. Both losses see batches of 40; the "
    "published SigLIP and CLIP differ in much else.",
    make=make_tower,
)
