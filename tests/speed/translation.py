"""The bulk translation over HTTP, soaked: `python -m tests.speed.translation --texts 100000`.

A server of its own process translates by rote, with a tenth of its replies faulty; here the journal is worked through, and
memory, open files and pace are told at every tenth of the way.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from training.endpoint import Endpoint, Patience
from training.translate.bulk import Plan, translate
from training.translate.journal import Incoming, Journal
from training.translate.prompts import load_preambles
from training.translate.run import OTHERS

ROOT = Path(__file__).parents[2]
SERVER = """
import sys
from tests.training.translate.fake_endpoint import fake_endpoint, faults

class Nothing(list):
    def append(self, _): pass

with fake_endpoint(faults(0.1)) as server:
    server.requests = Nothing()  # would grow with every request
    print(server.url, flush=True)
    sys.stdin.read()
"""
PATIENT = Patience(first_pause=0.05, most_pause=5.0, attempts=8)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """At a tenth of the way. computing: seconds of a core; memory: bytes of this process; files: that it has open."""

    texts: int
    seconds: float
    computing: float
    memory: int
    files: int


@contextmanager
def served() -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def soak(folder: Path, texts: int, languages: tuple[str, ...], concurrency: int) -> tuple[list[Moment], Counter[str]]:
    """What was seen on the way, and how many texts ended in which state."""
    process, moments, done = psutil.Process(), list[Moment](), Counter[str]()
    incoming = (
        Incoming(number=n, id=str(n), folded=str(n), texts=(f"{n} dogs run over a green field",)) for n in range(texts)
    )
    every = texts * len(languages) // 10

    def note(language: str, state: str, reason: str) -> None:
        done[state] += 1
        finished = done["done"] + done["rejected"]
        if state != "pending" and finished % every == 0:
            gc.collect()
            moments.append(
                Moment(
                    texts=finished,
                    seconds=time.perf_counter() - started,
                    computing=time.process_time() - computed,
                    memory=process.memory_info().rss,
                    files=len(os.listdir("/proc/self/fd")),
                )
            )
            print(moments[-1], flush=True)

    async def work() -> None:
        endpoint = Endpoint(url, "fake", concurrency=concurrency, patience=PATIENT)
        try:
            await translate(journal, endpoint, plan, note)
        finally:
            await endpoint.close()

    plan = Plan(languages=languages, preambles=load_preambles("rules"), concurrency=concurrency)
    with served() as url, Journal(folder) as journal:
        journal.take_in(incoming, languages, source="x", shard=(0, 1))
        started, computed = time.perf_counter(), time.process_time()
        asyncio.run(work())
        del done["pending"]
        counts = journal.counts()
    assert done == Counter({state: sum(of[state] for of in counts.values()) for state in ("done", "rejected")})
    return moments, done


def slope(moments: list[Moment]) -> float:
    """Bytes more for 10,000 texts, from the first moment to the last."""
    first, last = moments[0], moments[-1]
    return (last.memory - first.memory) / (last.texts - first.texts) * 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=100_000, help="of each language")
    parser.add_argument("--languages", nargs="+", default=["hi"], choices=OTHERS)
    parser.add_argument("--concurrency", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        moments, done = soak(Path(folder), given.texts, tuple(given.languages), given.concurrency)
    last = moments[-1]
    print(
        f"{dict(done)}; {last.seconds:.0f} s, {last.texts / last.seconds:.1f} texts a second, "
        f"{last.texts / last.computing:.0f} a second of a core; "
        f"at most {max(one.memory for one in moments) / 1e6:.0f} MB, {slope(moments) / 1e6:+.2f} MB for 10,000 texts; "
        f"open files {moments[0].files} -> {last.files}"
    )


if __name__ == "__main__":
    main()
