"""Our decoding gives what transformers' own gives, and reads nothing twice."""

import gc
import weakref

import pytest
import torch
from torch import nn

from maya_core.answering import generation
from maya_core.answering.decoder import Decoder
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.answering.step_graph import drawn_by_graph
from maya_core.errors import GenerationError, PromptTooLong
from maya_core.model.prompt import Message
from maya_core.weights.quantization import quantize
from tests.tiny import picture, tiny_model, tiny_session

OPTIONS = GenerationOptions(max_new_tokens=12)
SHAPES = {
    "published style": {},
    "one key-value head": {"num_key_value_heads": 1},
    "as many key-value heads": {"num_key_value_heads": 4},
    "normed queries and keys": {"use_qk_norm": True},
    "biases": {"attention_bias": True},
    "one layer": {"num_hidden_layers": 1},
    "gelu": {"hidden_act": "gelu"},
}
WIDE = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}


def said(role, text, *images):
    return Message(role=role, text=text, images=images)


RED, BLUE = picture(), picture((0, 0, 200))
CONVERSATIONS = {
    "words": [said("user", "ماذا؟")],
    "a picture": [said("user", "What is in the picture?", RED)],
    "turns": [said("user", "図は？", RED), said("assistant", "犬です。"), said("user", "And this?", BLUE, RED)],
}


def stock_tokens(session, messages, options=OPTIONS):
    """What transformers' `generate` says, on a copy that our decoder has not touched."""
    inputs = session.processor.prompts([messages])
    ids = session.model.generate(
        **inputs, max_new_tokens=options.max_new_tokens, do_sample=False,
        suppress_tokens=[session.model.config.image_token_id],
    )[0, inputs["input_ids"].shape[1] :].tolist()  # fmt: skip
    end = session.model.config.text.eos_token_id
    return ids[: ids.index(end)] if end in ids else ids


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_tokens_are_those_of_transformers(shape, conversation):
    messages = CONVERSATIONS[conversation]
    for seed in range(4):
        session, stock = (tiny_session(seed=seed, text=SHAPES[shape]) for _ in range(2))
        assert session.token_ids(messages, OPTIONS) == stock_tokens(stock, messages)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_four_bit_tokens_are_those_of_transformers(conversation):
    """Both compute in bfloat16; where two tokens are as likely as that can tell, either is right."""
    messages = CONVERSATIONS[conversation]
    for seed in range(4):
        session, stock = (tiny_session(seed=seed, text=WIDE) for _ in range(2))
        for each in (session, stock):
            quantize(each.model, device="cpu")
        end = stock.model.config.text.eos_token_id
        ours, theirs = (
            [*ids, end][: OPTIONS.max_new_tokens]
            for ids in (session.token_ids(messages, OPTIONS), stock_tokens(stock, messages))
        )
        same = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
        if same is None:
            assert len(ours) == len(theirs)
            continue
        inputs = stock.processor.prompts([messages])
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([theirs[:same]], dtype=torch.long)], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.inference_mode():
            scores = stock.model(**inputs).logits[0, -1]
        assert scores[theirs[same]] - scores[ours[same]] < 0.05 * scores.std()


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_reading_in_parts_gives_the_scores_of_reading_at_once(shape):
    model = tiny_model(text=SHAPES[shape])
    ids = torch.randint(0, 500, (1, 40), generator=torch.Generator().manual_seed(0))
    whole = model(ids).logits[0]
    decoder = Decoder(model)
    cache = decoder.new_cache(1)
    for start, end in ((0, 7), (7, 8), (8, 9), (9, 39), (39, 40)):
        embeds = model.get_input_embeddings()(ids[:, start:end])
        scores = decoder(embeds, torch.arange(start, end)[None], cache)
        torch.testing.assert_close(scores[0], whole[end - 1], atol=2e-5, rtol=1e-4)


def test_the_model_goes_on_working_and_shares_its_weights():
    model = tiny_model()
    ids = torch.arange(9)[None]
    before = model(ids).logits
    Decoder(model)
    torch.testing.assert_close(model(ids).logits, before, atol=1e-5, rtol=1e-5)
    layer = model.get_decoder().layers[0]
    assert (
        layer.self_attn.q_proj.weight.untyped_storage().data_ptr()
        == layer.mlp.up_proj.weight.untyped_storage().data_ptr()
    )


def test_bfloat16_scores_are_as_near_as_its_digits():
    model = tiny_model(text=WIDE, spread=0.05).bfloat16()
    ids = torch.randint(0, 500, (1, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = model(ids).logits[0, -1].float()
        decoder = Decoder(model)
        scores = decoder(model.get_input_embeddings()(ids), torch.arange(24)[None], decoder.new_cache(1))[0].float()
    assert (scores - whole).abs().max() < 0.03 * whole.abs().max()


# --- nothing twice ---


class Counted:
    """How many positions the language model of a session reads, and how many pictures its tower sees."""

    def __init__(self, session, monkeypatch):
        self.positions = self.pictures = 0
        read, see = Decoder.__call__, session.model.vision_features

        def counted_read(decoder, embeds_BTE, *args, **kwargs):
            self.positions += embeds_BTE.shape[1] * (decoder is session.decoder)
            return read(decoder, embeds_BTE, *args, **kwargs)

        def counted_see(pixel_values):
            self.pictures += len(pixel_values)
            return see(pixel_values)

        monkeypatch.setattr(Decoder, "__call__", counted_read)
        monkeypatch.setattr(session.model, "vision_features", counted_see)

    def since(self):
        positions, self.positions = self.positions, 0
        return positions


@pytest.mark.parametrize("kind", ["mlp", "cross_attention"])
def test_a_conversation_is_read_once(kind, monkeypatch):
    connector = {"kind": kind} | ({"cross_attn_every_n_layers": 1} if kind == "cross_attention" else {})
    session = tiny_session(connector_config=connector)
    counted = Counted(session, monkeypatch)
    messages = [said("user", "What is in the picture?", RED)]
    known = 0
    for turn in range(4):
        fresh = tiny_session(connector_config=connector)
        answer = session.answer(messages, OPTIONS)
        assert answer == fresh.answer(messages, OPTIONS)
        prompt = len(session.processor.encode(messages, answer_next=True).input_ids)
        read = counted.since() - len(session.token_ids(messages, OPTIONS))
        counted.since()
        if known:  # the answer's text may be other tokens than those it was drawn as
            assert read < prompt - known + OPTIONS.max_new_tokens
        known = prompt
        messages += [said("assistant", answer or "-"), said("user", f"And now {turn}?")]
    assert counted.pictures == 1


def test_an_edit_reads_from_where_it_differs(monkeypatch):
    session = tiny_session()
    long = [said("user", "What is in the picture? " * 8, RED), said("assistant", "A dog."), said("user", "Why?")]
    session.answer(long, OPTIONS)
    counted = Counted(session, monkeypatch)
    edited = [*long[:2], said("user", "Where?")]
    assert session.answer(edited, OPTIONS) == tiny_session().answer(edited, OPTIONS)
    assert counted.since() < 40
    other_picture = [said("user", long[0].text, BLUE), *long[1:]]
    assert session.answer(other_picture, OPTIONS) == tiny_session().answer(other_picture, OPTIONS)
    assert counted.pictures == 1  # the blue one; the red one was seen before the count
    assert session.answer(long, OPTIONS) == tiny_session().answer(long, OPTIONS)
    assert counted.pictures == 1


def test_a_retry_reads_one_token_before_it_speaks(monkeypatch):
    session = tiny_session()
    messages = CONVERSATIONS["turns"]
    first = session.answer(messages, OPTIONS)
    counted = Counted(session, monkeypatch)
    stream = session.deltas(messages, OPTIONS)
    next(stream)
    assert counted.since() == 1
    stream.close()
    assert session.answer(messages, OPTIONS) == first


def test_how_far_a_question_is_read_is_told_and_who_leaves_meanwhile_keeps_what_was_read_before(monkeypatch):
    session = tiny_session()
    first, messages = CONVERSATIONS["turns"][:1], CONVERSATIONS["turns"]
    session.answer(first, OPTIONS)
    shares = []

    def enough(share):
        shares.append(share)
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(session.deltas(messages, OPTIONS, on_progress=enough))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 2 / 3)
    counted = Counted(session, monkeypatch)
    assert session.answer(messages, OPTIONS) == tiny_session().answer(messages, OPTIONS)
    assert counted.pictures < 3


def test_answers_side_by_side_do_not_mix():
    session = tiny_session()
    one, two = CONVERSATIONS["a picture"], CONVERSATIONS["words"]
    alone = [tiny_session().answer(messages, OPTIONS) for messages in (one, two)]
    streams = [session.stream(messages, OPTIONS) for messages in (one, two)]
    texts = ["", ""]
    while any(piece := [next(stream, "") for stream in streams]):
        texts = [text + more for text, more in zip(texts, piece, strict=True)]
    assert texts == alone
    assert session.answer(one, OPTIONS) == alone[0]


def test_a_stopped_answer_leaves_what_was_read_whole():
    session = tiny_session()
    messages = CONVERSATIONS["turns"]
    for taken in range(1, 6):
        stream = session.stream(messages, OPTIONS)
        for _ in range(taken):
            next(stream, None)
        stream.close()
        assert session.answer(messages, OPTIONS) == tiny_session().answer(messages, OPTIONS)


def test_what_was_read_with_nan_is_not_kept():
    session = tiny_session()
    messages = CONVERSATIONS["words"]
    before = session.answer(messages, OPTIONS)
    norm = session.model.get_decoder().norm.weight
    kept = norm.detach().clone()
    with torch.no_grad():
        norm.fill_(torch.nan)
        with pytest.raises(GenerationError):
            session.answer([said("user", "Qu'est-ce ?")], OPTIONS)
        norm.copy_(kept)
    assert session.answer(messages, OPTIONS) == before


# --- too much ---


def test_the_oldest_turns_go_first_and_that_is_told():
    session = tiny_session()
    turns = [
        [said("user", f"{'What is in the picture? ' * 6}{turn}"), said("assistant", "A dog.")] for turn in range(20)
    ]
    question = said("user", "And now?")
    messages = [message for turn in turns for message in turn] + [question]
    deltas = list(session.deltas(messages, OPTIONS))
    (left_out,) = {delta.left_out for delta in deltas}
    assert 0 < left_out < 20
    rest = messages[2 * left_out :]
    assert "".join(delta.text for delta in deltas) == tiny_session().answer(rest, OPTIONS)
    assert {delta.left_out for delta in session.deltas(rest, OPTIONS)} == {0}
    assert {delta.left_out for delta in session.deltas(messages[2 * left_out - 2 :], OPTIONS)} == {1}
    with pytest.raises(PromptTooLong):
        session.answer([said("user", "dog " * 1000)], OPTIONS)


def test_an_answer_ends_where_the_context_does():
    session = tiny_session(text={"max_position_embeddings": 64})
    session.model.config.text.eos_token_id = None
    ids = session.token_ids(CONVERSATIONS["words"], GenerationOptions(max_new_tokens=1000))
    prompt = session.processor.encode(CONVERSATIONS["words"], answer_next=True).input_ids
    assert len(prompt) + len(ids) == 64


def test_sampling_follows_the_probabilities():
    """20,000 rows of a known distribution: each share within 5 standard deviations of its probability."""
    from maya_core.answering.sampling import Sampler

    config = tiny_model().config
    scores = torch.full((1, 512), -torch.inf)
    scores[0, :4] = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    for top_p, wanted in ((1.0, [0.4, 0.3, 0.2, 0.1]), (0.75, [0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0.0])):
        draw = Sampler(GenerationOptions(temperature=1.0, top_p=top_p, seed=1), config, 20_000, torch.device("cpu"))
        counts = torch.bincount(draw(scores.expand(20_000, -1).clone()), minlength=4)[:4] / 20_000
        torch.testing.assert_close(counts, torch.tensor(wanted), atol=5 * (0.25 / 20_000) ** 0.5, rtol=0)


def test_every_linear_layer_of_the_decoder_is_four_bit_and_no_other():
    model = tiny_model(text=WIDE)
    quantize(model, device="cpu")
    found = {type(module).__name__ for module in model.get_decoder().modules() if isinstance(module, nn.Linear)}
    assert found == {"Linear4bit"}
    others = set(model.modules()) - set(model.get_decoder().modules())
    assert not any(type(module).__name__ == "Linear4bit" for module in others)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_sessions_answer_with_new_weights_after_a_new_session():
    model_session = tiny_session()
    before = model_session.answer(CONVERSATIONS["words"], OPTIONS)
    with torch.no_grad():
        for parameter in model_session.model.language_model.parameters():
            parameter.mul_(-1.3)
    again = ChatSession(model_session.model, model_session.processor)
    assert again.answer(CONVERSATIONS["words"], OPTIONS) != before


# --- the step that is recorded on a GPU, run here without being recorded ---


@torch.inference_mode()
@pytest.mark.parametrize(
    "options",
    [
        GenerationOptions(max_new_tokens=40),
        GenerationOptions(max_new_tokens=40, repetition_penalty=1.5),
        GenerationOptions(max_new_tokens=40, temperature=0.8, top_p=0.9, seed=3),
    ],
    ids=["greedy", "penalty", "sampled"],
)
@pytest.mark.parametrize("prompt", [5, 250])  # the second grows over the end of a bucket
@pytest.mark.parametrize("end", [None, 300])
def test_recorded_steps_give_the_same_tokens(options, prompt, end):
    model = tiny_model(text={"eos_token_id": end})
    ids = torch.randint(0, 500, (1, prompt), generator=torch.Generator().manual_seed(prompt))

    def answer(drawn):
        read = generation.Reading(Decoder(model))
        for _ in range(2):  # the second answer finds the steps of the first
            read.cache.length = 0
            tokens = [int(token) for token in drawn(read, read.on(ids))]
        return tokens, read.cache

    plain, plain_cache = answer(lambda read, scores: generation.drawn(read, scores, options))
    graph, graph_cache = answer(
        lambda read, scores: drawn_by_graph(read.decoder, read.cache, scores, options, options.max_new_tokens)
    )
    assert graph == plain
    assert graph_cache.length == plain_cache.length
    for mine, other in ((graph_cache.keys, plain_cache.keys), (graph_cache.values, plain_cache.values)):
        filled = slice(0, plain_cache.length)
        torch.testing.assert_close(mine[:, :, :, filled], other[:, :, :, filled], atol=1e-5, rtol=1e-4)


def test_recorded_steps_tell_nan():
    model = tiny_model()
    read = generation.Reading(Decoder(model))
    with torch.inference_mode():
        scores = read.on(torch.tensor([[5, 6]]))
        drawn = drawn_by_graph(read.decoder, read.cache, scores, OPTIONS, 8)
        next(drawn)
        model.get_decoder().norm.weight.fill_(torch.nan)
        with pytest.raises(GenerationError, match="NaN"):
            list(drawn)


@torch.inference_mode()
def test_a_forgotten_answer_gives_its_memory_back_at_once():
    """On a GPU half a gigabyte, which would wait there for a collection of cycles."""
    decoder = Decoder(tiny_model())
    read = generation.Reading(decoder)
    list(drawn_by_graph(decoder, read.cache, read.on(torch.tensor([[5, 6]])), OPTIONS, 8))
    keys = weakref.ref(read.cache.keys)
    gc.disable()
    try:
        del read
        assert keys() is None
    finally:
        gc.enable()
