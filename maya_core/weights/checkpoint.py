"""Loading, assembling and saving models. Two layouts are read, and told apart by `model_type` in config.json:

`maya`: ours; keys are the module's own names (`vision_tower.*`, `connector.*`, `language_model.*`).
`llava_cohere`: the published one; `published` knows it.

In ours the language model may be a GGUF file beside the rest. A folder with a LoRA adapter is read as its base with the
adapter merged in, that of a run as what it learnt so far.

Loading is strict: before weights are read, the headers of their files are; a key that is missing, unexpected or misshapen
is named, and nothing is ever filled with random weights.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import CohereConfig, SiglipVisionConfig

from maya_core.assets import typed_path
from maya_core.errors import CheckpointMismatch, CheckpointNotFound
from maya_core.model.config import VISION_CONFIGS, MayaConfig, PhotographTowerConfig, fields_of
from maya_core.model.maya import MayaForConditionalGeneration
from maya_core.model.processor import ImagePreparation, MayaProcessor, image_token_id_of, load_tokenizer
from maya_core.model.towers import tower_class
from maya_core.progress import OnProgress, untold
from maya_core.weights import adapters, runs
from maya_core.weights.destination import RECIPE, RUN, written
from maya_core.weights.files import (
    Reader,
    Tensors,
    first_existing,
    headers_in,
    learnt_tensors_in,
    read_config,
    read_json,
    some_of,
    sound_values,
    tensor_names,
    tensors_beside,
    tensors_in,
)
from maya_core.weights.fingerprint import fingerprint, mark_of
from maya_core.weights.hub import local_folder, pinned
from maya_core.weights.published import PUBLISHED_TYPE, local_tower, published_config, published_tensors
from maya_core.weights.quantization import (
    FourBitWeights,
    Quantization,
    assembled,
    dequantized,
    four_bit_groups,
    stored_bytes,
    stored_parts,
)

_LANGUAGE_MODEL = "language_model."
_HEAD = f"{_LANGUAGE_MODEL}lm_head.weight"
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
Shapes = dict[str, tuple[int, ...]]


# --- loading ---


def load_model(
    path_or_repo: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: Quantization | None = None,
    on_progress: OnProgress = untold,
) -> MayaForConditionalGeneration:
    """A model in `eval` mode from a folder or a hub repository (`owner/name` or `owner/name@commit`), in either layout.

    quantization: `nf4` brings the decoder's linear layers to four bits one after the other as they are read; a
    checkpoint that is quantised already is so without it. dtype: of all other weights. on_progress: told again and again
    which share of the weights is there; what it raises ends the loading.
    Raises CheckpointNotFound, CheckpointMismatch or CheckpointUnsafe; DownloadError for a repository.
    """
    folder = local_folder(path_or_repo)
    model = _empty(folder)
    _require_whole(folder, model)
    four_bit = quantization == "nf4" or is_quantized(folder)
    _fill(model, _tensors(folder), dtype, torch.device(device), four_bit=four_bit, on_progress=on_progress)
    model.to(device)  # the computed buffers; weights are there already
    model.eval()
    return model


def load_beside(folder: Path) -> MayaForConditionalGeneration:
    """A model in `eval` mode and in float32 whose language model is a GGUF file, with its tower and its connector alone.

    Raises what `load_model` does.
    """
    model = _empty(folder)
    _require_whole(folder, model)
    _fill(model, tensors_beside(folder), torch.float32, torch.device("cpu"))
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
    """The folder itself, or that of the model which the adapter in it belongs to, or which the run in it began from."""
    if runs.is_run(folder):
        return runs.folder_of(folder) if runs.is_new(folder) else _under_adapter(_run_base(folder))
    if not adapters.is_adapter(folder):
        return folder
    try:
        base = local_folder(adapters.base_of(folder))
    except CheckpointNotFound as absent:
        raise CheckpointNotFound(
            f"{folder.name} is an adapter, and what it belongs to is not where {adapters.ADAPTER_CONFIG} says: {absent}"
        ) from None
    if adapters.is_adapter(base):
        raise CheckpointMismatch(
            f"{folder.name} is an adapter on an adapter; `maya convert` makes a whole model of {base.name} first."
        )
    return base


def _run_base(folder: Path) -> Path:
    """The folder of the model that a run began from."""
    try:
        return local_folder(runs.start_of(folder).base or "")
    except CheckpointNotFound as absent:
        raise CheckpointNotFound(
            f"{folder.name} is a run, and what it began from is not where {RUN} says: {absent}"
        ) from None


def load_config(folder: Path) -> MayaConfig:
    """The configuration of a checkpoint in either layout, or of the one that an adapter belongs to."""
    folder = _under_adapter(folder)
    fields = read_config(folder)
    model_type = fields.get("model_type")
    with sound_values(folder):
        if model_type == MayaConfig.model_type:
            config: MayaConfig = MayaConfig.from_dict(fields)
            return config
        if model_type == PUBLISHED_TYPE:
            return published_config(folder, fields)
    raise CheckpointNotFound(
        f"config.json says model_type {model_type!r}; Maya loads {MayaConfig.model_type!r} and {PUBLISHED_TYPE!r}."
    )


def _empty(folder: Path) -> MayaForConditionalGeneration:
    """The model that a folder's configuration describes, without weights."""
    config = load_config(folder)
    with sound_values(folder), init_empty_weights():
        model: MayaForConditionalGeneration = MayaForConditionalGeneration(config)
    return model


def _fill(
    model: MayaForConditionalGeneration,
    tensors: Tensors,
    dtype: torch.dtype,
    device: torch.device,
    *,
    four_bit: bool = False,
    on_progress: OnProgress = untold,
) -> None:
    """Put every tensor in its place, one at a time; all of them fit.

    four_bit: the decoder's linear layers are so, in the file already or from now on.
    """
    tied = model.config.text.tie_word_embeddings
    done, total = 0, sum(math.prod(shape) for name, shape in _shapes(model).items() if not tied or name != _HEAD)
    four_bit_weights = FourBitWeights(model, device) if four_bit else ()
    for name, tensor in assembled(tensors, device) if four_bit else tensors:
        if tied and name == _HEAD:
            continue  # a copy of the table
        done += tensor.shape.numel()
        on_progress(done / total)
        if isinstance(four_bit_weights, FourBitWeights) and name in four_bit_weights:
            four_bit_weights.take(name, tensor)
            continue
        assert isinstance(tensor, Tensor)
        owner, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(tensor.to(device, dtype), not four_bit))
    model.tie_weights()


def _tensors(folder: Path) -> Tensors:
    """Every learnt tensor of a checkpoint under our names, read one at a time; an adapter's are merged into its base's, and
    a run's take the place of those that it began from."""
    if runs.is_run(folder):
        yield from runs.overlaid(folder, _begun_from(folder))
        return
    if adapters.is_adapter(folder):
        base = _under_adapter(folder)
        tensors = _tensors(base)
        yield from adapters.merged(folder, dequantized(tensors) if is_quantized(base) else tensors)
        return
    yield from _stored(folder, tensors_in)


def _begun_from(folder: Path) -> Tensors:
    """The tensors that a run began from; of a new model's those of its tower and its language model."""
    start = runs.start_of(folder)
    if start.tower is not None and start.language_model is not None:
        tower = _tower_tensors(local_folder(start.tower), load_config(folder), tensors_in)
        yield from chain(tower, _language_tensors(local_folder(start.language_model), tensors_in))
        return
    base = _run_base(folder)
    tensors = _tensors(base)
    yield from dequantized(tensors) if start.lora is not None and is_quantized(base) else tensors


def _stored(folder: Path, read: Reader) -> Iterable[tuple[str, Any]]:
    """What a folder that holds no adapter has, by our names."""
    fields = read_config(folder)
    is_published = fields.get("model_type") == PUBLISHED_TYPE
    return published_tensors(folder, fields, read) if is_published else read(folder)


# --- what is there, from headers alone ---


def require_whole(path_or_repo: str | Path) -> None:
    """Raise unless every weight that a checkpoint's config.json asks for is there, with its shape; no weights are read.

    Raises CheckpointNotFound, CheckpointMismatch or CheckpointUnsafe; DownloadError for a repository.
    """
    folder = local_folder(path_or_repo)
    _require_whole(folder, _empty(folder))


def _require_whole(folder: Path, model: MayaForConditionalGeneration) -> None:
    if runs.is_run(folder):
        if not runs.is_new(folder):
            base = _run_base(folder)
            _require_whole(base, model)
            runs.require_base(folder, fingerprint_of(base), base=base)
        runs.require_fit(folder, _shapes(model))
        return
    if adapters.is_adapter(folder):
        base = _under_adapter(folder)
        _require_whole(base, model)
        adapters.require_fit(folder, _shapes(model))
        adapters.require_base(folder, fingerprint_of(base), base=base)
        return
    _require_fit(_stored(folder, headers_in), model, source=folder, four_bit=is_quantized(folder))


def _require_fit(
    stored: Iterable[tuple[str, Any]], model: MayaForConditionalGeneration, *, source: Path, four_bit: bool = False
) -> None:
    """Refuse what is missing, unexpected or misshapen, by name. stored: tensors or their headers."""
    expected: dict[str, tuple[int, ...] | None] = dict(_shapes(model))
    if four_bit:
        for name in _four_bit_names(model):
            expected |= stored_parts(name, expected[name] or ())
    found = {name: tuple(tensor.shape) for name, tensor in stored}
    if model.config.text.tie_word_embeddings:
        found.pop(_HEAD, None)  # a copy of the table
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "misshapen": [
            f"{name} is {list(found[name])}, should be {list(shape)}"
            for name, shape in expected.items()
            if shape is not None and found.get(name, shape) != shape
        ],
    }
    if any(problems.values()):
        said = "; ".join(f"{len(names)} {kind}: {some_of(sorted(names))}" for kind, names in problems.items() if names)
        raise CheckpointMismatch(
            f"The weights in {source.name} do not fit their config.json ({said}); get a whole copy."
        )


def _shapes(model: MayaForConditionalGeneration) -> Shapes:
    """Of every tensor that is stored for a model in which nothing is quantised."""
    tied = model.config.text.tie_word_embeddings
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if not (tied and name == _HEAD)}


def _four_bit_names(model: MayaForConditionalGeneration) -> list[str]:
    paths = {module: path for path, module in model.named_modules()}
    return [f"{paths[getattr(owner, name)]}.weight" for group in four_bit_groups(model) for owner, name in group]


def shapes_of(path_or_repo: str | Path) -> Shapes:
    """The shape of every tensor of a checkpoint as it is when nothing is quantised; no weights are read."""
    return _shapes(_empty(local_folder(path_or_repo)))


def bytes_on_disk(
    path_or_repo: str | Path, dtype: torch.dtype, *, four_bit: bool = False, language_model: bool = True
) -> int:
    """About what a checkpoint takes as `save_model` writes it: weights in `dtype`, and its tokenizer. language_model:
    whether with it."""
    folder = local_folder(path_or_repo)
    model = _empty(folder)
    shapes = {
        name: shape for name, shape in _shapes(model).items() if language_model or not name.startswith(_LANGUAGE_MODEL)
    }
    quantized = [shapes.pop(name) for name in _four_bit_names(model)] if four_bit else []
    tokenizer = first_existing(_under_adapter(folder) / "tokenizer.json")
    return (
        sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        + sum(map(stored_bytes, quantized))
        + (tokenizer.stat().st_size if tokenizer else 0)
    )


def places_of(path_or_repo: str | Path) -> list[Path]:
    """Every folder that a checkpoint is read from: its own, that of an adapter's base, that of a tower outside."""
    folder = local_folder(path_or_repo)
    base = _under_adapter(folder)
    tower = local_tower(base, read_config(base))
    return list(dict.fromkeys([folder, base, *([tower] if tower.is_dir() else [])]))


def fingerprint_of(path_or_repo: str | Path) -> str:
    """What two checkpoints share where they are made of the same weights; see `fingerprint`."""
    places = places_of(path_or_repo)
    marks = "".join(
        mark_of(runs.learnt_weights(place)) if runs.is_run(place) else fingerprint(place) for place in places
    )
    return hashlib.sha256(marks.encode()).hexdigest()


def base_for_adapter(path_or_repo: str | Path) -> adapters.Base:
    """A model as an adapter on it names it."""
    folder = local_folder(path_or_repo)
    is_folder = typed_path(path_or_repo).is_dir()
    return adapters.Base(str(folder) if is_folder else pinned(str(path_or_repo), folder), fingerprint_of(folder))


def stored_dtype(path_or_repo: str | Path) -> torch.dtype:
    """The number format that most of a checkpoint's weights have, of those that are not in four bits."""
    folder = _under_adapter(local_folder(path_or_repo))
    if runs.is_run(folder):
        return torch.float32  # of a new model, as it learns
    numbers: Counter[str] = Counter()
    for name, header in headers_in(folder):
        if header.dtype in _DTYPES and ".weight." not in name:  # no part of a quantised matrix
            numbers[header.dtype] += math.prod(header.shape)
    return _DTYPES[numbers.most_common(1)[0][0]] if numbers else torch.float32


# --- a new model from a tower and a language model ---


def assemble(
    tower: str | Path, language_model: str | Path, *, dtype: torch.dtype = torch.float32, **config: Any
) -> tuple[MayaForConditionalGeneration, MayaProcessor]:
    """A Maya before its first training: a vision tower (SigLIP, SigLIP 2 of fixed resolution, CLIP, DINOv2, or that of
    another Maya) and a Cohere model, each a folder or a repository, and an untrained connector between them.

    config: further fields of MayaConfig. Raises CheckpointNotFound, CheckpointMismatch or DownloadError.
    """
    tower_folder, language_folder = _plain(tower, is_tower=True), _plain(language_model)
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

    def stored(read: Reader) -> Iterable[tuple[str, Any]]:
        tower, words = _tower_tensors(tower_folder, model_config, read), _language_tensors(language_folder, read)
        return chain(tower, words, connector.items())

    _require_fit(stored(headers_in), model, source=language_folder)
    _fill(model, iter(stored(tensors_in)), dtype, torch.device("cpu"))
    preprocessor = first_existing(tower_folder / "preprocessor_config.json")
    return model, _processor(model_config, preprocessor, language_folder)


def _plain(path_or_repo: str | Path, *, is_tower: bool = False) -> Path:
    """The folder of a part for a new model; neither an adapter, nor quantised, nor a Maya already, but for its tower."""
    folder = local_folder(path_or_repo)
    if adapters.is_adapter(folder):
        raise CheckpointMismatch(f"{folder.name} is an adapter; a new Maya is made of whole models.")
    fields = read_config(folder)
    if "quantization_config" in fields:
        raise CheckpointMismatch(f"{folder.name} is quantised; a new Maya is made of weights as they were before.")
    refused = (PUBLISHED_TYPE,) if is_tower else (MayaConfig.model_type, PUBLISHED_TYPE)
    if fields.get("model_type") in refused:
        raise CheckpointMismatch(f"{folder.name} is a Maya already; a new one is made of a tower and a language model.")
    return folder


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


def _tower_tensors(folder: Path, config: MayaConfig, read: Reader) -> Iterable[tuple[str, Any]]:
    """A tower's tensors under our names, from a folder of its own or from a Maya's."""
    own_name, of_maya = tower_class(config.vision).own_name, "vision_tower."
    is_maya = read_config(folder).get("model_type") == MayaConfig.model_type
    for stored, tensor in learnt_tensors_in(folder, read):
        if is_maya:
            if stored.startswith(of_maya):
                yield stored, tensor
        elif (name := own_name(stored)) is not None:
            yield f"{of_maya}{name}", tensor


def _language_tensors(folder: Path, read: Reader) -> Iterable[tuple[str, Any]]:
    return ((f"{_LANGUAGE_MODEL}{name}", tensor) for name, tensor in learnt_tensors_in(folder, read))


# --- saving ---


def save_model(
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Write model and processor in our layout into a new or an empty folder, weights in `dtype` where given.

    overwrite: put it in the place of another model; other files there (a model card, say) are kept. recipe: what a training
    stage wrote down of it.
    Raises DestinationError or DiskFull, and what was there stays.
    """
    needed = sum(tensor.nbytes for tensor in _state(model, dtype, device="meta").values())
    with written(folder, require_whole, overwrite=overwrite, needed=needed) as fresh:
        write_model(model, processor, fresh, dtype=dtype)
        if recipe is not None:
            (fresh / RECIPE).write_text(json.dumps(recipe, indent=2) + "\n")


def write_model(
    model: MayaForConditionalGeneration,
    processor: MayaProcessor,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    language_model: bool = True,
) -> None:
    """As `save_model`, into a folder that is ours already. language_model: whether its weights are written too."""
    state = {
        name: _own(tensor)
        for name, tensor in _state(model, dtype).items()
        if language_model or not name.startswith(_LANGUAGE_MODEL)
    }
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtype or model.dtype
    model.config.save_pretrained(folder)
    save_torch_state_dict(state, folder)
    processor.save_pretrained(folder)


def _state(
    model: MayaForConditionalGeneration, dtype: torch.dtype | None, device: str | None = None
) -> dict[str, Tensor]:
    """What is stored of a model: a tied table once, what is quantised as it is."""
    state: dict[str, Tensor] = {name: tensor.detach().to(device) for name, tensor in model.state_dict().items()}
    if model.config.text.tie_word_embeddings:
        del state[_HEAD]
    if dtype is None:
        return state
    is_part = {part for name in _four_bit_names(model) if f"{name}.absmax" in state for part in stored_parts(name, ())}
    return {name: tensor if name in is_part else tensor.to(dtype) for name, tensor in state.items()}


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
