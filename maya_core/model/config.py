"""Configuration: `MayaConfig` describes a model."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    CohereConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    PreTrainedConfig,
    SiglipVisionConfig,
)
from transformers.activations import ACT2FN
from transformers.configuration_utils import SubConfigSpec

# google/siglip-base-patch16-256-multilingual, the published tower: 92,930,304 parameters with its pooling head.
PUBLISHED_VISION: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 256,
    "patch_size": 16,
}
# CohereForAI/aya-23-8B, the published language model: 8,028,033,024 parameters, head tied to the table.
PUBLISHED_TEXT: dict[str, Any] = {
    "vocab_size": 256000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "layer_norm_eps": 1e-5,
    "logit_scale": 0.0625,
    "eos_token_id": 255001,
}


@strict
class ConnectorConfig(PreTrainedConfig):
    """The part between vision tower and language model. A field that a kind does not name, it does not read.

    kind: `mlp` is a stack of linear layers (the paper's, with depth 2): a visual token for each patch. `qformer` is
        BLIP-2's (arXiv 2301.12597): learned queries read a picture and are its visual tokens. `cross_attention` is
        Flamingo's (arXiv 2204.14198): a picture is one visual token, and decoder layers look at latents made of it.
    depth: linear layers (mlp), blocks (qformer; the paper has 12), or blocks of the resampler (cross_attention; 6).
    hidden_size: of mlp between its layers; the language model's width where None, as published.
    hidden_act: the activation between linear layers, by transformers' name.
    num_attention_heads, head_dim: of every attention of qformer and cross_attention; 12 x 64 is as wide as the
        published tower.
    num_query_tokens: queries of qformer, so its visual tokens a picture.
    cross_attention_frequency: in qformer the first block and every this many after it look at the picture.
    num_latents: vectors that cross_attention makes of a picture.
    cross_attn_every_n_layers: in cross_attention the last of every this many decoder layers has a look before it.
    """

    model_type = "maya_connector"

    kind: Literal["mlp", "qformer", "cross_attention"] = "mlp"
    depth: int = 2
    hidden_size: int | None = None
    hidden_act: str = "gelu"
    num_attention_heads: int = 12
    head_dim: int = 64
    num_query_tokens: int = 32
    cross_attention_frequency: int = 2
    num_latents: int = 64
    cross_attn_every_n_layers: int = 4

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        counts = (
            "depth",
            "num_attention_heads",
            "head_dim",
            "num_query_tokens",
            "cross_attention_frequency",
            "num_latents",
            "cross_attn_every_n_layers",
        )
        for name in (*counts, *["hidden_size"] * (self.hidden_size is not None)):
            if getattr(self, name) < 1:
                raise ValueError(f"connector {name} must be at least 1, not {getattr(self, name)}.")
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"connector hidden_act {self.hidden_act!r} is no activation that transformers knows.")

    def visual_tokens(self, patches: int) -> int:
        """How many visual tokens become of a picture's patches."""
        return {"mlp": patches, "qformer": self.num_query_tokens, "cross_attention": 1}[self.kind]


THIRDS = 3  # of a picture, each way
OVERVIEWS = 1 + THIRDS**2  # the picture as a whole, and its nine parts


@strict
class PhotographTowerConfig(PreTrainedConfig):
    """EfficientNet-Lite2 and NanoDet-g side by side (`towers.photograph`). hidden_size: 1,280 features and 80 classes of a
    cell, which is patch_size px wide; of each of its quarters 80 classes, two sizes, three colours; and its place; what it
    has beyond these 1,702 tells of the next things of the same class how surely they are there.
    most_things: how many things that the detector finds follow the cells and OVERVIEWS of the picture, each as a cell of its
    own; with 0 neither follows."""

    model_type = "photograph_tower"

    hidden_size: int = 1702
    image_size: int = 384
    patch_size: int = 64
    num_hidden_layers: int = 1  # only the last one is read
    most_things: int = 0


# Of the towers that there are. Their classes: `towers`.
VISION_CONFIGS = (SiglipVisionConfig, CLIPVisionConfig, Dinov2Config, Dinov2WithRegistersConfig, PhotographTowerConfig)


@strict
class MayaConfig(PreTrainedConfig):
    """Shapes and choices of one Maya; every field is checked here, so modules only take numbers.

    vision_config, connector_config, text_config: of the tower (SigLIP's where its model_type does not say
        another's), the connector, and Cohere.
    image_token_id: the id that stands once in `input_ids` for every visual token.
    vision_feature_layer: which of the tower's hidden states is read: -1 the last layer's output, -2 the one before, ...
    vision_feature_select_strategy: `full` keeps all that the tower gives; `default` drops what stands before the patches (a
        class token, registers), and of SigLIP the first patch, as the published weights were trained (the original code
        takes it for a class token).
    image_aspect_ratio: `pad` centres a picture on a grey square before resizing, `stretch` resizes it as it is.
    prompt_format: `maya-v1` as the published weights were trained, or `chat` with Cohere's turn tokens.
    keeps_to_script: an answer has no letters but those of its language. For a model so small that it takes a word for the
        same word of another language; a large one may be asked for such words.
    doubts: by language, what a short answer is said with where the model is not sure of it, {} standing for the answer; and
        after it answers that are never said so, as "yes". None where the model was not taught to doubt.
    sure_from: the probability of an answer from which on the model is sure of it.
    """

    model_type = "maya"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type=SiglipVisionConfig.model_type),
        "connector_config": ConnectorConfig,
        "text_config": CohereConfig,
    }

    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    connector_config: dict[str, Any] | PreTrainedConfig | None = None
    text_config: dict[str, Any] | PreTrainedConfig | None = None
    image_token_id: int = 255999
    vision_feature_layer: int = -2
    vision_feature_select_strategy: Literal["default", "full"] = "full"
    image_aspect_ratio: Literal["pad", "stretch"] = "pad"
    prompt_format: Literal["maya-v1", "chat"] = "chat"
    keeps_to_script: bool = False
    doubts: dict[str, list[str]] | None = None
    sure_from: float = 0.67
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not isinstance(self.vision_config, VISION_CONFIGS):
            known = ", ".join(kind.model_type for kind in VISION_CONFIGS)
            raise ValueError(
                f"vision_config is a {getattr(self.vision_config, 'model_type', None)}; Maya's towers are {known}."
            )
        vision, text = self.vision, self.text
        deepest = 1 if isinstance(vision, PhotographTowerConfig) else vision.num_hidden_layers + 1
        if not 1 <= -self.vision_feature_layer <= deepest:
            raise ValueError(
                f"vision_feature_layer {self.vision_feature_layer} does not exist in a tower of "
                f"{vision.num_hidden_layers} layers; choose -1 to -{deepest}."
            )
        if not 0 <= self.image_token_id < text.vocab_size:
            raise ValueError(f"image_token_id {self.image_token_id} is outside the table of {text.vocab_size} rows.")
        if not 0 < self.sure_from <= 1:
            raise ValueError(f"sure_from {self.sure_from} is no probability above 0.")
        for said in (self.doubts or {}).values():
            if not said or said[0].count("{}") != 1:
                raise ValueError(f"doubts has {said}, whose first must have one {{}} for the answer.")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}.")
        every = self.connector.cross_attn_every_n_layers
        if self.connector.kind == "cross_attention" and every > text.num_hidden_layers:
            raise ValueError(
                f"cross_attn_every_n_layers {every} leaves none of the {text.num_hidden_layers} decoder layers that looks."
            )

    @property
    def vision(self) -> PreTrainedConfig:
        """`vision_config`, with its type: one of VISION_CONFIGS."""
        assert isinstance(self.vision_config, VISION_CONFIGS)
        return self.vision_config

    @property
    def connector(self) -> ConnectorConfig:
        """`connector_config`, with its type."""
        assert isinstance(self.connector_config, ConnectorConfig)
        return self.connector_config

    @property
    def text(self) -> CohereConfig:
        """`text_config`, with its type."""
        assert isinstance(self.text_config, CohereConfig)
        return self.text_config

    @property
    def image_size(self) -> int:
        """Side in px of the square pictures that the tower was trained on."""
        return int(self.vision.image_size)

    @property
    def patch_size(self) -> int:
        """Side of a patch in px."""
        return int(self.vision.patch_size)

    def visual_tokens(self, height: int, width: int) -> int:
        """How many slots an image of height x width pixels takes in a prompt; ValueError off the patch grid."""
        return self.connector.visual_tokens(self.patches_kept(height, width))

    def patches_kept(self, height: int, width: int) -> int:
        """How many positions of an image of height x width pixels the connector gets; ValueError off the patch grid."""
        patch = self.patch_size
        if height % patch or width % patch:
            raise ValueError(f"An image of {height} x {width} pixels is not a multiple of the {patch} px patch.")
        things: int = getattr(self.vision, "most_things", 0)
        behind = OVERVIEWS + things if things else 0
        return (height // patch) * (width // patch) + behind + self.leading_positions - self.positions_dropped

    @property
    def leading_positions(self) -> int:
        """How many positions of the tower stand before the patches: class token and registers."""
        registers: int = getattr(self.vision, "num_register_tokens", 0)
        return 0 if isinstance(self.vision, SiglipVisionConfig | PhotographTowerConfig) else 1 + registers

    @property
    def positions_dropped(self) -> int:
        """How many of the tower's positions the connector does not get, counted from the first."""
        return 0 if self.vision_feature_select_strategy == "full" else max(1, self.leading_positions)

    @classmethod
    def published(cls, **changes: Any) -> "MayaConfig":
        """The configuration of the published 8B model (arXiv 2505.08910)."""
        fields: dict[str, Any] = {
            "vision_config": dict(PUBLISHED_VISION),
            "text_config": dict(PUBLISHED_TEXT),
            "vision_feature_select_strategy": "default",
            "prompt_format": "maya-v1",
        }
        return cls(**(fields | changes))


def fields_of(kind: type[CohereConfig] | type[SiglipVisionConfig], given: dict[str, Any]) -> dict[str, Any]:
    """What a configuration of this kind takes of a config.json, but for what belongs to one file of weights."""
    return {
        name: given[name]
        for name in kind.__dataclass_fields__
        if name in given and name not in ("architectures", "dtype")
    }


AutoConfig.register("maya_connector", ConnectorConfig)
AutoConfig.register(PhotographTowerConfig.model_type, PhotographTowerConfig)
AutoConfig.register("maya", MayaConfig, exist_ok=True)
