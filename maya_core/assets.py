"""Where the files that come with Maya lie: the embedded model, the emoji, example pictures."""

import sys
from pathlib import Path

EMBEDDED = "maya-tiny"  # the small model that comes along
PUBLISHED = "maya-multimodal/maya"  # the 8B model's repository on the hub
PUBLISHED_TOKENIZER = "CohereLabs/aya-23-8B"  # that of its language model, which its own does not hold
LANGUAGE_MODEL = "language_model.gguf"  # in a model's folder, where its language model is in GGUF


def asset_path(name: str) -> Path:
    """The path of `assets/NAME`: in the source tree, or in an installed Maya's share folder."""
    source = Path(__file__).resolve().parent.parent / "assets"
    return (source if source.is_dir() else Path(sys.prefix) / "share" / "maya" / "assets") / name
