"""Ask a model EmojiVQA's questions and score its answers."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rich.table import Table

from maya_core.answering.session import ChatSession
from maya_core.model.config import GenerationOptions
from maya_core.model.prompt import Message
from training.emoji_vqa.dataset import single_questions
from training.emoji_vqa.questions import FAMILIES, Family, Question
from training.emoji_vqa.scenes import Split, render
from training.scoring import batches, exact_match

BATCH = 64
LONGEST_ANSWER = 40  # tokens


@dataclass
class Scores:
    """Right answers and questions, by language and family."""

    split: Split
    scenes: int
    right: dict[tuple[str, Family], int] = field(default_factory=lambda: defaultdict(int))
    asked: dict[tuple[str, Family], int] = field(default_factory=lambda: defaultdict(int))

    def add(self, question: Question, given: str) -> None:
        key = (question.language, question.family)
        self.asked[key] += 1
        wanted = (question.answer, *question.accepted)
        self.right[key] += any(exact_match(given, one, question.language) for one in wanted)

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(language for language, _ in self.asked))

    def share(self, language: str | None = None, family: Family | None = None) -> float | None:
        """Share of right answers: of one cell, of a language's questions, or a family's mean over languages."""
        if language is None:
            shares = [self.share(code, family) for code in self.languages]
            known = [share for share in shares if share is not None]
            return fmean(known) if known else None
        keys = [key for key in self.asked if key[0] == language and family in (None, key[1])]
        asked = sum(self.asked[key] for key in keys)
        return sum(self.right[key] for key in keys) / asked if asked else None

    def as_json(self) -> dict[str, Any]:
        columns: tuple[Family | None, ...] = (*FAMILIES, None)
        return {
            "split": self.split,
            "scenes": self.scenes,
            "questions": sum(self.asked.values()),
            "exact_match": {
                language or "mean": {family or "all": self.share(language, family) for family in columns}
                for language in (*self.languages, None)
            },
        }

    def as_table(self) -> Table:
        """Percent, a row for each language and their mean."""
        questions = sum(self.asked.values())
        table = Table(title=f"EmojiVQA, {self.split}: exact match in %, {self.scenes} scenes, {questions} questions")
        for heading in ("", *FAMILIES, "all"):
            table.add_column(heading, justify="right")
        for language in (*self.languages, None):
            if language is None:
                table.add_section()
            shares = [self.share(language, family) for family in (*FAMILIES, None)]
            table.add_row(language or "mean", *("-" if share is None else f"{100 * share:.1f}" for share in shares))
        return table


def evaluate(
    session: ChatSession,
    split: Split,
    scenes: int,
    *,
    languages: Sequence[str] | None = None,
    on_progress: Callable[[int], None] = lambda scenes_done: None,
) -> Scores:
    """One question of every family that a scene allows, over `scenes` scenes, the languages in turn."""
    scores = Scores(split=split, scenes=scenes)
    size = session.processor.preparation.size
    options = GenerationOptions(max_new_tokens=LONGEST_ANSWER)
    for batch in batches(single_questions(split, scenes, languages, image_size=size), BATCH):
        conversations = [
            [Message(role="user", text=question.text, images=(render(scene),))] for scene, question in batch
        ]
        answers = session.answers(conversations, options)
        for (_, question), answer in zip(batch, answers, strict=True):
            scores.add(question, answer)
        on_progress(batch[-1][0].index)
    return scores
