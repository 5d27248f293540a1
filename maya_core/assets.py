"""Where the files that come with Maya lie: the embedded model, the emoji, example pictures."""

import os
import site
import sys
import sysconfig
from pathlib import Path

EMBEDDED = "maya-tiny"  # the small model that comes along
PUBLISHED = "maya-multimodal/maya"  # the 8B model's repository on the hub
PUBLISHED_TOKENIZER = "CohereLabs/aya-23-8B"  # that of its language model, which its own does not hold
LANGUAGE_MODEL = "language_model.gguf"  # in a model's folder, where its language model is in GGUF


def asset_path(name: str) -> Path:
    """The path of `assets/NAME`: in the source tree, or in the share folder of wherever pip has put Maya."""
    root = Path(__file__).resolve().parents[1]
    source = root / "assets"
    if source.is_dir():
        return source / name
    bases = (root, *map(Path, (sysconfig.get_path("data"), site.getuserbase(), sys.prefix)))  # root: with --target
    places = (base / "share" / "maya" / "assets" for base in bases)
    return next((place for place in places if place.is_dir()), source) / name


def typed_path(path: str | Path) -> Path:
    """As a person types it: `~` is their home. Of a name that nobody here has, as it stands."""
    return Path(os.path.expanduser(path))
