"""The language model's words and the connector's cells brought together, before any sentence: stages `words`, `connector`
and `grounding`; and how connector and language model start, so that they can look things up from the first step.

Shape letters: F forms of words, W words, E text width, C cells, P places or principal directions, H hidden width.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from maya_core.languages import CODES
from maya_core.learning.data import Batch, Collator
from maya_core.learning.losses import LossSum
from maya_core.model.connectors import MLPConnector
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import MayaProcessor
from maya_core.model.towers.efficientnet_lite import FEATURES
from maya_core.model.towers.photograph import FOLLOWING, MIDDLES
from training.embedded.looking import NOTHING, PLACES
from training.embedded.simulated import classifier
from training.embedded.tokenizer import with_words
from training.photo_vqa.phrases import COLOURS, load_phrases
from training.photo_vqa.texts import forms_of, is_spaced, sentences
from training.photo_vqa.things import KINDS, load_things

FORMS_A_STEP = 4  # of all forms of words
Words = list[list[list[int]]]  # token ids by form and word


class WordVectors(nn.Module):
    """Table of embeddings (V, E) -> vectors of words (F, W, E), each the mean of its tokens."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        flat = [list(word) for form in words for word in form]
        starts = torch.tensor([0] + [len(word) for word in flat[:-1]]).cumsum(0)
        self.forms = len(words)
        self.ids: Tensor
        self.starts: Tensor
        self.register_buffer("ids", torch.tensor([token for word in flat for token in word]), persistent=False)
        self.register_buffer("starts", starts, persistent=False)

    def __len__(self) -> int:
        """Words in a form."""
        return len(self.starts) // self.forms

    def forward(self, table_VE: Tensor) -> Tensor:
        words_WE = nn.functional.embedding_bag(self.ids, table_VE, self.starts, mode="mean")
        return words_WE.view(self.forms, -1, words_WE.shape[-1])

    def some(self, table_VE: Tensor, number: int) -> Tensor:
        """A few of the forms, by chance: over the steps all are met, at a fraction of the work."""
        ends = torch.cat([self.starts, self.starts.new_tensor([len(self.ids)])])
        words, chosen = len(self), torch.randperm(self.forms)[:number].tolist()
        ids, starts, read = [], [], 0
        for form in chosen:
            first, last = int(ends[form * words]), int(ends[(form + 1) * words])
            ids.append(self.ids[first:last])
            starts.append(self.starts[form * words : (form + 1) * words] - first + read)
            read += last - first
        words_WE = nn.functional.embedding_bag(torch.cat(ids), table_VE, torch.cat(starts), mode="mean")
        return words_WE.view(len(chosen), -1, words_WE.shape[-1])


# --- words ---


class Meanings:
    """Numbers of all that has words: things, then colours, kinds and places."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> int:
        return index


class MeaningCollator(Collator):
    """Numbers of meanings -> meanings (B,)."""

    def collate(self, prepared: Sequence[int]) -> Batch:
        return {"meanings": torch.tensor(prepared)}


class WordObjective(nn.Module):
    """The words of one thing, colour, kind or place are alike in all languages; and each word says which language it
    belongs to.

    Trained on text as scarce as these worlds', a language model would put both into its table of words only slowly, and
    answer in the wrong language for long.
    """

    def __init__(
        self, model: MayaForConditionalGeneration, words: Sequence[Words], uses: Mapping[int, Sequence[float]]
    ) -> None:
        """words: of things, colours, kinds and places. uses: of a token, how much each language uses it."""
        super().__init__()
        self.model = model
        self.words = nn.ModuleList(map(WordVectors, words))
        width = model.config.text.hidden_size
        self.meanings = nn.Embedding(sum(len(group[0]) for group in words), width)
        self.languages = nn.Linear(width, len(CODES))
        shares_WL = torch.tensor(list(uses.values()))
        self.used_W: Tensor
        self.shares_WL: Tensor
        self.register_buffer("used_W", torch.tensor(list(uses)), persistent=False)
        self.register_buffer("shares_WL", shares_WL / shares_WL.sum(1, keepdim=True), persistent=False)

    def forward(self, batch: Batch) -> LossSum:
        """batch: meanings (B,), things, then colours, kinds, places."""
        table_VE = table_of(self.model)
        meanings_B = batch["meanings"]
        directions_BE = _direction(self.meanings(meanings_B), self.model)
        used_WE = nn.functional.layer_norm(table_VE[self.used_W], table_VE.shape[-1:])
        total = nn.functional.cross_entropy(self.languages(used_WE), self.shares_WL) * len(meanings_B)
        first = 0
        for words in self.words:
            assert isinstance(words, WordVectors)
            mine_B = (first <= meanings_B) & (meanings_B < first + len(words))
            forms_FWE = words.some(table_VE, 3 * FORMS_A_STEP)
            total = total + _likeness_loss(directions_BE[mine_B], forms_FWE, meanings_B[mine_B] - first)
            first += len(words)
        return LossSum(total, torch.tensor(len(meanings_B)))


def word_objective(model: MayaForConditionalGeneration, processor: MayaProcessor) -> WordObjective:
    """With the words of all ten languages."""
    from training.emoji_vqa.questions import sentences as about_drawings

    uses: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(CODES))
    for number, code in enumerate(CODES):
        texts = list(chain(sentences(code), about_drawings(code)))
        for token, times in Counter(chain.from_iterable(token_ids(processor, texts))).items():
            uses[token][number] = float(times)
    return WordObjective(model, words_of(processor, CODES), uses)


def words_of(processor: MayaProcessor, languages: Sequence[str]) -> list[Words]:
    """Things, colours, kinds and places."""
    phrases = [load_phrases(code) for code in languages]
    things = [
        token_ids(processor, [f"{space}{word}" for word in words])
        for code in languages
        for form, words in forms_of(code).items()
        for space in (("", " ") if form == "name" and is_spaced(code) else (" ",) if is_spaced(code) else ("",))
    ]

    def both(words: Sequence[Sequence[str]]) -> Words:
        """A word at the start of an answer and one behind a space are different tokens."""
        large = [[phrase.as_answer(word) for word in form] for phrase, form in zip(phrases, words, strict=True)]
        behind = [[f" {word}" for word in form] for form in words]
        return [token_ids(processor, form) for form in (*large, *behind)]

    return [
        things,
        both([[phrase.colours[colour] for colour in COLOURS] for phrase in phrases]),
        both([[phrase.kinds[kind] for kind in KINDS] for phrase in phrases]),
        both([phrase.places for phrase in phrases]),
    ]


def token_ids(processor: MayaProcessor, words: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = processor.require_tokenizer()(list(words), add_special_tokens=False)["input_ids"]
    return ids


# --- cells ---


class CellObjective(nn.Module):
    """Bring the connector's image of a cell near the words for it: of what lies there, of its kind, of its colour, and of
    its place.

    The connector projects cells into the word space; here it is taught that directly, without a sentence between.
    """

    def __init__(self, model: MayaForConditionalGeneration, words: Sequence[Words]) -> None:
        """words: of things, colours, kinds and places."""
        super().__init__()
        self.model = model
        self.things, self.colours, self.kinds, self.places = map(WordVectors, words)
        self.nothing = nn.Embedding(1, model.config.text.hidden_size)
        self.kind_of: Tensor  # each thing's
        self.register_buffer(
            "kind_of", torch.tensor([KINDS.index(thing.kind) for thing in load_things().values()]), persistent=False
        )

    def forward(self, batch: Batch) -> LossSum:
        """batch: vision_features (B, C, D); things and colours (B, C), as in `looking.LookingSample`."""
        table_VE = table_of(self.model)
        embeds_CE = self.model.connector(batch["vision_features"]).float().flatten(0, 1)
        directions_CE = _direction(embeds_CE, self.model)
        things_C, colours_C = batch["things"].flatten(), batch["colours"].flatten()
        things_FWE = self.things.some(table_VE, FORMS_A_STEP)
        nothing_FWE = self.nothing.weight.expand(len(things_FWE), 1, -1)
        is_known_C, is_thing_C, is_coloured_C = things_C != -1, things_C >= 0, colours_C >= 0
        targets_C = torch.where(things_C == NOTHING, len(self.things), things_C)
        words_FWE = torch.cat([things_FWE, nothing_FWE], dim=1)
        total = _likeness_loss(directions_CE[is_known_C], words_FWE, targets_C[is_known_C])
        kinds_C = self.kind_of[things_C[is_thing_C]]
        total = total + 0.5 * _likeness_loss(
            directions_CE[is_thing_C], self.kinds.some(table_VE, FORMS_A_STEP), kinds_C
        )
        colours_FWE = self.colours.some(table_VE, FORMS_A_STEP)
        total = total + 0.5 * _likeness_loss(directions_CE[is_coloured_C], colours_FWE, colours_C[is_coloured_C])
        is_there_C = batch["vision_features"].flatten(0, 1).any(1)  # not where nothing stands behind the cells
        places_C = _place_of(batch["vision_features"].flatten(0, 1)[is_there_C])
        total = total + _likeness_loss(directions_CE[is_there_C], self.places.some(table_VE, FORMS_A_STEP), places_C)
        return LossSum(total, torch.tensor(len(things_C)))


def _place_of(features_CD: Tensor) -> Tensor:
    """(C,): in which of the nine places each cell's middle lies, by what the tower says of it."""
    column_C, row_C = ((features_CD[:, -2:] + 1) * 1.5).long().clamp(0, 2).T
    place_C: Tensor = 3 * row_C + column_C
    return place_C


def grid_of(model: MayaForConditionalGeneration) -> int:
    """Cells along a side of a picture."""
    return model.config.image_size // model.config.patch_size


def _direction(vectors: Tensor, model: MayaForConditionalGeneration) -> Tensor:
    """Vectors as the language model's head would see them."""
    directions: Tensor = _normalised(vectors) * model.config.text.logit_scale
    return directions


def _likeness_loss(directions_CE: Tensor, words_FWE: Tensor, targets_C: Tensor) -> Tensor:
    """Cross-entropy of each direction's word among the words of a form, the mean over forms, summed over directions."""
    forms = len(words_FWE)
    by_form_CWF = (
        (directions_CE @ words_FWE.flatten(0, 1).T).view(len(directions_CE), forms, words_FWE.shape[1]).transpose(1, 2)
    )
    targets_CF = targets_C[:, None].expand(-1, forms)
    loss: Tensor = nn.functional.cross_entropy(by_form_CWF, targets_CF, reduction="sum") / forms
    return loss


def table_of(model: MayaForConditionalGeneration) -> Tensor:
    """The table of word embeddings (V, E)."""
    table_VE = model.get_input_embeddings().weight
    assert isinstance(table_VE, Tensor)
    return table_VE


# --- how it starts ---


def start_at_the_classifier(connector: nn.Module, features_BCD: Tensor) -> None:
    """Scale the connector's first layer to the tower's features, so that it starts from mean 0 and spread 1; and let it
    begin with what things the classifier of ImageNet sees, as far as its width goes.

    A tower's raw features are tens of times larger than word embeddings; an untrained language model drowns in them.
    """
    assert isinstance(connector, MLPConnector)
    first = connector.layers[0]
    assert isinstance(first, nn.Linear)
    classes_KL = classifier()
    known = [list(thing.imagenet) for thing in load_things().values() if thing.imagenet]
    with torch.no_grad():
        features_CD = features_BCD.flatten(0, 1).float()
        mean_D, spread_D = features_CD.mean(0), features_CD.std(0).clamp(min=1e-2)
        first.weight.normal_(std=features_CD.shape[1] ** -0.5)
        first.weight /= spread_D
        sees_KL = torch.stack([classes_KL[classes].mean(0) for classes in known])[: len(first.weight)]
        sees_KL = sees_KL - sees_KL.mean(0)
        first.weight[: len(sees_KL)] = 0
        scores_CK = features_CD[:, :FEATURES] @ sees_KL.T
        first.weight[: len(sees_KL), :FEATURES] = sees_KL / scores_CK.std(0).clamp(min=1e-3)[:, None]
        first.bias.copy_(-first.weight @ mean_D)


def match_spread(model: MayaForConditionalGeneration, features_BCD: Tensor) -> None:
    """Scale the last layer of the connector so that pictures are as loud as words.

    `CellObjective` looks at directions alone. Embeddings hundreds of times larger than words pass through the language
    model untouched: what its layers add to them is lost beside them.
    """
    with torch.no_grad():
        factor = table_of(model).std() / model.connector(features_BCD.float()).std()
        *_, last = (layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        last.weight.mul_(factor)
        last.bias.mul_(factor)


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
    decoder: Any = model.get_decoder()
    with torch.no_grad():
        for layer in decoder.layers:
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
    model: MayaForConditionalGeneration,
    words: Sequence[Words],
    features_BCD: Tensor,
    *,
    sharpness: float = 9.0,
    loudness: float = 0.1,
) -> None:
    """Start the first layer's likeness heads where words find their cells.

    After `grounding`, a name and the cells of its thing are alike in the directions in which the names of things differ
    most. Queries and keys become those, in the slow half of the rotary pairs (the others turn several times between a
    question and the picture); a second group takes the next ones. What is taken over is whether it is a picture's, at which
    place, and what else names tell apart. A name whose thing is there so attends to the picture, any other to itself.

    words: of things, colours, kinds and places. sharpness: mean score of a name with itself. loudness: as in
    `attend_to_likeness`.
    """
    text = model.config.text
    heads, groups = text.num_attention_heads, text.num_key_value_heads
    size = text.hidden_size // heads
    with torch.no_grad():
        names_FWE, places_FPE = (_normalised(WordVectors(words[group])(table_of(model))) for group in (0, 3))
        places_PE = places_FPE.mean(0)
        picture_E = _normalised(model.connector(features_BCD.float())).flatten(0, 1).mean(0)
        name_E = names_FWE.mean((0, 1))
        between_names_EE = _principal(names_FWE.mean(0))
        taken = [(picture_E - name_E)[None], _principal(places_PE)[: PLACES - 1], between_names_EE[: size - PLACES]]
        takes_PE = torch.linalg.qr(torch.cat(taken).T)[0].T
        decoder: Any = model.get_decoder()
        attention = decoder.layers[0].self_attn
        for group in range(groups):
            looks_PE = between_names_EE[group * size // 2 :][: size // 2]
            own = (names_FWE @ looks_PE.T).square().sum(-1).mean()
            looks_PE = looks_PE * (sharpness * math.sqrt(size) / own).sqrt()
            first = group * heads // groups * size  # row of the group's first head
            slow, shared = slice(first + size // 2, first + size), slice(group * size, (group + 1) * size)
            attention.q_proj.weight[first : first + size // 2] = 0
            attention.q_proj.weight[slow] = looks_PE
            attention.k_proj.weight[group * size + size // 2 : (group + 1) * size] = looks_PE
            attention.v_proj.weight[shared] = takes_PE * loudness**0.5
            attention.o_proj.weight[:, first : first + size] = takes_PE.T * loudness**0.5


def deepened(model: MayaForConditionalGeneration, layers: int) -> MayaForConditionalGeneration:
    """A model of that many decoder layers, at most twice as many, which answers as this one does: each of the last layers
    stands behind a copy of its own that adds nothing yet (arXiv 2401.02415)."""
    config = deepcopy(model.config)
    had, config.text.num_hidden_layers = config.text.num_hidden_layers, layers
    deeper = MayaForConditionalGeneration(config)
    deeper.load_state_dict(model.state_dict(), strict=False)
    before: Any = model.get_decoder()
    after: Any = deeper.get_decoder()
    copied = layers - had
    sources = [*range(had - copied), *(number for number in range(had - copied, had) for _ in range(2))]
    for place, (layer, source) in enumerate(zip(after.layers, sources, strict=True)):
        layer.load_state_dict(before.layers[source].state_dict())
        if source in sources[place + 1 :]:
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)
    deeper.train(model.training)
    return deeper


def told_more(model: MayaForConditionalGeneration, features: int) -> MayaForConditionalGeneration:
    """With a photograph tower that gives so many features of a cell: also how sure the next things of a class are. At first
    the connector takes them for anything, as loud as how sure a thing is itself."""
    more = features - model.config.vision.hidden_size
    if not more:
        return model
    config = deepcopy(model.config)
    config.vision.hidden_size = features
    wider = MayaForConditionalGeneration(config)
    weights = model.state_dict()
    first = "connector.layers.0.weight"
    weight_HD = weights[first]
    began_HD = torch.randn(len(weight_HD), more, generator=torch.Generator().manual_seed(0))
    at = FOLLOWING.start
    weights[first] = torch.cat([weight_HD[:, :at], began_HD * weight_HD[:, MIDDLES].std(), weight_HD[:, at:]], dim=1)
    wider.load_state_dict(weights)
    wider.train(model.training)
    return wider


def widened(
    model: MayaForConditionalGeneration, processor: MayaProcessor, words: Sequence[str]
) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """With more words in the table, each at first what the word behind a space and in small letters was as pieces."""
    if not words:
        return model, processor
    before = table_of(model).detach()
    pieces = token_ids(processor, [f" {word.strip().lower()}" for word in words])
    tokenizer = with_words(processor.require_tokenizer(), words)
    wider = deepcopy(model)
    rows = max(len(before), -(-len(tokenizer) // 64) * 64)
    wider.resize_token_embeddings(rows, mean_resizing=False)
    with torch.no_grad():
        after = table_of(wider)
        after[len(before) :] = 0
        after[len(tokenizer) - len(words) : len(tokenizer)] = torch.stack([before[ids].mean(0) for ids in pieces])
    return wider, MayaProcessor(wider.config, processor.preparation, tokenizer)


def _normalised(vectors: Tensor) -> Tensor:
    return nn.functional.layer_norm(vectors, vectors.shape[-1:])


def _principal(vectors_WE: Tensor) -> Tensor:
    """The directions in which vectors differ, (min(W, E), E), the strongest first."""
    directions: Tensor = torch.linalg.svd(vectors_WE - vectors_WE.mean(0), full_matrices=False)[2]
    return directions
