"""Fetching models, and writing them in other forms."""

import json
import sys
from pathlib import Path
from typing import Literal

import tyro

from maya_core.assets import PUBLISHED
from maya_core.commands.arguments import AsJson, Overwrite
from maya_core.commands.opening import here
from maya_core.commands.progress import bar_of_bytes


def login(as_json: AsJson = False) -> None:
    """Sign in to the hub, in the browser or with a token, which is kept where the hub's own programs keep theirs.

    With --as-json the token is read from a line of the input, so that nobody sees it.
    """
    from maya_core.weights.account import sign_in

    sign_in(sys.stdin.readline() if as_json else None)


def download(repository: tyro.conf.Positional[str] = PUBLISHED, as_json: AsJson = False) -> None:
    """Fetch a model from the hub, or go on where that stopped; it is pinned to the commit seen first, and checked.

    Args:
        repository: owner/name, or owner/name@commit
    """
    from maya_core.weights.hub import fetch

    if as_json:
        folder = fetch(
            repository, report=lambda done, size: print(json.dumps({"done": done, "size": size}), flush=True)
        )
        print(json.dumps({"folder": str(folder)}), flush=True)
        return
    with bar_of_bytes() as report:
        folder = fetch(repository, report=report)
    print(folder)


def convert(
    source: tyro.conf.Positional[str],
    destination: tyro.conf.Positional[Path],
    projector: Path | None = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a published checkpoint, or an adapter with the model that it belongs to, in Maya's own layout.

    Args:
        source: folder or repository of the checkpoint
        destination: the folder to write, a new or an empty one
        projector: a stage-1 mm_projector.bin to put in
    """
    from maya_core.weights.destination import claim
    from maya_core.weights.export import convert as write

    claim(destination, overwrite=overwrite)  # before anything is fetched
    write(here(source), destination, projector=projector, overwrite=overwrite)
    print(destination)


def merge(
    adapter: tyro.conf.Positional[str], destination: tyro.conf.Positional[Path], overwrite: Overwrite = False
) -> None:
    """Write a model of its own from an adapter and the model that it belongs to.

    Args:
        adapter: folder or repository of the adapter
        destination: the folder to write, a new or an empty one
    """
    from maya_core.weights.export import merge_adapter

    merge_adapter(adapter, destination, overwrite=overwrite)
    print(destination)


def quantize(
    source: tyro.conf.Positional[str],
    destination: tyro.conf.Positional[Path],
    overwrite: Overwrite = False,
    forget: bool = False,
    as_json: AsJson = False,
) -> None:
    """Write a model with its language model's layers in four bits (NF4), which loads faster and needs a third of the memory.

    Args:
        source: folder or repository of the model
        destination: the folder to write, a new or an empty one
        forget: afterwards remove what was fetched of the repository, which takes three times as much
    """
    from maya_core.weights.destination import claim
    from maya_core.weights.export import quantize_checkpoint
    from maya_core.weights.hub import forget as forget_repository

    claim(destination, overwrite=overwrite)
    quantize_checkpoint(here(source), destination, overwrite=overwrite)
    if forget and not Path(source).is_dir():
        forget_repository(source)
    print(destination)


def export(
    source: tyro.conf.Positional[str],
    destination: tyro.conf.Positional[Path],
    format: Literal["llava", "gguf"] = "llava",  # the flag's name
    numbers: Literal["f16", "q8_0", "q4_0"] = "f16",
    overwrite: Overwrite = False,
) -> None:
    """Write a model for other programs: `llava` is a class of transformers itself; `gguf` is what llama.cpp reads of the
    language model, with the rest beside it, and Maya opens it too.

    Args:
        source: folder or repository of the model
        destination: the folder to write, a new or an empty one
        format: the layout to write
        numbers: of the language model in gguf: 16 bits, or blocks of 32 in eight or four
    """
    from maya_core.weights.destination import claim
    from maya_core.weights.export import export_llava
    from maya_core.weights.gguf_export import export_gguf

    claim(destination, overwrite=overwrite)
    if format == "gguf":
        export_gguf(here(source), destination, numbers=numbers, overwrite=overwrite)
    else:
        export_llava(here(source), destination, overwrite=overwrite)
    print(destination)


def push(
    folder: tyro.conf.Positional[Path],
    repository: tyro.conf.Positional[str],
    public: bool = False,
    licence: str | None = None,
    base: str | None = None,
    dry_run: bool = False,
) -> None:
    """Send a model or an adapter of yours to the hub, with a card of what it is; nobody else sees it, unless --public.

    What is sent is told before it is: weights, settings without names of files here, and the card, a README.md of yours or
    one that is written.

    Args:
        folder: the model's, or the adapter's
        repository: owner/name
        public: everybody may see and fetch it
        licence: as the hub names it, such as apache-2.0; that of the model it is made from if not given
        base: repository of the model that the adapter belongs to, where that is a folder here
        dry_run: tell what would be sent, with the card, and send nothing
    """
    from maya_core.hardware import in_words
    from maya_core.weights.push import pack, send

    parcel = pack(folder.expanduser(), repository, public=public, licence=licence, base=base)
    print(f"To {repository}, which {'everybody' if public else 'nobody but you'} may see:")
    for name, size in parcel.sizes.items():
        print(f"  {name}, {in_words(size)}")
    if dry_run:
        print(f"\n{parcel.card}\nNothing was sent.")
        return
    sys.stdout.flush()
    print(send(parcel))
