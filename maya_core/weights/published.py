"""The published layout, `llava_cohere`: LLaVA's names and fields, the quirks its weights were trained with, and the
projector of its first stage. `_PUBLISHED_NAMES` is the whole mapping.

The one pickle, `mm_projector.bin`, is read with weights_only.
"""

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CohereConfig, SiglipVisionConfig

from maya_core.errors import CheckpointError, CheckpointMismatch
from maya_core.model.config import PUBLISHED_VISION, MayaConfig, fields_of
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import image_token_id_of, load_tokenizer
from maya_core.weights.files import PROJECTOR, Reader, learnt_tensors_in, read_json, some_of, tensor_names, tensors_in

PUBLISHED_TYPE = "llava_cohere"
PUBLISHED_TOWER = "google/siglip-base-patch16-256-multilingual"

# published name -> ours; a linear projector's own weight counts as layer 0 of an MLP of depth 1
_PUBLISHED_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^model\.vision_tower\.vision_tower\.(vision_model\.)?"), "vision_tower."),
    (re.compile(r"^model\.mm_projector\.(?=weight|bias)"), "connector.layers.0."),
    (re.compile(r"^model\.mm_projector\."), "connector.layers."),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    (re.compile(r"^model\."), "language_model.model."),
)


def published_tensors(folder: Path, fields: dict[str, Any], read: Reader = tensors_in) -> Iterator[tuple[str, Any]]:
    """Every learnt tensor of a checkpoint in this layout under our names, or its header. fields: of its config.json."""
    seen: set[str] = set()
    for published, tensor in learnt_tensors_in(folder, read):
        name = our_name(published)
        seen.add(name)
        yield name, tensor
    if not any(name.startswith("connector.") for name in seen) and (folder / PROJECTOR).is_file():
        yield from read_stage1_projector(folder / PROJECTOR).items()
    if _vision_is_outside(folder, fields):
        for name, tensor in learnt_tensors_in(local_tower(folder, fields), read):
            if name.startswith("vision_model."):
                yield "vision_tower." + name.removeprefix("vision_model."), tensor


def our_name(published: str) -> str:
    """Our name for a tensor of the published layout; unknown names are given back as they are."""
    for pattern, replacement in _PUBLISHED_NAMES:
        if pattern.search(published):
            return pattern.sub(replacement, published)
    return published


def read_stage1_projector(file: Path) -> dict[str, Tensor]:
    """The connector's tensors, under our names, from a stage-1 `mm_projector.bin` (a pickle; only tensors are read)."""
    try:
        stored: Mapping[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{file.name} is not a projector file ({type(error).__name__}).") from None
    return {our_name("model." + name[name.index("mm_projector") :]): tensor for name, tensor in stored.items()}


def load_connector(model: MayaForConditionalGeneration, file: Path) -> None:
    """Replace the connector's weights by those of a stage-1 `mm_projector.bin`; CheckpointMismatch where they differ."""
    kind = model.config.connector.kind
    if kind != "mlp":
        raise CheckpointMismatch(
            f"{file.name} holds an mlp connector, but this model's is a {kind}; it cannot be put in."
        )
    tensors = {name.removeprefix("connector."): tensor for name, tensor in read_stage1_projector(file).items()}
    own = model.connector.state_dict()
    wrong = sorted(
        name
        for name in own.keys() | tensors.keys()
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    )
    if wrong:
        raise CheckpointMismatch(f"{file.name} does not fit this model's connector: {some_of(wrong)}.")
    model.connector.load_state_dict(tensors)


# --- configuration ---


def published_config(folder: Path, fields: dict[str, Any]) -> MayaConfig:
    """Our configuration for a `llava_cohere` config.json, with the quirks its weights were trained with."""
    vision_folder = local_tower(folder, fields) if _vision_is_outside(folder, fields) else folder
    has_head = any("vision_model.head." in name for name in tensor_names(vision_folder))
    text = fields_of(CohereConfig, fields)
    theta = fields.get("rope_theta", 10000.0)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": theta} | (fields.get("rope_scaling") or {})
    text["tie_word_embeddings"] = fields.get("tie_word_embeddings", True)
    strategy = {"patch": "default", "cls_patch": "full"}[fields.get("mm_vision_select_feature", "patch")]
    return MayaConfig(
        vision_config=_published_vision(folder, fields, has_head=has_head),
        connector_config={"depth": _projector_depth(fields)},
        text_config=text,
        image_token_id=image_token_id_of(load_tokenizer(folder), text["vocab_size"]),
        vision_feature_layer=fields.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=strategy,
        image_aspect_ratio="pad" if fields.get("image_aspect_ratio") == "pad" else "stretch",
        prompt_format="maya-v1",
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def _vision_is_outside(folder: Path, fields: dict[str, Any]) -> bool:
    """Whether the tower's weights lie in a local folder of their own and not in the checkpoint."""
    inside = any(our_name(name).startswith("vision_tower.") for name in tensor_names(folder))
    return not inside and local_tower(folder, fields).is_dir()


def _published_vision(folder: Path, fields: dict[str, Any], *, has_head: bool) -> dict[str, Any]:
    """The tower's shapes: from a local folder that `mm_vision_tower` names, else the published tower's."""
    file = local_tower(folder, fields) / "config.json"
    if not file.is_file():
        return PUBLISHED_VISION | {"vision_use_head": has_head}
    given = read_json(file)
    given = given.get("vision_config", given)
    return fields_of(SiglipVisionConfig, given) | {"vision_use_head": has_head}


def local_tower(folder: Path, fields: dict[str, Any]) -> Path:
    """Where the tower's own files would lie: beside the checkpoint, or at the path that config.json names."""
    named = fields.get("mm_vision_tower") or fields.get("vision_tower") or PUBLISHED_TOWER
    inside = folder / Path(named).name
    return inside if inside.is_dir() else Path(named)


def _projector_depth(fields: dict[str, Any]) -> int:
    kind = fields.get("mm_projector_type", "linear")
    match = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if kind != "linear" and not match:
        raise CheckpointMismatch(f"config.json says mm_projector_type {kind!r}; Maya knows linear and mlpNx_gelu.")
    return int(match[1]) if match else 1
