"""Answers: the stream is the answer, batches are the single answers, and nothing runs on."""

import threading

import pytest
import torch

from maya_core.answering.generation import text_pieces, without_leading_space
from maya_core.errors import GenerationError, PromptTooLong
from maya_core.model.config import GenerationOptions
from maya_core.model.prompt import Message
from tests.tiny import SENTENCES, picture, tiny_session, tiny_tokenizer

OPTIONS = GenerationOptions(max_new_tokens=12)


@pytest.fixture(scope="module", params=["chat", "maya-v1"])
def session(request):
    return tiny_session(prompt_format=request.param)


def question(text, *images):
    return [Message(role="user", text=text, images=images)]


def test_the_stream_joined_is_the_answer_and_what_generate_gives(session):
    conversation = question("What is in the picture?", picture())
    streamed = "".join(session.stream(conversation, OPTIONS))
    assert streamed == session.answer(conversation, OPTIONS)
    inputs = session.processor.prompts([conversation])
    stock = session.model.generate(
        **inputs, max_new_tokens=12, do_sample=False, suppress_tokens=[session.model.config.image_token_id]
    )
    new = stock[0, inputs["input_ids"].shape[1] :]
    backend = session.processor.tokenizer.backend_tokenizer
    assert streamed == "".join(without_leading_space(text_pieces(new.tolist(), backend)))
    assert streamed


def test_a_batch_of_all_kinds_gives_the_single_answers(session):
    conversations = [
        question("What?", picture()),
        question("तस्वीर में क्या है?", picture((0, 200, 0)), picture((0, 0, 200))),
        question("ماذا؟"),
        [*question("图中有什么？", picture()), Message(role="assistant", text="一只狗。"), *question("Un chien ?")],
    ]
    batch = session.answers(conversations, OPTIONS)
    assert batch == [session.answer(conversation, OPTIONS) for conversation in conversations]
    assert len(set(batch)) > 1
    assert session.answers([], OPTIONS) == []


@pytest.mark.parametrize("sentence", SENTENCES)
def test_no_piece_splits_a_character(sentence):
    ids = tiny_tokenizer()(sentence + " 👩‍🚀", add_special_tokens=False)["input_ids"]
    pieces = list(text_pieces(ids, tiny_tokenizer().backend_tokenizer))
    assert "".join(pieces).strip() == sentence + " 👩‍🚀"
    assert not any("�" in piece for piece in pieces)


def test_cancel_ends_within_a_token(session):
    cancel = threading.Event()
    stream = session.stream(question("What?", picture()), GenerationOptions(max_new_tokens=200), cancel=cancel)
    next(stream)
    cancel.set()
    assert len(list(stream)) <= 1


def test_a_seed_repeats_and_another_differs(session):
    def drawn(seed):
        options = GenerationOptions(max_new_tokens=12, temperature=1.5, seed=seed)
        return session.answer(question("What?", picture()), options)

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(4)}) > 1


def test_a_penalty_ends_repetition(session):
    def different(penalty):
        options = GenerationOptions(max_new_tokens=24, repetition_penalty=penalty)
        return len(set(session.token_ids(question("What?", picture()), options)))

    assert different(1e6) == 24 or different(1e6) > different(1.0)


def test_nan_is_an_error_and_not_a_token():
    broken = tiny_session()
    with torch.no_grad():
        broken.model.connector.layers[0].weight[0, 0] = torch.nan
    with pytest.raises(GenerationError, match="NaN"):
        broken.answer(question("What?", picture()))
    assert isinstance(broken.answer(question("What?"), OPTIONS), str)


def test_a_full_context_says_so(session):
    words = "dog " * 2000
    with pytest.raises(PromptTooLong):
        session.answer(question(words))


@pytest.mark.parametrize(
    "fields", [{"max_new_tokens": 0}, {"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"repetition_penalty": 0}]
)
def test_options_check_themselves(fields):
    with pytest.raises(ValueError, match=str(next(iter(fields)))):
        GenerationOptions(**fields)
