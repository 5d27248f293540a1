"""What the stages learn: words alike, cells like words, answers and places; and how connector and language model start."""

import math
from dataclasses import replace

import pytest
import torch

from maya_core.languages import CODES
from maya_core.learning.objective import AnswerObjective
from maya_core.learning.optim import build_optimizers
from tests.training.embedded.conftest import GRID, ROWS, SIZE
from training.embedded.grounding import (
    CellObjective,
    MeaningCollator,
    Meanings,
    WordVectors,
    look_by_names,
    match_spread,
    start_at_the_classifier,
    table_of,
    word_objective,
    words_of,
)
from training.embedded.looking import CellCollator, Looking, LookingCollator
from training.embedded.pointing import LAYERS, PointingObjective
from training.embedded.simulated import Simulator, classifier
from training.photo_vqa.phrases import COLOURS
from training.photo_vqa.things import KINDS, load_things


@pytest.fixture(scope="module")
def words(embedded_processor):
    return words_of(embedded_processor, CODES)


@pytest.fixture(scope="module")
def looking(seen):
    return Looking(seen=seen, simulator=Simulator({}, {}, [], GRID), grid=GRID, perhaps=dict.fromkeys(range(SIZE), ""))


@pytest.fixture(scope="module")
def features_BCD(seen):
    return torch.stack([seen.features(index) for index in range(8)])


def batch_of(collator, samples):
    return collator.collate([collator.prepare(sample) for sample in samples])


def losses(objective, batch, rates, steps):
    """Mean loss before each step."""
    [optimizer] = build_optimizers(objective, rates)
    told = []
    for _ in range(steps):
        torch.manual_seed(0)  # the same forms of words at each step
        loss = objective(batch)
        mean = loss.total / loss.count
        optimizer.zero_grad()
        mean.backward()
        optimizer.step()
        told.append(mean.item())
    return told


# --- words ---


def test_words_are_means_of_their_tokens(words, made):
    table_VE = table_of(made.model).detach()
    for group, number in zip(words, (len(load_things()), len(COLOURS), len(KINDS), 9), strict=True):
        vectors = WordVectors(group)
        assert len(vectors) == number
        every_FWE = vectors(table_VE)
        assert every_FWE.shape == (len(group), number, table_VE.shape[1])
        wanted_E = table_VE[group[-1][number - 1]].mean(0)
        torch.testing.assert_close(every_FWE[-1, -1], wanted_E)
        torch.manual_seed(0)
        chosen = torch.randperm(len(group))[:3]
        torch.manual_seed(0)
        torch.testing.assert_close(vectors.some(table_VE, 3), every_FWE[chosen])


@pytest.mark.long(15)
def test_words_of_one_thing_become_alike(made):
    objective = word_objective(made.model, made.processor)
    meanings = Meanings(objective.meanings.num_embeddings)
    assert len(meanings) == len(load_things()) + len(COLOURS) + len(KINDS) + 9
    batch = MeaningCollator().collate([meanings[index] for index in range(0, len(meanings), 7)])
    rates = {"model.language_model.model.embed_tokens": 1e-2, "meanings": 1e-2, "languages": 1e-2}
    told = losses(objective, batch, rates, 4)
    assert all(math.isfinite(loss) for loss in told)
    assert told[-1] < told[0] - 0.1


# --- cells ---


def test_cells_become_like_the_words_for_what_lies_there(made, words, looking):
    """Here one thing all over each picture, with cells that differ little."""
    batch = batch_of(CellCollator(), [looking[index] for index in range(4)])
    features_BCD = batch["vision_features"][:, : GRID**2]
    batch["vision_features"] = 0.9 * features_BCD[:, :1] + 0.1 * features_BCD
    batch["things"] = torch.tensor([3, 1, 4, 1])[:, None].expand(-1, GRID**2).contiguous()
    batch["colours"] = torch.full_like(batch["things"], -1)
    start_at_the_classifier(made.model.connector, batch["vision_features"])
    objective = CellObjective(made.model, words)
    told = losses(objective, batch, {"model.connector": 1e-3, "nothing": 1e-2}, 30)
    assert all(math.isfinite(loss) for loss in told)
    assert told[-1] < 0.8 * told[0], told


def test_cells_of_which_nothing_is_known_still_say_where_they_are(made, words, looking):
    batch = batch_of(CellCollator(), [looking[index] for index in range(2)])
    objective = CellObjective(made.model, words)
    torch.manual_seed(0)
    known = objective(batch)
    batch["things"].fill_(-1), batch["colours"].fill_(-1)
    torch.manual_seed(0)
    unknown = objective(batch)
    assert math.isfinite(unknown.total.item())
    assert 0 < unknown.total < known.total
    assert int(unknown.count) == int(known.count) == 2 * ROWS


# --- answers and places ---


@pytest.mark.long(12)
def test_it_learns_to_answer_and_where_things_lie(made, looking):
    torch.manual_seed(0)
    objective = PointingObjective(made.model, made.processor)
    asking = replace(looking, conversations=2, names=4)
    batch = batch_of(LookingCollator(made.processor), [asking[index] for index in range(2)])
    start_at_the_classifier(made.model.connector, batch["vision_features"])
    answers = AnswerObjective(made.model)(batch)
    beside = objective(batch)
    assert int(beside.count) == int(answers.count)
    assert beside.total > answers.total
    rates = {"model.language_model": 2e-3, "model.connector": 1e-3, "places": 2e-2}
    told = losses(objective, batch, rates, 6)
    assert all(math.isfinite(loss) for loss in told)
    assert told[-1] < 0.8 * told[0]
    assert len(objective.places) == LAYERS
    assert all(place.weight.grad.abs().sum() > 0 for place in objective.places)
    assert not made.model.get_decoder().layers[0]._forward_hooks


# --- how it starts ---


def test_a_connector_starts_at_what_the_classifier_sees(made, features_BCD):
    start_at_the_classifier(made.model.connector, features_BCD)
    first = made.model.connector.layers[0]
    with torch.inference_mode():
        hidden_CH = first(features_BCD.flatten(0, 1).float())
    known = [list(thing.imagenet) for thing in load_things().values() if thing.imagenet]
    assert hidden_CH.mean(0).abs().max() < 1e-2
    torch.testing.assert_close(hidden_CH[:, : len(known)].std(0), torch.ones(len(known)), atol=2e-2, rtol=0)
    scores_CK = features_BCD.flatten(0, 1).float()[:, : classifier().shape[1]] @ classifier().T
    for number in (0, 100, 300):
        own_C = scores_CK[:, known[number]].mean(1) - torch.stack([scores_CK[:, one].mean(1) for one in known]).mean(0)
        assert torch.corrcoef(torch.stack([own_C, hidden_CH[:, number]]))[0, 1] > 0.999


def test_pictures_become_as_loud_as_words(made, features_BCD):
    match_spread(made.model, features_BCD)
    with torch.inference_mode():
        embeds_BCE = made.model.connector(features_BCD.float())
    assert embeds_BCE.std().item() == pytest.approx(table_of(made.model).std().item(), rel=1e-2)


def test_a_name_begins_by_attending_to_what_is_like_it(made, words, features_BCD):
    model = made.model
    look_by_names(model, words, features_BCD, sharpness=9.0)
    text = model.config.text
    size = text.hidden_size // text.num_attention_heads
    attention = model.get_decoder().layers[0].self_attn
    names_WE = WordVectors(words[0])(table_of(model)).flatten(0, 1)
    names_WE = torch.nn.functional.layer_norm(names_WE, names_WE.shape[-1:])
    for group in range(text.num_key_value_heads):
        first = group * text.num_attention_heads // text.num_key_value_heads * size
        queries_WH = names_WE @ attention.q_proj.weight[first : first + size].T
        keys_WH = names_WE @ attention.k_proj.weight[group * size : (group + 1) * size].T
        assert not queries_WH[:, : size // 2].any()
        own_W = (queries_WH * keys_WH).sum(1) / math.sqrt(size)
        assert own_W.mean().item() == pytest.approx(9.0, rel=1e-3)
