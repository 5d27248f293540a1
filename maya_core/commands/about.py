"""What a model is, and what this machine has: `maya info`, `maya doctor`."""

from typing import TYPE_CHECKING

from maya_core.commands.arguments import Model
from maya_core.commands.opening import here
from maya_core.commands.progress import starting, telling

if TYPE_CHECKING:
    from maya_core.model.config import MayaConfig


def info(model: Model = None) -> None:
    """Say what a model is: its parts, its sizes, its prompt format; or what is wrong with its files."""
    folder = here(model)
    with starting():
        from rich.console import Console
        from rich.table import Table

        from maya_core.assets import LANGUAGE_MODEL
        from maya_core.model.maya import parameter_counts
        from maya_core.weights.checkpoint import is_quantized, load_config, load_processor, require_whole, stored_dtype
        from maya_core.weights.files import is_gguf
        from maya_core.weights.gguf_file import numbers_in

    with telling() as tell:
        tell("Looking at the files")
        config = load_config(folder)
        require_whole(folder)
        but = ", the language model's layers in 4 bits (NF4)" if is_quantized(folder) else ""
        if is_gguf(folder):
            but = f", the language model as GGUF ({numbers_in(folder / LANGUAGE_MODEL)})"
        counts = parameter_counts(config)
        dtype = stored_dtype(folder)
    table = Table(show_header=False)
    rows = {
        "model": folder.name,
        **{part.replace("_", " "): f"{count:,} parameters" for part, count in counts.items()},
        "all": f"{sum(counts.values()):,} parameters",
        "picture": f"{config.image_size} px, {_visual_tokens(config)} visual tokens",
        "context": f"{config.text.max_position_embeddings} tokens",
        "prompt format": config.prompt_format,
        "weights": str(dtype).removeprefix("torch.") + but,
        "on disk": f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:,.1f} MB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    load_processor(folder).require_tokenizer()


def doctor() -> None:
    """Say what this machine has, and which model would be used on it."""
    import platform

    with starting():
        import torch
        from rich.console import Console
        from rich.table import Table

        from maya_core.answering.engines import engine_of_gguf
        from maya_core.answering.footprint import best_plan
        from maya_core.errors import ModelTooLarge
        from maya_core.hardware import GIB, in_words, inspect_machine
        from maya_core.model.config import MayaConfig
        from maya_core.weights.checkpoint import load_config

    machine = inspect_machine()

    def form(config: MayaConfig, usage: str) -> str:
        try:
            plan = best_plan(config, machine)
        except ModelTooLarge as error:
            return str(error)
        bits = "4 bits (NF4)" if plan.quantization else str(plan.dtype).removeprefix("torch.")
        pace = "" if plan.eight_bits else ", slowly for want of memory"
        return f"fits in {bits}, with {in_words(plan.needed)}{pace}; {usage}"

    rows = {
        "system": f"{platform.system()} {platform.machine()}",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}",
        "device": f"{machine.device}: {machine.name}, {machine.memory / GIB:.0f} GiB, {machine.cores} CPU cores",
        "embedded Maya": form(load_config(here(None)), "used unless --model says otherwise"),
        "Maya 8B": form(MayaConfig.published(), "use it with --model FOLDER"),
        "models in GGUF": str(engine_of_gguf(machine)),
        "network": "not used, unless --model names a repository on the hub",
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


def _visual_tokens(config: "MayaConfig") -> int:
    return config.visual_tokens(config.image_size, config.image_size)
