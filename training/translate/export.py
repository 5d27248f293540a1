"""Translated records as files of LLaVA's form, one a language, in the order of the source: the same bytes whatever the order
in which the translations came, and on however many machines."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from maya_core.errors import DataError
from maya_core.learning.record_index import RecordFile
from maya_core.weights.durable import sync
from training.translate.journal import SHARD, SOURCE, Journal, State
from training.translate.source import TORN
from training.translate.texts import digest, shard_of, translated, words_of

OnRecord = Callable[[int], None]
NO_MORE = {"done": 0, "pending": 1, "in flight": 2, "rejected": 3}  # the furthest of its texts is a record's own


@dataclass
class Census:
    """Records of one language by what has become of them; they add up to the source's."""

    states: Counter[State] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


class Shards:
    """The journals of one translation, one a machine, as one."""

    def __init__(self, journals: Sequence[Journal]) -> None:
        """Raises DataError where they are not all the parts of one."""
        parts = [tuple(map(int, journal.facts.get(SHARD, "0/1").split("/"))) for journal in journals]
        counts = {of for _, of in parts}
        if len(counts) != 1 or sorted(part for part, _ in parts) != list(range(next(iter(counts), 0))):
            told = ", ".join(f"{part + 1}/{of}" for part, of in sorted(parts))
            raise DataError(f"These are not all the shards of one translation: {told}; name each once.")
        kinds = {json.dumps({k: v for k, v in j.facts.items() if k != SHARD}, sort_keys=True) for j in journals}
        if len(kinds) != 1:
            raise DataError("These shards were not begun with the same source, model, preambles and languages.")
        self.journals = [journal for _, journal in sorted(zip(parts, journals, strict=True), key=lambda pair: pair[0])]

    @property
    def languages(self) -> list[str]:
        return sorted(self.journals[0].counts())

    def refused(self) -> dict[int, str]:
        return self.journals[0].refused_records()

    def state(self, language: str, words: str) -> tuple[State, str, str | None]:
        """State, reason and translation of a text."""
        key = digest(words)
        found = self.journals[shard_of(key, len(self.journals))].translation(language, key)
        return found or ("pending", "", None)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with ExitStack() as stack:
            for journal in self.journals:
                stack.enter_context(journal.snapshot())
            yield

    def check_source(self, source_digest: str) -> None:
        """Raises DataError unless the source is the one that was taken in."""
        if self.journals[0].facts[SOURCE] != source_digest:
            raise DataError(
                "The source was changed since it was taken in; run the translation on it again, then export."
            )


def census(file: RecordFile, shards: Shards, language: str) -> Census:
    """What has become of every record of the source in one language."""
    found = Census()
    with shards.snapshot():
        for _, state, reason, _ in _walk(file, shards, language):
            found.states[state] += 1
            if reason:
                found.reasons[reason] += 1
    return found


def export(file: RecordFile, shards: Shards, language: str, out: Path, on_record: OnRecord = lambda _: None) -> Census:
    """Write the records that are wholly translated to `out`, or leave what is there: never half a file. Records that are
    rejected or still pending are left out, and counted."""
    found = Census()
    with shards.snapshot(), replacing(out) as opened:
        opened.write("[")
        for number, state, reason, record in _walk(file, shards, language):
            if record is not None:
                text = json.dumps(record, ensure_ascii=False)
                opened.write((",\n" if found.states["done"] else "\n") + text)
            found.states[state] += 1
            if reason:
                found.reasons[reason] += 1
            on_record(number + 1)
        opened.write("\n]\n")
    return found


def _walk(
    file: RecordFile, shards: Shards, language: str
) -> Iterator[tuple[int, State, str, Mapping[str, Any] | None]]:
    """Number, state, reason and, where it is done, translation of each record."""
    refused = shards.refused()
    for number in range(len(file) + bool(file.damage)):
        reason = refused.get(number, TORN if number == len(file) else "")
        if reason:
            yield number, "rejected", reason, None
            continue
        record = file[number]
        translations, state, why = {}, "done", ""
        for words in words_of(record):
            found, reason, translation = shards.state(language, words)
            if NO_MORE[found] > NO_MORE[state]:
                state, why = found, reason
            translations[words] = translation or ""
        done = translated(record, translations, language) if state == "done" else None
        yield number, state, why if state == "rejected" else "", done  # type: ignore[misc]


@contextmanager
def replacing(out: Path) -> Iterator[TextIO]:
    """A text file to write that takes the place of `out` when it is whole and on the disk."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = out.with_name(f".{out.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="\n") as opened:
            yield opened
        sync(fresh)
        os.replace(fresh, out)
        sync(out.parent)
    finally:
        fresh.unlink(missing_ok=True)
