"""Tables of the benchmarks: printed, and kept in RESULTS.md where asked."""

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

RESULTS = Path(__file__).parent / "RESULTS.md"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. ratio: how many times faster ours is. agreement: how near the outputs were."""

    what: str
    peer: str
    ours: str
    theirs: str
    ratio: float
    agreement: str


def record(title: str, rows: Sequence[Row], *, command: str, keep: bool) -> None:
    """Print the table; where `keep`, add it to RESULTS.md with date, hardware and command."""
    lines = ["| what | peer | ours | theirs | ratio | agreement |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.peer} | {row.ours} | {row.theirs} | {row.ratio:.2f}x | {row.agreement} |" for row in rows
    ]
    table = "\n".join(lines)
    print(f"{title}\n\n{table}")
    if keep:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(f"\n## {title}\n\n{datetime.date.today()}, {hardware()}, `{command}`\n\n{table}\n")


def hardware() -> str:
    """The device and the libraries a benchmark ran on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{device}, torch {torch.__version__}, transformers {transformers.__version__}"


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({len(names) or '?'} cores)"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []
