"""What tests of the translation share: an English export, and patience for a test."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from maya_core.learning.record_index import RecordFile
from tests.training.translate.fake_endpoint import FakeEndpoint
from training.endpoint import Endpoint, Patience
from training.translate.bulk import Plan, translate
from training.translate.export import Shards, export
from training.translate.journal import Journal
from training.translate.prompts import load_preambles
from training.translate.run import take_in

QUICK = Patience(connect=60.0, read=120.0, total=300.0, attempts=4, first_pause=0.01, most_pause=0.05, most_asked=3.0)
HASTY = replace(QUICK, connect=2.0, read=0.4, total=0.8)


def record(number: int, question: str, answer: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"{number:06}", "image": f"{number:06}.jpg", "conversations": turns, **more}


def records(count: int) -> list[dict[str, Any]]:
    """Captions as LLaVA has them: few questions, every answer another."""
    asked = ("Describe the image in a few words.\n<image>", "<image>\nWhat is this picture about?")
    places = ("by the sea", "in a large town", "under an old tree", "on top of a mountain")
    return [
        record(
            number,
            asked[number % 2],
            f"{number + 2} people stand {places[number % 4]} with {number + 11} of their dogs.",
        )
        for number in range(count)
    ]


def write(file: Path, content: list[dict[str, Any]]) -> Path:
    file.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes of a test's sources stay with the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def begun(tmp_path: Path) -> Callable[..., Journal]:
    """begun(source, languages) -> a journal that has taken the source in."""

    def begin(
        source: Path, languages: tuple[str, ...] = ("fr",), *, folder: str = "job", shard: tuple[int, int] = (0, 1)
    ) -> Journal:
        journal = Journal(tmp_path / folder)
        take_in(journal, source, languages, shard, Console(quiet=True))
        return journal

    return begin


def plan(languages: tuple[str, ...] = ("fr",), **changes: Any) -> Plan:
    return Plan(**({"languages": languages, "preambles": load_preambles("rules"), "concurrency": 8} | changes))


def work(
    journal: Journal, server: FakeEndpoint | str, planned: Plan, *, patience: Patience = QUICK, key: str = ""
) -> None:
    """Translate all that is pending through the fake endpoint."""

    async def working() -> None:
        url = server if isinstance(server, str) else server.url
        endpoint = Endpoint(url, "fake", patience=patience, concurrency=planned.concurrency, key=key)
        try:
            await translate(journal, endpoint, planned)
        finally:
            await endpoint.close()

    asyncio.run(working())


def exported(folder: Path, source: Path, journals: list[Journal], languages: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of an export, a file a language."""
    file = RecordFile(source)
    shards = Shards(journals)
    for language in languages:
        export(file, shards, language, folder / f"{language}.json")
    return {language: (folder / f"{language}.json").read_bytes() for language in languages}
