"""Which model answers, which could, and fetching one. The page's process itself never uses the network: processes of their
own do, as the `maya` command.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from app.engine import IMPORTING, Loading
from app.settings import data_folder
from maya_core import errors
from maya_core.apart import apart
from maya_core.assets import PUBLISHED, PUBLISHED_TOKENIZER, typed_path
from maya_core.errors import CheckpointNotFound, DownloadError, HubBusy, MayaError, RepositoryGated

if TYPE_CHECKING:
    from maya_core.answering.engines import Why
    from maya_core.hardware import Device  # with torch, which takes seconds to import

GIB = 1024**3
# For Maya 8B: in four bits, on Apple's processors in 16. What is sold as 8 GB says a little less of itself.
LEAST_MEMORY: "Mapping[Device, int]" = {"cuda": 38 * GIB // 5, "mps": 22 * GIB, "cpu": 12 * GIB}
ADVISED_MEMORY = 8 * GIB  # of a graphics processor, as they are sold
PUBLISHED_BYTES = 16_290_000_000  # four shards of bfloat16 weights
SMALL_BYTES = 5_900_000_000  # in four bits
LICENCES = {PUBLISHED: "CC-BY-NC 4.0", PUBLISHED_TOKENIZER: "CC-BY-NC 4.0, Cohere For AI Acceptable Use Policy"}
MAYA = "from maya_core.cli import main; main()"
PATIENCE = 60.0  # seconds, for signing in

State = Literal["none", "running", "paused", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Computer:
    """What decides which model fits. kind: what models run on; device: name of the graphics processor, empty where there is
    none that Maya can use; memory: its bytes, else the main memory's; free: bytes on the disk for models; fetched: Maya 8B
    is here; small: in four bits; signed_in: a token for the hub is here."""

    kind: "Device"
    device: str
    memory: int
    free: int
    fetched: bool
    small: bool = False
    signed_in: bool = False

    @property
    def pace(self) -> Literal["fast", "slow"] | None:
        """How Maya 8B would answer here; None where it does not fit."""
        if self.memory < LEAST_MEMORY[self.kind]:
            return None
        return "slow" if self.kind == "cpu" else "fast"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far something is: bytes here, of how many, where they are counted; when it began; what it failed by. address,
    code: of a page of the hub's, and what is to be typed there."""

    state: State = "none"
    done: int = 0
    size: int = 0
    began: float = 0.0
    trouble: MayaError | None = None
    address: str = ""
    code: str = ""


def small_folder() -> Path:
    """Where Maya 8B is kept in four bits."""
    return data_folder() / "maya-8b-4bit"


def place_of(model: str | None) -> str | None:
    """What is loaded for a choice: Maya 8B in four bits, where it is kept so."""
    return str(small_folder()) if model == PUBLISHED and (small_folder() / "config.json").is_file() else model


def check_place(model: str | None) -> None:
    """Raises CheckpointNotFound for a folder that holds no model; a repository is looked for when it is loaded."""
    if model is None or model == PUBLISHED or os.path.isfile(typed_path(model) / "config.json"):
        return
    if model.count("/") != 1 or model.startswith((".", "/", "~")) or os.path.isdir(model):
        raise CheckpointNotFound(f"There is no model in {model}; give a model's folder, or a repository owner/name.")


def look() -> Computer:
    """This computer, as it is now."""
    with IMPORTING:
        from huggingface_hub import get_token
        from huggingface_hub.constants import HF_HUB_CACHE

        from maya_core.hardware import inspect_machine
        from maya_core.weights.hub import downloaded

    machine = inspect_machine()
    cache = Path(HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    small = place_of(PUBLISHED) != PUBLISHED
    return Computer(
        kind=machine.device,
        device="" if machine.device == "cpu" else machine.name,
        memory=machine.memory,
        free=shutil.disk_usage(there).free,
        fetched=small or downloaded(PUBLISHED),
        small=small,
        signed_in=get_token() is not None,
    )


class Models:
    """The model in use, and what is done to have another: fetching it, bringing it to four bits."""

    def __init__(
        self,
        use: Callable[[str | None], None],
        *,
        prepare: Callable[[], None] = lambda: None,
        loading: Callable[[], Loading | None] = lambda: None,
        model: str | None = None,
        offline: bool = False,
        look: Callable[[], Computer] = look,
        command: Sequence[str] | None = None,
    ) -> None:
        """use: makes a model answer from the next question on. prepare: begins to load the one that is chosen, and returns;
        loading: how far that is. offline: never download. command: in place of `maya`."""
        self._use, self._command, self.prepare, self.loading = use, command or apart(MAYA), prepare, loading
        self.model, self.offline, self.look = model, offline, look
        self._fetching, self._shrinking, self._signing = Job(), Job(), Job()

    def use(self, model: str | None) -> None:
        """Answer with a folder's or repository's model, or with the embedded one (None). Raises CheckpointError for a
        folder that holds none."""
        if model is not None and model != PUBLISHED:
            with IMPORTING:
                from maya_core.weights.checkpoint import load_config
                from maya_core.weights.hub import local_folder

            load_config(local_folder(Path(model)))
        self._use(place_of(model))
        self.model = model

    def engine(self) -> "Why | None":
        """What computes the answers of the model in use, and why; None where it is not in a folder."""
        folder = typed_path(self.model or "")
        if self.model is None or self.model == PUBLISHED or not folder.exists():
            return None
        with IMPORTING:
            from maya_core.answering.engines import engine_for
            from maya_core.hardware import inspect_machine
            from maya_core.weights.hub import local_folder

        return engine_for(local_folder(folder), inspect_machine()).why

    @property
    def download(self) -> Progress:
        return self._fetching.progress

    @property
    def shrinking(self) -> Progress:
        return self._shrinking.progress

    @property
    def signing(self) -> Progress:
        return self._signing.progress

    def sign_in_by_code(self) -> None:
        """Begin to wait for a person to type a code on the hub's page."""
        if not self.offline:
            self._signing.start([*self._command, "login", "--as-json", "--by-code"])

    def sign_in(self, token: str) -> None:
        """Keep a person's token in the hub's own place, if the hub knows it; nobody waits for a code any more. Raises
        DownloadError."""
        if self.offline:
            return
        self._signing.stop()
        try:
            done = subprocess.run(
                [*self._command, "login", "--as-json"],
                input=f"{token}\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                timeout=PATIENCE,
                env=_online(),
            )
        except subprocess.TimeoutExpired:
            raise HubBusy("The hub did not answer in time; try again later.") from None
        if done.returncode:
            raise _trouble(_last(done.stdout.splitlines()))

    def fetch(self, repository: str = PUBLISHED) -> None:
        """Begin a download, or go on with it."""
        if not self.offline:
            self._fetching.start([*self._command, "download", "--as-json", repository])

    def pause(self) -> None:
        """Stop the download; `fetch` goes on with it."""
        self._fetching.stop()

    def shrink(self) -> None:
        """Bring Maya 8B to four bits, and remove what was fetched."""
        folder = str(small_folder())
        self._shrinking.start([*self._command, "quantize", "--as-json", "--forget", PUBLISHED, folder])


class Job:
    """Something that a process of its own does, one at a time; ending the process is stopping it."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._process: subprocess.Popen[str] | None = None
        self._change = threading.Lock()

    def start(self, command: Sequence[str]) -> None:
        """Begin, or go on after a stop."""
        with self._change:
            if self.progress.state == "running":
                return
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_online()
            )
            began = time.monotonic()
            self.progress = replace(self.progress, state="running", began=began, trouble=None, address="", code="")
            threading.Thread(target=self._follow, args=(self._process,), name="maya-job", daemon=True).start()

    def stop(self) -> None:
        """What has been done stays."""
        with self._change:
            if self._process and self.progress.state == "running":
                self.progress = replace(self.progress, state="paused")
                self._process.terminate()

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        last: dict[str, Any] = {}
        for line in process.stdout:
            told = _read(line)
            last = told or last
            if "done" in told:
                self.progress = replace(self.progress, done=told["done"], size=told["size"])
            if "code" in told:
                self.progress = replace(self.progress, address=told["address"], code=told["code"])
        process.stdout.close()
        trouble = _trouble(last) if process.wait() else None
        with self._change:
            if self._process is process and self.progress.state == "running":
                self.progress = replace(self.progress, state="failed" if trouble else "done", trouble=trouble)


def _online() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}


def _read(line: str) -> dict[str, Any]:
    """What a command tells in a line; nothing where it is no JSON object."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _last(lines: Sequence[str]) -> dict[str, Any]:
    """What a command told last; others may have printed after it."""
    return next(filter(None, map(_read, reversed(lines))), {})


def _trouble(told: Mapping[str, Any]) -> MayaError:
    """Of what a command that failed told last."""
    kind = vars(errors).get(str(told.get("error")))
    if kind is RepositoryGated:
        return RepositoryGated("", told.get("repositories", ()))
    return kind("") if isinstance(kind, type) and issubclass(kind, MayaError) else DownloadError("")
