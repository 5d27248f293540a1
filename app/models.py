"""Which model answers, which could, and fetching one. The page's process itself never uses the network."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.engine import IMPORTING
from maya_core.assets import PUBLISHED

if TYPE_CHECKING:
    from maya_core.hardware import Device  # with torch, which takes seconds to import

GIB = 1024**3
# For Maya 8B: in four bits, on Apple's processors in 16. What is sold as 8 GB says a little less of itself.
LEAST_MEMORY: "Mapping[Device, int]" = {"cuda": 15 * GIB // 2, "mps": 22 * GIB, "cpu": 12 * GIB}
ADVISED_MEMORY = 8 * GIB  # of a graphics processor, as they are sold
PUBLISHED_BYTES = 16_290_000_000  # four shards of bfloat16 weights
LICENCE = "CC-BY-NC 4.0"
DOWNLOAD = (sys.executable, "-m", "maya_core.cli", "download", "--as-json")

State = Literal["none", "running", "paused", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Computer:
    """What decides which model fits. kind: what models run on; device: name of the graphics processor, empty where there is
    none that Maya can use; memory: its bytes, else the main memory's; free: bytes on the disk for models; fetched: Maya 8B
    is here."""

    kind: "Device"
    device: str
    memory: int
    free: int
    fetched: bool

    @property
    def pace(self) -> Literal["fast", "slow"] | None:
        """How Maya 8B would answer here; None where it does not fit."""
        if self.memory < LEAST_MEMORY[self.kind]:
            return None
        return "slow" if self.kind == "cpu" else "fast"


@dataclass(frozen=True, kw_only=True)
class Download:
    """How far a download is, in bytes."""

    state: State = "none"
    done: int = 0
    size: int = 0


def look() -> Computer:
    """This computer, as it is now."""
    with IMPORTING:
        from huggingface_hub.constants import HF_HUB_CACHE

        from maya_core.hardware import inspect_machine
        from maya_core.weights.hub import downloaded

    machine = inspect_machine()
    cache = Path(HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    return Computer(
        kind=machine.device,
        device="" if machine.device == "cpu" else machine.name,
        memory=machine.memory,
        free=shutil.disk_usage(there).free,
        fetched=downloaded(PUBLISHED),
    )


class Models:
    """The model in use, and at most one download, in a process of its own: pausing it is ending it, and what has come
    stays."""

    def __init__(
        self,
        use: Callable[[str | None], None],
        *,
        prepare: Callable[[], None] = lambda: None,
        model: str | None = None,
        offline: bool = False,
        look: Callable[[], Computer] = look,
        command: Sequence[str] = DOWNLOAD,
    ) -> None:
        """use: makes a model answer from the next question on. prepare: begins to load the one that is chosen, and returns.
        offline: never download."""
        self._use, self._command, self.prepare = use, command, prepare
        self.model, self.offline, self.look = model, offline, look
        self._process: subprocess.Popen[str] | None = None
        self._download = Download()
        self._change = threading.Lock()

    def use(self, model: str | None) -> None:
        """Answer with a folder's or repository's model, or with the embedded one (None). Raises CheckpointError for a
        folder that holds none."""
        if model is not None and model != PUBLISHED:
            with IMPORTING:
                from maya_core.weights.checkpoint import load_config

            load_config(Path(model).expanduser())
        self._use(model)
        self.model = model

    @property
    def download(self) -> Download:
        return self._download

    def fetch(self, repository: str = PUBLISHED) -> None:
        """Begin a download, or go on with it."""
        with self._change:
            if self.offline or self._download.state == "running":
                return
            environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
            self._process = subprocess.Popen(
                [*self._command, repository],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
            self._download = replace(self._download, state="running")
            threading.Thread(target=self._follow, args=(self._process,), name="maya-download", daemon=True).start()

    def pause(self) -> None:
        """Stop the download; `fetch` goes on with it."""
        with self._change:
            if self._process and self._download.state == "running":
                self._download = replace(self._download, state="paused")
                self._process.terminate()

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "done" in told:
                self._download = replace(self._download, done=told["done"], size=told["size"])
        process.stdout.close()
        failed = process.wait() != 0
        with self._change:
            if self._process is process and self._download.state == "running":
                self._download = replace(self._download, state="failed" if failed else "done")
