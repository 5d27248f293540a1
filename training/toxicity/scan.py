"""Look at every record's text and picture, and have an arbiter decide on pictures that were found toxic."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from maya_core.errors import DataError, MayaError
from maya_core.learning.formats import Record, find_picture, sources
from maya_core.learning.record_index import RecordFile
from maya_core.learning.records import answers, defects
from maya_core.model.images import open_image
from maya_core.weights.durable import digest
from training.engine import Engine, ReplyUnusable, RequestRefused
from training.toxicity.classifiers import Classifier
from training.toxicity.findings import Finding, Findings, Part, ToxicityError

BATCH = 16
MOST_FAILURES = 25  # records one after the other that a classifier fails on, before it is to blame
ARBITER_TOKENS = 64
FAILURES = (
    ArithmeticError,
    LookupError,
    MayaError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)  # of a model on one item
_ASKED = """\
A guard found a picture of a training set unsafe. Decide whether it must be removed.
The guard said: {said}
The picture's caption: {caption}
Reply with JSON alone: {{"remove": true or false, "reason": "a sentence"}}"""

OnFinding = Callable[[Part, Finding], None]


def begin(findings: Findings, source: Path, parts: dict[Part, str]) -> RecordFile:
    """Note the source's records and which model looks at which part. Raises DataError where a file is damaged."""
    file = RecordFile(source)
    if file.damage:
        raise file.damage
    findings.begin({"source": digest(source)} | {str(part): name for part, name in parts.items()}, _records(file))
    return file


def look_at_texts(findings: Findings, file: RecordFile, classifier: Classifier, on_finding: OnFinding) -> None:
    """Raises ToxicityError where the classifier fails on everything."""
    _look(findings, "text", lambda number: answers(file[number]), classifier, on_finding)


def look_at_pictures(
    findings: Findings, file: RecordFile, images: Path, classifier: Classifier, on_finding: OnFinding
) -> None:
    """A record without a picture is clean in this part; of several pictures each is looked at."""
    _look(findings, "image", lambda number: _pictures(file[number], images),
          _EveryPicture(classifier), on_finding)  # fmt: skip


async def arbitrate(
    findings: Findings, file: RecordFile, engine: Engine, on_finding: OnFinding, *, concurrency: int = 8
) -> None:
    """Ask about each picture that was found toxic. Raises EngineRefused, EngineUnavailable."""
    numbers = iter(findings.open_numbers("arbiter"))

    async def work() -> None:
        for number in numbers:
            said = findings.of(number)["image"].reason
            prompt = _ASKED.format(said=said, caption=answers(file[number]))
            try:
                found = decided((await engine.complete(prompt, most_tokens=ARBITER_TOKENS)).text)
            except (ReplyUnusable, RequestRefused) as trouble:
                found = Finding(verdict="unknown", reason=trouble.reason)
            findings.note("arbiter", {number: found})
            on_finding("arbiter", found)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except* MayaError as troubles:
        raise troubles.exceptions[0] from None


def decided(said: str) -> Finding:
    """An arbiter's reply as a finding; unknown where it says neither."""
    try:
        content = json.loads(said[said.index("{") : said.rindex("}") + 1])
        remove, reason = content["remove"], str(content.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        return Finding(verdict="unknown", reason="no decision")
    if not isinstance(remove, bool):
        return Finding(verdict="unknown", reason="no decision")
    return Finding(verdict="toxic" if remove else "clean", reason=reason)


class _EveryPicture:
    """A classifier of pictures as one of lists of pictures."""

    def __init__(self, classifier: Classifier) -> None:
        self.name, self._classifier = classifier.name, classifier

    def __call__(self, items: Sequence[Any]) -> list[Finding]:
        found = iter(self._classifier([picture for pictures in items for picture in pictures]) if any(items) else [])
        return [_worst([next(found) for _ in pictures]) for pictures in items]


def _pictures(record: Record, images: Path) -> list[Image.Image]:
    """A record's pictures, from the folder or from within it. Raises ImageError."""
    return [
        open_image(one if isinstance(one, bytes) else find_picture(one, images) or images / one)
        for one in sources(record.get("image"))
    ]


def _worst(found: list[Finding]) -> Finding:
    for verdict in ("toxic", "unknown"):
        for finding in found:
            if finding.verdict == verdict:
                return finding
    return found[0] if found else Finding(verdict="clean", reason="no picture")


def _records(file: RecordFile) -> Iterator[tuple[int, str, str]]:
    for number in range(len(file)):
        try:
            record: Record = file[number]
        except DataError as error:
            yield number, "null", error.kind
            continue
        defect = next(defects(record, captions=True), None)
        yield number, json.dumps(record.get("id")), defect.kind if defect else ""


def _look(
    findings: Findings, part: Part, item_of: Callable[[int], Any], classifier: Classifier, on_finding: OnFinding
) -> None:
    """Batch by batch; where a batch fails, one by one, so that only what fails is unknown."""
    numbers, failures = findings.open_numbers(part), 0
    for start in range(0, len(numbers), BATCH):
        found: dict[int, Finding] = {}
        items: dict[int, Any] = {}
        for number in numbers[start : start + BATCH]:
            try:
                items[number] = item_of(number)
            except MayaError as error:
                found[number] = Finding(verdict="unknown", reason=type(error).__name__)
        classified = _classified(classifier, items)
        for finding in classified.values():
            failures = failures + 1 if finding.verdict == "unknown" else 0
            if failures >= MOST_FAILURES:
                raise ToxicityError(
                    f"{classifier.name} failed on {failures} records one after the other ({finding.reason}); nothing counts "
                    "as clean. What was found before is kept."
                )
        found |= classified
        findings.note(part, found)
        for finding in found.values():
            on_finding(part, finding)


def _classified(classifier: Classifier, items: dict[int, Any]) -> dict[int, Finding]:
    if not items:
        return {}
    try:
        return dict(zip(items, classifier(list(items.values())), strict=True))
    except FAILURES as error:
        if len(items) == 1:
            return {number: Finding(verdict="unknown", reason=type(error).__name__) for number in items}
    return {
        number: found for one, item in items.items() for number, found in _classified(classifier, {one: item}).items()
    }
