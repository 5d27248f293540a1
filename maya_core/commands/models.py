"""Fetching models, and writing them in other forms."""

import json
import sys
from pathlib import Path
from typing import Literal

import tyro

from maya_core.assets import PUBLISHED, typed_path
from maya_core.commands.arguments import AsJson, Overwrite
from maya_core.commands.opening import here
from maya_core.commands.progress import bar_of_bytes, long_in_words, starting, telling_of_writing
from maya_core.progress import OnProgress


def login(by_code: bool = False, as_json: AsJson = False) -> None:
    """Sign in to the hub, in the browser or with a token, which is kept where the hub's own programs keep theirs.

    With --as-json the token is read from a line of the input, so that nobody sees it.

    Args:
        by_code: show a code to type on the hub's page, in a browser on any device, and wait for that
    """
    from maya_core.weights.account import sign_in, sign_in_by_code

    def show(address: str, code: str) -> None:
        told = json.dumps({"address": address, "code": code}) if as_json else f"Open {address} and type {code} there."
        print(told, flush=True)

    if by_code:
        sign_in_by_code(show)
    else:
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

    claim(destination, overwrite=overwrite)  # before anything is fetched
    folder = here(source)
    with starting():
        from maya_core.weights.export import convert as write

    with telling_of_writing() as report:
        write(folder, destination, projector=projector, overwrite=overwrite, on_progress=report)
    print(destination)


def merge(
    adapter: tyro.conf.Positional[str], destination: tyro.conf.Positional[Path], overwrite: Overwrite = False
) -> None:
    """Write a model of its own from an adapter and the model that it belongs to.

    Args:
        adapter: folder or repository of the adapter
        destination: the folder to write, a new or an empty one
    """
    from maya_core.weights.destination import claim

    claim(destination, overwrite=overwrite)
    folder = here(adapter)
    with starting():
        from maya_core.weights.export import merge_adapter

    with telling_of_writing() as report:
        merge_adapter(folder, destination, overwrite=overwrite, on_progress=report)
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
    from maya_core.weights.hub import forget as forget_repository

    claim(destination, overwrite=overwrite)
    folder = here(source)
    with starting():
        from maya_core.weights.export import quantize_checkpoint

    if as_json:
        quantize_checkpoint(folder, destination, overwrite=overwrite, on_progress=_tell_hundredths())
    else:
        with telling_of_writing("Bringing the model to four bits") as report:
            _tell_minutes(folder)
            quantize_checkpoint(folder, destination, overwrite=overwrite, on_progress=report)
    if forget and not Path(source).is_dir():
        forget_repository(source)
    print(destination)


def _tell_minutes(folder: Path) -> None:
    """How long four bits take here, where that is long."""
    import torch

    from maya_core.answering.footprint import numbers_to_quantize, seconds_to_quantize
    from maya_core.weights.checkpoint import load_config

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if minutes := long_in_words(seconds_to_quantize(numbers_to_quantize(load_config(folder)), device)):
        print(f"Four bits take {minutes} here, once.", file=sys.stderr)


def _tell_hundredths() -> OnProgress:
    """For programs: how many hundredths are done, whenever it is one more."""
    told = 0

    def report(share: float) -> None:
        nonlocal told
        if (done := int(100 * share)) > told:
            told = done
            print(json.dumps({"done": done, "size": 100}), flush=True)

    return report


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

    claim(destination, overwrite=overwrite)
    folder = here(source)
    with starting():
        from maya_core.weights.export import export_llava
        from maya_core.weights.gguf_export import export_gguf

    with telling_of_writing("Writing the language model" if format == "gguf" else "Reading the model") as report:
        if format == "gguf":
            export_gguf(folder, destination, numbers=numbers, overwrite=overwrite, on_progress=report)
        else:
            export_llava(folder, destination, overwrite=overwrite, on_progress=report)
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
    with starting():
        from maya_core.hardware import in_words
        from maya_core.weights.push import pack, send

    parcel = pack(typed_path(folder), repository, public=public, licence=licence, base=base)
    print(f"To {repository}, which {'everybody' if public else 'nobody but you'} may see:")
    for name, size in parcel.sizes.items():
        print(f"  {name}, {in_words(size)}")
    if dry_run:
        print(f"\n{parcel.card}\nNothing was sent.")
        return
    sys.stdout.flush()
    print(send(parcel))
