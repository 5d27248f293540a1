"""What a model is not sure of is said with doubt, where something is named."""

import math

import pytest
import torch

from maya_core.answering import doubt
from maya_core.answering.doubt import Doubting, Doubts
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import load_session
from maya_core.assets import asset_path
from maya_core.languages import CODES
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import load_config, save_model
from tests.tiny import picture
from training.photo_vqa.phrases import load_phrases, words_of_doubt
from training.photo_vqa.things import load_names

SHORT = GenerationOptions(max_new_tokens=4)


@pytest.fixture
def make(make):
    """Models that doubt: a random one is sure of nothing."""
    return lambda **fields: make(**{"doubts": words_of_doubt()} | fields)


@pytest.fixture
def fits_all(monkeypatch):
    monkeypatch.setattr(doubt, "FITTING", -math.inf)


@pytest.fixture(scope="module")
def embedded():
    return load_session()


def asked(code="en", text="What is this?"):
    return [Message(role="user", text=text, images=(picture(),), answer_in=code)]


def test_what_is_less_likely_than_it_is_sure_from_is_said_with_doubt(make, fits_all):
    plain = make(doubts=None).answer(asked(), SHORT)
    assert make(sure_from=1e-30).answer(asked(), SHORT) == plain
    doubted = make().answer(asked(), SHORT)
    assert doubted == f"I'm not sure; perhaps {plain[:1].lower()}{plain[1:].strip()}."


def test_only_where_words_of_doubt_are_an_answer_to_the_question(make):
    assert make().answer(asked(), SHORT) == make(doubts=None).answer(asked(), SHORT)


def test_only_a_short_answer(make, fits_all):
    just, longer = (GenerationOptions(max_new_tokens=number) for number in (doubt.SHORT, doubt.SHORT + 1))
    session, plain = make(), make(doubts=None)
    assert session.answer(asked(), just) != plain.answer(asked(), just)
    assert session.answer(asked(), longer) == plain.answer(asked(), longer)


def test_not_the_rest_of_an_answer_nor_one_in_no_language(make, fits_all):
    session, plain = make(), make(doubts=None)
    half = [*asked(), Message(role="assistant", text="A", is_half=True)]
    assert session.answer(half, SHORT) == plain.answer(half, SHORT)
    wordless = [Message(role="user", text="?", images=(picture(),))]
    assert session.answer(wordless, SHORT) == plain.answer(wordless, SHORT)


def test_each_of_many_answers_is_doubted_by_itself(make, fits_all):
    session = make()
    conversations = [[*asked(code, "?" * number)] for number, code in enumerate(CODES, start=1)]
    answers = session.answers(conversations, SHORT)
    assert answers == [session.answer(one, SHORT) for one in conversations]
    assert answers != make(doubts=None).answers(conversations, SHORT)


def test_the_next_question_is_answered_as_if_nothing_had_been_read_before(make, fits_all):
    session = make()
    first = session.answer(asked(), SHORT)
    turns = [*asked(), Message(role="assistant", text=first), Message(role="user", text="And there?", answer_in="en")]
    assert session.answer(turns, SHORT) == make().answer(turns, SHORT)
    assert session.answer(asked(), SHORT) == first


def test_a_token_is_still_told_each(make, fits_all):
    deltas = list(make().deltas(asked(), SHORT))
    assert [delta.tokens for delta in deltas] == [1, 2, 3, 4]
    assert [bool(delta.text) for delta in deltas] == [False, False, False, True]


def test_an_answer_that_was_stopped_is_not_doubted(make, fits_all):
    class Stop:
        asked = 0

        def is_set(self):
            self.asked += 1
            return self.asked > 2

    said = "".join(delta.text for delta in make().deltas(asked(), SHORT, cancel=Stop()))
    assert said
    assert "perhaps" not in said


@pytest.mark.parametrize("code", CODES)
def test_a_name_in_doubt_reads_as_it_is_taught(embedded, code):
    phrases, names = load_phrases(code), load_names(code)
    doubts = Doubts(embedded.model.config, embedded._tokenizer)
    for name in names.values():
        said = doubts.said(phrases.named(name), code)
        assert said.casefold() == phrases.sentence("unsure", name).casefold()
    for one in ("yes", "no"):
        assert doubts.said(phrases.said[one], code) == phrases.said[one]
    for one in ("there", "not_there", "is_not"):
        sentence = phrases.sentence(one, next(iter(names.values())))
        assert doubts.said(sentence, code) == sentence


def test_a_word_in_capitals_stays_so(embedded):
    doubts = Doubts(embedded.model.config, embedded._tokenizer)
    assert doubts.said("DVD", "ru").endswith(" DVD.")
    assert doubts.said("Кит", "ru").endswith(" кит.")


def test_a_model_says_of_itself_how_it_doubts(make, tmp_path):
    session = make(sure_from=0.25)
    save_model(session.model, session.processor, tmp_path)
    config = load_config(tmp_path)
    assert (config.doubts, config.sure_from) == (words_of_doubt(), 0.25)
    assert load_config(asset_path("maya-tiny")).doubts == words_of_doubt()


@pytest.mark.parametrize("fields", [{"sure_from": 0.0}, {"doubts": {"en": []}}, {"doubts": {"en": ["perhaps"]}}])
def test_doubts_that_cannot_be_are_refused(make, fields):
    with pytest.raises(ValueError, match="sure_from|doubts"):
        make(**fields)


def test_scores_that_are_no_numbers_are_no_doubt():
    class Nothing:
        cache = type("Cache", (), {"length": 0})

    doubts = Doubts(load_config(asset_path("maya-tiny")), load_session()._tokenizer)
    doubting = Doubting(doubts, ["en"])
    doubting.begin(Nothing(), torch.full((1, 9000), torch.nan))
    assert doubting.may_be_unsure == [False]
