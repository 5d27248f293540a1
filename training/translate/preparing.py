"""From a sample to references, and from references to the best preamble: the engine's share of each step."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from maya_core.languages import get_language
from maya_core.reviews import load_items, load_reviews, write_items
from training.translate.bulk import Plan
from training.translate.journal import Journal
from training.translate.prompts import ALL, CANDIDATES, load_candidates, load_preambles
from training.translate.reference import (
    items,
    load_references,
    settle,
    texts_as_records,
    translations_in,
    write_references,
)
from training.translate.run import ENGLISH, EngineOptions, checked_languages, facts, opened, work
from training.translate.sample import load_sample
from training.translate.scores import score
from training.translate.search import Search, write

BACK = "only"  # the preamble of the way back


def make_items(
    sample: Path, out: Path, languages: Sequence[str], preamble: str, options: EngineOptions, console: Console
) -> int:
    """Write the items of a reference set into the folder `out`; how many there are. Raises what `bulk.translate` does."""
    sources = load_sample(sample)
    languages = checked_languages(languages)
    there = Plan(languages=languages, preambles=load_preambles(preamble), concurrency=options.concurrency)
    back = Plan(languages=(ENGLISH,), preambles=load_preambles(BACK), concurrency=options.concurrency)
    forward: dict[str, dict[str, str]] = {}
    with ExitStack() as stack:
        first, second = (stack.enter_context(opened(out / name)) for name in ("forward", "back"))

        def steps() -> Iterator[tuple[Journal, Plan]]:
            _begin(first, sources.values(), there, options)
            yield first, there
            forward.update({code: translations_in(first, code, sources.values()) for code in languages})
            _begin(second, (text for said in forward.values() for text in said.values()), back, options)
            yield second, back

        work(steps(), options, console)
        texts = [text for said in forward.values() for text in said.values()]
        found = items(sources, forward, translations_in(second, ENGLISH, texts))
    write_items(out, found)
    return len(found)


def write_settled(folder: Path, out: Path) -> Table:
    """Write the references that people agreed on; how far they did, by language. Raises DataError."""
    settled = settle(load_items(folder), load_reviews(folder))
    write_references(out, (one for of in settled.values() for one in of.references))
    columns = ("language", "items", "reviewers", "references", "rejected", "disputed", "open", "alpha")
    table = Table(*columns, caption="alpha is Krippendorff's: 1 is complete agreement, 0 is chance")
    for language, of in settled.items():
        alpha = "-" if of.alpha is None else f"{of.alpha:.2f}"
        numbers = (of.items, of.reviewers, len(of.references), of.rejected, of.disputed, of.unreviewed)
        table.add_row(get_language(language).english_name, *map(str, numbers), alpha)
    return table


def search(references: Path, out: Path, candidates: Path | None, options: EngineOptions, console: Console) -> Search:
    """Score every candidate on the references, and write the report. Raises what `bulk.translate` does."""
    known = load_references(references)
    languages = checked_languages(tuple(known))
    preambles = load_candidates(candidates or CANDIDATES)
    plans = {
        name: Plan(languages=languages, preambles={ALL: text}, concurrency=options.concurrency)
        for name, text in preambles.items()
    }
    sources = dict.fromkeys(one.source for of in known.values() for one in of)
    with ExitStack() as stack:
        journals = {name: stack.enter_context(opened(out / "jobs" / name)) for name in plans}
        for name, journal in journals.items():
            _begin(journal, sources, plans[name], options)
        work([(journals[name], plan) for name, plan in plans.items()], options, console)
        said = {
            (name, code): translations_in(journal, code, sources)
            for name, journal in journals.items()
            for code in languages
        }
    scored, signatures = {}, {}
    for code in languages:
        candidates_said = {name: [said[name, code].get(one.source, "") for one in known[code]] for name in plans}
        scored[code], signatures[code] = score(candidates_said, [one.reference for one in known[code]], code)
    found = Search(
        model=options.model,
        preambles=preambles,
        scores={name: {code: scored[code][name] for code in languages} for name in plans},
        signatures=signatures,
    )
    write(found, out)
    return found


def _begin(journal: Journal, texts: Iterable[str], plan: Plan, options: EngineOptions) -> None:
    """Take texts into a journal."""
    listed = list(dict.fromkeys(texts))
    source = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    journal.agree(facts(plan, options, (0, 1)))
    journal.take_in(texts_as_records(listed), plan.languages, source=source, shard=(0, 1))
