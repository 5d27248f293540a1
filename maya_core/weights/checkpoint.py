"""Loading, assembling and saving models. Two layouts are read, and told apart by `model_type` in config.json:

`maya`: ours; keys are the module's own names (`vision_tower.*`, `connector.*`, `language_model.*`).
`llava_cohere`: the published one; `published` knows it.

A folder with a LoRA adapter is read as its base with the adapter merged in.

Loading is strict: a key that is missing, unexpected or misshapen is named, and nothing is ever filled with random
weights.
"""

import os
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import CohereConfig, SiglipVisionConfig

from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.model.config import VISION_CONFIGS, MayaConfig, PhotographTowerConfig, fields_of
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor, image_token_id_of, load_tokenizer
from maya_core.model.towers import tower_class
from maya_core.weights import adapters
from maya_core.weights.files import (
    Tensors,
    first_existing,
    learnt_tensors_in,
    read_config,
    read_json,
    some_of,
    tensor_names,
    tensors_in,
)
from maya_core.weights.hub import local_folder
from maya_core.weights.published import PUBLISHED_TYPE, local_tower, published_config, published_tensors
from maya_core.weights.quantization import (
    FourBitWeights,
    Quantization,
    assembled,
    dequantized,
)

_HEAD = "language_model.lm_head.weight"


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
    preprocessor = first_existing(
        folder / "preprocessor_config.json", local_tower(folder, read_config(folder)) / "preprocessor_config.json"
    )
    return _processor(config, preprocessor, folder)


def _processor(config: MayaConfig, preprocessor: Path | None, tokenizer_folder: Path) -> MayaProcessor:
    fields = read_json(preprocessor) if preprocessor else {}
    return MayaProcessor(config, ImagePreparation.of(config, fields), load_tokenizer(tokenizer_folder))


def _under_adapter(folder: Path) -> Path:
    """The folder itself, or that of the model which the adapter in it belongs to."""
    return local_folder(adapters.base_of(folder)) if adapters.is_adapter(folder) else folder


def load_config(folder: Path) -> MayaConfig:
    """The configuration of a checkpoint in either layout, or of the one that an adapter belongs to."""
    folder = _under_adapter(folder)
    fields = read_config(folder)
    model_type = fields.get("model_type")
    if model_type == MayaConfig.model_type:
        config: MayaConfig = MayaConfig.from_dict(fields)
        return config
    if model_type == PUBLISHED_TYPE:
        return published_config(folder, fields)
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
        said = "; ".join(f"{len(names)} {kind}: {some_of(names)}" for kind, names in problems.items() if names)
        raise CheckpointMismatch(
            f"The weights in {source.name} do not fit their config.json ({said}); get a whole copy."
        )
    model.tie_weights()


def _tensors(folder: Path) -> Tensors:
    """Every learnt tensor of a checkpoint under our names, read one at a time; an adapter's are merged into its base's."""
    if adapters.is_adapter(folder):
        base = _under_adapter(folder)
        tensors = _tensors(base)
        yield from adapters.merged(folder, dequantized(tensors) if is_quantized(base) else tensors)
        return
    fields = read_config(folder)
    is_published = fields.get("model_type") == PUBLISHED_TYPE
    yield from published_tensors(folder, fields) if is_published else tensors_in(folder)


# --- a new model from a tower and a language model ---


def assemble(
    tower: str | Path, language_model: str | Path, *, dtype: torch.dtype = torch.float32, **config: Any
) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """A Maya before its first training: a vision tower (SigLIP, SigLIP 2 of fixed resolution, CLIP, DINOv2) and a Cohere
    model, each a folder or a repository, and an untrained connector between them.

    config: further fields of MayaConfig. Raises CheckpointNotFound, CheckpointMismatch or DownloadError.
    """
    tower_folder, language_folder = local_folder(tower), local_folder(language_model)
    text = read_config(language_folder)
    if text.get("model_type") != CohereConfig.model_type:
        raise CheckpointMismatch(
            f"config.json in {language_folder.name} says model_type {text.get('model_type')!r}; a cohere model is wanted."
        )
    vision = _tower_config(tower_folder)
    if vision["model_type"] == PhotographTowerConfig.model_type:
        config = {"vision_feature_layer": -1} | config
    model_config = MayaConfig(
        vision_config=vision,
        text_config=fields_of(CohereConfig, text),
        image_token_id=image_token_id_of(load_tokenizer(language_folder), text["vocab_size"]),
        **config,
    )
    model: MayaForConditionalGeneration = MayaForConditionalGeneration(model_config)
    connector = {f"connector.{name}": tensor for name, tensor in model.connector.state_dict().items()}
    tensors = chain(_tower_tensors(tower_folder, model_config), _language_tensors(language_folder), connector.items())
    _fill(model, tensors, dtype, torch.device("cpu"), source=language_folder)
    preprocessor = first_existing(tower_folder / "preprocessor_config.json")
    return model, _processor(model_config, preprocessor, language_folder)


def _tower_config(folder: Path) -> dict[str, Any]:
    """Of a tower's folder, whether it holds the vision part alone or a text part too."""
    fields = read_config(folder)
    shapes = fields.get("vision_config", fields)
    whole, part = str(fields.get("model_type")), shapes.get("model_type")
    kind = next((kind for kind in VISION_CONFIGS if kind.model_type in (part, f"{whole}_vision_model", whole)), None)
    if kind is None:
        known = ", ".join(kind.model_type for kind in VISION_CONFIGS)
        raise CheckpointMismatch(f"config.json in {folder.name} says model_type {whole!r}; Maya's towers are {known}.")
    config = fields_of(kind, shapes) | {"model_type": kind.model_type}
    if kind is SiglipVisionConfig:
        names = tensor_names(folder)
        config["vision_use_head"] = any(".head." in name or name.startswith("head.") for name in names)
    return config


def _tower_tensors(folder: Path, config: MayaConfig) -> Tensors:
    """A tower's tensors under our names."""
    own_name = tower_class(config.vision).own_name
    for stored, tensor in learnt_tensors_in(folder):
        if (name := own_name(stored)) is not None:
            yield f"vision_tower.{name}", tensor


def _language_tensors(folder: Path) -> Tensors:
    return ((f"language_model.{name}", tensor) for name, tensor in learnt_tensors_in(folder))


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
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtype or model.dtype
    model.config.save_pretrained(fresh)
    save_torch_state_dict(state, fresh)
    processor.save_pretrained(fresh)
    _replace_folder(fresh, folder)


def _own(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own: a decoder may have joined it with others, which files cannot hold."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def is_quantized(folder: Path) -> bool:
    """Whether a checkpoint's decoder is in four bits. Raises CheckpointMismatch for other kinds of quantisation."""
    stored = read_config(_under_adapter(folder)).get("quantization_config")
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


def stored_dtype(path_or_repo: str | Path) -> torch.dtype:
    """The number format of a checkpoint's weights."""
    folder = _under_adapter(local_folder(path_or_repo))
    return next(tensor.dtype for name, tensor in tensors_in(folder) if name.endswith("norm.weight"))
