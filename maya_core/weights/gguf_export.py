"""Writing a checkpoint for llama.cpp: its language model as a GGUF file, the tower and the connector in our layout beside
it, which other programs that read GGUF do not need."""

from pathlib import Path

from maya_core.assets import LANGUAGE_MODEL
from maya_core.errors import CheckpointError
from maya_core.progress import OnProgress, untold
from maya_core.weights.checkpoint import (
    bytes_on_disk,
    is_quantized,
    load_config,
    load_model,
    load_processor,
    places_of,
    require_whole,
    shapes_of,
    stored_dtype,
    write_model,
)
from maya_core.weights.destination import claim, written
from maya_core.weights.export import chat_template
from maya_core.weights.gguf_file import Numbers, file_bytes, what_gguf_lacks, write_language_model
from maya_core.weights.hub import local_folder


def export_gguf(
    source: str | Path,
    destination: str | Path,
    *,
    numbers: Numbers = "f16",
    overwrite: bool = False,
    on_progress: OnProgress = untold,
) -> None:
    """Write a checkpoint with its language model as GGUF, which Maya opens as any other model.

    numbers: of its matrices: `f16`, or blocks of 32 in eight or four bits. overwrite: another model that is at
    `destination` is replaced. on_progress: told which share of the language model is written. Raises CheckpointError for
    four bits of another kind, and for what llama.cpp cannot compute; DestinationError or DiskFull, and what `load_model`
    does.
    """
    claim(destination, overwrite=overwrite)
    folder = local_folder(source)
    config = load_config(folder)
    if is_quantized(folder):
        raise CheckpointError(f"{folder.name} is in four bits; export the model that it was made from.")
    if config.connector.kind == "cross_attention":
        raise CheckpointError("This model looks at pictures inside its language model, which llama.cpp cannot.")
    if reason := what_gguf_lacks(config.text):
        raise CheckpointError(f"llama.cpp's command-r {reason}; it cannot be exported.")
    require_whole(folder)
    dtype = stored_dtype(folder)
    needed = file_bytes(shapes_of(folder), numbers) + bytes_on_disk(folder, dtype, language_model=False)
    claim(destination, sources=places_of(folder), overwrite=overwrite, needed=needed)
    model, processor = load_model(folder, dtype=dtype), load_processor(folder)
    with written(destination, require_whole, overwrite=overwrite, needed=needed) as fresh:
        write_model(model, processor, fresh, language_model=False)
        write_language_model(
            model.state_dict(),
            config.text,
            processor.tokenizer,
            fresh / LANGUAGE_MODEL,
            numbers=numbers,
            name=folder.name,
            template=chat_template(processor),
            on_progress=on_progress,
        )
