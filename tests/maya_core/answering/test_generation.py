"""Answers: the stream is the answer, batches are the single answers, and nothing runs on."""

import math
import threading
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from maya_core.answering.generation import text_pieces, without_leading_space
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import load_session
from maya_core.errors import GenerationError, PromptError, PromptTooLong, TooManyPictures
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import save_model
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


def test_pictures_whose_features_are_given_are_not_opened(session):
    pictures = [picture(), picture((0, 200, 0))]
    features_IND = session.model.vision_features(session.processor.pixel_values(pictures))
    unopened = [question("What?", Path("seen")) for _ in pictures]
    given = session.answers(unopened, OPTIONS, features_IND=features_IND)
    assert given == session.answers([question("What?", one) for one in pictures], OPTIONS)
    assert len(set(given)) > 1


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


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "with an adapter on four bits"])
def test_a_model_that_has_answered_can_learn(whole, tmp_path):
    """What an answer joined are ordinary weights, and what is learnt in them is what the next session answers by."""
    session = tiny_session(text={} if whole else {"hidden_size": 256, "intermediate_size": 512})
    save_model(session.model, session.processor, tmp_path / "model")
    if not whole:
        session = load_session(tmp_path / "model", quantization="nf4")
    conversation = question("What is in the picture?", picture())
    first = session.answer(conversation, OPTIONS)
    session.answers([conversation, question("What?")], OPTIONS)
    model = session.model
    if not whole:
        model = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    turns = [*conversation, Message(role="assistant", text="A dog.")]
    encoded = session.processor.encode(turns, answer_next=False)
    batch = session.processor.collate([encoded], padding_side="right")
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1.0)
    losses = []
    for _ in range(4):
        losses.append(model(**batch).loss)
        losses[-1].backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    assert not any(parameter.is_inference() for parameter in model.parameters())
    if whole:
        save_model(model, session.processor, tmp_path / "learnt")
        assert load_session(tmp_path / "learnt").answer(conversation, OPTIONS) != first


def test_a_conversation_comes_in_every_clear_form(session):
    message = session.processor.user_message("What?")
    expected = session.answer([message], OPTIONS)
    for given in ("What?", message, (message,), [message]):
        assert session.answer(given, OPTIONS) == expected
        assert "".join(session.stream(given, OPTIONS)) == expected
    assert session.answers(["What?", message, [message]], OPTIONS) == [expected] * 3


@pytest.mark.parametrize("given", [None, 3, ["What?"], [None], {"role": "user", "content": "What?"}])
def test_what_is_no_conversation_is_told_in_one_sentence(session, given):
    for ask in (session.answer, session.token_ids, lambda one: session.answers([one])):
        with pytest.raises(PromptError, match="A conversation is a list of messages; make them with"):
            ask(given)


@pytest.mark.parametrize("given", ["What?", None, Message(role="user", text="What?")])
def test_what_are_no_conversations_is_told_in_one_sentence(session, given):
    with pytest.raises(PromptError, match="give a list of them"):
        session.answers(given)


def test_a_full_context_says_so(session):
    words = "dog " * 2000
    with pytest.raises(PromptTooLong):
        session.answer(question(words))


def test_more_pictures_than_fit_are_told_with_how_many_do(session):
    with pytest.raises(TooManyPictures) as told:
        session.answer(question("What?", *[picture()] * 300))
    assert 0 < told.value.most < 300
    assert str(told.value.most) in str(told.value)
    with pytest.raises(PromptTooLong) as told:
        session.answer(question("dog " * 2000, picture()))
    assert type(told.value) is PromptTooLong


def test_a_half_answer_is_gone_on_with_from_where_it_stopped(session):
    """The next token is the one that the prompt with the half answer foretells, and no space of it is lost."""
    half = [*question("What is this?", picture()), Message(role="assistant", text="A dog", is_half=True)]
    prompt = session.processor.encode(half, answer_next=True)
    assert session.processor.require_tokenizer().decode(prompt.input_ids[-2:]).strip().endswith("dog")
    ids = session.token_ids(half, OPTIONS)
    assert "".join(session.stream(half, OPTIONS)) == "".join(text_pieces(ids, session._tokenizer))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_new_tokens": 0},
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.1},
        {"repetition_penalty": 0},
        {"repetition_penalty": math.nan},
    ],
)
def test_options_check_themselves(fields):
    with pytest.raises(ValueError, match=str(next(iter(fields)))):
        GenerationOptions(**fields)
