"""Take the toxic records out of every language's file, by their ids."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maya_core.errors import DataError
from maya_core.learning.conversation_files import data_files
from maya_core.learning.record_index import RecordFile
from maya_core.learning.splits import EVERY
from training.toxicity.findings import Findings
from training.translate.export import replacing

OfUnknown = Literal["stop", "remove"]


@dataclass(frozen=True, kw_only=True)
class Removed:
    """Of one file. absent: ids to be removed that it does not have."""

    file: str
    kept: int
    removed: int
    absent: int


def removed_ids(findings: Findings, unknown: OfUnknown) -> dict[str, bool]:
    """Ids as JSON of what is to be removed, and whether it is toxic (else it is unknown). Raises DataError where something
    is unknown and may not be removed: it is not taken for clean."""
    found = {identity: verdict == "toxic" for _, identity, verdict, _ in findings.verdicts() if verdict != "clean"}
    unsure = sum(not is_toxic for is_toxic in found.values())
    if unsure and unknown == "stop":
        raise DataError(
            f"Of {unsure} records it is not known whether they are toxic; audit.jsonl says why. Scan again, or take them "
            "out too with --unknown remove."
        )
    if "null" in found:
        raise DataError("A record that is to be removed has no id, which all languages share; give each record one.")
    return found


def remove(findings: Findings, data: Path, out: Path, unknown: OfUnknown) -> list[Removed]:
    """Write each file of a folder of LLaVA data without these records into the folder `out`. Raises DataError."""
    ids = removed_ids(findings, unknown)
    files = data_files(data, splits=(EVERY,))
    if out.resolve() == (data if data.is_dir() else data.parent).resolve():
        raise DataError(f"{out.name} is the folder of the data itself; write the rest into another.")
    return [_remove(RecordFile(file), out / f"{file.stem}.json", set(ids)) for file in files]


def _remove(file: RecordFile, out: Path, ids: set[str]) -> Removed:
    if file.damage:
        raise file.damage
    kept, found = 0, set()
    removed = 0
    with replacing(out) as opened:
        opened.write("[")
        for number in range(len(file)):
            record = file[number]
            identity = json.dumps(record.get("id"))
            if identity in ids:
                found.add(identity)
                removed += 1
                continue
            opened.write((",\n" if kept else "\n") + json.dumps(record, ensure_ascii=False))
            kept += 1
        opened.write("\n]\n")
    return Removed(file=out.name, kept=kept, removed=removed, absent=len(ids - found))
