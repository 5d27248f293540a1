"""The records of a source file as the journal takes them in: each checked before anything is spent on it."""

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from maya_core.errors import DataError
from maya_core.learning.record_index import RecordFile
from maya_core.learning.records import defects
from maya_core.weights.durable import digest as digest_of_file
from training.translate.journal import Incoming
from training.translate.texts import digest, words_of

TORN = "torn"  # what stands after the last whole record of a file that is cut off
OnRecord = Callable[[int], None]  # how many have been read


def incoming(file: RecordFile, on_record: OnRecord = lambda _: None) -> Iterator[Incoming]:
    """Every record of a file by number; one that cannot be used has the reason, and so has what is torn at its end."""
    for number in range(len(file)):
        yield _incoming(file, number)
        on_record(number + 1)
    if file.damage:
        yield Incoming(number=len(file), reason=TORN)


def source_digest(file: Path) -> str:
    """What stands for a file, byte for byte."""
    return digest_of_file(file)


def _incoming(file: RecordFile, number: int) -> Incoming:
    try:
        record = file[number]
    except DataError as error:
        return Incoming(number=number, reason=error.kind)
    content = digest(json.dumps(record, sort_keys=True, ensure_ascii=True))
    identity: dict[str, Any] = {}
    if "id" in record:
        shown = json.dumps(record["id"])
        identity = {"id": shown, "folded": unicodedata.normalize("NFC", str(record["id"])).casefold()}
        identity["folded"] = json.dumps(identity["folded"])  # ASCII, whatever an id holds
    defect = next(defects(record, captions=True), None)
    if defect:
        return Incoming(number=number, content=content, reason=defect.kind, **identity)
    if record.get("corrupt"):
        return Incoming(number=number, content=content, reason="corrupt", **identity)
    return Incoming(number=number, content=content, texts=tuple(words_of(record)), **identity)
