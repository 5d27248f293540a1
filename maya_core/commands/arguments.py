"""What several commands are given alike."""

from typing import Annotated

import tyro

Overwrite = Annotated[
    bool, tyro.conf.arg(help="replace another model that is at the destination; other files there stay")
]
Model = Annotated[
    str | None,
    tyro.conf.arg(
        help="a model's folder, its GGUF file, or a hub repository (owner/name) to download; the embedded Maya if not given"
    ),
]

AsJson = Annotated[
    bool, tyro.conf.arg(help="tell what happens as one JSON object a line, and trouble by its class, for programs")
]
