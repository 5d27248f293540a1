"""The paper's data from the command line: `python -m training.translate COMMAND`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from training.command import ended
from training.translate.run import OTHERS, EngineOptions

Languages = Annotated[tuple[str, ...], tyro.conf.arg(help="codes of the languages to translate into")]
Shard = Annotated[str, tyro.conf.arg(help="which machine this is of how many: 1/8 is the first of eight")]
app = tyro.extras.SubcommandApp()


@app.command
def run(
    source: tyro.conf.Positional[Path],
    job: Annotated[Path, tyro.conf.arg(help="folder for the journal; the same command goes on where it stopped")],
    engine: tyro.conf.OmitArgPrefixes[EngineOptions],
    languages: Languages = OTHERS,
    preamble: Annotated[
        str, tyro.conf.arg(help="a name in preambles.toml, or the chosen.json of a search")
    ] = "caption",
    batch: Annotated[int, tyro.conf.arg(help="texts in a request; 1 sends each as it is, more go as JSON")] = 1,
    input_price: Annotated[float, tyro.conf.arg(help="of a million tokens of requests, in any currency")] = 0.0,
    output_price: Annotated[float, tyro.conf.arg(help="of a million tokens of replies")] = 0.0,
    budget: Annotated[float | None, tyro.conf.arg(help="what the whole job may cost, never to be exceeded")] = None,
    shard: Shard = "1/1",
    dry_run: Annotated[bool, tyro.conf.arg(help="read and check the source, tell the cost, send nothing")] = False,
) -> None:
    """Translate every text of English LLaVA data (JSON or JSON Lines) into other languages, checking each reply."""
    from rich.console import Console

    from training.translate.bulk import Plan, Price
    from training.translate.prompts import load_preambles
    from training.translate.run import (
        checked_languages,
        estimate,
        facts,
        opened,
        shard_of_name,
        standing,
        take_in,
        work,
    )

    console = Console()
    plan = Plan(
        languages=checked_languages(languages),
        preambles=load_preambles(preamble),
        batch=batch,
        concurrency=engine.concurrency,
        price=Price(input=input_price, output=output_price),
        budget=budget,
    )
    part = shard_of_name(shard)
    with opened(job) as journal:
        journal.agree(facts(plan, engine, part))
        take_in(journal, source, plan.languages, part, console)
        journal.recover()
        console.print(estimate(journal, plan))
        console.print(f"The words of questions and answers go to {engine.where}; no pictures, ids or file names do.")
        if not dry_run:
            work([(journal, plan)], engine, console)
            for table in standing(journal, plan.price):
                console.print(table)


@app.command
def status(
    jobs: tyro.conf.Positional[tuple[Path, ...]],
    input_price: float = 0.0,
    output_price: float = 0.0,
) -> None:
    """Tell what has become of the texts of one job or more, while they run or later.

    Args:
        jobs: folders with journals
        input_price: of a million tokens of requests
        output_price: of a million tokens of replies
    """
    from rich.console import Console

    from training.translate.bulk import Price
    from training.translate.journal import Journal
    from training.translate.run import standing

    for job in jobs:
        with Journal(job, new=False) as journal:
            for table in standing(journal, Price(input=input_price, output=output_price)):
                Console().print(table)


@app.command
def retry(job: tyro.conf.Positional[Path], reasons: tuple[str, ...] = ()) -> None:
    """Let what was rejected be tried again by the next run.

    Args:
        job: folder with the journal
        reasons: only what was rejected for these
    """
    from training.translate.run import opened

    with opened(job, new=False) as journal:
        print(f"{journal.try_again(reasons):,} texts wait again.")


@app.command
def export(
    source: tyro.conf.Positional[Path],
    jobs: Annotated[tuple[Path, ...], tyro.conf.arg(help="the job's folder, or those of all its shards")],
    out: Annotated[Path, tyro.conf.arg(help="folder for a file a language")],
) -> None:
    """Write the translated records, a file a language; those that are not whole are left out and counted."""
    from rich.console import Console

    from training.translate.run import all_shards, export_all

    with all_shards(jobs) as shards:
        Console().print(export_all(source, shards, out))


@app.command
def sample(
    source: tyro.conf.Positional[Path],
    out: Path,
    n: int = 30,
    seed: int = 0,
) -> None:
    """Draw English texts spread evenly over lengths and readability (Flesch), for a reference set.

    Args:
        source: LLaVA data, JSON or JSON Lines
        out: file to write, such as sample.jsonl
        n: how many texts; the paper took 30 a language
        seed: of the draw
    """
    from maya_core.learning.record_index import RecordFile
    from training.translate.sample import sample as draw
    from training.translate.sample import write_sample

    drawn = draw(RecordFile(source), n, seed=seed)
    write_sample(out, drawn)
    print(f"{len(drawn)} texts of {len({one.stratum for one in drawn})} strata in {out}")


@app.command
def reference(
    sample: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(help="folder for the items that people review")],
    engine: tyro.conf.OmitArgPrefixes[EngineOptions],
    languages: Languages = OTHERS,
    preamble: Annotated[str, tyro.conf.arg(help="a name in preambles.toml")] = "native",
) -> None:
    """Translate a sample and bring the translations back into English, for people to review: `python -m app.review OUT`."""
    from rich.console import Console

    from training.translate.preparing import make_items

    print(f"{make_items(sample, out, languages, preamble, engine, Console()):,} translations to be reviewed in {out}")


@app.command
def references(
    folder: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(help="file to write, such as references.jsonl")],
) -> None:
    """Write what reviewers agreed on, and tell how far they did."""
    from rich.console import Console

    from training.translate.preparing import write_settled

    Console().print(write_settled(folder, out))


@app.command
def search(
    references: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(help="folder for report.md, scores.png and chosen.json")],
    engine: tyro.conf.OmitArgPrefixes[EngineOptions],
    candidates: Annotated[
        Path | None, tyro.conf.arg(help="TOML with [[preamble]] tables; preambles.toml if not given")
    ] = None,
) -> None:
    """Translate the references' sources with every candidate preamble, score by BLEU and chrF, and choose the best."""
    from rich.console import Console

    from training.translate.preparing import search as run_search

    best = run_search(references, out, candidates, engine, Console())
    print(f"{best.best} is best, with BLEU {best.mean(best.best):.1f} on average; the report is {out / 'report.md'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return ended(
        lambda: app.cli(description=__doc__, args=arguments, prog="python -m training.translate"), extra="data"
    )


if __name__ == "__main__":
    sys.exit(main())
