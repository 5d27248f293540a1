"""Tables of the benchmarks: printed, and where asked kept in results.json, from which RESULTS.md and README's table are
written. `python -m tests.speed.report` writes both anew."""

import datetime
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

GOAL = "goal"  # how the peer of a row begins that has none
HERE = Path(__file__).parent
RESULTS, TABLES, README = HERE / "results.json", HERE / "RESULTS.md", HERE.parents[1] / "README.md"
README_TABLE = re.compile(r"(?<=<!-- speed -->\n).*?(?=<!-- /speed -->)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. ratio: how many times faster ours is. wanted: what it should be at least; 0 where nothing was set.
    agreement: how near the outputs were."""

    what: str
    peer: str
    ours: str
    theirs: str
    ratio: float
    agreement: str
    wanted: float = 0.0


def record(title: str, rows: Sequence[Row], *, command: str, keep: bool) -> None:
    """Print the table; where `keep`, put it in place of the last one of this title, with date, hardware and command."""
    print(f"{title}\n\n{table(rows)}")
    if keep:
        results = load()
        results[title] = {
            "date": today(),
            "hardware": hardware(),
            "command": command,
            "rows": [asdict(row) for row in rows],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write()


def load() -> dict[str, Any]:
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return results


def write() -> None:
    """RESULTS.md and README's table, from what was measured."""
    TABLES.write_text(all_tables(load()), encoding="utf-8")
    README.write_text(README_TABLE.sub(lambda _: readme_table(load()), README.read_text("utf-8")), encoding="utf-8")


def all_tables(results: dict[str, Any]) -> str:
    """Everything that was measured, as Markdown."""
    parts = ["# What the benchmarks printed\n"]
    for title, result in results.items():
        rows = [Row(**row) for row in result["rows"]]
        parts.append(f"## {title}\n\n{result['date']}, {result['hardware']}, `{result['command']}`\n\n{table(rows)}\n")
    return "\n".join(parts)


def readme_table(results: dict[str, Any]) -> str:
    """What a reader of the README wants to know: how many times faster, than what at its fastest."""
    lines = ["| | than | times faster |", "|---|---|---|"]
    for title, result in results.items():
        subject = title.split(", one thread")[0]
        fastest: dict[str, dict[str, Any]] = {}
        for row in result["rows"]:
            if row["peer"].startswith(GOAL):
                continue
            if row["what"] not in fastest or row["ratio"] < fastest[row["what"]]["ratio"]:
                fastest[row["what"]] = row
        lines += [f"| {subject}: {what} | {row['peer']} | {times(row['ratio'])} |" for what, row in fastest.items()]
    return "\n".join(lines) + "\n"


def times(ratio: float) -> str:
    """1.234 -> 1.23, 1487.9 -> 1488"""
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what | peer | ours | theirs | ratio | wanted | agreement |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        wanted = f"{row.wanted:g}x" if row.wanted else ""
        cells = (row.what, row.peer, row.ours, row.theirs, f"{times(row.ratio)}x", wanted, row.agreement)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def today() -> str:
    return str(datetime.date.today())


def hardware() -> str:
    """The device and the libraries a benchmark ran on."""
    import torch
    import transformers

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{device}, torch {torch.__version__}, transformers {transformers.__version__}"


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()} ({len(names) or '?'} cores)"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


if __name__ == "__main__":
    write()
