"""Ask a model EmojiVQA's questions and score its answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.model.prompt import Message
from training.emoji_vqa.dataset import as_a_page_asks, single_questions
from training.emoji_vqa.questions import FAMILIES, Family, Question
from training.emoji_vqa.scenes import Split, render
from training.scoring import Counted, batches, exact_match, mean, shares_by_language, table_of, without_doubt

if TYPE_CHECKING:
    from rich.table import Table

BATCH = 64
LONGEST_ANSWER = 40  # tokens


@dataclass(kw_only=True)
class Scores(Counted[Family]):
    """Right answers and questions, by language and family."""

    split: Split
    scenes: int

    def add(self, question: Question, given: str) -> None:
        wanted = (question.answer, *question.accepted)
        is_right = any(exact_match(given, one, question.language) for one in wanted)
        self.count(question.language, question.family, is_right)

    @property
    def languages(self) -> list[str]:
        return list(dict.fromkeys(language for language, _ in self.asked))

    def share(self, language: str | None = None, family: Family | None = None) -> float | None:
        """Share of right answers: of one cell, of a language's questions, or a family's mean over languages."""
        if language is None:
            return mean(self.share(code, family) for code in self.languages)
        return self.share_of((language, one) for one in ((family,) if family else FAMILIES))

    def as_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "scenes": self.scenes,
            "questions": self.questions,
            "exact_match": shares_by_language(self.languages, FAMILIES, self.share),
        }

    def as_table(self) -> "Table":
        """Percent, a row for each language and their mean."""
        title = f"EmojiVQA, {self.split}: exact match in %, {self.scenes} scenes, {self.questions} questions"
        return table_of(title, FAMILIES, shares_by_language(self.languages, FAMILIES, self.share))


def evaluate(
    session: ChatSession,
    split: Split,
    scenes: int,
    *,
    languages: Sequence[str] | None = None,
    on_progress: Callable[[int], None] = lambda scenes_done: None,
) -> Scores:
    """One question of every family that a scene allows, over `scenes` scenes, the languages in turn. What is right may be
    said with doubt."""
    scores = Scores(split=split, scenes=scenes)
    size = session.processor.preparation.size
    options = GenerationOptions(max_new_tokens=LONGEST_ANSWER)
    doubts = session.model.config.doubts or {}
    for batch in batches(single_questions(split, scenes, languages, image_size=size), BATCH):
        conversations = [
            as_a_page_asks([Message(role="user", text=question.text, images=(render(scene),))], question.language)
            for scene, question in batch
        ]
        answers = session.answers(conversations, options)
        for (_, question), answer in zip(batch, answers, strict=True):
            scores.add(question, without_doubt(answer, doubts.get(question.language)))
        on_progress(batch[-1][0].index)
    return scores
