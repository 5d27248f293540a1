"""Train the embedded Maya from nothing: `python -m training.tiny`.

Six stages: the tower alone, on many small emoji and their names in eight languages, then on few and large ones; the
language model's table of words, in ten; the connector alone, in eight; connector and table, in ten; connector and language
model on questions of every kind, in ten. Every stage is seeded and resumes where it stopped; the result is written to
`assets/maya-tiny` (or --out).
"""

import json
import logging
import math
import platform
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from maya_core.assets import asset_path
from maya_core.checkpoint import save_model
from maya_core.data import Batch, Collator, PackedCollator
from maya_core.languages import CODES, PRETRAINED_CODES
from maya_core.losses import LossSum
from maya_core.metrics import StepRecord
from maya_core.model import MayaForConditionalGeneration
from maya_core.processor import ImagePreparation, MayaProcessor
from maya_core.train import AnswerObjective, TrainConfig, train
from training.emoji_vqa.dataset import COMPARISONS_FIRST, EmojiQuestions
from training.emoji_vqa.questions import load_phrases, sentences
from training.emoji_vqa.scenes import CELLS, COLOURS, make_scene, patch_labels, render
from training.emoji_vqa.vocabulary import load_vocabulary
from training.recipes import (
    tiny_answers,
    tiny_connector,
    tiny_grounding,
    tiny_model,
    tiny_tower,
    tiny_tower_large,
    tiny_words,
)
from training.tokenizer import train_tokenizer

SCENES = 1_000_000  # training scenes there are; a run sees a part of them
TRAINING_REPORT = "training.json"
STAGES = ("tower", "tower-large", "words", "connector", "grounding", "answers")
EMPTY_PATCH_WEIGHT = 0.1  # most patches are empty, and they are easy


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """Train the embedded Maya from nothing."""

    run: Annotated[Path, tyro.conf.arg(help="folder of the run: checkpoints, records")] = Path("runs/tiny")
    out: Annotated[Path | None, tyro.conf.arg(help="where the model goes; assets/maya-tiny if not given")] = None
    tower_steps: int = 2000
    large_steps: int = 800
    word_steps: int = 100
    connector_steps: int = 200
    grounding_steps: int = 200
    answer_steps: int = 4000
    vocabulary: Annotated[int, tyro.conf.arg(help="most entries of the tokenizer")] = 16384
    workers: int = 1


class EmojiScenes:
    """Scenes with, for each patch, the concept that lies on it. Samples: pixels (3, H, W), labels (patches,), and the
    number of the ground's colour.

    crowded: share of the scenes that have a thing in every cell: more to see for the same work. alone: share of those with
    one large thing; the rest have as many things as the questions' pictures have.
    """

    def __init__(self, preparation: ImagePreparation, *, patch_size: int, crowded: float, alone: float) -> None:
        self.preparation, self.grid = preparation, preparation.size // patch_size
        self.crowded, self.alone = crowded, alone

    def __len__(self) -> int:
        return SCENES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        kind = random.Random(f"crowded/{index}").random()
        number = CELLS if kind < self.crowded else 1 if kind < self.crowded + self.alone else None
        scene = make_scene("train", index, size=self.preparation.size, number=number)
        labels = torch.from_numpy(patch_labels(scene, self.grid)).flatten()
        return self.preparation.pixels(render(scene)), labels, list(COLOURS).index(scene.colour)


class SceneCollator(Collator):
    """Scenes -> pixel_values (B, 3, H, W), concepts (B, patches) and colours (B,)."""

    def collate(self, prepared: Sequence[tuple[Tensor, Tensor, int]]) -> Batch:
        pixels, labels, colours = zip(*prepared, strict=True)
        return {
            "pixel_values": torch.stack(pixels),
            "concepts": torch.stack(labels),
            "colours": torch.tensor(colours),
        }


class TowerObjective(nn.Module):
    """SigLIP's sigmoid loss (arXiv 2303.15343) between patches and the names of what lies on them, in eight languages; of
    the ground's colour, where nothing does. And which patch each is: asked for things alone, a tower forgets where they are.

    SigLIP contrasts whole pictures with captions and needs billions of them. Here the scene knows what each patch shows.
    """

    def __init__(self, tower: SiglipVisionModel, names: Sequence[Sequence[Sequence[int]]], vocabulary: int) -> None:
        """names: token ids by language and thing (the concepts, then the colours)."""
        super().__init__()
        width = tower.config.hidden_size
        self.tower = tower
        self.names = _WordVectors(names)
        self.head = nn.Linear(width, width)
        self.place = nn.Linear(width, (tower.config.image_size // tower.config.patch_size) ** 2)
        self.table = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.table.weight, std=0.1)
        self.balance = _Balance()

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W), concepts (B, N), -1 where nothing lies, and colours (B,)."""
        features_PD = self.tower(batch["pixel_values"]).last_hidden_state.flatten(0, 1).float()
        logits_PLT = self.likeness(features_PD)
        is_P = nn.functional.one_hot(_things(batch, len(self.names)), len(self.names)).to(logits_PLT)
        pairs_PLT = nn.functional.binary_cross_entropy_with_logits(
            logits_PLT, is_P[:, None].expand_as(logits_PLT), reduction="none"
        )
        weight_P = torch.where(batch["concepts"].flatten() >= 0, 1.0, EMPTY_PATCH_WEIGHT)
        loss = (pairs_PLT.sum(2).mean(1) * weight_P).sum() / weight_P.sum()
        patches_P = torch.arange(self.place.out_features).repeat(len(batch["concepts"]))
        loss = loss + nn.functional.cross_entropy(self.place(features_PD), patches_P)
        return LossSum(loss * len(patches_P), torch.tensor(len(patches_P)))

    def likeness(self, features_PD: Tensor) -> Tensor:
        """Features of patches -> logits (P, languages, things)."""
        patches_PD = nn.functional.normalize(self.head(features_PD), dim=-1)
        names_LTD = nn.functional.normalize(self.names(self.table.weight), dim=-1)
        cosine_PLT = torch.einsum("pd,ltd->plt", patches_PD, names_LTD)
        return self.balance(cosine_PLT)


class _Balance(nn.Module):
    """Cosine -> logit, by a learnt temperature and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(math.log(16.0)))
        self.bias = nn.Parameter(torch.tensor(-8.0))

    def forward(self, cosine: Tensor) -> Tensor:
        return cosine * self.temperature.exp() + self.bias


def _things(batch: Batch, things: int) -> Tensor:
    """Which thing each patch shows (P,): a concept, or behind the concepts the colour of the ground."""
    colours_B1 = things - len(COLOURS) + batch["colours"][:, None]
    return torch.where(batch["concepts"] >= 0, batch["concepts"], colours_B1).flatten()


def untrained_tower(vision: SiglipVisionConfig, processor: MayaProcessor, seed: int) -> TowerObjective:
    """A vision tower before any training, with what it learns from."""
    torch.manual_seed(seed)
    tower = SiglipVisionModel._from_config(vision, attn_implementation="eager")  # on 64 patches the faster one
    names = [_ids(processor, _names_of(code)) for code in PRETRAINED_CODES]
    return TowerObjective(tower, names, len(processor.require_tokenizer()))


def train_tower(
    objective: TowerObjective,
    processor: MayaProcessor,
    config: TrainConfig,
    run_dir: Path,
    *,
    crowded: float,
    alone: float,
) -> None:
    """Stage 0: the vision tower, on `EmojiScenes` of a kind."""
    patch_size = objective.tower.config.patch_size
    scenes = EmojiScenes(processor.preparation, patch_size=patch_size, crowded=crowded, alone=alone)
    train(objective, scenes, SceneCollator(), config, run_dir, on_record=_printer(run_dir.name))


def _names_of(language: str) -> list[str]:
    """The concepts, then the colours."""
    names = [concept.names[language] for concept in load_vocabulary()]
    return names + [load_phrases(language).colours[colour] for colour in COLOURS]


def _ids(processor: MayaProcessor, words: Sequence[str]) -> list[list[int]]:
    ids: list[list[int]] = processor.require_tokenizer()(list(words), add_special_tokens=False)["input_ids"]
    return ids


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
        self.words = nn.ModuleList([_WordVectors(things), _WordVectors(places)])
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
    nothing does), and of its place.

    The connector projects patches into the word space; here it is taught that directly, without a sentence between.
    """

    def __init__(
        self,
        model: MayaForConditionalGeneration,
        things: Sequence[Sequence[Sequence[int]]],
        places: Sequence[Sequence[Sequence[int]]],
    ) -> None:
        """As in `WordObjective`."""
        super().__init__()
        self.model = model
        self.things, self.places = _WordVectors(things), _WordVectors(places)
        grid = model.config.image_size // model.config.patch_size
        third = (torch.arange(grid) * 2 + 1) * 3 // (2 * grid)  # in which third of the picture a patch's middle lies
        self.cell_of_N: Tensor
        self.register_buffer("cell_of_N", (third[:, None] * 3 + third).flatten(), persistent=False)

    def forward(self, batch: Batch) -> LossSum:
        """batch: pixel_values (B, 3, H, W), concepts (B, N), -1 where nothing lies, and colours (B,)."""
        table_VE = table_of(self.model)
        embeds_PE = self.model.image_embeds(batch["pixel_values"]).float().flatten(0, 1)
        directions_PE = _direction(embeds_PE, self.model)
        things_P = _things(batch, len(self.things))
        total = _likeness_loss(directions_PE, self.things(table_VE), things_P)
        cells_P = self.cell_of_N.repeat(len(batch["pixel_values"]))
        total = total + _likeness_loss(directions_PE, self.places(table_VE), cells_P)
        return LossSum(total, torch.tensor(len(things_P)))


def _direction(vectors: Tensor, model: MayaForConditionalGeneration) -> Tensor:
    """Vectors as the language model's head would see them."""
    return nn.functional.layer_norm(vectors, vectors.shape[-1:]) * model.config.text.logit_scale


class _WordVectors(nn.Module):
    """Table of embeddings (V, E) -> vectors of words (forms, words, E), each the mean of its tokens."""

    def __init__(self, words: Sequence[Sequence[Sequence[int]]]) -> None:
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
        return words_WE.unflatten(0, (self.forms, -1))


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


def untrained(vocabulary: int) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """The model before any training, and its processor with a tokenizer of at most `vocabulary` entries."""
    tokenizer = train_tokenizer(vocabulary)
    ids = tokenizer.get_added_vocab()
    config = tiny_model(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        image_token_id=ids["<image>"],
        end_id=ids["<|END_OF_TURN_TOKEN|>"],
        bos_id=ids["<BOS_TOKEN>"],
        pad_id=ids["<PAD>"],
    )
    torch.manual_seed(0)
    model = MayaForConditionalGeneration(config)
    attend_to_likeness(model)
    return model, MayaProcessor(config, ImagePreparation(size=config.image_size), tokenizer)


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


def standardise_features(model: MayaForConditionalGeneration, processor: MayaProcessor, scenes: int = 64) -> None:
    """Scale the first layer of the connector to the tower's features, so that it starts from mean 0 and spread 1.

    A tower's raw features are tens of times larger than word embeddings; an untrained language model drowns in them.
    """
    with torch.no_grad():
        features_PD = model.vision_features(_first_scenes(processor, scenes)).flatten(0, 1)
        mean_D, spread_D = features_PD.mean(0), features_PD.std(0)
        first = next(layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        first.weight /= spread_D
        first.bias.copy_(-first.weight @ mean_D)


def _first_scenes(processor: MayaProcessor, number: int) -> Tensor:
    """Pixels (number, 3, H, W) of training scenes."""
    scenes = (make_scene("train", index) for index in range(number))
    return torch.stack([processor.preparation.pixels(render(scene)) for scene in scenes])


def match_spread(model: MayaForConditionalGeneration, processor: MayaProcessor, scenes: int = 64) -> None:
    """Scale the last layer of the connector so that pictures are as loud as words.

    `PatchObjective` looks at directions alone. Embeddings hundreds of times larger than words pass through the language
    model untouched: what its layers add to them is lost beside them.
    """
    with torch.no_grad():
        factor = table_of(model).std() / model.image_embeds(_first_scenes(processor, scenes)).std()
        *_, last = (layer for layer in model.connector.modules() if isinstance(layer, nn.Linear))
        last.weight *= factor
        last.bias *= factor


def train_words(
    model: MayaForConditionalGeneration, processor: MayaProcessor, config: TrainConfig, run_dir: Path
) -> None:
    """The language model's table of words, on words for things and places in ten languages."""
    uses: dict[int, list[float]] = defaultdict(lambda: [0.0] * len(CODES))
    for number, code in enumerate(CODES):
        for token, times in Counter(chain.from_iterable(_ids(processor, list(sentences(code))))).items():
            uses[token][number] = float(times)
    things, places = _thing_forms(processor, CODES), _place_forms(processor, CODES)
    objective = WordObjective(model, things, places, uses)
    meanings = Meanings(len(things[0]))
    train(objective, meanings, MeaningCollator(), config, run_dir, on_record=_printer("words"))


def align_patches(
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    languages: Sequence[str],
    config: TrainConfig,
    run_dir: Path,
) -> None:
    """Patches and the words for them: stage 1 where the connector alone trains."""
    objective = PatchObjective(model, _thing_forms(processor, languages), _place_forms(processor, languages))
    patch_size = model.config.patch_size
    scenes = EmojiScenes(processor.preparation, patch_size=patch_size, crowded=0.3, alone=0.3)
    train(objective, scenes, SceneCollator(), config, run_dir, on_record=_printer(run_dir.name))


def _thing_forms(processor: MayaProcessor, languages: Sequence[str]) -> list[list[list[int]]]:
    return _forms(processor, [_names_of(code) for code in languages])


def _place_forms(processor: MayaProcessor, languages: Sequence[str]) -> list[list[list[int]]]:
    digits = [str(cell + 1) for cell in range(CELLS)]
    return _forms(processor, [digits, *(load_phrases(code).places for code in languages)])


def _forms(processor: MayaProcessor, words: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """A word at the start of a text and one behind a space are different tokens."""
    return [_ids(processor, [f"{space}{word}" for word in form]) for form in words for space in ("", " ")]


def _printer(stage: str) -> Any:
    def show(record: StepRecord) -> None:
        if record.step % 50 == 0:
            print(
                f"{stage} step {record.step} loss {record.loss:.4f} grad {record.grad_norm:.2f} "
                f"{record.seconds / record.step:.2f} s/step",
                flush=True,
            )

    return show


def main() -> None:
    logging.basicConfig(level=logging.INFO)
    options = tyro.cli(TinyOptions, description=__doc__)
    model, processor = untrained(options.vocabulary)
    size = model.config.image_size

    def with_workers(config: TrainConfig) -> TrainConfig:
        return replace(config, workers=options.workers)

    small = with_workers(tiny_tower(steps=options.tower_steps))
    large = with_workers(tiny_tower_large(steps=options.large_steps))
    sight = untrained_tower(model.config.vision, processor, small.seed)
    train_tower(sight, processor, small, options.run / "tower", crowded=0.6, alone=0.0)
    train_tower(sight, processor, large, options.run / "tower-large", crowded=0.25, alone=0.5)
    model.vision_tower.load_state_dict(sight.tower.state_dict())
    train_words(model, processor, with_workers(tiny_words(steps=options.word_steps)), options.run / "words")
    standardise_features(model, processor)
    connector_config = with_workers(tiny_connector(steps=options.connector_steps))
    align_patches(model, processor, PRETRAINED_CODES, connector_config, options.run / "connector")
    grounding_config = with_workers(tiny_grounding(steps=options.grounding_steps))
    align_patches(model, processor, CODES, grounding_config, options.run / "grounding")
    match_spread(model, processor)
    questions = EmojiQuestions(split="train", size=SCENES, image_size=size, weights=COMPARISONS_FIRST)
    answers_config = with_workers(tiny_answers(steps=options.answer_steps))
    objective, collator = AnswerObjective(model), PackedCollator(processor)
    train(objective, questions, collator, answers_config, options.run / "answers", on_record=_printer("answers"))
    out = options.out or asset_path("maya-tiny")
    save_model(model, processor, out, dtype=torch.bfloat16)
    minutes = {stage: round(_seconds(options.run / stage) / 60, 1) for stage in STAGES}
    report = {
        "parameters": model.num_parameters(),
        "minutes": minutes | {"all": round(sum(minutes.values()), 1)},
        "hardware": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
        "torch": torch.__version__,
    }
    (out / TRAINING_REPORT).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def _seconds(run_dir: Path) -> float:
    return float(json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])["seconds"])


if __name__ == "__main__":
    main()
