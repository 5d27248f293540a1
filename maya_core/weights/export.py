"""Writing a checkpoint in another form: in our layout, in four bits, or for transformers' own `llava`.

All of them read the headers of their source, and look at their destination and its disk, before anything that takes long.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from transformers import CohereConfig

from maya_core.errors import CheckpointError
from maya_core.model.config import MayaConfig, PhotographTowerConfig
from maya_core.model.processor import MayaProcessor
from maya_core.model.prompt import IMAGE, MAYA_V1_SYSTEM
from maya_core.progress import OnProgress, untold
from maya_core.weights.adapters import is_adapter
from maya_core.weights.checkpoint import (
    bytes_on_disk,
    is_quantized,
    load_config,
    load_model,
    load_processor,
    places_of,
    require_whole,
    save_model,
    stored_dtype,
)
from maya_core.weights.destination import RECIPE, claim, written
from maya_core.weights.files import read_json
from maya_core.weights.hub import local_folder
from maya_core.weights.published import load_connector

if TYPE_CHECKING:
    from transformers import LlavaConfig


# The prompts of `prompt` and `turns` as Jinja: pictures before a turn's words, unless they stand between them. What a user
# types is not kept from being a control token by transformers' own processors.
_SAID = r"""
{%- macro line(part, is_last) -%}
    {{- '<image>\n' if part.type != 'text' else part.text if is_last else part.text + '\n' -}}
{%- endmacro -%}
{%- macro said(content) -%}
    {%- set seen = namespace(words=false, behind=false, between=false) -%}
    {%- for part in content if content is not string -%}
        {%- set seen.between = seen.between or (seen.behind and part.type == 'text') -%}
        {%- set seen.behind = seen.behind or (seen.words and part.type != 'text') -%}
        {%- set seen.words = seen.words or part.type == 'text' -%}
    {%- endfor -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif seen.between -%}
        {%- for part in content -%}{{- line(part, loop.last) -}}{%- endfor -%}
    {%- else -%}
        {%- for part in content if part.type != 'text' -%}{{- line(part, false) -}}{%- endfor -%}
        {%- for part in content if part.type == 'text' -%}{{- line(part, loop.last) -}}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
"""
_CHAT = r"""
{%- set roles = {'system': '<|SYSTEM_TOKEN|>', 'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'} -%}
{{- '<BOS_TOKEN>' -}}
{%- for turn in messages -%}
    {{- '<|START_OF_TURN_TOKEN|>' + roles[turn.role] + said(turn.content) + '<|END_OF_TURN_TOKEN|>' -}}
{%- endfor -%}
{{- '<|START_OF_TURN_TOKEN|>' + roles['assistant'] if add_generation_prompt -}}
"""
_MAYA_V1 = r"""
{{- '<BOS_TOKEN>' -}}
{{- said(messages[0].content) if messages[0].role == 'system' else "$SYSTEM" -}}
{{- ' ' -}}
{%- for turn in messages -%}
    {%- if turn.role == 'user' -%}
        {{- 'USER: ' + said(turn.content) -}}
        {{- ' ASSISTANT:' if add_generation_prompt or not loop.last -}}
    {%- elif turn.role == 'assistant' -%}
        {{- ' ' + said(turn.content) + '<|END_OF_TURN_TOKEN|>' -}}
    {%- endif -%}
{%- endfor -%}
"""
_TEMPLATES = {"chat": _SAID + _CHAT, "maya-v1": _SAID + _MAYA_V1.replace("$SYSTEM", MAYA_V1_SYSTEM)}


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    projector: Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = untold,
) -> None:
    """Read a checkpoint in either layout and write it in ours, in its own precision.

    projector: a stage-1 `mm_projector.bin` whose weights replace the connector's. overwrite: another model that is at
    `destination` is replaced. on_progress: told which share is read. Raises DestinationError or DiskFull, and what
    `load_model` does.
    """
    claim(destination, overwrite=overwrite)  # before anything is fetched
    folder = local_folder(source)
    require_whole(folder)
    dtype = stored_dtype(folder)
    needed = bytes_on_disk(folder, dtype, four_bit=is_quantized(folder))
    claim(destination, sources=places_of(folder), overwrite=overwrite, needed=needed)
    model = load_model(folder, dtype=dtype, on_progress=on_progress)
    if projector is not None:
        load_connector(model, projector)
    save_model(model, load_processor(folder), destination, overwrite=overwrite, recipe=_recipe_of(folder))


def merge_adapter(
    source: str | Path,
    destination: str | Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = untold,
) -> None:
    """Write a model of its own from an adapter and its base, as `convert`. Raises CheckpointError where `source` is no
    adapter, and what that does."""
    folder = local_folder(source)
    if not is_adapter(folder):
        raise CheckpointError(f"{folder.name} is no adapter; there is nothing to merge.")
    convert(folder, destination, overwrite=overwrite, on_progress=on_progress)


def _recipe_of(folder: Path) -> dict[str, Any] | None:
    """What a training stage wrote down of a model, for its other forms; not where the run is, which did not make them."""
    if not (folder / RECIPE).is_file():
        return None
    return {name: value for name, value in read_json(folder / RECIPE).items() if name != "run"}


def quantize_checkpoint(
    source: str | Path,
    destination: str | Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = untold,
) -> None:
    """Read a checkpoint in either layout and write it in ours with the decoder's linear layers in four bits, and nothing in
    more than 16.

    overwrite: another model that is at `destination` is replaced. on_progress: told which share is there. Raises
    CheckpointError where it is so already, DestinationError or DiskFull, and what `load_model` does.
    """
    claim(destination, overwrite=overwrite)
    folder = local_folder(source)
    if is_quantized(folder):
        raise CheckpointError(f"{folder.name} is in four bits already; use it as it is.")
    require_whole(folder)
    dtype = stored_dtype(folder)
    if dtype.itemsize > 2:
        dtype = torch.bfloat16  # what it computes in
    needed = bytes_on_disk(folder, dtype, four_bit=True)
    claim(destination, sources=places_of(folder), overwrite=overwrite, needed=needed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(folder, dtype=dtype, device=device, quantization="nf4", on_progress=on_progress)
    save_model(model, load_processor(folder), destination, overwrite=overwrite, recipe=_recipe_of(folder))


def export_llava(
    source: str | Path,
    destination: str | Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress = untold,
) -> None:
    """Write a checkpoint as transformers' own `llava`, which its stock classes load: the same prompts, pixels and logits.

    That class never applies Cohere's `logit_scale`, so it is folded into the final norm, whose only weight is a
    factor. overwrite: another model that is at `destination` is replaced. on_progress: told which share is read. Raises
    CheckpointError for four bits, and for a tower or a connector that `llava` does not have; DestinationError or DiskFull,
    and what `load_model` does.
    """
    from transformers import LlavaForConditionalGeneration

    claim(destination, overwrite=overwrite)
    folder = local_folder(source)
    config = load_config(folder)
    if is_quantized(folder):
        raise CheckpointError(f"{folder.name} is in four bits; export the model that it was made from.")
    if reason := _what_llava_lacks(config):
        raise CheckpointError(f"transformers' llava {reason}; it cannot be exported.")
    require_whole(folder)
    dtype = stored_dtype(folder)
    needed = bytes_on_disk(folder, dtype)
    claim(destination, sources=places_of(folder), overwrite=overwrite, needed=needed)
    model, processor = load_model(folder, dtype=dtype, on_progress=on_progress), load_processor(folder)
    exported_config = _llava_config(config, _image_token(processor)[1])
    with init_empty_weights():
        exported = LlavaForConditionalGeneration(exported_config)
    state = {_llava_name(name): tensor for name, tensor in model.state_dict().items()}
    state["model.language_model.norm.weight"] = state["model.language_model.norm.weight"] * config.text.logit_scale
    exported.load_state_dict(state, strict=True, assign=True)
    exported.tie_weights()
    exported.generation_config = model.generation_config
    with (
        _without_their_bars(),
        written(destination, _require_whole_llava, overwrite=overwrite, needed=needed) as fresh,
    ):
        exported.save_pretrained(fresh)
        _save_llava_processor(processor, fresh)


@contextmanager
def _without_their_bars() -> Iterator[None]:
    """transformers draws bars of its own into what is told of an export."""
    from transformers.utils import logging as theirs

    are_shown = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        if are_shown:
            theirs.enable_progress_bar()


def _require_whole_llava(folder: Path) -> None:
    """Raise AssertionError where the stock class lacks weights in `folder`; it reads no more than headers of them."""
    from transformers import LlavaForConditionalGeneration

    _, found = LlavaForConditionalGeneration.from_pretrained(folder, device_map="meta", output_loading_info=True)
    assert not any(found.values()), found


def _what_llava_lacks(config: MayaConfig) -> str | None:
    connector, vision = config.connector, config.vision
    if isinstance(vision, PhotographTowerConfig):
        return "does not know this model's tower"
    if connector.kind != "mlp":
        return f"has an mlp connector, this model's is a {connector.kind}"
    if connector.depth != 2:
        return f"has a projector of 2 layers, this model's has {connector.depth}"
    if connector.hidden_size not in (None, config.text.hidden_size):
        return f"has a projector {config.text.hidden_size} wide inside, this model's is {connector.hidden_size}"
    if config.positions_dropped > 1:
        return f"drops 1 position of the tower, this model {config.positions_dropped}"
    return None


def _llava_config(config: MayaConfig, image_token_id: int) -> "LlavaConfig":
    from transformers import LlavaConfig

    return LlavaConfig(
        vision_config=config.vision,
        text_config=CohereConfig.from_dict(config.text.to_dict() | {"logit_scale": 1.0}),
        image_token_index=image_token_id,
        image_seq_length=config.visual_tokens(config.image_size, config.image_size),
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        projector_hidden_act=config.connector.hidden_act,
        tie_word_embeddings=config.text.tie_word_embeddings,
    )


def _image_token(processor: MayaProcessor) -> tuple[str, int]:
    """The token that stands for a picture, by name and by id; a tokenizer that has none gets it, in an unused row."""
    tokenizer, own = processor.tokenizer, processor.image_token_id
    if tokenizer is None:
        return IMAGE, own
    if tokenizer.convert_ids_to_tokens(own) is None:
        tokenizer.add_tokens(IMAGE, special_tokens=True)
        own = tokenizer.convert_tokens_to_ids(IMAGE)
    return tokenizer.convert_ids_to_tokens(own), own


def _save_llava_processor(processor: MayaProcessor, destination: Path) -> None:
    """transformers' own processor, with the prompts as a template; without a tokenizer, what prepares the pictures."""
    from transformers import LlavaProcessor

    config = processor.config
    processor.image_processor.save_pretrained(destination)
    if processor.tokenizer is None:
        return
    LlavaProcessor(
        image_processor=processor.image_processor,
        tokenizer=processor.tokenizer,
        patch_size=config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=config.leading_positions,
        image_token=_image_token(processor)[0],
        chat_template=chat_template(processor),
    ).save_pretrained(destination)


def chat_template(processor: MayaProcessor) -> str:
    """The prompts of a model in Jinja, for programs that are not Maya."""
    return _TEMPLATES[processor.config.prompt_format].replace(IMAGE, _image_token(processor)[0])


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
