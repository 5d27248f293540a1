"""Writing a checkpoint in another form: in our layout, in four bits, or for transformers' own `llava`."""

from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import CohereConfig

from maya_core.errors import CheckpointError
from maya_core.weights.checkpoint import is_quantized, load_model, load_processor, save_model, stored_dtype
from maya_core.weights.hub import local_folder
from maya_core.weights.published import load_connector


def convert(source: str | Path, destination: str | Path, *, projector: Path | None = None) -> None:
    """Read a checkpoint in either layout and write it in ours, in its own precision.

    projector: a stage-1 `mm_projector.bin` whose weights replace the connector's.
    """
    folder = local_folder(source)
    model = load_model(folder, dtype=stored_dtype(folder))
    if projector is not None:
        load_connector(model, projector)
    save_model(model, load_processor(folder), destination)


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
