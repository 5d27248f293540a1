"""EmojiVQA as a data set: a conversation for each scene, and a list of single questions to be scored."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from maya_core.data import PackedSample, Sample
from maya_core.languages import CODES
from maya_core.prompt import Message
from training.emoji_vqa.questions import FAMILIES, Family, Question, ask, families_for
from training.emoji_vqa.scenes import Scene, Split, make_scene, render

# How often each family is trained: what needs the names is hard, a colour is not.
WEIGHTS: dict[Family, int] = {
    "name": 6, "place": 5, "exists": 3, "count_all": 1, "count": 2, "colour": 1, "category": 2, "relation": 3, "describe": 3,
}  # fmt: skip
TRANSFER_LANGUAGES = ("bn", "ur")


@dataclass(frozen=True, kw_only=True)
class EmojiConversations:
    """Conversation `index` is about scene `index` of the split: some turns in one of `languages`.

    families: what is asked, where the scene allows it. turns: fewest and most questions. Equal arguments give equal
    conversations.
    """

    split: Split
    size: int
    languages: Sequence[str] = field(default=CODES)
    families: Sequence[Family] = field(default=FAMILIES)
    turns: tuple[int, int] = (3, 8)
    seed: int = 0
    image_size: int = 128

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        scene = make_scene(self.split, index, size=self.image_size)
        questions = self.questions(scene)
        return Sample(messages=conversation(scene, questions), language=questions[0].language)

    def questions(self, scene: Scene) -> list[Question]:
        """The questions of a conversation, none of them twice."""
        rng = random.Random(f"conversation/{self.seed}/{scene.split}/{scene.index}")
        language = rng.choice(self.languages)
        families = _allowed(scene, self.families)
        weights = [WEIGHTS[family] for family in families]
        drawn = rng.choices(families, weights, k=rng.randint(*self.turns))
        asked = [ask(scene, family, language, rng) for family in drawn]
        return list({question.text: question for question in asked}.values())


def _allowed(scene: Scene, wanted: Sequence[Family]) -> list[Family]:
    """Those of the wanted families that the scene allows; all that it allows where that is none."""
    allowed = families_for(scene)
    return [family for family in wanted if family in allowed] or list(allowed)


@dataclass(frozen=True, kw_only=True)
class EmojiQuestions:
    """Many short conversations about scene `index`, each in a language of its own, none seeing another.

    families: what is asked, where the scene allows it. conversations: how many. followed: the share of them that go on
    with a second question.
    """

    split: Split
    size: int
    languages: Sequence[str] = field(default=CODES)
    families: Sequence[Family] = field(default=FAMILIES)
    conversations: int = 12
    followed: float = 0.25
    seed: int = 0
    image_size: int = 128

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> PackedSample:
        scene = make_scene(self.split, index, size=self.image_size)
        picture = render(scene)
        rng = random.Random(f"questions/{self.seed}/{self.split}/{index}")
        families = _allowed(scene, self.families)
        weights = [WEIGHTS[family] for family in families]
        asked, languages = [], []
        for _ in range(self.conversations):
            language = rng.choice(self.languages)
            languages.append(language)
            drawn = rng.choices(families, weights, k=2 if rng.random() < self.followed else 1)
            questions = [ask(scene, family, language, rng) for family in drawn]
            asked.append(as_messages(picture, questions))
        return PackedSample(conversations=tuple(asked), languages=tuple(languages))


def conversation(scene: Scene, questions: Sequence[Question]) -> tuple[Message, ...]:
    """Questions and answers as messages; the picture goes with the first."""
    return as_messages(render(scene), questions)


def as_messages(picture: Image.Image, questions: Sequence[Question]) -> tuple[Message, ...]:
    messages: list[Message] = []
    for question in questions:
        images = () if messages else (picture,)
        messages.append(Message(role="user", text=question.text, images=images))
        messages.append(Message(role="assistant", text=question.answer))
    return tuple(messages)


def single_questions(
    split: Split, scenes: int, languages: Sequence[str] | None = None, *, image_size: int = 128
) -> Iterator[tuple[Scene, Question]]:
    """For scenes 0 to `scenes`, each in the next language in turn: one question of every family that it allows."""
    languages = languages or (TRANSFER_LANGUAGES if split == "transfer" else CODES)
    for index in range(scenes):
        scene = make_scene(split, index, size=image_size)
        language = languages[index % len(languages)]
        rng = random.Random(f"question/{split}/{index}")
        for family in families_for(scene):
            yield scene, ask(scene, family, language, rng)
