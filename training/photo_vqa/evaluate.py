"""Ask a model about photographs that it was never trained on, in wordings that it was never trained on, and score it."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from PIL import Image

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.languages import CODES
from maya_core.model.prompt import Message
from training.emoji_vqa.dataset import as_a_page_asks, as_messages
from training.photo_vqa.phrases import FAMILIES, load_phrases, words_of_doubt
from training.photo_vqa.questions import Question, Wording, ask, ask_whether, follow
from training.photo_vqa.scenes import Photograph, Scene, Scenes, alone
from training.scoring import Counted, batches, mean, normalise, shares_by_language, table_of

if TYPE_CHECKING:
    from rich.table import Table

BATCH = 64
LONGEST_ANSWER = 40  # tokens

# What is measured: the one thing of Caltech's photographs by name; whether a thing is there, or is not, on COCO's, and
# whether a person is; how many and where on COCO's; colours; what is said of things that it does not know; all families on
# photographs that are put together, and on drawings; and questions that follow another.
Part = Literal["name", "there", "absent", "person", "count", "where", "colour", "unknown", "several", "drawn", "follow"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, what it is part of, the turns before it, and its picture's scene."""

    part: Part
    scene: Scene
    question: Question
    before: tuple[Question, ...] = ()


@dataclass(kw_only=True)
class Scores(Counted[Part]):
    """Right answers and questions by language and part; of names, what was said in doubt."""

    wording: Wording
    photographs: int
    named: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # sure, surely right, doubted, ...
    failures: list[tuple[Asked, str]] = field(default_factory=list)

    def add(self, asked: Asked, given: str) -> None:
        question = asked.question
        is_doubted, is_unknown = said_with_doubt(given, question.language)
        is_right = question.is_right(given) or question.is_right_with_doubt(given)
        if asked.part == "unknown":
            is_right = is_doubted or is_unknown
        if asked.part in ("name", "unknown"):
            kind = "unknown" if is_unknown else "doubted" if is_doubted else "sure"
            self.named[kind] += 1
            self.named[f"{kind}, right"] += is_right if asked.part == "name" else False
        self.count(question.language, asked.part, is_right)
        if not is_right:
            self.failures.append((asked, given))

    def share(self, language: str | None, part: Part | None) -> float | None:
        """Of one cell; of a language the mean over parts; of a part the mean over languages."""
        if part is None:
            return mean(self.share(language, one) for one in PARTS)
        if language is None:
            return mean(self.share(code, part) for code in CODES)
        return self.share_of([(language, part)])

    def as_json(self) -> dict[str, Any]:
        return {
            "wording": self.wording,
            "photographs": self.photographs,
            "questions": self.questions,
            "named": dict(self.named),
            "asked": {part: sum(self.asked.get((code, part), 0) for code in CODES) for part in PARTS},
            "right": shares_by_language(CODES, PARTS, self.share),
        }

    def as_table(self) -> "Table":
        """Percent, a row for each language and their mean."""
        of = f"{self.photographs} photographs, {self.questions} questions, wordings: {self.wording}"
        return table_of(f"Photographs: right in %, {of}", PARTS, shares_by_language(CODES, PARTS, self.share))


def said_with_doubt(given: str, language: str) -> tuple[bool, bool]:
    """Whether an answer says "I am not sure; perhaps", and whether it says "I don't know"."""
    said = load_phrases(language).said
    text = normalise(given, language)
    begins, _, ends = (normalise(part, language) for part in words_of_doubt()[language][0].partition("{}"))
    is_doubted = text.startswith(begins) and text.endswith(ends) and len(text) > len(begins) + len(ends)
    return is_doubted, text == normalise(said["unknown"], language)


# --- what is asked ---


def examination(photographs: Sequence[Photograph], wording: Wording, *, n: int) -> Iterator[Asked]:
    """Every question: of each kind of picture at most `n`, the languages in turn; each of COCO's in three of them."""
    single = [one for one in photographs if len(one.things) == 1 and not one.lists_all]
    unknown = [one for one in photographs if not one.things and not one.lists_all]
    rng = random.Random("examination")
    rng.shuffle(single)
    for number, photograph in enumerate(single[:n]):
        scene, language = alone(photograph), CODES[number % len(CODES)]
        yield from _asked("name", scene, language, wording, ("what",), number)
        coloured = scene.with_colours(scene.render())
        yield from _asked("colour", coloured, language, wording, ("colour_of",), number)
        yield from _following(coloured, language, wording, number)
    for number, photograph in enumerate(unknown[:n]):
        for turn in range(3):
            language = CODES[(3 * number + turn) % len(CODES)]
            yield from _asked("unknown", alone(photograph), language, wording, ("what",), number)
    for number, photograph in enumerate(one for one in photographs if one.lists_all):
        for turn in range(3):
            language = CODES[(3 * number + turn) % len(CODES)]
            yield from _of_coco(alone(photograph), language, wording, number)
    scenes = Scenes(photographs, "test")
    drawn = together = 0
    for index in range(20 * n):
        scene = scenes[index]
        if scene.drawing and drawn < n // 2 and scene.things:
            drawn += 1
            yield from _asked("drawn", scene, CODES[drawn % len(CODES)], wording, FAMILIES, index)
        if len(scene.pieces) > 1 and not scene.lists_all and together < n // 2:
            together += 1
            language = CODES[together % len(CODES)]
            scene = scene.with_colours(scene.render())
            yield from _asked("several", scene, language, wording, FAMILIES, index)
            yield from _following(scene, language, wording, index)
        if drawn >= n // 2 and together >= n // 2:
            break


def _asked(
    part: Part, scene: Scene, language: str, wording: Wording, families: Sequence[Any], number: int
) -> Iterator[Asked]:
    rng = random.Random(f"{part}/{language}/{number}")
    for family in families:
        question = ask(scene, family, language, rng, wording=wording)
        if question:
            yield Asked(part=part, scene=scene, question=question)


def _following(scene: Scene, language: str, wording: Wording, number: int) -> Iterator[Asked]:
    rng = random.Random(f"follow/{language}/{number}")
    family = rng.choice(("what", "exists", "side", "where"))
    first = ask(scene, family, language, rng, wording=wording)  # type: ignore[arg-type]
    second = follow(scene, first, rng, wording=wording) if first else None
    if first and second:
        yield Asked(part="follow", scene=scene, question=second, before=(first,))


def _of_coco(scene: Scene, language: str, wording: Wording, number: int) -> Iterator[Asked]:
    """As many things that are there as things that are not; a person; how many; where."""
    rng = random.Random(f"coco/{language}/{number}")
    there: dict[str, Question] = {}
    absent: dict[str, Question] = {}
    for _ in range(60):
        question = ask(scene, "exists", language, rng, wording=wording)
        if question is None:
            continue
        is_there = question.thing in {seen.thing for seen in scene.things}
        (there if is_there else absent).setdefault(question.thing, question)
    number_of_each = min(len(there), len(absent), 4)
    for part, questions in (("there", there), ("absent", absent)):
        for question in list(questions.values())[:number_of_each]:
            yield Asked(part=part, scene=scene, question=question)  # type: ignore[arg-type]
    whether = ask_whether(scene, "person", language, rng, wording=wording)
    yield Asked(part="person", scene=scene, question=whether)
    yield from _asked("count", scene, language, wording, ("count",), number)
    yield from _asked("where", scene, language, wording, ("where",), number)


# --- asking it ---


def evaluate(
    session: ChatSession,
    photographs: Sequence[Photograph],
    *,
    wording: Wording = "held",
    n: int = 400,
    on_progress: Callable[[int], None] = lambda questions: None,
) -> Scores:
    """Score a model; `photographs` are of a split that it was not trained on."""
    scores = Scores(wording=wording, photographs=len(photographs))
    options = GenerationOptions(max_new_tokens=LONGEST_ANSWER)
    pictures: dict[int, Image.Image] = {}
    for batch in batches(examination(photographs, wording, n=n), BATCH):
        conversations = [_messages(asked, pictures) for asked in batch]
        for asked, given in zip(batch, session.answers(conversations, options), strict=True):
            scores.add(asked, given)
        on_progress(scores.questions)
        pictures.clear()
    return scores


def _messages(asked: Asked, pictures: dict[int, Image.Image]) -> tuple[Message, ...]:
    """The question as the page in its language asks it; before it, what is taught to be answered to those before."""
    key = id(asked.scene)
    if key not in pictures:
        pictures[key] = asked.scene.render()
    messages = as_messages(pictures[key], (*asked.before, asked.question))[:-1]
    return as_a_page_asks(messages, asked.question.language)
