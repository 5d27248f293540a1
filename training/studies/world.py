"""What the studies learn from and are asked about: pictures that the resting tower saw once, captions and questions.

Shape letters: B rows, T positions, P cells, D vision width.
"""

import csv
import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maya_core.languages import CODES
from maya_core.learning.data import Batch, PackedCollator, PackedSample, PreparedPack
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import load_model, load_processor
from training.embedded.seen import SeenScenes
from training.emoji_vqa import scenes as emoji
from training.emoji_vqa.dataset import as_messages
from training.emoji_vqa.vocabulary import VENDORS, load_vocabulary
from training.photo_vqa.phrases import Family
from training.photo_vqa.questions import Question, ask
from training.photo_vqa.scenes import SIDE, Scene, Scenes, drawn, photographs
from training.studies.spoiling import spoilt

SEEN = Path("seen")  # stands for a picture of which the features are there
FAMILIES: Sequence[Family] = ("what", "exists", "count", "where", "side", "colour_of", "kind", "check")
ASKED = 3  # questions about a held-back scene, in each language
NEIGHBOURS = Path(__file__).parent / "neighbours.tsv"  # names in languages that are in no stage
WHAT = {"fa": "این چیست؟", "mr": "हे काय आहे?"}  # what is this?


@dataclass(frozen=True)
class Drawings:
    """Scenes of EmojiVQA, where there are no photographs."""

    split: emoji.Split

    def __getitem__(self, index: int) -> Scene:
        return drawn(emoji.make_scene(self.split, index, size=SIDE))


@cache
def neighbours() -> Mapping[str, Mapping[str, str]]:
    """Names of some drawings by their ids, by language: Persian, written much as Urdu, and Marathi, much as Hindi."""
    with NEIGHBOURS.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    return {row["id"]: {code: row[code] for code in WHAT} for row in rows}


@dataclass(frozen=True)
class Single:
    """Scenes of one drawing: of some things, given by their numbers, in turn, each by every vendor, and then again with
    other grounds."""

    split: emoji.Split
    things: Sequence[int]

    def __getitem__(self, index: int) -> Scene:
        scene = emoji.make_scene(self.split, index, size=SIDE, number=1)
        thing = replace(scene.things[0], concept=self.concept(index), vendor=list(VENDORS)[index % len(VENDORS)])
        return drawn(replace(scene, things=(thing,)))

    def concept(self, index: int) -> int:
        return self.things[index // len(VENDORS) % len(self.things)]

    def __len__(self) -> int:
        """Of the first round."""
        return len(self.things) * len(VENDORS)


def named() -> Single:
    """Those that have names in neighbouring languages."""
    numbers = {concept.id: number for number, concept in enumerate(load_vocabulary())}
    return Single("test", [numbers[name] for name in neighbours()])


@dataclass(frozen=True, kw_only=True)
class World:
    """name: what its scenes show, and how many there are. trained, held, named: they, and what the tower sees of them.
    kept: folder for what is made once."""

    name: str
    trained: SeenScenes
    held: SeenScenes
    named: SeenScenes
    kept: Path

    @classmethod
    def of(cls, base: Path, run: Path, caltech: Path | None, coco: Path | None, *, scenes: int, held: int) -> "World":
        """Photographs and drawings, or drawings alone where there is no folder of photographs; seen by the base's tower,
        and kept in `run`."""
        model, processor = load_model(base, dtype=torch.float32), load_processor(base)
        side = model.config.image_size
        shape = (model.config.patches_kept(side, side), model.config.vision.hidden_size)
        name = "photographs and drawings" if caltech or coco else "drawings"
        kept = run / name.replace(" ", "-")

        def seen(made: Any, folder: str, size: int) -> SeenScenes:
            they = SeenScenes(made, kept / f"{folder}-{size}", shape, size)
            they.fill(model, processor.preparation, workers=0)
            return they

        def of(split: emoji.Split) -> Any:
            found = photographs(caltech, coco, split)  # type: ignore[arg-type]
            return Scenes(found, split) if found else Drawings(split)

        return cls(
            name=f"{name}, {scenes:,} scenes to learn from and {held:,} to be asked about",
            trained=seen(of("train"), "train", scenes),
            held=seen(of("test"), "test", held),
            named=seen(named(), "named", len(named())),
            kept=kept,
        )

    @cached_property
    def loudness(self) -> tuple[Tensor, Tensor]:
        """Mean and spread of each feature (D,), so that every kind of connector starts from the same."""
        features_CD = self._some
        return features_CD.mean(0), features_CD.std(0).clamp(min=1e-2)

    def directions(self, size: int) -> Tensor:
        """(D, size): those in which features of mean 0 and spread 1 vary most, each as long as makes its spread 1."""
        mean_D, spread_D = self.loudness
        _, lengths_S, directions_DS = torch.svd_lowrank((self._some - mean_D) / spread_D, q=size, niter=4)
        scaled_DS: Tensor = directions_DS / lengths_S * len(self._some) ** 0.5
        return scaled_DS

    @cached_property
    def _some(self) -> Tensor:
        """(C, D) in float32: cells of some pictures."""
        return torch.cat([self.trained.features(index) for index in range(min(256, len(self.trained)))]).float()


@dataclass(frozen=True, kw_only=True)
class SeenSample:
    """features: (P, D). packed: conversations about them."""

    features: Tensor
    packed: PackedSample


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Stage 1: a picture and what it shows, in some of the languages at a time.

    most: how many different captions there are, of all languages together; endless if not given.
    """

    seen: SeenScenes
    languages: Sequence[str]
    most: int | None = None
    spoilt: float = 0.0
    at_once: int = 4

    @cached_property
    def captioned(self) -> Sequence[int]:
        """Scenes that can be described, or as many as the captions suffice for."""
        able = [index for index in range(len(self.seen)) if self._caption(index, "en")]
        return able if self.most is None else able[: max(1, self.most // len(self.languages))]

    def __len__(self) -> int:
        return len(self.captioned) * len(self.languages)

    def __getitem__(self, number: int) -> SeenSample:
        index = self.captioned[number % len(self.captioned)]
        rng = random.Random(f"captions/{number}")
        languages = rng.sample(list(self.languages), min(self.at_once, len(self.languages)))
        captions = [(code, spoilt(partial(self._caption, index), code, self.spoilt, rng)) for code in languages]
        turns = tuple(
            (Message(role="user", text="", images=(SEEN,)), Message(role="assistant", text=caption))
            for _, caption in captions
        )
        packed = PackedSample(conversations=turns, languages=tuple(language for language, _ in captions))
        return SeenSample(features=self.seen.features(index), packed=packed)

    def _caption(self, index: int, language: str) -> str:
        scene = self.seen.scene(index)
        rng = random.Random(f"caption/{index}")
        asked = ask(scene, "describe", language, rng) or ask(scene, "what", language, rng)
        return asked.answer if asked else ""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Stage 2: a picture and questions about it, each in a language of its own."""

    seen: SeenScenes
    languages: Sequence[str]
    spoilt: float = 0.0
    at_once: int = 4
    rounds: int = 20
    seed: int = 0

    def __len__(self) -> int:
        return len(self.seen) * self.rounds

    def __getitem__(self, number: int) -> SeenSample:
        index = number % len(self.seen)
        rng = random.Random(f"questions/{self.seed}/{number}")
        scene = self.seen.scene(index)
        asked = [self._asked(scene, rng.choice(list(self.languages)), rng) for _ in range(self.at_once)]
        return _sample(self.seen, index, [question for question in asked if question])

    def _asked(self, scene: Scene, language: str, rng: random.Random) -> Question | None:
        families = list(FAMILIES)
        rng.shuffle(families)
        seed = rng.random()
        for family in families:
            question = ask(scene, family, language, random.Random(seed))
            if question:
                answer = spoilt(partial(_answer, scene, family, seed), language, self.spoilt, rng)
                return replace(question, answer=answer)
        return None


def _answer(scene: Scene, family: Family, seed: float, language: str) -> str:
    question = ask(scene, family, language, random.Random(seed))
    assert question is not None
    return question.answer


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Held-back scenes: the same questions about each in every language."""

    seen: SeenScenes
    languages: Sequence[str] = field(default=CODES)

    @cached_property
    def asked(self) -> Sequence[tuple[int, Sequence[Question]]]:
        """Of each scene: its number, and `ASKED` questions a language, languages outermost."""
        found = []
        for index in range(len(self.seen)):
            scene = self.seen.scene(index)
            families = [one for one in FAMILIES if ask(scene, one, "en", random.Random(0))]
            random.Random(f"examination/{index}").shuffle(families)
            if len(families) < ASKED:
                continue
            found.append((index, [self._ask(scene, one, code) for code in self.languages for one in families[:ASKED]]))
        return found

    def _ask(self, scene: Scene, family: Family, language: str) -> Question:
        seed = zlib.crc32(f"{family}".encode())
        question = ask(scene, family, language, random.Random(seed), wording="held")
        assert question is not None, (family, language)
        return question

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, number: int) -> SeenSample:
        index, questions = self.asked[number]
        return _sample(self.seen, index, questions)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Drawings and their names in languages that are in no stage: number `2 n` with drawing n, `2 n + 1` with the one of
    another thing by the same vendor."""

    seen: SeenScenes
    languages: Sequence[str] = tuple(WHAT)

    def __len__(self) -> int:
        return 2 * len(self.seen)

    def __getitem__(self, number: int) -> SeenSample:
        index, is_other = divmod(number, 2)
        shown = (index + len(VENDORS) * is_other) % len(self.seen)
        names = list(neighbours().values())[index // len(VENDORS)]
        conversations = tuple(
            (
                Message(role="user", text=WHAT[code], images=(SEEN,)),
                Message(role="assistant", text=names[code]),
            )
            for code in self.languages
        )
        return SeenSample(features=self.seen.features(shown), packed=PackedSample(conversations=conversations))


def _sample(seen: SeenScenes, index: int, questions: Sequence[Question]) -> SeenSample:
    packed = PackedSample(
        conversations=tuple(as_messages(SEEN, [question]) for question in questions),
        languages=tuple(question.language for question in questions),
    )
    return SeenSample(features=seen.features(index), packed=packed)


@dataclass(frozen=True, kw_only=True)
class PreparedSeen(PreparedPack):
    features: Tensor


@dataclass(frozen=True)
class SeenCollator(PackedCollator):
    """As `PackedCollator`, with features of mean 0 and spread 1 instead of pixels: vision_features (B, P, D), zeros for the
    blind, or (B, P, S) along some directions (D, S); and branch (B, T), which conversation of its row a position belongs
    to, from 1."""

    loudness: tuple[Tensor, Tensor] = (torch.zeros(1), torch.ones(1))
    directions: Tensor | None = None
    blind: bool = False

    def prepare(self, sample: SeenSample) -> PreparedSeen:  # type: ignore[override]
        pack = super().prepare(sample.packed)
        return PreparedSeen(columns=pack.columns, pictures=(), features=sample.features)

    def collate(self, prepared: Sequence[PreparedSeen]) -> Batch:  # type: ignore[override]
        mean_D, spread_D = self.loudness
        features_BPD = torch.stack([one.features for one in prepared]).float()
        longest = max(self.length(one) for one in prepared)
        branches = [one.columns["branch"] for one in prepared]
        branch_BT = torch.tensor([branch + [-1] * (longest - len(branch)) for branch in branches])
        seen_BPD = (features_BPD - mean_D) / spread_D * (0 if self.blind else 1)
        if self.directions is not None:
            seen_BPD = seen_BPD @ self.directions
        return self.stacked(prepared) | {"vision_features": seen_BPD, "branch": branch_BT}
