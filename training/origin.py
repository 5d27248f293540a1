"""By which code, and on what, a result was made."""

import platform
import subprocess
from pathlib import Path

import torch


def commit() -> str:
    """Of the code that runs, with `-dirty` where it was changed since; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def hardware() -> str:
    """In a few words, such as `2 CPU threads, x86_64`, or a GPU's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} CPU threads, {platform.machine()}"
