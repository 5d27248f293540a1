"""The language model's words and the connector's patches brought together, before any sentence: stages `words`,
`connector` and `grounding`; and how the language model starts, so that it can look things up from the first step.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from maya_core.languages import CODES
from maya_core.learning.data import Batch, Collator
from maya_core.learning.losses import LossSum
from maya_core.learning.train import TrainConfig, train
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from training.embedded.sight import EmojiScenes, SceneCollator, WordVectors, names_of, things_of, token_ids
from training.emoji_vqa.questions import load_phrases, sentences
from training.emoji_vqa.scenes import CELLS, make_scene, render
from training.emoji_vqa.vocabulary import CATEGORIES, load_vocabulary
from training.progress import printer

FORMS_A_STEP = 5  # of twenty: ten languages, with a space before the word and without


class Meanings:
    """The things and places that have words: sample `index` is its own number."""

    def __init__(self, things: int) -> None:
        self.things = things

    def __len__(self) -> int:
        return self.things + CELLS

    def __getitem__(self, index: int) -> int:
        return index


class MeaningCollator(Collator):
    """Numbers of meanings -> meanings (B,)."""

    def collate(self, prepared: Sequence[int]) -> Batch:
        return {"meanings": torch.tensor(prepared)}


class WordObjective(nn.Module):
    """The words of one thing, or place, are alike in all languages; and each word says which language it belongs to.

    Trained on text as scarce as EmojiVQA's, a language model would put both into its table of words only slowly, and
    answer in the wrong language for long.
    """

    def __init__(
        self,
        model: MayaForConditionalGeneration,
        things: Sequence[Sequence[Sequence[int]]],
        places: Sequence[Sequence[Sequence[int]]],
        uses: Mapping[int, Sequence[float]],
    ) -> None:
        """Token ids by form and thing (the concepts, then the colours), and by form and cell. A form is a language, with or
        without a space before the word. uses: of a token, how much each language uses it."""
        super().__init__()
        self.model = model
        self.words = nn.ModuleList([WordVectors(things), WordVectors(places)])
        width = model.config.text.hidden_size
        self.meanings = nn.Embedding(len(Meanings(len(things[0]))), width)
        self.languages = nn.Linear(width, len(CODES))
        shares_WL = torch.tensor(list(uses.values()))
        self.used_W: Tensor
        self.shares_WL: Tensor
        self.register_buffer("used_W", torch.tensor(list(uses)), persistent=False)
        self.register_buffer("shares_WL", shares_WL / shares_WL.sum(1, keepdim=True), persistent=False)

    def forward(self, batch: Batch) -> LossSum:
        """batch: meanings (B,), the things and behind them the places."""
        table_VE = table_of(self.model)
        meanings_B = batch["meanings"]
        directions_BE = _direction(self.meanings(meanings_B), self.model)
        used_WE = nn.functional.layer_norm(table_VE[self.used_W], table_VE.shape[-1:])
        total = nn.functional.cross_entropy(self.languages(used_WE), self.shares_WL) * len(meanings_B)
        first = 0
        for words in self.words:
            mine_B = (first <= meanings_B) & (meanings_B < first + len(words))
            total = total + _likeness_loss(directions_BE[mine_B], words(table_VE), meanings_B[mine_B] - first)
            first += len(words)
        return LossSum(total, torch.tensor(len(meanings_B)))


class PatchObjective(nn.Module):
    """Bring the connector's image of a patch near the words for it: of what lies there (of the ground's colour, where
    nothing does), of what kind of thing that is, and of its place.

    The connector projects patches into the word space; here it is taught that directly, without a sentence between.
    """

    def __init__(
        self,
        model: MayaForConditionalGeneration,
        things: Sequence[Sequence[Sequence[int]]],
        kinds: Sequence[Sequence[Sequence[int]]],
        places: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        """As in `WordObjective`; kinds: the categories."""
        super().__init__()
        self.model = model
        self.things, self.kinds, self.places = WordVectors(things), WordVectors(kinds), WordVectors(places)
        self.kind_of: Tensor  # each concept's
        self.register_buffer(
            "kind_of",
            torch.tensor([list(CATEGORIES).index(concept.category) for concept in load_vocabulary()]),
            persistent=False,
        )
        grid = model.config.image_size // model.config.patch_size
        third = (torch.arange(grid) * 2 + 1) * 3 // (2 * grid)  # in which third of the picture a patch's middle lies
        self.cell_of_N: Tensor
        self.register_buffer("cell_of_N", (third[:, None] * 3 + third).flatten(), persistent=False)

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W), concepts (B, N), -1 where nothing lies, and colours (B,)."""
        return self.alike(self.model.vision_features(batch["pixel_values"]), batch)

    def alike(self, features_BND: Tensor, batch: Batch) -> LossSum:
        """The same, from what the tower made of the pictures."""
        table_VE = table_of(self.model)
        embeds_PE = self.model.connector(features_BND).float().flatten(0, 1)
        directions_PE = _direction(embeds_PE, self.model)
        things_P = things_of(batch, len(self.things))
        total = _likeness_loss(directions_PE, _some(self.things(table_VE)), things_P)
        cells_P = self.cell_of_N.repeat(len(features_BND))
        total = total + _likeness_loss(directions_PE, _some(self.places(table_VE)), cells_P)
        concepts_P = batch["concepts"].flatten()
        is_thing_P = concepts_P >= 0
        kinds_T = self.kind_of[concepts_P[is_thing_P]]
        total = total + _likeness_loss(directions_PE[is_thing_P], _some(self.kinds(table_VE)), kinds_T)
        return LossSum(total, torch.tensor(len(things_P)))


def _direction(vectors: Tensor, model: MayaForConditionalGeneration) -> Tensor:
    """Vectors as the language model's head would see them."""
    return _normalised(vectors) * model.config.text.logit_scale


def _some(words_FWE: Tensor) -> Tensor:
    """A few of the forms of words, by chance: over the steps all are met, at a quarter of the work."""
    return words_FWE[torch.randperm(len(words_FWE))[:FORMS_A_STEP]]


def _likeness_loss(directions_PE: Tensor, words_FWE: Tensor, targets_P: Tensor) -> Tensor:
    """Cross-entropy of each direction's word among the words of a form, the mean over forms, summed over directions."""
    forms = len(words_FWE)
    by_form_PWF = (directions_PE @ words_FWE.flatten(0, 1).T).unflatten(1, (forms, -1)).transpose(1, 2)
    targets_PF = targets_P[:, None].expand(-1, forms)
    return nn.functional.cross_entropy(by_form_PWF, targets_PF, reduction="sum") / forms


def table_of(model: MayaForConditionalGeneration) -> Tensor:
    """The table of word embeddings (V, E)."""
    table_VE = model.get_input_embeddings().weight
    assert isinstance(table_VE, Tensor)
    return table_VE


def attend_to_likeness(model: MayaForConditionalGeneration, *, sharpness: float = 6.0, loudness: float = 0.1) -> None:
    """Start the language model's attention where looking starts: each position attends to those like it, and takes over
    what they hold (mimetic initialisation, arXiv 2305.09828).

    Queries and keys of the first head of a group are one random projection, and so are values and, transposed, outputs; the
    group's other heads start at random, for heads that start alike stay alike. sharpness: attention score of a position with
    itself. loudness: of what is taken over; normalised, it would drown the words.
    """
    text = model.config.text
    width, heads, groups = text.hidden_size, text.num_attention_heads, text.num_key_value_heads
    size = width // heads
    scale = (sharpness / math.sqrt(size)) ** 0.5
    first = [head * size + row for head in range(0, heads, heads // groups) for row in range(size)]
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            attention = layer.self_attn
            looks, takes = (torch.linalg.qr(torch.randn(width, groups * size))[0].T for _ in range(2))
            attention.k_proj.weight.copy_(looks * scale)
            attention.v_proj.weight.copy_(takes * loudness**0.5)
            nn.init.normal_(attention.q_proj.weight, std=width**-0.5)
            nn.init.normal_(attention.o_proj.weight, std=(loudness / width) ** 0.5)
            attention.q_proj.weight[first] = looks * scale
            attention.o_proj.weight[:, first] = takes.T * loudness**0.5
            layer.mlp.down_proj.weight.zero_()  # says nothing until it has something to say


def look_by_names(
    model: MayaForConditionalGeneration, processor: MayaProcessor, *, sharpness: float = 9.0, loudness: float = 0.1
) -> None:
    """Start the first layer's likeness heads where words find their patches.

    After `grounding`, a name and the patches of its thing are alike in the directions in which the names of things differ
    most. Queries and keys become those, in the slow half of the rotary pairs (the others turn several times between a
    question and the picture); a second group takes the next ones. What is taken over is whether it is a picture's, at which
    place, and what else names tell apart. A name whose thing is there so attends to the picture, any other to itself.

    sharpness: mean score of a name with itself. loudness: as in `attend_to_likeness`.
    """
    text = model.config.text
    heads, groups = text.num_attention_heads, text.num_key_value_heads
    size = text.hidden_size // heads
    with torch.no_grad():
        names_FWE = _normalised(WordVectors(thing_forms(processor, CODES))(table_of(model)))
        places_CE = _normalised(WordVectors(place_forms(processor, CODES))(table_of(model))).mean(0)
        picture_E = _normalised(model.image_embeds(first_scenes(processor, 64))).flatten(0, 1).mean(0)
        name_E = names_FWE.mean((0, 1))
        between_names_EE = _principal(names_FWE.mean(0))
        taken = [(picture_E - name_E)[None], _principal(places_CE)[: CELLS - 1], between_names_EE[: size - CELLS]]
        takes_DE = torch.linalg.qr(torch.cat(taken).T)[0].T
        attention = model.get_decoder().layers[0].self_attn
        for group in range(groups):
            looks_HE = between_names_EE[group * size // 2 :][: size // 2]
            own = (names_FWE @ looks_HE.T).square().sum(-1).mean()
            looks_HE = looks_HE * (sharpness * math.sqrt(size) / own).sqrt()
            first = group * heads // groups * size  # row of the group's first head
            slow, shared = slice(first + size // 2, first + size), slice(group * size, (group + 1) * size)
            attention.q_proj.weight[first : first + size // 2] = 0
            attention.q_proj.weight[slow] = looks_HE
            attention.k_proj.weight[group * size + size // 2 : (group + 1) * size] = looks_HE
            attention.v_proj.weight[shared] = takes_DE * loudness**0.5
            attention.o_proj.weight[:, first : first + size] = takes_DE.T * loudness**0.5


def _normalised(vectors: Tensor) -> Tensor:
    return nn.functional.layer_norm(vectors, vectors.shape[-1:])


def _principal(vectors_WE: Tensor) -> Tensor:
    """The directions in which vectors differ, (min(W, E), E), the strongest first."""
    directions: Tensor = torch.linalg.svd(vectors_WE - vectors_WE.mean(0), full_matrices=False)[2]
    return directions


def standardise_features(model: MayaForConditionalGeneration, processor: MayaProcessor, scenes: int = 64) -> None:
    """Scale the first layer of the connector to the tower's features, so that it starts from mean 0 and spread 1.

    A tower's raw features are tens of times larger than word embeddings; an untrained language model drowns in them.
    """
    with torch.no_grad():
        features_PD = model.vision_features(first_scenes(processor, scenes)).flatten(0, 1)
        mean_D, spread_D = features_PD.mean(0), features_PD.std(0)
        first = next(layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        first.weight /= spread_D
        first.bias.copy_(-first.weight @ mean_D)


def first_scenes(processor: MayaProcessor, number: int) -> Tensor:
    """Pixels (number, 3, H, W) of training scenes."""
    scenes = (make_scene("train", index) for index in range(number))
    return torch.stack([processor.preparation.pixels(render(scene)) for scene in scenes])


def match_spread(model: MayaForConditionalGeneration, processor: MayaProcessor, scenes: int = 64) -> None:
    """Scale the last layer of the connector so that pictures are as loud as words.

    `PatchObjective` looks at directions alone. Embeddings hundreds of times larger than words pass through the language
    model untouched: what its layers add to them is lost beside them.
    """
    with torch.no_grad():
        factor = table_of(model).std() / model.image_embeds(first_scenes(processor, scenes)).std()
        *_, last = (layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        last.weight *= factor
        last.bias *= factor


def train_words(
    model: MayaForConditionalGeneration, processor: MayaProcessor, config: TrainConfig, run_dir: Path
) -> None:
    """The language model's table of words, on words for things and places in ten languages."""
    uses: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(CODES))
    for number, code in enumerate(CODES):
        for token, times in Counter(chain.from_iterable(token_ids(processor, list(sentences(code))))).items():
            uses[token][number] = float(times)
    things, places = thing_forms(processor, CODES), place_forms(processor, CODES)
    objective = WordObjective(model, things, places, uses)
    meanings = Meanings(len(things[0]))
    train(objective, meanings, MeaningCollator(), config, run_dir, on_record=printer("words"))


def align_patches(
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    languages: Sequence[str],
    config: TrainConfig,
    run_dir: Path,
    *,
    crowded: float = 0.3,
    alone: float = 0.3,
) -> None:
    """Patches and the words for them: stage 1 where the connector alone trains. crowded, alone: as of `EmojiScenes`."""
    objective = patch_objective(model, processor, languages)
    patch_size = model.config.patch_size
    scenes = EmojiScenes(processor.preparation, patch_size=patch_size, crowded=crowded, alone=alone)
    train(objective, scenes, SceneCollator(), config, run_dir, on_record=printer(run_dir.name))


def patch_objective(
    model: MayaForConditionalGeneration, processor: MayaProcessor, languages: Sequence[str]
) -> PatchObjective:
    """With the words of `languages`."""
    kinds = _forms(processor, [[load_phrases(code).categories[kind] for kind in CATEGORIES] for code in languages])
    return PatchObjective(model, thing_forms(processor, languages), kinds, place_forms(processor, languages))


def thing_forms(processor: MayaProcessor, languages: Sequence[str]) -> list[list[list[int]]]:
    return _forms(processor, [names_of(code) for code in languages])


def place_forms(processor: MayaProcessor, languages: Sequence[str]) -> list[list[list[int]]]:
    digits = [str(cell + 1) for cell in range(CELLS)]
    return _forms(processor, [digits, *(load_phrases(code).places for code in languages)])


def _forms(processor: MayaProcessor, words: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """A word at the start of a text and one behind a space are different tokens."""
    return [token_ids(processor, [f"{space}{word}" for word in form]) for form in words for space in ("", " ")]
