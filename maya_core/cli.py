"""The `maya` command. Heavy libraries are imported inside the commands, so that `maya --help` is instant."""

import io
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from maya_core.assets import PUBLISHED
from maya_core.errors import MayaError

if TYPE_CHECKING:
    from maya_core.answering.session import Delta
    from maya_core.model.config import MayaConfig

Overwrite = Annotated[
    bool, tyro.conf.arg(help="replace another model that is at the destination; other files there stay")
]
Model = Annotated[
    str | None,
    tyro.conf.arg(
        help="a model's folder, or a hub repository (owner/name) to download; the embedded Maya if not given"
    ),
]

AsJson = Annotated[
    bool, tyro.conf.arg(help="tell what happens as one JSON object a line, and trouble by its class, for programs")
]

MENDABLE, INTERRUPTED = 2, 130  # exit statuses: of what the user can mend, and after Ctrl-C
PIPE = "-"  # in place of a file or a question: what comes through the pipe

app = tyro.extras.SubcommandApp()


@app.command
def ask(
    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PICTURE... QUESTION")],
    model: Model = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    answer_in: str | None = None,
    json: bool = False,
) -> None:
    """Ask a question about a picture or several; the answer comes in the question's language or another, word by word.

    Args:
        words: the pictures' files, then the question, in one of Maya's ten languages; `-` for what is piped in
        max_new_tokens: longest answer
        temperature: 0 gives the likeliest answer, more gives more varied ones
        answer_in: language of the answer, one of en, zh, fr, es, ru, hi, ja, ar, bn, ur; the question's if not given
        json: one JSON object: text, language, tokens, and seconds to the first word and to the last
    """
    pictures, question = _asked(words)
    from maya_core.answering.language import answer_language
    from maya_core.answering.session import load_best
    from maya_core.languages import get_language
    from maya_core.model.config import GenerationOptions
    from maya_core.model.images import open_image

    if not math.isfinite(temperature):
        raise MayaError(f"temperature must be a finite number, not {temperature}.")
    try:
        options = GenerationOptions(max_new_tokens=max_new_tokens, temperature=temperature)
        chosen = get_language(answer_in).code if answer_in is not None else None
    except ValueError as error:
        raise MayaError(str(error)) from None
    images = [open_image(picture) for picture in pictures]
    session = load_best(_here(model))
    message = session.processor.user_message(question, images)
    language = answer_language(question, chosen=chosen, interface=_spoken())
    if language.notice:
        print(language.notice, file=sys.stderr)
    messages = [language.asked(message)]
    if json:
        print(_as_json(session.deltas(messages, options), language.code))
        return
    for piece in session.stream(messages, options):
        print(piece, end="", flush=True)
    print()


def _asked(words: Sequence[str]) -> tuple[list[Path | bytes], str]:
    """Pictures and question, before anything heavy is loaded: a path, or the bytes that come through the pipe."""
    if len(words) < 2:
        raise MayaError("Give a picture and a question: maya ask PICTURE... QUESTION.")
    *names, question = words
    if list(words).count(PIPE) > 1:
        raise MayaError("Only one thing can come through the pipe; name the other.")
    for name in names:
        if name != PIPE and not Path(name).is_file():
            raise MayaError(f"There is no file {name}; check the path.")
    if question == PIPE:
        question = sys.stdin.read().strip()
    return [sys.stdin.buffer.read() if name == PIPE else Path(name) for name in names], question


def _as_json(deltas: Iterable["Delta"], language: str) -> str:
    started = time.monotonic()
    text, tokens, first = "", 0, None
    for delta in deltas:
        text, tokens = text + delta.text, delta.tokens
        if text.strip() and first is None:
            first = round(time.monotonic() - started, 3)
    seconds = round(time.monotonic() - started, 3)
    fields = {"text": text, "language": language, "tokens": tokens, "seconds_to_first_word": first, "seconds": seconds}
    return json.dumps(fields, ensure_ascii=False)


@app.command
def info(model: Model = None) -> None:
    """Say what a model is: its parts, its sizes, its prompt format; or what is wrong with its files."""
    from rich.console import Console
    from rich.table import Table

    from maya_core.model.maya import parameter_counts
    from maya_core.weights.checkpoint import is_quantized, load_config, load_processor, require_whole, stored_dtype

    folder = _here(model)
    config = load_config(folder)
    require_whole(folder)
    four_bit = ", the language model's layers in 4 bits (NF4)" if is_quantized(folder) else ""
    counts = parameter_counts(config)
    table = Table(show_header=False)
    rows = {
        "model": folder.name,
        **{part.replace("_", " "): f"{count:,} parameters" for part, count in counts.items()},
        "all": f"{sum(counts.values()):,} parameters",
        "picture": f"{config.image_size} px, {_visual_tokens(config)} visual tokens",
        "context": f"{config.text.max_position_embeddings} tokens",
        "prompt format": config.prompt_format,
        "weights": str(stored_dtype(folder)).removeprefix("torch.") + four_bit,
        "on disk": f"{sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:,.1f} MB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)
    load_processor(folder).require_tokenizer()


@app.command
def doctor() -> None:
    """Say what this machine has, and which model would be used on it."""
    import platform

    import torch
    from rich.console import Console
    from rich.table import Table

    from maya_core.answering.footprint import best_plan
    from maya_core.errors import ModelTooLarge
    from maya_core.hardware import GIB, in_words, inspect_machine
    from maya_core.model.config import MayaConfig
    from maya_core.weights.checkpoint import load_config

    machine = inspect_machine()

    def form(config: MayaConfig) -> str:
        try:
            plan = best_plan(config, machine)
        except ModelTooLarge as error:
            return str(error)
        bits = "4 bits (NF4)" if plan.quantization else str(plan.dtype).removeprefix("torch.")
        return f"fits in {bits}, with {in_words(plan.needed)}"

    rows = {
        "system": f"{platform.system()} {platform.machine()}",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}",
        "device": f"{machine.device}: {machine.name}, {machine.memory / GIB:.0f} GiB, {machine.cores} CPU cores",
        "embedded Maya": f"{form(load_config(_here(None)))}; used unless --model says otherwise",
        "Maya 8B": f"{form(MayaConfig.published())}; use it with --model FOLDER",
        "network": "not used, unless --model names a repository on the hub",
    }
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console().print(table)


@app.command
def login(as_json: AsJson = False) -> None:
    """Sign in to the hub, in the browser or with a token, which is kept where the hub's own programs keep theirs.

    With --as-json the token is read from a line of the input, so that nobody sees it.
    """
    from maya_core.weights.account import sign_in

    sign_in(sys.stdin.readline() if as_json else None)


@app.command
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
    with _bar() as report:
        folder = fetch(repository, report=report)
    print(folder)


@app.command
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
    write(_here(source), destination, projector=projector, overwrite=overwrite)
    print(destination)


@app.command
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


@app.command
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
    quantize_checkpoint(_here(source), destination, overwrite=overwrite)
    if forget and not Path(source).is_dir():
        forget_repository(source)
    print(destination)


@app.command
def export(
    source: tyro.conf.Positional[str],
    destination: tyro.conf.Positional[Path],
    format: Literal["llava"] = "llava",  # the flag's name
    overwrite: Overwrite = False,
) -> None:
    """Write a model for use without Maya: `llava` is a class of transformers itself.

    Args:
        source: folder or repository of the model
        destination: the folder to write, a new or an empty one
        format: the layout to write
    """
    from maya_core.weights.destination import claim
    from maya_core.weights.export import export_llava

    claim(destination, overwrite=overwrite)
    export_llava(_here(source), destination, overwrite=overwrite)
    print(destination)


def main() -> None:
    """Run a command; what a user can mend is said in one sentence, with exit status 2."""
    if sys.argv[1:] == ["--version"]:
        print(f"maya {version('maya')}")
        return
    os.environ.setdefault(
        "HF_HUB_DISABLE_TELEMETRY", "1"
    )  # else the hub's library tells and asks more than it needs to
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a terminal has no letters for what is said
    try:
        with interruptible():
            app.cli(
                prog="maya",
                description="Maya answers questions about pictures in ten languages, on this computer. "
                "--version: which Maya this is. Exit status: 0 done, 2 what you can mend, 130 Ctrl-C.",
            )
            sys.stdout.flush()
    except MayaError as error:
        if "--as-json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, **vars(error)}), flush=True)
        print(error, file=sys.stderr)
        sys.exit(MENDABLE)
    except BrokenPipeError:  # who reads has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def interruptible() -> Iterator[None]:
    """From now on Ctrl-C ends this process quietly, with status 130: in good order, or at once when pressed again."""

    def at_once(*_: object) -> None:
        os._exit(INTERRUPTED)

    def in_order(*_: object) -> None:
        signal.signal(signal.SIGINT, at_once)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, in_order)
    try:
        yield
    except KeyboardInterrupt:
        print(file=sys.stderr)
        left = SystemExit(INTERRUPTED)
    except SystemExit as own:
        left = own
    else:
        return
    if left.code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is short
    raise left


def _here(model: str | None) -> Path:
    """The folder of a model, with a bar where it has to be fetched; the embedded one's where none is named."""
    from maya_core.assets import EMBEDDED, asset_path
    from maya_core.weights.hub import local_folder

    folder = asset_path(EMBEDDED) if model is None else Path(model).expanduser()
    if model is None or folder.is_dir():
        return folder
    with _bar() as report:
        return local_folder(model, report=report)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A bar beside the output, from the first time on that it is told how many bytes are here, and of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task("", total=None)
    with ExitStack() as shown:

        def report(done: int, size: int) -> None:
            if not progress.live.is_started:
                shown.enter_context(progress)
            progress.update(task, completed=done, total=size)

        yield report


def _spoken() -> str | None:
    """Which of the ten languages the terminal speaks, by its locale; None where it is none of them."""
    from babel import default_locale

    from maya_core.languages import get_language

    try:
        return get_language(default_locale("LC_MESSAGES") or "").code
    except ValueError:
        return None


def _visual_tokens(config: "MayaConfig") -> int:
    return config.visual_tokens(config.image_size, config.image_size)


if __name__ == "__main__":
    main()
