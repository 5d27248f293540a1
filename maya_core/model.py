"""The model, whole: a vision tower sees, a connector translates, a language model answers. Read this file first.

    pixel_values_BCHW -> vision_tower -> features_BND -> connector -> image_embeds_BNE
                                                                           |
    input_ids_BT -> table -> embeds_BTE, image slots filled from it  <-----+
                     -> language_model -> logits_BTV

Shape letters: B batch, C colours, H and W pixels, N visual tokens, D vision width, T text positions, E text width,
V vocabulary.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    CohereForCausalLM,
    GenerationMixin,
    PreTrainedModel,
    SiglipVisionModel,
)
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from maya_core.config import MayaConfig
from maya_core.connectors import build_connector
from maya_core.errors import ImageCountMismatch


@dataclass
class MayaOutput(ModelOutput):
    """What `forward` returns; the fields that transformers expects of a causal language model."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: Tensor | None = None


class MayaForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """Maya (arXiv 2505.08910): SigLIP, a connector, and Cohere with its `logit_scale`."""

    config_class = MayaConfig
    config: MayaConfig
    main_input_name = "input_ids"
    input_modalities: ClassVar[tuple[str, ...]] = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules: ClassVar[list[str]] = ["CohereDecoderLayer", "SiglipEncoderLayer"]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]

    def __init__(self, config: MayaConfig) -> None:
        super().__init__(config)
        self.vision_tower = SiglipVisionModel(config.vision)
        self.connector = build_connector(
            config.connector, vision_size=config.vision.hidden_size, text_size=config.text.hidden_size
        )
        self.language_model = CohereForCausalLM(config.text)
        # hidden_states[-1] is the output of the last layer and [-(layers + 1)] that of the embeddings
        self.vision_layers_read = config.vision.num_hidden_layers + 1 + config.vision_feature_layer
        self.first_patch_kept = 0 if config.vision_feature_select_strategy == "full" else 1
        self.post_init()

    # --- seeing ---

    def vision_features(self, pixel_values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, N, D). H and W are any multiples of the patch; positions are interpolated.

        Layers above the one that is read are never run.
        """
        height, width = pixel_values_BCHW.shape[-2:]
        self.config.visual_tokens(height, width)
        features_BND = self.vision_tower.embeddings(pixel_values_BCHW, interpolate_pos_encoding=True)
        for layer in self.vision_tower.encoder.layers[: self.vision_layers_read]:
            features_BND = layer(features_BND, None)
        kept_BND: Tensor = features_BND[:, self.first_patch_kept :]
        return kept_BND

    def image_embeds(self, pixel_values_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, E): pictures in the language model's word space."""
        embeds_BNE: Tensor = self.connector(self.vision_features(pixel_values_BCHW))
        return embeds_BNE

    # --- reading ---

    def embed(self, input_ids_BT: Tensor, image_embeds_BNE: Tensor | None) -> Tensor:
        """Token embeddings (B, T, E) with the image slots filled, in order, from the pictures' embeddings.

        Raises ImageCountMismatch where the slots and the visual tokens are not the same number.
        """
        embeds_BTE: Tensor = self.get_input_embeddings()(input_ids_BT)
        slots_BT = input_ids_BT == self.config.image_token_id
        slots = int(slots_BT.sum())
        given = 0 if image_embeds_BNE is None else image_embeds_BNE.shape[0] * image_embeds_BNE.shape[1]
        if slots != given:
            raise ImageCountMismatch(
                f"The prompt has {slots} image slots but the pictures give {given} visual tokens; "
                "pass every picture that the prompt names, and no other."
            )
        if image_embeds_BNE is None:
            return embeds_BTE
        return embeds_BTE.masked_scatter(slots_BT[..., None], image_embeds_BNE.to(embeds_BTE.dtype))

    # --- answering ---

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> MayaOutput:
        """One pass over `input_ids` (B, T) or `inputs_embeds` (B, T, E), with `pixel_values` (images, C, H, W).

        labels: (B, T) ids, -100 where nothing is to be learnt; gives the mean next-token loss.
        logits_to_keep: only the last this many positions get logits (0: all).
        """
        if inputs_embeds is None:
            assert input_ids is not None, "pass input_ids or inputs_embeds"
            if pixel_values is None and _is_decoded_token(input_ids, past_key_values):
                inputs_embeds = self.get_input_embeddings()(input_ids)
            else:
                image_embeds = None if pixel_values is None else self.image_embeds(pixel_values)
                inputs_embeds = self.embed(input_ids, image_embeds)
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return MayaOutput(
            loss=outputs.loss,
            logits=outputs.logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
        )

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, pixel_values: Tensor | None = None, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pictures enter with the prompt only; after that they live in the cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs["pixel_values"] = pixel_values
        return inputs

    def get_input_embeddings(self) -> nn.Module:
        table: nn.Module = self.language_model.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        head: nn.Module = self.language_model.get_output_embeddings()
        return head

    def get_decoder(self) -> nn.Module:
        """The language model without its head; training reads hidden states from it."""
        decoder: nn.Module = self.language_model.model
        return decoder


def _is_decoded_token(input_ids_BT: Tensor, past_key_values: Cache | None) -> bool:
    """Whether this is a step of generation: one new token behind a filled cache."""
    return input_ids_BT.shape[1] == 1 and past_key_values is not None and past_key_values.get_seq_length() > 0


AutoModelForImageTextToText.register(MayaConfig, MayaForConditionalGeneration)


def parameter_counts(config: MayaConfig) -> dict[str, int]:
    """How many parameters each of the three parts has; a tied head counts once. Nothing is allocated."""
    with torch.device("meta"):
        model = MayaForConditionalGeneration(config)
    model.tie_weights()
    parts = ("vision_tower", "connector", "language_model")
    return {part: sum(parameter.numel() for parameter in getattr(model, part).parameters()) for part in parts}
