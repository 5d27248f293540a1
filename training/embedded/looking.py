"""Conversations about seen scenes, with what lies on their cells and names to point at: what the stages of answers read.

Comparing a word with a picture is what answers alone teach last, if at all: one yes or no says little about which cells
should have been looked at. Here the decoder's first layers are asked directly, for names of things that are there and of
things that are not, in which of the nine places they lie. What they answer with is thrown away after training.

Shape letters: P cells of a picture, D vision width.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from maya_core.languages import CODES
from maya_core.learning.data import Batch, Collator, PackedCollator, PackedSample, PreparedPack
from maya_core.model.config import OVERVIEWS, THIRDS
from maya_core.model.processor import IGNORED
from maya_core.model.towers.photograph import PARTS, TONES
from training.embedded.seen import SeenScenes
from training.embedded.simulated import Simulator, inside
from training.emoji_vqa import questions as emoji
from training.emoji_vqa.dataset import as_a_page_asks, as_messages, asking_for
from training.photo_vqa.colours import named
from training.photo_vqa.manner import Manner
from training.photo_vqa.phrases import COLOURS, Family
from training.photo_vqa.questions import Question, ask, follow
from training.photo_vqa.scenes import Scene, by_coco
from training.photo_vqa.texts import forms_of, is_spaced
from training.photo_vqa.things import load_things

NOTHING, UNKNOWN = -2, -1  # on a cell: none of our things; what it is, nobody knows
MANNER = Manner(dropped=0.1, alike=0.5, opened=0.3, closed=0.2, careless=0.2, slipped=0.1)
FARTHEST = 24  # positions from the picture to a name: as far as names stand in questions
PLACES = 9
SEEN = Path("seen")  # stands for a picture of which the features are there
# How often each family is asked, where a scene answers it.
OFTEN: Mapping[str, float] = {
    "what": 7, "exists": 8, "count": 7, "where": 6, "side": 5, "colour_of": 5, "background": 1.5, "kind": 2.5, "breed": 2,
    "describe": 5, "either": 2.5, "check": 3, "larger": 2, "left": 2.5, "right": 2.5, "above": 2.5, "below": 2.5,
}  # fmt: skip
# Of EmojiVQA's own questions.
DRAWINGS_OFTEN: Mapping[emoji.Family, float] = {
    "name": 5, "place": 5, "where": 3, "exists": 4, "count_all": 4, "count": 3, "colour": 1, "category": 3, "relation": 4,
    "describe": 5,
}  # fmt: skip
LARGE = 0.45  # of a picture's sides: what is as large and alone is what the picture shows
MOST_OF_IT = 0.6  # of a cell or part of a picture that has one colour, to be called by it
LEAST_SHOWN = 0.2  # of a cell: what is smaller does not stand for it where something larger lies
ASKED_IN_VAIN = 12  # things among which one is that is not there
LOOKED_AT = 1500  # scenes that tell what they show
SAYS_LITTLE = ("?", "??", "ok", "…", "🙂", "📷", "!", "1", "hm", "?!")  # questions of no language: what is it?


def lain_on(scene: Scene, grid: int) -> Tensor:
    """(P,) numbers of things on cells: NOTHING on a plain ground, UNKNOWN where nobody has said."""
    numbers = _numbers()
    is_laid = len(scene.pieces) > 1 or any(piece.box[2] < 1 for piece in scene.pieces)
    is_plain = bool(scene.drawing) or (is_laid and not scene.lists_all)
    things_P = torch.full((grid * grid,), NOTHING if is_plain else UNKNOWN)
    for seen in sorted(scene.things, key=lambda seen: -seen.width * seen.height):
        cells_P = inside(seen, grid, share=0.85 if seen.width < 0.99 else 0.7)
        if scene.lists_all and seen.width * seen.height < LEAST_SHOWN / grid**2:
            cells_P &= things_P < 0
        things_P[cells_P] = numbers[seen.thing]
    if scene.drawing and not scene.are_counted:  # a drawing that is none of our things lies there too
        things_P[things_P == NOTHING] = UNKNOWN
    return things_P


def lain_behind(scene: Scene, behind_ND: Tensor) -> Tensor:
    """Of what stands behind the cells, as `lain_on`: of the whole, what is alone in the picture; of its parts, what lies
    there; of what was found, what its finder takes it for; and UNKNOWN where nothing stands."""
    best_N = behind_ND[OVERVIEWS:, PARTS].max(1)
    numbers_K = torch.tensor([_numbers()[name] for name in by_coco().values()])
    found_N = torch.where(best_N.values > 0, numbers_K[best_N.indices], UNKNOWN)
    whole = UNKNOWN
    if len(scene.things) == 1 and not scene.lists_all:
        [alone] = scene.things
        whole = _numbers()[alone.thing] if min(alone.width, alone.height) >= LARGE else UNKNOWN
    views_V = torch.cat([torch.tensor([whole]), lain_on(scene, THIRDS)])
    return torch.cat([views_V[: len(behind_ND)], found_N])  # no views where nothing stands behind


def colours_of(features_PD: Tensor, grid: int) -> Tensor:
    """(P,) the colour that most of a cell has, of the whole picture, and of its parts; of what was found, that which it
    was found with. UNKNOWN where none has most of it, and where nothing stands.

    A cell says its own colour, not that of the thing on it: what most of a thing is, attention can tell by their mean.
    """
    tones_PCQ = features_PD[:, TONES].float().reshape(len(features_PD), 3, -1)
    named_PQ = torch.from_numpy(named((127.5 * (tones_PCQ + 1)).round().clamp(0, 255).byte().transpose(1, 2).numpy()))
    shares_PK = torch.nn.functional.one_hot(named_PQ, len(COLOURS)).float().mean(1)
    if len(features_PD) > grid**2:
        shares_Khw = shares_PK[: grid**2].T.reshape(-1, grid, grid)
        views = [torch.nn.functional.adaptive_avg_pool2d(shares_Khw, parts).flatten(1).T for parts in (1, THIRDS)]
        shares_PK[grid**2 : grid**2 + OVERVIEWS] = torch.cat(views)
    most_P = shares_PK.max(1)
    return torch.where((most_P.values >= MOST_OF_IT) & features_PD.any(1), most_P.indices, UNKNOWN)


@cache
def _numbers() -> dict[str, int]:
    return {thing: number for number, thing in enumerate(load_things())}


@dataclass(frozen=True, kw_only=True)
class LookingSample:
    """features: (P, D). things, colours: on its cells and behind them, (P,). packed: conversations. names: of things, there
    or not; cells: for each the places, of nine, at which its things lie."""

    features: Tensor
    things: Tensor
    colours: Tensor
    packed: PackedSample | None = None
    names: tuple[str, ...] = ()
    cells: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Looking:
    """Sample `index` is seen scene `index`, perhaps with other things in it.

    conversations, names: how many a scene; none for a stage that has only cells. followed: the share of conversations that
    go on; redirected: that ask for an answer in a language by name, which may be another; on_a_page: of the others, that are
    asked as a page asks them. manner: how questions stray from their wordings. unknown, between: of photographs of one
    thing, that become none of our things, or something between two. perhaps: what scenes are taken for wrongly, by their
    numbers.
    """

    seen: SeenScenes
    simulator: Simulator
    grid: int
    conversations: int = 0
    names: int = 0
    languages: Sequence[str] = field(default=CODES)
    followed: float = 0.3
    redirected: float = 0.12
    on_a_page: float = 0.6
    manner: Manner = MANNER
    unknown: float = 0.0
    between: float = 0.0
    perhaps: Mapping[int, str] = field(default_factory=dict)
    seed: int = 0
    rounds: int = 64  # each scene comes so many times, asked and changed anew

    def __len__(self) -> int:
        return len(self.seen) * self.rounds

    def __getitem__(self, number: int) -> LookingSample:
        rng = random.Random(f"looking/{self.seed}/{number}")
        index = number % len(self.seen)
        scene, features_PD = self.seen.scene(index), self.seen.features(index)
        if index in self.perhaps:
            scene = replace(scene, perhaps=self.perhaps[index])
        else:
            scene, features_PD = self.simulator.vary(
                scene, features_PD, rng, unknown=self.unknown, between=self.between
            )
        asked = [self._thing(scene, rng) for _ in range(self.names)]
        packed = self._conversations(scene, rng) if self.conversations else None
        behind_ND = features_PD[self.grid**2 :].float()
        return LookingSample(
            features=features_PD.half(),
            things=torch.cat([lain_on(scene, self.grid), lain_behind(scene, behind_ND)]),
            colours=colours_of(features_PD, self.grid),
            packed=packed,
            names=tuple(_inside_a_sentence(thing, rng) for thing in asked),
            cells=tuple(tuple(seen.cell for seen in scene.things if seen.thing == thing) for thing in asked),
        )

    def elsewhere(self, scene: Scene, rng: random.Random) -> list[str]:
        """A few things that other scenes of its sort show."""
        return rng.sample(self._shown[scene.lists_all], k=ASKED_IN_VAIN)

    @cached_property
    def _shown(self) -> Mapping[bool, list[str]]:
        """What scenes show that list all there is, and those that do not; each thing as often as they do. In one
        order: that of a set is another in every process."""
        shown: Mapping[bool, list[str]] = {True: [*load_things()], False: [*load_things()]}
        rng = random.Random(f"shown/{self.seed}")
        for index in rng.sample(range(len(self.seen)), min(LOOKED_AT, len(self.seen))):
            scene, _ = self.simulator.vary(self.seen.scene(index), self.seen.features(index), rng)
            shown[scene.lists_all].extend(dict.fromkeys(seen.thing for seen in scene.things))
        return shown

    def _thing(self, scene: Scene, rng: random.Random) -> str:
        there = [seen.thing for seen in scene.things]
        return rng.choice(there) if there and rng.random() < 0.5 else rng.choice(list(load_things()))

    def _conversations(self, scene: Scene, rng: random.Random) -> PackedSample:
        turns, languages = [], []
        for _ in range(self.conversations):
            language = rng.choice(self.languages)
            redirected = rng.random() < self.redirected
            answer_language = rng.choice(self.languages) if redirected else language
            messages = as_messages(SEEN, self._questions(scene, language, answer_language, rng, redirected))
            if redirected:
                messages = asking_for(messages, answer_language)
            elif rng.random() < self.on_a_page:
                messages = as_a_page_asks(messages, language)
            turns.append(messages)
            languages.append(answer_language)
        return PackedSample(conversations=tuple(turns), languages=tuple(languages))

    def _questions(
        self, scene: Scene, language: str, answer_language: str, rng: random.Random, redirected: bool
    ) -> list[Question]:
        if scene.drawing and rng.random() < 0.45:
            return [self._of_emoji_vqa(scene, language, answer_language, rng)]
        elsewhere = self.elsewhere(scene, rng)
        first = self._first(scene, language, answer_language, rng, elsewhere)
        if redirected and first.family in ("what", "describe") and rng.random() < 0.2:
            first = replace(first, text=rng.choice(SAYS_LITTLE))
        asked = [self._typed(first, rng)]
        while len(asked) < 3 and rng.random() < self.followed:
            second = follow(scene, asked[-1], rng, manner=self.manner, elsewhere=elsewhere)
            if second is None:
                break
            asked.append(self._typed(second, rng))
        return asked

    def _first(
        self, scene: Scene, language: str, answer_language: str, rng: random.Random, elsewhere: Sequence[str]
    ) -> Question:
        """A question of a family that the scene answers."""
        often = dict(OFTEN)
        while often:
            family: Family = rng.choices(list(often), list(often.values()))[0]  # type: ignore[assignment]
            asked = ask(
                scene,
                family,
                language,
                rng,
                answer_language=answer_language,
                manner=self.manner,
                elsewhere=elsewhere,
            )
            if asked:
                return asked
            del often[family]
        return self._of_emoji_vqa(scene, language, answer_language, rng)

    def _of_emoji_vqa(self, scene: Scene, language: str, answer_language: str, rng: random.Random) -> Question:
        assert scene.drawing
        allowed = emoji.families_for(scene.drawing)
        family = rng.choices(allowed, [DRAWINGS_OFTEN[one] for one in allowed])[0]
        asked = emoji.ask(
            scene.drawing,
            family,
            language,
            rng,
            answer_language=answer_language,
            dropped=self.manner.dropped,
            later=True,
        )
        text = self.manner.typed(self.manner.framed(asked.text, language, rng), rng)
        return Question(family="what", language=language, text=text, answer=asked.answer)

    def _typed(self, question: Question, rng: random.Random) -> Question:
        return replace(question, text=self.manner.typed(question.text, rng))


@dataclass(frozen=True)
class Both:
    """Of every `one_in` samples one is of `other`, the rest of `one`."""

    one: Looking
    other: Looking
    one_in: int

    def __len__(self) -> int:
        return len(self.one)

    def __getitem__(self, number: int) -> LookingSample:
        return self.one[number] if number % self.one_in else self.other[number // self.one_in % len(self.other)]


def _inside_a_sentence(thing: str, rng: random.Random) -> str:
    language = rng.choice(CODES)
    form = rng.choice(list(forms_of(language)))
    name = forms_of(language)[form][_numbers()[thing]]
    return f" {name}" if is_spaced(language) else name


class CellCollator(Collator):
    """Looking samples -> vision_features (B, P, D), things and colours (B, P)."""

    def collate(self, prepared: Sequence[LookingSample]) -> Batch:
        return _seen(prepared)


def _seen(samples: Sequence[LookingSample]) -> Batch:
    return {
        "vision_features": torch.stack([one.features for one in samples]).float(),
        "things": torch.stack([one.things for one in samples]),
        "colours": torch.stack([one.colours for one in samples]),
    }


@dataclass(frozen=True, kw_only=True)
class PreparedLooking(PreparedPack):
    """ends: position of each name's last token. sample: what it was made of."""

    ends: tuple[int, ...]
    sample: LookingSample


class LookingCollator(PackedCollator):
    """As `PackedCollator`, with features instead of pixels, and with each name behind the conversations, seeing the picture
    and itself.

    Beside its batch: name_ends (names, 2), row and position of each name's last token; cells (names, PLACES), 1 where its
    things lie; and what `CellCollator` gives.
    """

    def prepare(self, sample: LookingSample) -> PreparedLooking:  # type: ignore[override]
        assert sample.packed
        pack = super().prepare(sample.packed)
        picture = pack.columns["branch"].count(0)
        rng = random.Random(sample.names[0])
        tokenizer = self.processor.require_tokenizer()
        names: list[list[int]] = tokenizer(list(sample.names), add_special_tokens=False)["input_ids"]
        ends = []
        for branch, ids in enumerate(names, start=max(pack.columns["branch"]) + 1):
            start = picture + rng.randrange(FARTHEST)
            name = {"input_ids": ids, "position_ids": range(start, start + len(ids))}
            same = {"labels": IGNORED, "languages": -1, "branch": branch}
            for column, values in (name | {column: [value] * len(ids) for column, value in same.items()}).items():
                pack.columns[column] += values
            ends.append(len(pack.columns["input_ids"]) - 1)
        return PreparedLooking(columns=pack.columns, pictures=(), ends=tuple(ends), sample=sample)

    def collate(self, prepared: Sequence[PreparedLooking]) -> Batch:  # type: ignore[override]
        cells = [cells for one in prepared for cells in one.sample.cells]
        cells_KC = torch.zeros(len(cells), PLACES)
        for number, taken in enumerate(cells):
            cells_KC[number, list(taken)] = 1
        return (
            self.stacked(prepared)
            | _seen([one.sample for one in prepared])
            | {
                "name_ends": torch.tensor([(row, end) for row, one in enumerate(prepared) for end in one.ends]),
                "cells": cells_KC,
            }
        )
