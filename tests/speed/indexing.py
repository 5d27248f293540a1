"""`python -m tests.speed.indexing`: from a file of millions of conversations to the first one, and the memory that it takes.

The peer is what LLaVA's code and its children do: `json.load` of the whole file. Each is measured in a process of its own;
ours twice, because the first time it notes where the records stand. Wall time: reading is part of it.
"""

import json
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tests.speed.report import Row, record

OURS = """
import sys, time
from pathlib import Path
started = time.perf_counter()
from maya_core.learning.conversation_files import ConversationFiles
from tests.speed.indexing import largest_memory
before = largest_memory()
imported = time.perf_counter()
data = ConversationFiles(Path(sys.argv[1]), Path(sys.argv[2]), cache=Path(sys.argv[2]))
last = data.files[0][len(data) - 1]
print(time.perf_counter() - imported, largest_memory() - before, len(data), last["id"])
"""
THEIRS = """
import json, sys, time
from tests.speed.indexing import largest_memory
before, started = largest_memory(), time.perf_counter()
data = json.load(open(sys.argv[1], encoding="utf-8"))
print(time.perf_counter() - started, largest_memory() - before, len(data), data[-1]["id"])
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare opening a large training file with json.load."""

    records: Annotated[int, tyro.conf.arg(help="conversations in the file; 4.4 M are those of the paper's stage 1")] = (
        4_400_000
    )
    record: Annotated[bool, tyro.conf.arg(help="keep what is printed in RESULTS.md")] = False


def largest_memory() -> int:
    """Bytes that this process has held at most, without the pages of files that are mapped."""
    status = Path("/proc/self/status").read_text()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in status.splitlines() if line.endswith("kB")}
    return (kilobytes["VmHWM"] - kilobytes["RssFile"]) * 1024


def write_records(file: Path, number: int) -> None:
    """A JSON list as the published files are: one picture, one question, an answer of a few to seventy words."""
    rng = random.Random(0)
    with file.open("w", encoding="utf-8") as out:
        for index in range(number):
            answer = "a dog lies on the grass. " * rng.randint(1, 12)
            turns = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": answer.strip()}]
            entry = {"id": str(index), "image": f"{index % 1000}.jpg", "conversations": turns}
            out.write(("[" if index == 0 else ",\n") + json.dumps(entry))
        out.write("]")


def measured(program: str, *arguments: str) -> tuple[float, float, str]:
    """Seconds, gigabytes, and what was read: how many records, and the last one's id."""
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    seconds, memory, *read = ran.stdout.split()
    return float(seconds), float(memory) / 1e9, " ".join(read)


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "en.json"
        write_records(file, options.records)
        size = file.stat().st_size / 1e9
        first, again = (measured(OURS, str(file), folder) for _ in range(2))
        theirs = measured(THEIRS, str(file))
    if not first[2] == again[2] == theirs[2]:
        raise SystemExit(f"not the same records: {first[2]}, {again[2]} and {theirs[2]}")
    what = f"{options.records / 1e6:.1f} M records, {size:.1f} GB"
    rows = [
        Row(
            what=f"{what}, {when}", peer="`json.load`", ours=f"{ours[0]:.2f} s, {ours[1]:.2f} GB of memory",
            theirs=f"{theirs[0]:.2f} s, {theirs[1]:.2f} GB", ratio=theirs[0] / ours[0], agreement="the same records",
        )
        for when, ours in (("opened first", first), ("opened again", again))
    ]  # fmt: skip
    record("Opening training data", rows, command="python -m tests.speed.indexing --record", keep=options.record)


if __name__ == "__main__":
    main()
