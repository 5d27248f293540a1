"""EmojiVQA as a data set: a conversation for each scene, and a list of single questions to be scored."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from maya_core.answering.language import answer_language
from maya_core.languages import CODES
from maya_core.learning.data import PackedSample, Sample
from maya_core.model.prompt import Message, Picture, answered_in
from training.emoji_vqa.questions import FAMILIES, Family, Question, ask, families_for
from training.emoji_vqa.scenes import Scene, Split, make_scene, render

# How often each family is trained: names first, for all else needs them.
NAMES_FIRST: Mapping[Family, int] = {
    "name": 6, "place": 5, "where": 3, "exists": 3, "count_all": 1, "count": 2, "colour": 1, "category": 2, "relation": 3,
    "describe": 3,
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
        weights = [NAMES_FIRST[family] for family in families]
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

    families: what is asked, where the scene allows it; weights: how often. conversations: how many. followed: the share of
    them that go on with a second question; redirected: the share that asks for answers in a language by name, which may be
    another than the question's. dropped: the share of the questions' words that is left out. later: whether the wordings of
    the last stage are among the questions.
    """

    split: Split
    size: int
    languages: Sequence[str] = field(default=CODES)
    families: Sequence[Family] = field(default=FAMILIES)
    weights: Mapping[Family, int] = field(default_factory=lambda: NAMES_FIRST)
    conversations: int = 12
    followed: float = 0.25
    redirected: float = 0.1
    dropped: float = 0.0
    later: bool = False
    seed: int = 0
    image_size: int = 128

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> PackedSample:
        scene = make_scene(self.split, index, size=self.image_size)
        return self.about(scene, render(scene))

    def about(self, scene: Scene, picture: Image.Image) -> PackedSample:
        """The conversations about a scene, whatever is shown of it."""
        rng = random.Random(f"questions/{self.seed}/{self.split}/{scene.index}")
        families = _allowed(scene, self.families)
        weights = [self.weights[family] for family in families]
        asked, languages = [], []
        for _ in range(self.conversations):
            language = rng.choice(self.languages)
            drawn = rng.choices(families, weights, k=2 if rng.random() < self.followed else 1)
            redirected = rng.random() < self.redirected
            answer_language = rng.choice(self.languages) if redirected else language
            questions = [
                ask(
                    scene,
                    family,
                    language,
                    rng,
                    answer_language=answer_language,
                    dropped=self.dropped,
                    later=self.later,
                )
                for family in drawn
            ]
            messages = as_messages(picture, questions)
            asked.append(asking_for(messages, answer_language) if redirected else messages)
            languages.append(answer_language)
        return PackedSample(conversations=tuple(asked), languages=tuple(languages))


def asking_for(messages: Sequence[Message], language: str) -> tuple[Message, ...]:
    """The same messages, each question asking for its answer in `language`."""
    return tuple(answered_in(message, language) if message.role == "user" else message for message in messages)


def as_a_page_asks(messages: Sequence[Message], language: str) -> tuple[Message, ...]:
    """The same messages, each question as the page in `language` hands it on: with a word for that language where its own
    do not plainly say it, as "kya hai" does not."""
    return tuple(
        answer_language(message.text, conversation=language, interface=language).asked(message)
        if message.role == "user"
        else message
        for message in messages
    )


def conversation(scene: Scene, questions: Sequence[Question]) -> tuple[Message, ...]:
    """Questions and answers as messages; the picture goes with the first."""
    return as_messages(render(scene), questions)


class Asked(Protocol):
    """A question of any world, with the answer that is taught."""

    @property
    def text(self) -> str: ...

    @property
    def answer(self) -> str: ...


def as_messages(picture: Picture, questions: Sequence[Asked]) -> tuple[Message, ...]:
    """Questions and answers in turn; the picture goes with the first."""
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
