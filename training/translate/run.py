"""A translation in its folder, from the source's file to the journal and on: what the commands do."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maya_core.errors import DataError
from maya_core.languages import CODES, get_language
from maya_core.learning.record_index import RecordFile
from maya_core.weights.durable import exclusive
from training.engine import Engine
from training.translate.bulk import OnState, Plan, Price, translate
from training.translate.export import Shards, export
from training.translate.journal import SHARD, STATES, Journal, Tokens
from training.translate.progress import live
from training.translate.source import incoming, source_digest

ENGLISH = "en"
OTHERS = tuple(code for code in CODES if code != ENGLISH)
LETTERS_A_TOKEN = 4.0  # of English, before a journal has figures of its own
OUTPUT_A_LETTER = 0.5  # tokens of a translation for a letter of English, likewise

EngineName = Literal["endpoint", "local", "ray"]


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Which model translates, and how it is reached."""

    model: Annotated[str, tyro.conf.arg(help="its name at the endpoint; for the other engines a folder or repository")]
    engine: Annotated[EngineName, tyro.conf.arg(help="an endpoint, transformers here, or Ray Data on a cluster")] = (
        "endpoint"
    )
    endpoint: Annotated[str, tyro.conf.arg(help="any that is OpenAI-compatible, up to /v1")] = (
        "http://127.0.0.1:8000/v1"
    )
    key_variable: Annotated[str, tyro.conf.arg(help="environment variable with the endpoint's key")] = "OPENAI_API_KEY"
    concurrency: Annotated[int, tyro.conf.arg(help="requests at once, or prompts in a batch of a model here")] = 16
    workers: Annotated[int, tyro.conf.arg(help="models on the cluster, with --engine ray")] = 2

    def __post_init__(self) -> None:
        for name, value in (("concurrency", self.concurrency), ("workers", self.workers)):
            if value < 1:
                raise DataError(f"--{name} is {value}; it must be 1 or more.")

    @property
    def where(self) -> str:
        """Who is sent the texts."""
        hosts = {"endpoint": urlsplit(self.endpoint).hostname or "", "local": "no other machine", "ray": "the cluster"}
        return hosts[self.engine]

    def open(self) -> Engine:
        """Raises EngineRefused."""
        if self.engine == "local":
            from training.translate.local_model import LocalModel

            return LocalModel(self.model, batch=self.concurrency)
        from training.endpoint import Endpoint

        key = os.environ.get(self.key_variable, "")
        return Endpoint(self.endpoint, self.model, key=key, concurrency=self.concurrency)


def shard_of_name(name: str) -> tuple[int, int]:
    """`2/8` -> (1, 8). Raises DataError."""
    part, _, parts = name.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise DataError(f"{name} is no shard; write 1/8 for the first of eight.")
    return int(part) - 1, int(parts)


def checked_languages(codes: Sequence[str]) -> tuple[str, ...]:
    """Raises DataError unless all are Maya's, and none is English."""
    for code in codes:
        if code not in OTHERS:
            raise DataError(f"{code} is not a language to translate into; choose of {', '.join(OTHERS)}.")
    return tuple(dict.fromkeys(codes))


def facts(plan: Plan, options: EngineOptions, shard: tuple[int, int]) -> dict[str, str]:
    """What a journal is begun with, beside its source and languages."""
    preambles = json.dumps(dict(plan.preambles), sort_keys=True)
    return {
        "model": options.model,
        "preambles": hashlib.sha256(preambles.encode()).hexdigest()[:16],
        SHARD: f"{shard[0]}/{shard[1]}",
    }


def take_in(journal: Journal, source: Path, languages: Sequence[str], shard: tuple[int, int], console: Console) -> None:
    """Read a source into its journal, and tell what is wrong with it. Raises DataError where there is nothing in it."""
    file = RecordFile(source)
    if not len(file) and not file.damage:
        raise DataError(f"{source.name} holds no record; check the path.")
    with console.status(f"reading {escape(source.name)}") as status:
        journal.take_in(
            incoming(file, lambda done: status.update(f"reading record {done:,} of {len(file):,}")),
            languages,
            source=source_digest(source),
            shard=shard,
        )
    if file.damage:
        console.print(
            escape(f"{file.damage} What stands before is translated; mend the file and run this again for the rest.")
        )
    refused = journal.refused_records()
    reasons: dict[str, list[int]] = {}
    for number, reason in refused.items():
        reasons.setdefault(reason, []).append(number + 1)
    for reason, numbers in sorted(reasons.items()):
        shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
        console.print(f"{len(numbers):,} records are not translated ({reason}): {shown}")


def estimate(journal: Journal, plan: Plan) -> Table:
    """What is left to do and what it is likely to cost, by the journal's own figures where it has some."""
    table = Table("language", "texts", "input tokens", "output tokens", "cost", title="Left to do")
    spent, done = journal.spent("answered"), journal.letters_done()
    total = Tokens()
    for language, (texts, letters) in journal.letters_pending().items():
        wording = len(plan.prompt(language, [""])) / LETTERS_A_TOKEN * texts / plan.batch
        tokens = Tokens(round(wording + letters / LETTERS_A_TOKEN), round(letters * OUTPUT_A_LETTER))
        if spent.get(language, Tokens()).output and done.get(language):
            share = letters / done[language]
            tokens = Tokens(round(spent[language].input * share), round(spent[language].output * share))
        total = Tokens(total.input + tokens.input, total.output + tokens.output)
        table.add_row(
            language, f"{texts:,}", f"{tokens.input:,}", f"{tokens.output:,}", f"{plan.price.of(tokens):,.2f}"
        )
    table.add_section()
    table.add_row("all", "", f"{total.input:,}", f"{total.output:,}", f"{plan.price.of(total):,.2f}")
    return table


@contextmanager
def opened(folder: Path, *, new: bool = True) -> Iterator[Journal]:
    """A folder's journal, for this process alone. Raises RunBusy, DataError, JournalUnavailable."""
    with exclusive(folder), Journal(folder, new=new) as journal:
        yield journal


def work(steps: Iterable[tuple[Journal, Plan]], options: EngineOptions, console: Console) -> None:
    """Translate what is pending in each journal, one after the other, with one engine. Raises what `bulk.translate` does."""
    if options.engine == "ray":
        from training.translate.cluster import translate as translate_on_cluster

        for journal, plan in steps:
            if plan.budget is not None:
                raise DataError("A cluster's models cost no tokens; leave --budget away, or use an endpoint.")
            with _told(console, journal) as on_state:
                translate_on_cluster(journal, options.model, plan, on_state, workers=options.workers)
        return

    async def working() -> None:
        engine = options.open()
        try:
            for journal, plan in steps:
                with _told(console, journal) as on_state:
                    await translate(journal, engine, plan, on_state)
        finally:
            await engine.close()

    asyncio.run(working())


@contextmanager
def _told(console: Console, journal: Journal) -> Iterator[OnState]:
    """Progress under the name of what is worked through: a search has a journal for each candidate."""
    console.print(f"[bold]{escape(journal.folder.name)}[/bold]", highlight=False)
    with live(console, journal.counts()) as on_state:
        yield on_state


def standing(journal: Journal, price: Price) -> Iterator[Table]:
    """Texts by language and state, why some are rejected, and what was spent."""
    counts = Table("language", *STATES, "tokens in", "tokens out", "cost", title="Texts")
    spent = journal.spent()
    for language, states in journal.counts().items():
        tokens = spent.get(language, Tokens())
        counts.add_row(
            f"{language} {get_language(language).english_name}",
            *(f"{states[state]:,}" for state in STATES),
            f"{tokens.input:,}",
            f"{tokens.output:,}",
            f"{price.of(tokens):,.2f}",
        )
    yield counts
    reasons = journal.reasons()
    if reasons:
        table = Table("language", "reason", "texts", title="Rejected")
        for language, found in reasons.items():
            for reason, count in sorted(found.items(), key=lambda pair: -pair[1]):
                table.add_row(language, reason, f"{count:,}")
        yield table


def export_all(source: Path, shards: Shards, out: Path) -> Table:
    """Write a file a language into the folder `out`; what has become of the source's records. Raises DataError."""
    file = RecordFile(source)
    shards.check_source(source_digest(source))
    table = Table("language", *STATES, "why rejected", title=f"{len(file) + bool(file.damage):,} records")
    for language in shards.languages:
        census = export(file, shards, language, out / f"{source.stem}.{language}.json")
        why = ", ".join(f"{reason} {count:,}" for reason, count in census.reasons.most_common())
        table.add_row(language, *(f"{census.states[state]:,}" for state in STATES), why)
    return table


@contextmanager
def all_shards(folders: Sequence[Path]) -> Iterator[Shards]:
    """The journals of a translation, to read. Raises DataError."""
    with ExitStack() as stack:
        yield Shards([stack.enter_context(Journal(folder, new=False)) for folder in folders])
