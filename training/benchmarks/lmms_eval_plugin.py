"""What lmms-eval finds where Maya is installed beside it: `lmms_eval --model maya --model_args pretrained=MODEL`."""

from typing import Any


def manifest() -> Any:
    """Maya's entry in lmms-eval's registry."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="maya", simple_class_path="training.benchmarks.lmms_eval_model.Maya")
