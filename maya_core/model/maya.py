"""The model, whole: a vision tower sees, a connector translates, a language model answers. Read this file first.

    pixel_values_ICHW -> vision_tower -> features_IND -> connector -> image_embeds_INE
                                                                           |
    input_ids_BT -> table -> embeds_BTE, image slots filled from it  <-----+
                     -> language_model -> logits_BTV

With the `cross_attention` connector the language model's layers look at the pictures too; its file says how.

Shape letters: I pictures, C colours, H and W pixels, N visual tokens, D vision width, B rows, T text positions, E text
width, V vocabulary.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForImageTextToText,
    CohereForCausalLM,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.cache_utils import Cache
from transformers.utils import ModelOutput

from maya_core.errors import ImageCountMismatch
from maya_core.model.config import MayaConfig
from maya_core.model.connectors import Learned, build_connector
from maya_core.model.decoder_layer import as_ours
from maya_core.model.towers import build_tower


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
    _no_split_modules: ClassVar[list[str]] = [
        "DecoderLayer",
        "SiglipEncoderLayer",
        "CLIPEncoderLayer",
        "Dinov2Layer",
        "Dinov2WithRegistersLayer",
        "QFormerBlock",
        "ResamplerBlock",
        "GatedBlock",
    ]
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values"]

    def __init__(self, config: MayaConfig) -> None:
        super().__init__(config)
        self.vision_tower = build_tower(config.vision)
        self.connector = build_connector(
            config.connector,
            vision_size=config.vision.hidden_size,
            text_size=config.text.hidden_size,
            text_layers=config.text.num_hidden_layers,
        )
        self.language_model = CohereForCausalLM(config.text)
        as_ours(self.get_decoder())
        self.connector.attach(self.get_decoder())
        # hidden_states[-1] is the output of the last layer and [-(layers + 1)] that of the embeddings
        self.vision_layers_read = config.vision.num_hidden_layers + 1 + config.vision_feature_layer
        self.first_position_kept = config.positions_dropped
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The first values of a module's own parameters; transformers calls it where none were loaded."""
        super()._init_weights(module)
        if isinstance(module, Learned):
            module.init_parameters(self.config.text.initializer_range)

    # --- seeing ---

    def vision_features(self, pixel_values_ICHW: Tensor) -> Tensor:
        """(I, C, H, W), as the tower wants them -> (I, patches, D). H and W are any multiples of the patch."""
        height, width = pixel_values_ICHW.shape[-2:]
        self.config.patches_kept(height, width)
        features_IND: Tensor = self.vision_tower.features(pixel_values_ICHW, layers=self.vision_layers_read)
        return features_IND[:, self.first_position_kept :]

    def image_embeds(self, pixel_values_ICHW: Tensor) -> Tensor:
        """(I, C, H, W) -> (I, N, E): pictures in the language model's word space."""
        embeds_INE: Tensor = self.connector(self.vision_features(pixel_values_ICHW))
        return embeds_INE

    # --- reading ---

    def embed(self, input_ids_BT: Tensor, image_embeds_INE: Tensor | None) -> Tensor:
        """Token embeddings (B, T, E) with the image slots filled, in order, from the pictures' embeddings.

        Raises ImageCountMismatch where the slots and the visual tokens are not the same number.
        """
        embeds_BTE: Tensor = self.get_input_embeddings()(input_ids_BT)
        slots_BT = self.slots(input_ids_BT)
        slots = int(slots_BT.sum())
        given = 0 if image_embeds_INE is None else image_embeds_INE.shape[0] * image_embeds_INE.shape[1]
        if slots != given:
            raise ImageCountMismatch(
                f"The prompt has {slots} image slots but the pictures give {given} visual tokens; "
                "pass every picture that the prompt names, and no other."
            )
        if image_embeds_INE is None:
            return embeds_BTE
        return embeds_BTE.masked_scatter(slots_BT[..., None], image_embeds_INE.to(embeds_BTE.dtype))

    def slots(self, input_ids_BT: Tensor) -> Tensor:
        """(B, T), true where an image slot stands."""
        return input_ids_BT == self.config.image_token_id

    def decoder_inputs(
        self, input_ids_BT: Tensor, features_IND: Tensor | None, past_key_values: Cache | None = None
    ) -> dict[str, Any]:
        """What the decoder reads: `inputs_embeds` (B, T, E), and what the connector gives it beside them.

        Raises ImageCountMismatch, but for a decoded token, which is a word whatever its id.
        """
        if features_IND is None:
            is_word = _is_decoded_token(input_ids_BT, past_key_values)
            embeds_BTE = self.get_input_embeddings()(input_ids_BT) if is_word else self.embed(input_ids_BT, None)
            return {"inputs_embeds": embeds_BTE}
        embeds_BTE = self.embed(input_ids_BT, self.connector(features_IND))
        return {"inputs_embeds": embeds_BTE} | self.connector.beside(features_IND, self.slots(input_ids_BT))

    def hidden_states(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        *,
        vision_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        supervised: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """(B, T) ids and (I, C, H, W) pictures -> (B, T, E), what the head makes logits of; training takes its loss there.

        vision_features: (I, N, D), what the tower made of the pictures, in place of them. attention_mask: (B, T), or
        (B, 1, T, T) and true where a position may look. position_ids: (B, T); each 0 starts a conversation. supervised:
        (S,) positions, rows one behind the other, to which the answer is limited: (1, S, E). kwargs: for the attention.
        Raises ImageCountMismatch.
        """
        if pixel_values is not None:
            vision_features = self.vision_features(pixel_values)
        outputs = self.get_decoder()(
            **self.decoder_inputs(input_ids, vision_features),
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
            supervised=supervised,
            **kwargs,
        )
        hidden_BTE: Tensor = outputs.last_hidden_state
        return hidden_BTE

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
        """One pass over `input_ids` (B, T), with `pixel_values` (I, C, H, W), or over `inputs_embeds` (B, T, E).

        labels: (B, T) ids, -100 where nothing is to be learnt; gives the mean next-token loss.
        logits_to_keep: only the last this many positions get logits (0: all). Raises ImageCountMismatch, and ValueError
        where neither or both are given, or pictures without ids.
        """
        if (input_ids is None) == (inputs_embeds is None) or (input_ids is None and pixel_values is not None):
            raise ValueError("The model reads input_ids, with pixel_values, or inputs_embeds alone.")
        if input_ids is not None:
            features = None if pixel_values is None else self.vision_features(pixel_values)
            inputs = self.decoder_inputs(input_ids, features, past_key_values)
        else:
            inputs = {"inputs_embeds": inputs_embeds}
        outputs = self.language_model(
            **inputs,
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
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Pictures enter with the prompt only; after that they live in the cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
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

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        """The language model without its head."""
        decoder: nn.Module = self.language_model.model
        return decoder

    # --- files ---

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """As transformers' own; four bits are written as they are, for transformers knows no way back from them."""
        if getattr(self.config, "quantization_config", None) is not None:
            options = {"save_original_format": False} | options
        super().save_pretrained(save_directory, **options)


def _is_decoded_token(input_ids_BT: Tensor, past_key_values: Cache | None) -> bool:
    """Whether this is a step of generation: one new token behind a filled cache."""
    return input_ids_BT.shape[1] == 1 and past_key_values is not None and past_key_values.get_seq_length() > 0


AutoModelForImageTextToText.register(MayaConfig, MayaForConditionalGeneration, exist_ok=True)


def parameter_counts(config: MayaConfig) -> dict[str, int]:
    """How many parameters each of the three parts has; a tied head counts once. Nothing is allocated."""
    with torch.device("meta"):
        model = MayaForConditionalGeneration(config)
    model.tie_weights()
    parts = ("vision_tower", "connector", "language_model")
    return {part: sum(parameter.numel() for parameter in getattr(model, part).parameters()) for part in parts}
