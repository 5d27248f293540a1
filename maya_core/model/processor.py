"""`MayaProcessor`: pictures and messages in, tensors out. Labels are made together with the ids, never recovered.

It is a `ProcessorMixin`, so what is written for transformers takes it: pipelines, trainers, chat templates. There is no
template in Jinja: a prompt is made of pieces (`prompt`), so that what a user types can never become a control token.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.utils import cached_file

from maya_core.errors import (
    CheckpointMismatch,
    CheckpointNotFound,
    PromptEmpty,
    PromptError,
    PromptTooLong,
    TokenizerMissing,
)
from maya_core.model.config import MayaConfig
from maya_core.model.images import as_rgb, open_image, resize_padded
from maya_core.model.layout import BatchLayout
from maya_core.model.prompt import (
    ANSWERS,
    BOS,
    END_OF_TURN,
    IMAGE,
    Message,
    Picture,
    Piece,
    PromptFormat,
    clean_text,
    prompt_pieces,
)
from maya_core.model.towers import tower_class
from maya_core.model.turns import conversations_of, flat_pictures, pictures_by_text

IGNORED = -100  # a label that is not learnt, by torch's convention
OWN_CONFIG = "maya_config"  # in preprocessor_config.json, for a folder without a model
ALWAYS = ("add_special_tokens", "sanitize_control_tokens")  # so it is with a chat template, asked for or not
# of a tokenizer, by transformers' names; set where the tokenizer has them
SPECIAL_TOKENS = {"bos_token": BOS, "eos_token": END_OF_TURN, "pad_token": "<PAD>"}
HUB_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
)  # of from_pretrained


@dataclass(frozen=True, kw_only=True)
class ImagePreparation:
    """How a picture becomes pixels: square side in px, resampling (Pillow's number, 3 is bicubic), mean and std."""

    size: int
    resample: int = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    aspect_ratio: Literal["pad", "stretch"] = "pad"

    def pixels(self, image: Image.Image) -> Tensor:
        """RGB picture -> (3, size, size) float32, (x / 255 - mean) / std."""
        resample = Image.Resampling(self.resample)
        if self.aspect_ratio == "pad":
            resized = resize_padded(image, self.size, resample)
        else:
            resized = image.resize((self.size, self.size), resample)
        values_HWC = np.asarray(resized, dtype=np.float32) / 255
        values_HWC = (values_HWC - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(values_HWC.transpose(2, 0, 1)))

    @classmethod
    def of(cls, config: MayaConfig, fields: Mapping[str, Any] | None = None) -> "ImagePreparation":
        """For a model's tower. fields: of a `preprocessor_config.json`; what it does not say is as the tower was trained."""
        fields, tower = fields or {}, tower_class(config.vision)
        return cls(
            size=_side(fields.get("crop_size") or fields.get("size") or config.image_size),
            resample=fields.get("resample", Image.Resampling.BICUBIC),
            mean=tuple(fields.get("image_mean", tower.mean)),
            std=tuple(fields.get("image_std", tower.std)),
            aspect_ratio=config.image_aspect_ratio,
        )

    def to_json(self) -> dict[str, Any]:
        """What transformers' LlavaImageProcessor, which pads as this does, takes for the same."""
        return {
            "image_processor_type": "LlavaImageProcessor",
            "do_pad": self.aspect_ratio == "pad",
            "do_resize": True,
            "do_center_crop": False,
            "do_rescale": True,
            "do_normalize": True,
            "rescale_factor": 1 / 255,
            "resample": int(self.resample),
            "size": {"height": self.size, "width": self.size},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def _side(size: int | Mapping[str, int]) -> int:
    """Of a square picture, from the ways in which transformers says it."""
    return size if isinstance(size, int) else size.get("height") or size["shortest_edge"]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One conversation. input_ids and labels: (T,) int64; pictures: in the order of their slots, not yet pixels."""

    input_ids: Tensor
    labels: Tensor
    pictures: tuple[Picture, ...]


class MayaProcessor(ProcessorMixin):
    """Turns conversations into what the model takes; made by `checkpoint`, or with `from_pretrained`."""

    chat_template = None
    image_token = IMAGE  # in a prompt that is written out; the tokenizer need not know it

    def __init__(
        self, config: MayaConfig, preparation: ImagePreparation, tokenizer: PreTrainedTokenizerFast | None
    ) -> None:
        self.config = config
        self.preparation = preparation
        self.tokenizer = tokenizer
        self._control_ids: dict[str, int] = {}
        self.image_slots = config.visual_tokens(preparation.size, preparation.size)

    @property
    def image_token_id(self) -> int:
        """The id that stands in input_ids for each visual token."""
        return self.config.image_token_id

    @property
    def image_processor(self) -> Any:
        """transformers' own, which prepares pictures as this does up to rounding; what it pads with is the mean's colour,
        which for the published tower is the same grey."""
        from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

        return LlavaImageProcessorPil(**self.preparation.to_json())

    @property
    def model_input_names(self) -> list[str]:
        """What the model takes of this."""
        return ["input_ids", "attention_mask", "pixel_values"]

    # --- one conversation ---

    def encode(
        self,
        messages: Sequence[Message],
        *,
        answer_next: bool,
        prompt_format: PromptFormat | None = None,
        max_length: int | None = None,
    ) -> Encoded:
        """Ids and labels of one conversation; no picture is opened.

        answer_next: end the prompt where the assistant speaks (for generation) or with its last answer (for training).
        prompt_format: where it is not the model's own. max_length: tokens that are kept, counted from the first.
        Raises PromptError; PromptTooLong where the ids exceed the model's positions, or where nothing that is to be
        learnt, or only a part of a picture, lies within max_length.
        """
        pieces = prompt_pieces(messages, prompt_format or self.config.prompt_format, answer_next=answer_next)
        pictures = tuple(picture for message in messages for picture in message.images)
        return self._encoded(pieces, pictures, max_length)

    def _encoded(self, pieces: Sequence[Piece], pictures: tuple[Picture, ...], max_length: int | None) -> Encoded:
        ids: list[int] = []
        labels: list[int] = []
        for piece, piece_ids in zip(pieces, self.ids_of(pieces), strict=True):
            ids += piece_ids
            labels += piece_ids if piece.learnt else [IGNORED] * len(piece_ids)
        return self._cut(ids, labels, pictures, max_length)

    def _cut(self, ids: list[int], labels: list[int], pictures: tuple[Picture, ...], max_length: int | None) -> Encoded:
        most = self.config.text.max_position_embeddings
        if max_length is not None:
            self._check_cut(ids, labels, max_length)
            ids, labels = ids[:max_length], labels[:max_length]
        if len(ids) > most:
            raise PromptTooLong(f"The conversation takes {len(ids)} tokens, more than the model's {most}; start anew.")
        return Encoded(input_ids=torch.tensor(ids), labels=torch.tensor(labels), pictures=pictures)

    def _check_cut(self, ids: list[int], labels: list[int], max_length: int) -> None:
        learnt = [label != IGNORED for label in labels]
        is_answer_lost = any(learnt) and not any(learnt[:max_length])
        if self.config.image_token_id in ids[max_length:] or is_answer_lost:
            raise PromptTooLong(
                f"The conversation takes {len(ids)} tokens, and its first {max_length} hold no answer, or a part of a "
                "picture; shorten it, or raise the maximum length."
            )

    def pixel_values(self, pictures: Sequence[Picture]) -> Tensor:
        """(pictures, 3, H, W); files are opened here. Raises ImageError."""
        opened = (open_image(picture) if isinstance(picture, Path) else picture for picture in pictures)
        rgb = (picture if picture.mode == "RGB" else as_rgb(picture) for picture in opened)
        return torch.stack([self.preparation.pixels(image) for image in rgb])

    def user_message(self, text: str, images: Any = ()) -> Message:
        """A user's turn from what was typed, cleaned. images: a picture or a list of them, each opened, an array (H, W, 3)
        of uint8, a path, an address or base64.

        Raises PromptEmpty, PromptTooLong or ImageError.
        """
        return Message(role="user", text=clean_text(text), images=tuple(flat_pictures(images)))

    def ids_of(self, pieces: Sequence[Piece]) -> Iterator[list[int]]:
        """The ids of each piece; all text in one call, because a call costs more than a sentence."""
        texts = [piece.text for piece in pieces if piece.kind == "text"]
        tokenizer = self.require_tokenizer() if texts else None
        encoded = iter(
            tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"] if tokenizer else ()
        )
        for piece in pieces:
            if piece.kind == "image":
                yield [self.config.image_token_id] * self.image_slots
            elif piece.kind == "control":
                yield [self._control_id(piece.text)]
            else:
                yield next(encoded)

    def _control_id(self, name: str) -> int:
        if name not in self._control_ids:
            self._control_ids[name] = control_id(self.require_tokenizer(), name)
        return self._control_ids[name]

    def require_tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer; TokenizerMissing where the checkpoint came without one."""
        if self.tokenizer is None:
            raise TokenizerMissing(
                "This checkpoint has no tokenizer.json; copy the tokenizer files of its language model into its folder."
            )
        return self.tokenizer

    # --- many conversations ---

    def collate(self, encoded: Sequence[Encoded], *, padding_side: Literal["left", "right"]) -> dict[str, Tensor]:
        """A batch: input_ids, labels, attention_mask (B, T) and pixel_values (images, 3, H, W) where there are any.

        Left for generation, so that all prompts end at the same place; right for training.
        """
        batch = self.padded(encoded, padding_side=padding_side)
        pictures = _pictures(encoded)
        return batch | ({"pixel_values": self.pixel_values(pictures)} if pictures else {})

    def padded(
        self, encoded: Sequence[Encoded], *, padding_side: str, least: int = 0, multiple_of: int = 1
    ) -> dict[str, Tensor]:
        """A batch without the pictures: input_ids, labels, attention_mask (B, T). T is at least `least`, and a multiple."""
        longest = max(least, *(len(one.input_ids) for one in encoded))
        longest = -(-longest // multiple_of) * multiple_of
        pad = self.config.text.pad_token_id or 0

        def filled(ids_T: Tensor, value: int) -> Tensor:
            missing = longest - len(ids_T)
            return torch.nn.functional.pad(ids_T, (missing, 0) if padding_side == "left" else (0, missing), value=value)

        return {
            "input_ids": torch.stack([filled(one.input_ids, pad) for one in encoded]),
            "labels": torch.stack([filled(one.labels, IGNORED) for one in encoded]),
            "attention_mask": torch.stack([filled(torch.ones_like(one.input_ids), 0) for one in encoded]),
        }

    def prompts(self, conversations: Sequence[Sequence[Message]]) -> dict[str, Tensor]:
        """A left-padded batch of prompts, ready for `generate`: input_ids, attention_mask, pixel_values."""
        batch = self.collate([self.encode(one, answer_next=True) for one in conversations], padding_side="left")
        del batch["labels"]
        return batch

    # --- as transformers' own processors are called ---

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        *,
        return_tensors: str | None = None,
        padding: bool | str | None = None,
        padding_side: str = "left",
        pad_to_multiple_of: int | None = None,
        max_length: int | None = None,
        truncation: bool | str | None = None,
        add_special_tokens: bool = True,
    ) -> BatchFeature:
        """Prompts that are written out, with `<image>` where a picture of `images` belongs, or pictures alone.

        Unlike in `encode`, control tokens that are written are control tokens; BOS is put first where it is missing and
        add_special_tokens. images: a list for each text, or all in the order of their places. For the rest see BatchLayout.
        Gives input_ids and attention_mask (B, T), and pixel_values (I, 3, H, W). Raises ImageCountMismatch where pictures
        and their places are not as many, PromptEmpty where there is nothing, PromptTooLong where max_length cuts a picture
        off or the model has fewer positions, ImageError, and ValueError for a layout that there is not.
        """
        layout = BatchLayout(
            return_tensors=return_tensors,
            padding=padding,
            padding_side=padding_side,
            pad_to_multiple_of=pad_to_multiple_of,
            max_length=max_length,
            truncation=truncation,
        )
        if text is None:
            if not (pictures := flat_pictures(images)):
                raise PromptEmpty("There is neither text nor a picture; give text, images or both.")
            return BatchFeature({"pixel_values": self.pixel_values(pictures)}, tensor_type=layout.tensors)
        written = [text] if isinstance(text, str) else text
        if not isinstance(written, list | tuple) or not all(isinstance(one, str) for one in written):
            raise PromptError("The text is neither a str nor a list of them.")
        if not written:
            raise PromptEmpty("The list of texts is empty; give at least one.")
        shown = pictures_by_text(images, [one.count(IMAGE) for one in written])
        encoded = []
        for one, pictures in zip(written, shown, strict=True):
            ids = self._ids_of_written(one if one.startswith(BOS) or not add_special_tokens else BOS + one)
            encoded.append(self._cut(ids, [IGNORED] * len(ids), tuple(pictures), layout.most))
        return self._features(encoded, layout)

    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        return_assistant_tokens_mask: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """The prompt of a conversation, or of each of several, whose turns are `{"role": ..., "content": ...}`.

        content: the words, or a list of parts `{"type": "text", "text": ...}` and `{"type": "image", ...}` with the picture
        under `image`, `path`, `url` or `base64`, which need not be there where nothing is tokenised. A turn's pictures come
        before its words, as in training, unless they stand between words.
        add_generation_prompt: end where the assistant speaks. continue_final_message: end within the assistant's last
        words. tokenize: give ids (with return_dict also attention_mask and pixel_values), and not the text.
        return_assistant_tokens_mask: with assistant_masks, 1 where the assistant speaks.
        options, processor_kwargs: for tokenising, as BatchLayout has them.
        Raises PromptError for turns out of order and for what Maya was not trained on (tools, documents, other templates);
        PromptTooLong, ImageError and ValueError as a call does.
        """
        options |= {"chat_template": chat_template, **(processor_kwargs or {})}
        layout = {name: options.pop(name) for name in BatchLayout.__dataclass_fields__ if name in options}
        batch = BatchLayout(**layout)
        if asked := sorted(name for name, value in options.items() if value and name not in ALWAYS):
            raise PromptError(f"Maya's prompts have no {' and no '.join(asked)}; leave it out.")
        turns, is_batch = conversations_of(conversation, with_pictures=tokenize)
        pieces = [self._template(one, add_generation_prompt, continue_final_message) for one in turns]
        if not tokenize:
            written = ["".join(IMAGE if piece.kind == "image" else piece.text for piece in one) for one in pieces]
            return written if is_batch else written[0]
        encoded = [
            self._encoded(some, tuple(chain.from_iterable(message.images for message in one)), batch.most)
            for some, one in zip(pieces, turns, strict=True)
        ]
        features = self._features(encoded, batch, return_assistant_tokens_mask)
        return features if return_dict else features["input_ids"]

    def _template(self, turns: Sequence[Message], answer_next: bool, unfinished: bool) -> Sequence[Piece]:
        """The pieces of a conversation that ends as transformers' templates may end."""
        ends_with_question = bool(turns) and turns[-1].role == "user"
        if unfinished and (answer_next or ends_with_question):
            raise PromptError("continue_final_message goes on with the assistant's last words, and there are none.")
        pieces = prompt_pieces(turns, self.config.prompt_format, answer_next=answer_next or ends_with_question)
        if unfinished:
            return pieces[:-1]  # without the end of the turn
        if answer_next or not ends_with_question:
            return pieces
        if self.config.prompt_format == "chat":
            return pieces[:-2]  # without the beginning of the assistant's turn
        return *pieces[:-1], replace(pieces[-1], text=pieces[-1].text.removesuffix(ANSWERS))

    def _ids_of_written(self, text: str) -> list[int]:
        tokenizer = self.require_tokenizer()
        ids: list[int] = []
        for number, part in enumerate(text.split(IMAGE)):
            ids += [self.config.image_token_id] * (self.image_slots if number else 0)
            ids += tokenizer(part, add_special_tokens=False)["input_ids"]
        return ids

    def _features(self, encoded: Sequence[Encoded], layout: BatchLayout, masked: bool = False) -> BatchFeature:
        batch = self.padded(
            encoded, padding_side=layout.padding_side, least=layout.least, multiple_of=layout.pad_to_multiple_of or 1
        )
        labels_BT = batch.pop("labels")
        if masked:
            batch["assistant_masks"] = (labels_BT != IGNORED).long()
        pictures = {"pixel_values": self.pixel_values(shown)} if (shown := _pictures(encoded)) else {}
        if layout.tensors:
            lengths = {len(one.input_ids) for one in encoded}
            if not layout.is_padded and len(lengths) > 1:
                raise ValueError(
                    f"Rows of {min(lengths)} to {max(lengths)} tokens make no tensor without padding; pass padding=True."
                )
            return BatchFeature(batch | pictures, tensor_type=layout.tensors)
        rows_BT = batch["attention_mask"].bool() | layout.is_padded
        listed = {
            name: [row_T[kept_T].tolist() for row_T, kept_T in zip(tensor_BT, rows_BT, strict=True)]
            for name, tensor_BT in batch.items()
        }
        return BatchFeature(listed | pictures)

    # --- files ---

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> None:
        """Write preprocessor_config.json, which holds all that makes a processor, and the tokenizer's files into a folder.

        push_to_hub: and into a repository: `repo_id`, or one named as the folder.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        own = {"processor_class": type(self).__name__, OWN_CONFIG: json.loads(self.config.to_json_string())}
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps(self.preparation.to_json() | own, indent=2) + "\n", "utf-8")
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))
        if push_to_hub:
            self.push_to_hub(options.pop("repo_id", folder.name), **options)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, config: MayaConfig | None = None, **options: Any
    ) -> "MayaProcessor":
        """From a folder in our layout, or a repository on the hub, of a model or of what `save_pretrained` wrote alone.

        config: where it is not the folder's own. options: HUB_OPTIONS, as transformers has them.
        """
        source = str(pretrained_model_name_or_path)
        hub = {name: value for name, value in options.items() if name in HUB_OPTIONS}

        def file(name: str) -> Path | None:
            found = cached_file(source, name, _raise_exceptions_for_missing_entries=False, **hub)
            return Path(found) if found else None

        preprocessor, tokenizer = file("preprocessor_config.json"), file("tokenizer.json")
        fields = json.loads(preprocessor.read_text("utf-8")) if preprocessor else {}
        if config is None and OWN_CONFIG in fields and not file("config.json"):
            config = MayaConfig.from_dict(fields[OWN_CONFIG])
        config = config or MayaConfig.from_pretrained(source, **hub)
        return cls(
            config,
            ImagePreparation.of(config, fields),
            load_tokenizer(tokenizer.parent) if tokenizer else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """What transformers prints of a processor."""
        return {"processor_class": type(self).__name__, "preparation": self.preparation.to_json()}


def _pictures(encoded: Sequence[Encoded]) -> list[Picture]:
    return [picture for one in encoded for picture in one.pictures]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a folder, from tokenizer.json alone (no code, no network); None where there is none.

    Raises CheckpointMismatch where it is damaged.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    damaged = CheckpointMismatch("tokenizer.json is damaged or cut off; get it again.")
    try:
        fields = json.loads(file.read_bytes())
    except ValueError:  # the tokenizers package says so by a bare Exception
        raise damaged from None
    if not isinstance(fields, dict) or "model" not in fields:
        raise damaged
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file), padding_side="left")
    known = tokenizer.get_added_vocab()
    for role, token in SPECIAL_TOKENS.items():
        if token in known:
            setattr(tokenizer, role, token)
    return tokenizer


def control_id(tokenizer: PreTrainedTokenizerFast, name: str) -> int:
    """The id of a control token; CheckpointNotFound where the tokenizer does not have it."""
    known: dict[str, int] = tokenizer.get_added_vocab()
    if name not in known:
        raise CheckpointNotFound(f"The tokenizer has no control token {name}; it is not one of Maya's language models.")
    return known[name]


def image_token_id_of(tokenizer: PreTrainedTokenizerFast | None, rows: int) -> int:
    """The id of an image slot: the tokenizer's `<image>`, else the table's last row, which no token uses.

    Where the tokenizer fills the table of `rows` rows, the unknown token's id: byte-level text never gives it.
    """
    if tokenizer is None:
        return rows - 1
    known: dict[str, int] = tokenizer.get_added_vocab()
    if "<image>" in known:
        return known["<image>"]
    return rows - 1 if len(tokenizer) < rows else known.get("<UNK>", 1)


AutoProcessor.register(MayaConfig, MayaProcessor, exist_ok=True)
