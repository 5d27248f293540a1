"""Three connectors, one set of equivalences: cached is uncached, a batch is its rows, packed is one by one, a closed gate
is the language model alone."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, DynamicCache

from maya_core import cli
from maya_core.answering.options import GenerationOptions
from maya_core.answering.session import ChatSession
from maya_core.assets import asset_path
from maya_core.errors import CheckpointError, CheckpointMismatch, ImageCountMismatch
from maya_core.learning.data import ConversationCollator, PackedCollator, PackedSample, Sample
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.optim import build_optimizers
from maya_core.model.config import ConnectorConfig, MayaConfig
from maya_core.model.connectors import QFormerConnector
from maya_core.model.connectors.cross_attention import NEVER, Gallery, Pictures, Sight
from maya_core.model.connectors.layers import Attention, Gate
from maya_core.model.maya import MayaForConditionalGeneration, parameter_counts
from maya_core.model.prompt import Message
from maya_core.weights.checkpoint import load_model, save_model
from maya_core.weights.export import export_llava
from maya_core.weights.published import load_connector
from tests.tiny import parameters, picture, tiny_config, tiny_model, tiny_session

HEADS = {"num_attention_heads": 4, "head_dim": 8}
CONNECTORS = {
    "mlp": {"kind": "mlp"},
    "qformer": {"kind": "qformer", "depth": 3, "num_query_tokens": 5, "cross_attention_frequency": 2} | HEADS,
    "cross_attention": {"kind": "cross_attention", "num_latents": 6, "cross_attn_every_n_layers": 1} | HEADS,
}
SLOTS = {"mlp": 16, "qformer": 5, "cross_attention": 1}
SLOT = 511
RED, GREEN, BLUE = picture((250, 0, 0)), picture((0, 250, 0)), picture((0, 0, 250))
CLOSE = {"atol": 1e-4, "rtol": 1e-4}

kinds = pytest.mark.parametrize("kind", CONNECTORS)


def opened(model):
    """The same model with all gates half open."""
    for module in model.modules():
        if isinstance(module, Gate):
            nn.init.constant_(module.openness, 0.5)
    return model


def model_of(kind, **changes):
    return opened(tiny_model(connector_config=CONNECTORS[kind], **changes))


def session_of(kind):
    session = tiny_session(connector_config=CONNECTORS[kind])
    opened(session.model)
    return session


def pixels(count=1, height=64, width=64, seed=0):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def prompt(kind, *before, after=(7, 8)):
    return torch.tensor([[5, *before, *[SLOT] * SLOTS[kind], *after]])


def user(text, *images):
    return Message(role="user", text=text, images=images)


def assistant(text):
    return Message(role="assistant", text=text)


# rows of 1, 2, 0 and 1 + 1 pictures, of different lengths
CONVERSATIONS = [
    [user("What?", RED)],
    [user("तस्वीर में क्या है?", GREEN, BLUE)],
    [user("ماذا؟")],
    [user("Quoi ?", RED), assistant("Un chien."), user("Et là ?", BLUE)],
]


def positions_of(mask):
    return (mask.cumsum(-1) - 1).clamp(min=0)


# --- shapes ---


@kinds
@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (32, 128), (16, 16)])
def test_every_multiple_of_the_patch_gives_the_visual_tokens_that_the_configuration_says(kind, height, width):
    model = model_of(kind)
    count = (height // 16) * (width // 16) if kind == "mlp" else SLOTS[kind]
    assert model.config.visual_tokens(height, width) == count
    assert model.config.patches_kept(height, width) == (height // 16) * (width // 16)
    assert model.image_embeds(pixels(2, height, width)).shape == (2, count, 48)
    ids = torch.tensor([[5, *[SLOT] * count, 7]])
    assert model(ids, pixels(1, height, width)).logits.shape == (1, count + 2, 512)


@kinds
def test_off_the_patch_grid_is_refused(kind):
    with pytest.raises(ValueError, match="65 x 64 pixels is not a multiple of the 16 px patch"):
        model_of(kind)(prompt(kind), pixels(1, 65, 64))


@kinds
def test_the_processor_makes_as_many_slots(kind):
    session = session_of(kind)
    ids = session.processor.prompts([[user("What?", RED, BLUE)]])["input_ids"]
    assert session.processor.image_slots == SLOTS[kind]
    assert int((ids == session.model.config.image_token_id).sum()) == 2 * SLOTS[kind]


@kinds
def test_slots_and_pictures_that_disagree_raise_with_both_numbers(kind):
    model, count = model_of(kind), SLOTS[kind]
    with pytest.raises(ImageCountMismatch, match=f"{count} image slots .* {2 * count} visual"):
        model(prompt(kind), pixels(2))
    with pytest.raises(ImageCountMismatch, match=f"{count} image slots .* 0 visual"):
        model(prompt(kind))
    with pytest.raises(ImageCountMismatch, match=f"0 image slots .* {count} visual"):
        model.hidden_states(torch.tensor([[5, 7]]), pixels())


# --- the parts are what they are called ---


def test_attention_is_torchs_own():
    ours = Attention(32, 24, heads=4, head_dim=8)
    reference = nn.MultiheadAttention(32, 4, kdim=24, vdim=24, batch_first=True)
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        for weight, part in zip(("q_proj_weight", "k_proj_weight", "v_proj_weight"), parts, strict=True):
            getattr(reference, weight).copy_(part.weight)
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(ours.output.state_dict())
    queries, context = torch.randn(2, 5, 32), torch.randn(2, 7, 24)
    mask = torch.rand(5, 7) < 0.5
    mask[:, 0] = True
    expected, _ = reference(queries, context, context, attn_mask=~mask)
    torch.testing.assert_close(ours(queries, context, mask.expand(2, 1, 5, 7)), expected)


def test_queries_look_at_the_picture_in_every_second_block():
    connector = model_of("qformer").connector
    assert isinstance(connector, QFormerConnector)
    assert [hasattr(block, "cross_attention") for block in connector.blocks] == [True, False, True]
    every = tiny_model(connector_config=CONNECTORS["qformer"] | {"cross_attention_frequency": 1}).connector
    assert all(hasattr(block, "cross_attention") for block in every.blocks)


def test_queries_know_each_other():
    connector = model_of("qformer").connector
    features = torch.randn(1, 16, 32)
    before = connector(features)
    with torch.no_grad():
        connector.query_tokens.vectors[0] += 1
    assert not torch.allclose(connector(features)[:, 1:], before[:, 1:])


@pytest.mark.parametrize(("every", "places"), [(1, [0, 1, 2]), (2, [1]), (3, [2])])
def test_gated_blocks_stand_before_every_nth_layer(every, places):
    fields = CONNECTORS["cross_attention"] | {"cross_attn_every_n_layers": every}
    closed = tiny_model(connector_config=fields)
    assert len(closed.connector.blocks) == len(places)
    inputs = prompt("cross_attention"), pixels()
    plain, seeing = (
        model(*inputs, output_hidden_states=True).hidden_states for model in (closed, opened(copy.deepcopy(closed)))
    )
    # hidden_states[n + 1] is the output of layer n
    assert [n for n in range(3) if not torch.equal(plain[n + 1], seeing[n + 1])] == list(range(places[0], 3))
    assert [len(layer._forward_pre_hooks) for layer in closed.get_decoder().layers] == [n in places for n in range(3)]


# --- gates ---


def test_closed_gates_are_the_language_model_to_the_bit():
    model = tiny_model(connector_config=CONNECTORS["cross_attention"])
    ids = prompt("cross_attention")
    embeds = model.embed(ids, model.image_embeds(pixels()))
    torch.testing.assert_close(embeds[0, 1], model.connector.slot.vectors[0])
    expected = model.language_model(inputs_embeds=embeds).logits
    assert torch.equal(model(ids, pixels()).logits, expected)
    assert torch.equal(model(ids, pixels(seed=1)).logits, expected)


@kinds
def test_the_picture_matters(kind):
    model = model_of(kind)
    one, other = (model(prompt(kind), pixels(seed=seed)).logits[:, -1] for seed in (0, 1))
    assert not torch.allclose(one, other, atol=1e-3)


@kinds
def test_text_alone_is_the_language_model_to_the_bit(kind):
    model, ids = model_of(kind), torch.tensor([[5, 17, 18, 19]])
    assert torch.equal(model(ids).logits, model.language_model(ids).logits)


@pytest.mark.parametrize("part", ["attention_gate", "feed_forward_gate"])
def test_each_gate_opens(part):
    model = tiny_model(connector_config=CONNECTORS["cross_attention"])
    closed = model(prompt("cross_attention"), pixels()).logits
    nn.init.constant_(getattr(model.connector.blocks[0], part).openness, 0.5)
    assert not torch.allclose(model(prompt("cross_attention"), pixels()).logits, closed, atol=1e-3)


# --- who looks where ---


@kinds
def test_a_picture_changes_nothing_before_it(kind):
    model = model_of(kind)
    before = (5, 20, 21, 22, 23)
    ids = prompt(kind, *before[1:])
    seen = [model.hidden_states(ids, pixels(seed=seed)) for seed in (0, 1)]
    first = len(before)
    assert torch.equal(seen[0][:, :first], seen[1][:, :first])
    assert not torch.allclose(seen[0][:, first:], seen[1][:, first:])
    embeds = model.embed(ids, model.image_embeds(pixels()))
    plain = model.get_decoder()(inputs_embeds=embeds).last_hidden_state
    assert torch.equal(seen[0][:, :first], plain[:, :first])


def looks(sight, latents=2):
    """For each position the picture that it looks at, -1 for none."""
    chosen = sight.mask_B1TK[:, 0, :, ::latents]
    assert torch.equal(chosen.repeat_interleave(latents, -1), sight.mask_B1TK[:, 0])
    assert (chosen.sum(-1) == 1)[~sight.blind_BT1[..., 0]].all()
    return chosen.long().argmax(-1).masked_fill(sight.blind_BT1[..., 0], -1).tolist()


def gallery(*rows, past=0):
    slots = torch.tensor(rows, dtype=torch.bool)
    return Gallery.of(Pictures(torch.randn(int(slots.sum()), 2, 3), slots), past)


def test_a_position_looks_at_the_last_picture_up_to_it():
    hung = gallery([0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0])
    assert hung.column_BP.tolist() == [[1, 3], [NEVER, NEVER], [2, NEVER]]
    sight = Sight.of(hung, torch.arange(5), None)
    assert looks(sight) == [[-1, 0, 0, 1, 1], [-1] * 5, [-1, -1, 0, 0, 0]]


def test_pictures_keep_their_rows_and_order():
    latents = torch.randn(3, 2, 3)
    slots = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.bool)
    hung = Gallery.of(Pictures(latents, slots), 0)
    torch.testing.assert_close(hung.latents_BPLD[0], latents[:2])
    torch.testing.assert_close(hung.latents_BPLD[2, 0], latents[2])
    assert not hung.latents_BPLD[1].any()


def test_a_conversation_that_starts_at_position_0_sees_no_picture_of_the_one_before():
    hung = gallery([0, 1, 0, 0, 0, 1, 0])
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    assert looks(Sight.of(hung, torch.arange(7), positions)) == [[-1, 0, 0, -1, -1, 1, 1]]


def test_later_pictures_join_and_a_cut_cache_forgets():
    hung = gallery([0, 1, 0], [0, 0, 0]).then(gallery([0, 1], [1, 0], past=3))
    assert looks(Sight.of(hung, torch.arange(3, 6), None)) == [[0, 1, 1], [1, 1, 1]]
    assert looks(Sight.of(hung.until(4), torch.arange(4, 6), None)) == [[0, 0], [1, 1]]
    assert looks(Sight.of(hung.until(3), torch.arange(3, 5), None)) == [[0, 0], [-1, -1]]
    again = hung.until(1).then(gallery([0, 1], [0, 0], past=1))
    assert looks(Sight.of(again, torch.arange(1, 3), None)) == [[-1, 2], [-1, -1]]


# --- answers ---


@kinds
@torch.inference_mode()
def test_with_cache_is_without_step_by_step(kind):
    session = session_of(kind)
    model, batch = session.model, session.processor.prompts(CONVERSATIONS)
    ids, mask, images = batch["input_ids"], batch["attention_mask"], batch["pixel_values"]
    assert mask[2, 0] == 0
    cache = DynamicCache(config=model.config.text)
    step = {"input_ids": ids, "pixel_values": images}
    for _ in range(6):
        positions = positions_of(mask)
        common = {"attention_mask": mask, "logits_to_keep": 1}
        now = positions[:, -step["input_ids"].shape[1] :]
        cached = model(**step, position_ids=now, past_key_values=cache, use_cache=True, **common).logits
        whole = model(ids, images, position_ids=positions, use_cache=False, **common).logits
        torch.testing.assert_close(cached, whole, **CLOSE)
        cached[..., model.config.image_token_id] = whole[..., model.config.image_token_id] = -torch.inf
        token = whole[:, -1].argmax(-1, keepdim=True)
        assert torch.equal(cached[:, -1].argmax(-1, keepdim=True), token)
        step = {"input_ids": token}
        ids, mask = torch.cat([ids, token], dim=1), torch.cat([mask, torch.ones_like(token)], dim=1)
    assert len(set(map(tuple, ids[:, -6:].tolist()))) > 1


@kinds
def test_a_batch_gives_the_single_answers(kind):
    session = session_of(kind)
    options = GenerationOptions(max_new_tokens=10)
    batch = session.answers(CONVERSATIONS, options)
    assert batch == [session.answer(conversation, options) for conversation in CONVERSATIONS]
    assert len(set(batch)) > 1


@kinds
@torch.inference_mode()
def test_a_row_has_the_logits_that_it_has_alone(kind):
    session = session_of(kind)
    together = session.processor.prompts(CONVERSATIONS)
    logits = session.model(**together, position_ids=positions_of(together["attention_mask"])).logits[:, -1]
    alone = [session.model(**session.processor.prompts([one])).logits[0, -1] for one in CONVERSATIONS]
    torch.testing.assert_close(logits, torch.stack(alone), **CLOSE)


@kinds
@pytest.mark.parametrize("beams", [1, 3])
def test_stock_generate_is_the_same_with_and_without_cache(kind, beams):
    model = model_of(kind)
    cached, uncached = (
        model.generate(
            prompt(kind),
            pixel_values=pixels(),
            max_new_tokens=8,
            do_sample=False,
            num_beams=beams,
            use_cache=use_cache,
            suppress_tokens=[SLOT],
        )
        for use_cache in (True, False)
    )
    assert cached.tolist() == uncached.tolist()


@kinds
@torch.inference_mode()
def test_a_later_picture_on_a_kept_cache_is_the_whole_at_once(kind):
    model, images = model_of(kind), pixels(2)
    first, second = prompt(kind, 20), prompt(kind, 21, after=(9,))
    whole = model(torch.cat([first, second], dim=1), images).logits[:, first.shape[1] :]
    kept = model(first, images[:1], use_cache=True).past_key_values  # a cache that the language model made itself
    torch.testing.assert_close(model(second, images[1:], past_key_values=kept).logits, whole, **CLOSE)
    kept.crop(-second.shape[1])
    words = torch.tensor([[30, 31, 32]])
    expected = model(torch.cat([first, words], dim=1), images[:1]).logits[:, -3:]
    torch.testing.assert_close(model(words, past_key_values=kept).logits, expected, **CLOSE)


@torch.inference_mode()
def test_embeddings_instead_of_ids_see_the_cached_picture_too():
    model = model_of("cross_attention")
    token = torch.tensor([[30]])
    by_id, by_embedding = (
        model(
            **step,
            past_key_values=model(prompt("cross_attention"), pixels(), use_cache=True).past_key_values,
        ).logits
        for step in ({"input_ids": token}, {"inputs_embeds": model.get_input_embeddings()(token)})
    )
    assert torch.equal(by_id, by_embedding)


# --- files ---


@kinds
def test_saved_and_loaded_gives_the_same_logits(kind, tmp_path):
    session = session_of(kind)
    save_model(session.model, session.processor, tmp_path / "saved")
    batch = session.processor.prompts([CONVERSATIONS[1]])
    with torch.inference_mode():
        expected = session.model(**batch).logits
        assert torch.equal(load_model(tmp_path / "saved")(**batch).logits, expected)
        again = AutoModelForImageTextToText.from_pretrained(tmp_path / "saved").eval()
        assert torch.equal(again(**batch).logits, expected)
    assert AutoConfig.from_pretrained(tmp_path / "saved").connector.kind == kind


@kinds
def test_a_missing_connector_weight_is_named(kind, tmp_path):
    session = session_of(kind)
    lost = min(name for name in session.model.state_dict() if name.startswith("connector."))
    save_model(session.model, session.processor, tmp_path / "saved")
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    del tensors[lost]
    save_file(tensors, tmp_path / "saved" / "model.safetensors")
    with pytest.raises(CheckpointMismatch, match=f"1 missing: {lost}"):
        load_model(tmp_path / "saved")


@kinds
def test_bfloat16_answers(kind, tmp_path):
    session = session_of(kind)
    save_model(session.model, session.processor, tmp_path / "saved")
    half = load_model(tmp_path / "saved", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    answers = ChatSession(half, session.processor).answers(CONVERSATIONS, GenerationOptions(max_new_tokens=3))
    assert len(answers) == len(CONVERSATIONS)
    assert any(answers)


def test_configurations_of_before_load_unchanged():
    stored = MayaConfig.from_pretrained(asset_path("maya-tiny"))
    assert (stored.connector.kind, stored.connector.depth, stored.connector.hidden_act) == ("mlp", 2, "gelu")
    names = [name for name in tiny_model().state_dict() if name.startswith("connector.")]
    assert names == [f"connector.layers.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]


@pytest.mark.parametrize("kind", ["qformer", "cross_attention"])
def test_layouts_that_only_know_an_mlp_refuse_in_a_sentence(kind, tmp_path):
    session = session_of(kind)
    save_model(session.model, session.processor, tmp_path / "saved")
    with pytest.raises(CheckpointError, match=f"this model's is a {kind}; it cannot be exported"):
        export_llava(tmp_path / "saved", tmp_path / "llava")
    assert not (tmp_path / "llava").exists()
    torch.save({"model.mm_projector.0.weight": torch.zeros(48, 32)}, tmp_path / "mm_projector.bin")
    with pytest.raises(CheckpointMismatch, match=f"holds an mlp connector, but this model's is a {kind}"):
        load_connector(session.model, tmp_path / "mm_projector.bin")


@kinds
def test_the_parts_are_counted_and_shown(kind, tmp_path, monkeypatch, capsys):
    session = session_of(kind)
    counts = parameter_counts(session.model.config)
    assert counts == {part: parameters(getattr(session.model, part)) for part in counts}
    save_model(session.model, session.processor, tmp_path / "saved")
    monkeypatch.setattr("sys.argv", ["maya", "info", "--model", str(tmp_path / "saved")])
    cli.main()
    said = capsys.readouterr().out
    assert f"{counts['connector']:,} parameters" in said
    assert f"{SLOTS[kind]} visual tokens" in said


# --- first values ---


def first_values(model):
    gates = [module.openness for module in model.modules() if isinstance(module, Gate)]
    vectors = [parameter for name, parameter in model.named_parameters() if name.endswith(".vectors")]
    return gates, vectors


@pytest.mark.parametrize("kind", ["qformer", "cross_attention"])
def test_gates_start_closed_and_learned_vectors_small(kind):
    torch.manual_seed(0)
    model = MayaForConditionalGeneration(
        tiny_config(connector_config=CONNECTORS[kind], text={"initializer_range": 0.05})
    )
    gates, vectors = first_values(model)
    assert len(gates) == (6 if kind == "cross_attention" else 0)
    assert not any(gate.any() for gate in gates)
    assert vectors
    assert 0.04 < torch.cat([vector.flatten() for vector in vectors]).std() < 0.06
    assert (
        0.04 < next(module for module in model.connector.modules() if isinstance(module, nn.Linear)).weight.std() < 0.06
    )


@pytest.mark.parametrize("kind", ["qformer", "cross_attention"])
def test_a_connector_that_no_file_has_gets_first_values_and_the_rest_what_was_loaded(kind, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    config = tiny_config(connector_config=CONNECTORS[kind], text={"initializer_range": 0.05})
    model = AutoModelForImageTextToText.from_pretrained(tmp_path, config=config)
    gates, vectors = first_values(model)
    assert not any(gate.any() for gate in gates)
    assert 0.04 < torch.cat([vector.flatten() for vector in vectors]).std() < 0.06
    assert torch.equal(model.get_input_embeddings().weight, tiny_model().get_input_embeddings().weight)


@pytest.mark.parametrize("kind", ["qformer", "cross_attention"])
def test_what_is_loaded_is_not_drawn_again(kind, tmp_path):
    model = model_of(kind)
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    for name, tensor in model.connector.state_dict().items():
        assert torch.equal(again.connector.state_dict()[name], tensor), name


def test_a_copy_looks_with_its_own_blocks():
    model = model_of("cross_attention")
    expected = model(prompt("cross_attention"), pixels()).logits
    clone = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.connector.parameters():
            parameter.zero_()
    assert torch.equal(clone(prompt("cross_attention"), pixels()).logits, expected)


# --- training ---


def loss_of(model, batch):
    return AnswerObjective(model)(batch)


def batch_of(collator, samples):
    return collator.collate([collator.prepare(sample) for sample in samples])


ANSWERED = [Sample(messages=(*conversation, assistant("A dog."))) for conversation in CONVERSATIONS]


@kinds
def test_unpadded_is_one_by_one(kind):
    session = session_of(kind)
    collator = ConversationCollator(session.processor)
    together = loss_of(session.model, batch_of(collator, ANSWERED))
    alone = [loss_of(session.model, batch_of(collator, [sample])) for sample in ANSWERED]
    assert int(together.count) == sum(int(loss.count) for loss in alone)
    assert together.total.item() == pytest.approx(sum(loss.total.item() for loss in alone), rel=1e-5)
    trained = list(session.model.connector.parameters())
    gradients = torch.autograd.grad(together.total, trained)
    expected = torch.autograd.grad(sum(loss.total for loss in alone), trained)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@kinds
def test_packed_is_one_by_one(kind):
    session = session_of(kind)
    turns = [(user(text, RED), assistant("A dog.")) for text in ("What?", "图中有什么？", "Qu'y a-t-il ?")]
    other = [(user("What?", BLUE), assistant("Un chien."))]
    packs = [PackedSample(conversations=tuple(turns)), PackedSample(conversations=tuple(other))]
    together = loss_of(session.model, batch_of(PackedCollator(session.processor), packs))
    single = ConversationCollator(session.processor)
    alone = [loss_of(session.model, batch_of(single, [Sample(messages=one)])) for one in (*turns, *other)]
    assert together.total.item() == pytest.approx(sum(loss.total.item() for loss in alone), rel=1e-5)


@kinds
def test_only_the_connector_gets_gradients_where_only_it_is_named(kind):
    session = tiny_session(connector_config=CONNECTORS[kind])  # gates closed, as at the start of a training
    model = session.model.train()
    [optimizer] = build_optimizers(nn.ModuleDict({"model": model}), {"model.connector": 1e-3})
    batch = batch_of(ConversationCollator(session.processor), ANSWERED)
    before = loss_of(model, batch)
    before.total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("connector."), name
    gates, _ = first_values(model)
    assert all(gate.grad.abs() > 0 for gate in gates)
    if kind != "cross_attention":
        return
    optimizer.step()
    optimizer.zero_grad()
    assert loss_of(model, batch).total < before.total
    loss_of(model, batch).total.backward()
    still = [name for name, parameter in model.connector.named_parameters() if not parameter.grad.any()]
    assert all("key.bias" in name for name in still)  # softmax does not see them


@kinds
def test_recomputed_activations_give_the_same_gradients(kind):
    session = session_of(kind)
    model = session.model.train()
    batch = batch_of(ConversationCollator(session.processor), ANSWERED)
    trained = list(model.connector.parameters())
    kept = torch.autograd.grad(loss_of(model, batch).total, trained)
    model.get_decoder().activation_checkpointing_enable()
    recomputed = torch.autograd.grad(loss_of(model, batch).total, trained)
    for one, other in zip(kept, recomputed, strict=True):
        torch.testing.assert_close(one, other)


@kinds
def test_each_kind_learns_what_is_in_a_picture(kind):
    session = tiny_session(connector_config=CONNECTORS[kind])
    questions = [[user("What?", image)] for image in (RED, GREEN, BLUE)]
    names = ["red", "green", "blue"]
    samples = [Sample(messages=(*one, assistant(name))) for one, name in zip(questions, names, strict=True)]
    batch = batch_of(ConversationCollator(session.processor), samples)
    parts = {"connector": 1e-2, "language_model": 1e-2}
    [optimizer] = build_optimizers(session.model, parts)
    for _ in range(60):
        loss = loss_of(session.model, batch)
        (loss.total / loss.count).backward()
        nn.utils.clip_grad_norm_(session.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert session.answers(questions, GenerationOptions(max_new_tokens=6)) == names


@kinds
def test_autocast_trains_in_bfloat16(kind):
    session = session_of(kind)
    batch = batch_of(ConversationCollator(session.processor), ANSWERED)
    exact = loss_of(session.model, batch).total
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(session.model, batch).total
    half.backward()
    assert half.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in session.model.connector.parameters())


@kinds
def test_labels_give_a_loss(kind):
    model, ids = model_of(kind), prompt(kind)
    labels = ids.clone()
    labels[:, :-2] = -100
    logits = model(ids, pixels()).logits
    expected = nn.functional.cross_entropy(logits[0, -3:-1], ids[0, -2:])
    torch.testing.assert_close(model(ids, pixels(), labels=labels).loss, expected)


# --- configuration ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        *[
            ({name: 0}, f"{name} must be at least 1, not 0")
            for name in (
                "depth",
                "num_attention_heads",
                "head_dim",
                "num_query_tokens",
                "cross_attention_frequency",
                "num_latents",
                "cross_attn_every_n_layers",
            )
        ],
        ({"hidden_act": "gulu"}, "hidden_act 'gulu' is no activation"),
        ({"kind": "cross_attention"}, "cross_attn_every_n_layers 4 leaves none of the 3 decoder layers"),
    ],
)
def test_a_connector_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(connector_config=fields)


def test_an_unknown_kind_is_refused():
    with pytest.raises(Exception, match="kind"):
        ConnectorConfig(kind="projector")
