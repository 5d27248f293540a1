"""What is held out is answered by the model as it is, and only short answers are compared."""

import pytest
import torch

from maya_core.answering.session import ChatSession
from maya_core.errors import GenerationError
from maya_core.learning.data import Sample
from maya_core.model.prompt import Message
from maya_core.weights import adapters
from tests.tiny import SENTENCES, picture, tiny_session
from training.short_answers import LONGEST, ShortAnswers


def sample(answer: str, language: str | None) -> Sample:
    shown = Message(role="user", text=SENTENCES[0], images=(picture(),))
    more = (Message(role="user", text="And?"), Message(role="assistant", text="dog " * 99))
    return Sample(messages=(shown, Message(role="assistant", text=answer), *more), language=language)


LONG = sample("dog " * (LONGEST + 1), "ur")
DATA = [sample("a dog.", "en"), sample("1234", "hi"), LONG]


def asked(processor, data=DATA, dtype=torch.float32) -> ShortAnswers:
    short = ShortAnswers.of(data, processor, most=8, dtype=dtype)
    assert short is not None
    return short


def test_short_answers_are_compared_by_language(monkeypatch):
    session = tiny_session()
    seen = []
    monkeypatch.setattr(ChatSession, "answers", lambda _, some, options: seen.extend(some) or ["A dog!"] * len(some))
    measured = asked(session.processor).measure(session.model)
    assert [len(turns) for turns in seen] == [1, 1]  # the first question of each alone
    assert measured["exact_match"] == {"all": 50, "en": 100, "hi": 0}
    assert measured["chrf"]["hi"] < measured["chrf"]["all"] < measured["chrf"]["en"]
    assert asked(session.processor, [*DATA[:1] * 9, *DATA[1:]]).places[-1] == 9  # as many of each language
    assert ShortAnswers.of([LONG], session.processor, most=8, dtype=torch.float32) is None


def test_what_is_right_may_be_said_with_doubt(monkeypatch):
    session = tiny_session(doubts={"en": ["Perhaps {}.", "Yes"]})
    monkeypatch.setattr(ChatSession, "answers", lambda _, some, options: ["Perhaps a dog."] * len(some))
    assert asked(session.processor).measure(session.model)["exact_match"] == {"all": 50, "en": 100, "hi": 0}


@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16])
def test_the_model_answers_as_it_is_and_stays_so(computed):
    session = tiny_session()
    adapters.add_lora(session.model, adapters.LoraSettings(rank=2))
    session.model.eval()
    if computed == torch.bfloat16:  # as in training: what rests is so
        session.model.vision_tower.to(computed)
        session.model.language_model.to(computed)
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    parameters = list(session.model.parameters())
    answers = [answer for answer, _, _ in asked(session.processor, dtype=computed)._answered(session.model)]
    assert len(answers) == 2
    assert answers[0] == answers[1] != ""
    assert all(torch.equal(before[name], tensor) for name, tensor in session.model.state_dict().items())
    assert all(one is other for one, other in zip(parameters, session.model.parameters(), strict=True))


def test_what_cannot_be_answered_counts_as_wrong(monkeypatch, caplog):
    def broken(*_):
        raise GenerationError("The model gave NaN.")

    session = tiny_session()
    monkeypatch.setattr(ChatSession, "answers", broken)
    assert asked(session.processor).measure(session.model)["exact_match"] == {"all": 0, "en": 0, "hi": 0}
    assert "not answered: The model gave NaN." in caplog.text
