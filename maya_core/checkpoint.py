"""Loading and saving models. Two layouts are read, and told apart by `model_type` in config.json:

`maya`: ours; keys are the module's own names (`vision_tower.*`, `connector.*`, `language_model.*`).
`llava_cohere`: the published one (LLaVA's names); `_PUBLISHED_NAMES` is the whole mapping.

A folder with a LoRA adapter is read as its base with the adapter merged in.

Loading is strict: a key that is missing, unexpected or misshapen is named, and nothing is ever filled with random
weights. Weights are safetensors; the one pickle, a stage-1 `mm_projector.bin`, is read with weights_only.
"""

import json
import os
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CohereConfig, SiglipVisionConfig

from maya_core import adapters
from maya_core.assets import asset_path
from maya_core.config import PUBLISHED_VISION, MayaConfig
from maya_core.errors import CheckpointError, CheckpointMismatch, CheckpointNotFound
from maya_core.footprint import best_plan
from maya_core.generation import ChatSession
from maya_core.hardware import inspect_machine
from maya_core.hub import fetch
from maya_core.model import MayaForConditionalGeneration
from maya_core.processor import ImagePreparation, MayaProcessor, load_tokenizer
from maya_core.quantization import (
    QUANTIZATION_CONFIG,
    FourBitWeights,
    Quantization,
    assembled,
    dequantized,
    is_four_bit,
)

PUBLISHED_TYPE = "llava_cohere"
PUBLISHED_TOWER = "google/siglip-base-patch16-256-multilingual"
EMBEDDED = "maya-tiny"

# published name -> ours; a linear projector's own weight counts as layer 0 of an MLP of depth 1
_PUBLISHED_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^model\.vision_tower\.vision_tower\.(vision_model\.)?"), "vision_tower."),
    (re.compile(r"^model\.mm_projector\.(?=weight|bias)"), "connector.layers.0."),
    (re.compile(r"^model\.mm_projector\."), "connector.layers."),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
    (re.compile(r"^model\."), "language_model.model."),
)
# tensors that older files carry and that are computed, not learnt
_COMPUTED = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")
_HEAD, _TABLE = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"

Tensors = Iterator[tuple[str, Tensor]]


# --- loading ---


def load_model(
    path_or_repo: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: Quantization | None = None,
) -> MayaForConditionalGeneration:
    """A model in `eval` mode from a folder or a hub repository (`owner/name` or `owner/name@commit`), in either layout.

    quantization: `nf4` brings the decoder's linear layers to four bits one after the other as they are read; a
    checkpoint that is quantised already is so without it. dtype: of all other weights.
    Raises CheckpointNotFound, CheckpointMismatch or CheckpointUnsafe; DownloadError for a repository.
    """
    folder = local_folder(path_or_repo)
    config = load_config(folder)
    with init_empty_weights():
        model: MayaForConditionalGeneration = MayaForConditionalGeneration(config)
    four_bit = quantization == "nf4" or is_quantized(folder)
    _fill(model, _tensors(folder), dtype, torch.device(device), source=folder, four_bit=four_bit)
    model.to(device)  # the computed buffers; weights are there already
    model.eval()
    return model


def load_processor(path_or_repo: str | Path) -> MayaProcessor:
    """The processor of a checkpoint in either layout."""
    folder = _under_adapter(local_folder(path_or_repo))
    config = load_config(folder)
    preprocessor = _first_existing(
        folder / "preprocessor_config.json", _local_tower(folder, _read_config(folder)) / "preprocessor_config.json"
    )
    return _processor(config, preprocessor, folder)


def _processor(config: MayaConfig, preprocessor: Path | None, tokenizer_folder: Path) -> MayaProcessor:
    fields = _read_json(preprocessor) if preprocessor else {}
    preparation = ImagePreparation.from_json(fields, size=config.image_size, aspect_ratio=config.image_aspect_ratio)
    return MayaProcessor(config, preparation, load_tokenizer(tokenizer_folder))


def load_session(
    path_or_repo: str | Path | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: Quantization | None = None,
) -> ChatSession:
    """A model with its processor, ready to answer; the embedded maya-tiny where none is named."""
    source = asset_path(EMBEDDED) if path_or_repo is None else path_or_repo
    processor = load_processor(source)
    processor.require_tokenizer()
    return ChatSession(load_model(source, dtype=dtype, device=device, quantization=quantization), processor)


def load_best(path_or_repo: str | Path | None = None) -> ChatSession:
    """`load_session` on the best device of this machine, in the number format that suits it.

    Raises ModelTooLarge where the model does not fit in any.
    """
    folder = local_folder(asset_path(EMBEDDED) if path_or_repo is None else path_or_repo)
    plan = best_plan(load_config(folder), inspect_machine(), is_quantized=is_quantized(folder))
    return load_session(folder, dtype=plan.dtype, device=plan.device, quantization=plan.quantization)


def local_folder(path_or_repo: str | Path) -> Path:
    """The folder that holds the checkpoint, fetched from the hub where it is not a folder here."""
    folder = Path(path_or_repo).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(path_or_repo, Path) or path_or_repo.startswith((".", "/", "~")) or path_or_repo.count("/") != 1:
        raise CheckpointNotFound(
            f"There is no folder {path_or_repo}; give a model's folder or a repository owner/name."
        )
    return fetch(path_or_repo)


def _under_adapter(folder: Path) -> Path:
    """The folder itself, or that of the model which the adapter in it belongs to."""
    return local_folder(adapters.base_of(folder)) if adapters.is_adapter(folder) else folder


def load_config(folder: Path) -> MayaConfig:
    """The configuration of a checkpoint in either layout, or of the one that an adapter belongs to."""
    folder = _under_adapter(folder)
    fields = _read_config(folder)
    model_type = fields.get("model_type")
    if model_type == MayaConfig.model_type:
        config: MayaConfig = MayaConfig.from_dict(fields)
        return config
    if model_type == PUBLISHED_TYPE:
        return _published_config(folder, fields)
    raise CheckpointNotFound(
        f"config.json says model_type {model_type!r}; Maya loads {MayaConfig.model_type!r} and {PUBLISHED_TYPE!r}."
    )


def _fill(
    model: MayaForConditionalGeneration,
    tensors: Tensors,
    dtype: torch.dtype,
    device: torch.device,
    *,
    source: Path,
    four_bit: bool = False,
) -> None:
    """Put every tensor in its place, one at a time; refuse what is missing, unexpected or misshapen, by name.

    four_bit: the decoder's linear layers are so, in the file already or from now on.
    """
    tied = model.config.text.tie_word_embeddings
    expected = {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not (tied and name == _HEAD)
    }
    found: set[str] = set()
    unexpected: list[str] = []
    misshapen: list[str] = []
    four_bit_weights = FourBitWeights(model, device) if four_bit else ()
    for name, tensor in assembled(tensors, device) if four_bit else tensors:
        if tied and name == _HEAD:
            continue  # a copy of the table
        if name not in expected:
            unexpected.append(name)
        elif tuple(tensor.shape) != expected[name]:
            misshapen.append(f"{name} is {list(tensor.shape)}, should be {list(expected[name])}")
        else:
            found.add(name)
            if isinstance(four_bit_weights, FourBitWeights) and name in four_bit_weights:
                four_bit_weights.take(name, tensor)
                continue
            assert isinstance(tensor, Tensor)
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(tensor.to(device, dtype), not four_bit))
    missing = sorted(expected.keys() - found - {text.split(" ")[0] for text in misshapen})
    problems = {"missing": missing, "unexpected": sorted(unexpected), "misshapen": sorted(misshapen)}
    if any(problems.values()):
        said = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names)
        raise CheckpointMismatch(
            f"The weights in {source.name} do not fit their config.json ({said}); get a whole copy."
        )
    model.tie_weights()


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _tensors(folder: Path) -> Tensors:
    """Every learnt tensor of a checkpoint under our names, read one at a time; an adapter's are merged into its base's."""
    if adapters.is_adapter(folder):
        base = _under_adapter(folder)
        tensors = _tensors(base)
        yield from adapters.merged(folder, dequantized(tensors) if is_quantized(base) else tensors)
        return
    fields = _read_config(folder)
    if fields.get("model_type") != PUBLISHED_TYPE:
        yield from _safetensors(folder)
        return
    seen: set[str] = set()
    for name, tensor in _safetensors(folder):
        if not _COMPUTED.search(name):
            seen.add(name := our_name(name))
            yield name, tensor
    if not any(name.startswith("connector.") for name in seen) and (folder / "mm_projector.bin").is_file():
        yield from read_stage1_projector(folder / "mm_projector.bin").items()
    if _vision_is_outside(folder, fields):
        for name, tensor in _safetensors(_local_tower(folder, fields)):
            if name.startswith("vision_model.") and not _COMPUTED.search(name):
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
        raise CheckpointMismatch(f"{file.name} does not fit this model's connector: {_some(wrong)}.")
    model.connector.load_state_dict(tensors)


def _safetensors(folder: Path) -> Tensors:
    for file in _weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (a safe_open handle is no mapping)
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise CheckpointMismatch(f"{file.name} is damaged or cut off ({error}); get it again.") from None


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    names = sorted(set(_read_json(index).get("weight_map", {}).values())) if index.is_file() else ["model.safetensors"]
    absent = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if absent or not names:
        raise CheckpointNotFound(
            f"{_some(absent) or 'every weight file'} is missing from {folder.name}; get a whole copy."
        )
    return [folder / name for name in names]


# --- the published layout's configuration ---


def _published_config(folder: Path, fields: dict[str, Any]) -> MayaConfig:
    """Our configuration for a `llava_cohere` config.json, with the quirks its weights were trained with."""
    vision_folder = _local_tower(folder, fields) if _vision_is_outside(folder, fields) else folder
    has_head = any("vision_model.head." in name for name in _tensor_names(vision_folder))
    text = _fields_of(CohereConfig, fields)
    theta = fields.get("rope_theta", 10000.0)
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": theta} | (fields.get("rope_scaling") or {})
    text["tie_word_embeddings"] = fields.get("tie_word_embeddings", True)
    strategy = {"patch": "default", "cls_patch": "full"}[fields.get("mm_vision_select_feature", "patch")]
    return MayaConfig(
        vision_config=_published_vision(folder, fields, has_head=has_head),
        connector_config={"depth": _projector_depth(fields)},
        text_config=text,
        image_token_id=_image_token_id(folder, text["vocab_size"]),
        vision_feature_layer=fields.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=strategy,
        image_aspect_ratio="pad" if fields.get("image_aspect_ratio") == "pad" else "stretch",
        prompt_format="maya-v1",
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def _vision_is_outside(folder: Path, fields: dict[str, Any]) -> bool:
    """Whether the tower's weights lie in a local folder of their own and not in the checkpoint."""
    inside = any(our_name(name).startswith("vision_tower.") for name in _tensor_names(folder))
    return not inside and _local_tower(folder, fields).is_dir()


def _tensor_names(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return list(_read_json(index).get("weight_map", {}))
    names: list[str] = []
    for file in _weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            names += tensors.keys()
    return names


def _published_vision(folder: Path, fields: dict[str, Any], *, has_head: bool) -> dict[str, Any]:
    """The tower's shapes: from a local folder that `mm_vision_tower` names, else the published tower's."""
    file = _local_tower(folder, fields) / "config.json"
    if not file.is_file():
        return PUBLISHED_VISION | {"vision_use_head": has_head}
    given = _read_json(file)
    given = given.get("vision_config", given)
    return _fields_of(SiglipVisionConfig, given) | {"vision_use_head": has_head}


def _fields_of(kind: type[CohereConfig] | type[SiglipVisionConfig], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration of this kind takes of a config.json, but for what belongs to one file of weights."""
    return {
        name: given[name]
        for name in kind.__dataclass_fields__
        if name in given and name not in ("architectures", "dtype")
    }


def _local_tower(folder: Path, fields: dict[str, Any]) -> Path:
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


def _image_token_id(folder: Path, rows: int) -> int:
    """The id of an image slot: the tokenizer's `<image>`, else the table's last row, which no token uses.

    Where the tokenizer fills the table, the unknown token's id: byte-level text never gives it.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer is None:
        return rows - 1
    known: dict[str, int] = tokenizer.get_added_vocab()
    if "<image>" in known:
        return known["<image>"]
    return rows - 1 if len(tokenizer) < rows else known.get("<UNK>", 1)


# --- a new model from a tower and a language model ---


def assemble(
    tower: str | Path, language_model: str | Path, *, dtype: torch.dtype = torch.float32, **config: Any
) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """A Maya before its first training: a SigLIP and a Cohere model, each a folder or a repository, and an untrained
    connector between them.

    config: further fields of MayaConfig. Raises CheckpointNotFound, CheckpointMismatch or DownloadError.
    """
    tower_folder, language_folder = local_folder(tower), local_folder(language_model)
    vision = _read_config(tower_folder)
    text = _read_config(language_folder)
    for fields, wanted, folder in ((vision, "siglip", tower_folder), (text, "cohere", language_folder)):
        if not str(fields.get("model_type")).startswith(wanted):
            raise CheckpointMismatch(
                f"config.json in {folder.name} says model_type {fields.get('model_type')!r}; a {wanted} model is wanted."
            )
    names = set(_tensor_names(tower_folder))
    has_head = any(".head." in name or name.startswith("head.") for name in names)
    shapes = vision.get("vision_config", vision)
    model_config = MayaConfig(
        vision_config=_fields_of(SiglipVisionConfig, shapes) | {"vision_use_head": has_head},
        text_config=_fields_of(CohereConfig, text),
        image_token_id=_image_token_id(language_folder, text["vocab_size"]),
        **config,
    )
    model: MayaForConditionalGeneration = MayaForConditionalGeneration(model_config)
    connector = {f"connector.{name}": tensor for name, tensor in model.connector.state_dict().items()}
    tensors = chain(_tower_tensors(tower_folder), _language_tensors(language_folder), connector.items())
    _fill(model, tensors, dtype, torch.device("cpu"), source=language_folder)
    preprocessor = _first_existing(tower_folder / "preprocessor_config.json")
    return model, _processor(model_config, preprocessor, language_folder)


def _tower_tensors(folder: Path) -> Tensors:
    """A SigLIP's vision part under our names, whether the folder holds the vision part alone or the text part too."""
    for name, tensor in _safetensors(folder):
        if not name.startswith(("text_model.", "logit_")) and not _COMPUTED.search(name):
            yield "vision_tower." + name.removeprefix("vision_model."), tensor


def _language_tensors(folder: Path) -> Tensors:
    for name, tensor in _safetensors(folder):
        if not _COMPUTED.search(name):
            yield "language_model." + name, tensor


# --- saving ---


def save_model(
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write model and processor in our layout (weights in `dtype` where given); a folder already there is replaced.

    Other files of a replaced folder (a model card, say) are kept.
    """
    folder = Path(folder)
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    state = {name: _own(tensor.detach()) for name, tensor in model.state_dict().items()}
    if model.config.text.tie_word_embeddings:
        del state[_HEAD]
    if dtype is not None:
        state = {name: tensor.to(dtype) for name, tensor in state.items()}
    if any(is_four_bit(module) for module in model.modules()):
        model.config.quantization_config = QUANTIZATION_CONFIG
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtype or model.dtype
    model.config.save_pretrained(fresh)
    save_torch_state_dict(state, fresh)
    processor.save_pretrained(fresh)
    _replace_folder(fresh, folder)


def _own(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own: a decoder may have joined it with others, which files cannot hold."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def quantize_checkpoint(source: str | Path, destination: str | Path) -> None:
    """Read a checkpoint in either layout and write it in ours with the decoder's linear layers in four bits.

    Raises CheckpointError where it is so already.
    """
    folder = local_folder(source)
    if is_quantized(folder):
        raise CheckpointError(f"{folder.name} is in four bits already; use it as it is.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(folder, dtype=stored_dtype(folder), device=device, quantization="nf4")
    save_model(model, load_processor(folder), destination)


def is_quantized(folder: Path) -> bool:
    """Whether a checkpoint's decoder is in four bits. Raises CheckpointMismatch for other kinds of quantisation."""
    stored = _read_config(_under_adapter(folder)).get("quantization_config")
    if stored is not None and stored.get("bnb_4bit_quant_type") != "nf4":
        raise CheckpointMismatch(
            f"config.json names a quantisation that Maya cannot read ({stored.get('quant_method')}); "
            "take the weights as they were before it."
        )
    return stored is not None


def _replace_folder(fresh: Path, folder: Path) -> None:
    if folder.exists():
        written = {file.name for file in fresh.iterdir()}
        for file in folder.iterdir():
            if file.name not in written and file.is_file() and not file.name.startswith("model"):
                shutil.copy2(file, fresh / file.name)
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
        os.replace(fresh, folder)
        shutil.rmtree(old)
    else:
        os.replace(fresh, folder)


def convert(source: str | Path, destination: str | Path, *, projector: Path | None = None) -> None:
    """Read a checkpoint in either layout and write it in ours, in its own precision.

    projector: a stage-1 `mm_projector.bin` whose weights replace the connector's.
    """
    folder = local_folder(source)
    model = load_model(folder, dtype=stored_dtype(folder))
    if projector is not None:
        load_connector(model, projector)
    save_model(model, load_processor(folder), destination)


def export_llava(source: str | Path, destination: str | Path) -> None:
    """Write a checkpoint as transformers' own `llava`, which its stock class loads with the same logits.

    That class never applies Cohere's `logit_scale`, so it is folded into the final norm, whose only weight is a
    factor. Raises CheckpointError for a connector that `llava` does not have.
    """
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    folder = local_folder(source)
    model = load_model(folder, dtype=stored_dtype(folder))
    config = model.config
    if config.connector.kind != "mlp":
        raise CheckpointError(
            f"transformers' llava has an mlp connector, this model's is a {config.connector.kind}; it cannot be exported."
        )
    if config.connector.depth != 2:
        raise CheckpointError(
            f"transformers' llava has a projector of 2 layers, this model's has {config.connector.depth}; "
            "it cannot be exported."
        )
    scale = config.text.logit_scale
    assert scale is not None
    text = CohereConfig.from_dict(config.text.to_dict() | {"logit_scale": 1.0})
    exported_config = LlavaConfig(
        vision_config=config.vision,
        text_config=text,
        image_token_index=config.image_token_id,
        image_seq_length=config.visual_tokens(config.image_size, config.image_size),
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        projector_hidden_act=config.connector.hidden_act,
        tie_word_embeddings=config.text.tie_word_embeddings,
    )
    with init_empty_weights():
        exported = LlavaForConditionalGeneration(exported_config)
    state = {_llava_name(name): tensor for name, tensor in model.state_dict().items()}
    state["model.language_model.norm.weight"] = state["model.language_model.norm.weight"] * scale
    exported.load_state_dict(state, strict=True, assign=True)
    exported.tie_weights()
    exported.save_pretrained(destination)
    load_processor(folder).save_pretrained(destination)


def _llava_name(ours: str) -> str:
    for start, replacement in (
        ("vision_tower.", "model.vision_tower."),
        ("connector.layers.0.", "model.multi_modal_projector.linear_1."),
        ("connector.layers.2.", "model.multi_modal_projector.linear_2."),
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "model.language_model."),
    ):
        if ours.startswith(start):
            return replacement + ours.removeprefix(start)
    raise AssertionError(ours)


def stored_dtype(path_or_repo: str | Path) -> torch.dtype:
    """The number format of a checkpoint's weights."""
    folder = _under_adapter(local_folder(path_or_repo))
    return next(tensor.dtype for name, tensor in _safetensors(folder) if name.endswith("norm.weight"))


# --- small readers ---


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointNotFound(f"There is no config.json in {folder.name}; it is not a model's folder.")
    return _read_json(file)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise CheckpointMismatch(f"{file.name} is not valid JSON; get a whole copy.") from None
    if not isinstance(content, dict):
        raise CheckpointMismatch(f"{file.name} should hold a JSON object; get a whole copy.")
    return content


def _first_existing(*files: Path) -> Path | None:
    return next((file for file in files if file.is_file()), None)
