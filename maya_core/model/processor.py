"""`MayaProcessor`: pictures and messages in, tensors out. Labels are made together with the ids, never recovered."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoProcessor, PreTrainedTokenizerFast

from maya_core.errors import CheckpointNotFound, PromptTooLong
from maya_core.model.config import MayaConfig
from maya_core.model.images import open_image, pad_to_square
from maya_core.model.prompt import Message, Picture, Piece, PromptFormat, clean_text, prompt_pieces

IGNORED = -100  # a label that is not learnt, by torch's convention


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
        square = pad_to_square(image) if self.aspect_ratio == "pad" else image
        resized = square.resize((self.size, self.size), resample=Image.Resampling(self.resample))
        values_HWC = np.asarray(resized, dtype=np.float32) / 255
        values_HWC = (values_HWC - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(values_HWC.transpose(2, 0, 1)))

    @classmethod
    def from_json(
        cls, fields: dict[str, Any], *, size: int, aspect_ratio: Literal["pad", "stretch"]
    ) -> "ImagePreparation":
        """From a `preprocessor_config.json` in SigLIP's layout; what it does not say keeps SigLIP's values."""
        given = fields.get("size", size)
        return cls(
            size=given if isinstance(given, int) else given["height"],
            resample=fields.get("resample", Image.Resampling.BICUBIC),
            mean=tuple(fields.get("image_mean", (0.5, 0.5, 0.5))),
            std=tuple(fields.get("image_std", (0.5, 0.5, 0.5))),
            aspect_ratio=aspect_ratio,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "image_processor_type": "SiglipImageProcessor",
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "rescale_factor": 1 / 255,
            "resample": int(self.resample),
            "size": {"height": self.size, "width": self.size},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One conversation. input_ids and labels: (T,) int64; pictures: in the order of their slots, not yet pixels."""

    input_ids: Tensor
    labels: Tensor
    pictures: tuple[Picture, ...]


class MayaProcessor:
    """Turns conversations into what the model takes; made by `checkpoint`, or with `from_pretrained`."""

    def __init__(
        self, config: MayaConfig, preparation: ImagePreparation, tokenizer: PreTrainedTokenizerFast | None
    ) -> None:
        self.config = config
        self.preparation = preparation
        self.tokenizer = tokenizer
        self._control_ids: dict[str, int] = {}
        self.image_slots = config.visual_tokens(preparation.size, preparation.size)

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
        ids: list[int] = []
        labels: list[int] = []
        for piece, piece_ids in zip(pieces, self.ids_of(pieces), strict=True):
            ids += piece_ids
            labels += piece_ids if piece.learnt else [IGNORED] * len(piece_ids)
        most = self.config.text.max_position_embeddings
        if max_length is not None:
            self._check_cut(ids, labels, max_length)
            ids, labels = ids[:max_length], labels[:max_length]
        if len(ids) > most:
            raise PromptTooLong(f"The conversation takes {len(ids)} tokens, more than the model's {most}; start anew.")
        pictures = tuple(picture for message in messages for picture in message.images)
        return Encoded(input_ids=torch.tensor(ids), labels=torch.tensor(labels), pictures=pictures)

    def _check_cut(self, ids: list[int], labels: list[int], max_length: int) -> None:
        cut = ids[max_length:]
        if self.config.image_token_id in cut or all(label == IGNORED for label in labels[:max_length]):
            raise PromptTooLong(
                f"The conversation takes {len(ids)} tokens, and its first {max_length} hold no answer, or a part of a "
                "picture; shorten it, or raise the maximum length."
            )

    def pixel_values(self, pictures: Sequence[Picture]) -> Tensor:
        """(pictures, 3, H, W); files are opened here. Raises ImageError."""
        opened = (open_image(picture) if isinstance(picture, Path) else picture for picture in pictures)
        return torch.stack([self.preparation.pixels(image) for image in opened])

    def user_message(self, text: str, images: Sequence[Image.Image] = ()) -> Message:
        """A user's turn from what was typed, cleaned; raises PromptEmpty or PromptTooLong."""
        return Message(role="user", text=clean_text(text), images=tuple(images))

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
        """The tokenizer; CheckpointNotFound where the checkpoint came without one."""
        if self.tokenizer is None:
            raise CheckpointNotFound(
                "This checkpoint has no tokenizer.json; copy the tokenizer files of its language model into its folder."
            )
        return self.tokenizer

    # --- many conversations ---

    def collate(self, encoded: Sequence[Encoded], *, padding_side: Literal["left", "right"]) -> dict[str, Tensor]:
        """A batch: input_ids, labels, attention_mask (B, T) and pixel_values (images, 3, H, W) where there are any.

        Left for generation, so that all prompts end at the same place; right for training.
        """
        batch = self.padded(encoded, padding_side=padding_side)
        pictures = [picture for one in encoded for picture in one.pictures]
        return batch | ({"pixel_values": self.pixel_values(pictures)} if pictures else {})

    def padded(self, encoded: Sequence[Encoded], *, padding_side: Literal["left", "right"]) -> dict[str, Tensor]:
        """A batch without the pictures: input_ids, labels, attention_mask (B, T)."""
        longest = max(len(one.input_ids) for one in encoded)
        pad = self.config.text.pad_token_id or 0

        def filled(ids_T: Tensor, value: int) -> Tensor:
            missing = longest - len(ids_T)
            return torch.nn.functional.pad(ids_T, (missing, 0) if padding_side == "left" else (0, missing), value=value)

        return {
            "input_ids": torch.stack([filled(one.input_ids, pad) for one in encoded]),
            "labels": torch.stack([filled(one.labels, IGNORED) for one in encoded]),
            "attention_mask": torch.stack([filled(torch.ones_like(one.input_ids), 0) for one in encoded]),
        }

    def __call__(self, conversations: Sequence[Sequence[Message]]) -> dict[str, Tensor]:
        """A left-padded batch of prompts, ready for `generate`: input_ids, attention_mask, pixel_values."""
        batch = self.collate([self.encode(one, answer_next=True) for one in conversations], padding_side="left")
        del batch["labels"]
        return batch

    # --- files ---

    def save_pretrained(self, folder: str | Path) -> None:
        """Write preprocessor_config.json and the tokenizer's files into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "preprocessor_config.json").write_text(json.dumps(self.preparation.to_json(), indent=2) + "\n")
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, config: MayaConfig | None = None, **_: Any) -> "MayaProcessor":
        """From a local folder in our layout; `config` where it is not the folder's own."""
        folder = Path(folder)
        config = config or MayaConfig.from_pretrained(folder)
        preprocessor = folder / "preprocessor_config.json"
        fields = json.loads(preprocessor.read_text()) if preprocessor.is_file() else {}
        return cls(
            config,
            ImagePreparation.from_json(fields, size=config.image_size, aspect_ratio=config.image_aspect_ratio),
            load_tokenizer(folder),
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a folder, from tokenizer.json alone (no code, no network); None where there is none."""
    file = folder / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(file)) if file.is_file() else None


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


AutoProcessor.register(MayaConfig, MayaProcessor)
