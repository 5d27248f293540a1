"""What this machine can compute on."""

import ctypes
import gc
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil

if TYPE_CHECKING:
    import torch

MIB, GIB = 1024**2, 1024**3

Device = Literal["cuda", "mps", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """device: where models run; name: of the processor or GPU; memory: bytes there; cores: of the CPU."""

    device: Device
    name: str
    memory: int
    cores: int


def inspect_machine() -> Machine:
    """The best device of this machine: CUDA, else Apple's, else the CPU."""
    import torch

    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Machine(device="cuda", name=found.name, memory=found.total_memory, cores=cores())
    if torch.backends.mps.is_available():
        return Machine(device="mps", name="Apple GPU", memory=_main_memory(), cores=cores())
    return Machine(device="cpu", name=platform.processor() or platform.machine(), memory=_main_memory(), cores=cores())


def cores() -> int:
    """Of the CPU, as many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bfloat16(device: "torch.device") -> bool:
    """Whether bfloat16 is computed faster than float32 there; CPUs without such instructions take five times as long."""
    import torch

    if device.type != "cpu":
        return True
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def importing() -> Iterator[None]:
    """Big libraries make a million objects as they are imported, which stay: the collector looks through them more
    seldom meanwhile."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def give_back_memory() -> None:
    """What is free goes back to the system. Allocators keep it for what may come: after a model of gigabytes, gigabytes."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def in_words(size: float) -> str:
    """A number of bytes in GiB, or in MiB where it is less than one."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"


def _main_memory() -> int:
    return int(psutil.virtual_memory().total)
