"""Nothing is lost, nothing is mixed and nothing is paid twice without need: kills, shards, changed sources, the export."""

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from maya_core.errors import DataError, RunBusy
from maya_core.learning.conversation_files import ConversationFiles
from maya_core.learning.record_index import RecordFile
from tests.training.translate.conftest import exported, plan, record, records, work, write
from tests.training.translate.fake_endpoint import Reply, Request, fake_endpoint, faults
from tests.training.translate.fake_endpoint import translate as by_rote
from training.engine import Completion
from training.translate.bulk import translate
from training.translate.export import Shards, census
from training.translate.journal import Incoming, Journal, JournalUnavailable
from training.translate.run import OTHERS, opened, shard_of_name, source_digest
from training.translate.texts import cut

ROOT = Path(__file__).parents[3]
KILLED = """
import json, os, random, signal, sqlite3, sys, time
from contextlib import closing
from pathlib import Path
from rich.console import Console
from maya_core.answering.language import answer_language
from tests.training.translate.conftest import plan, work
from training.translate.journal import Journal
from training.translate.run import opened, take_in

source, folder, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
kills, concurrency, share = map(int, sys.argv[4:])
answer_language("la lumière du soir", conversation="fr")  # loaded before the clock runs

def translate():
    with opened(folder) as journal:
        take_in(journal, source, ("fr", "hi"), (0, 1), Console(quiet=True))
        work(journal, url, plan(("fr", "hi"), concurrency=concurrency))

def done():
    try:  # it may be about to be made
        with closing(sqlite3.connect(f"file:{folder / 'journal.sqlite3'}?mode=ro", uri=True)) as journal:
            return journal.execute("SELECT count(*) FROM jobs WHERE state = 'done'").fetchone()[0]
    except sqlite3.OperationalError:
        return 0

generator = random.Random(7)
for kill in range(kills + 1):
    before = done()
    child = os.fork()
    if not child:
        translate()
        os._exit(0)
    if kill < kills:  # when it has done so much, or nothing yet
        until = before + generator.randint(0, share)
        while done() < until and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(generator.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if (folder / "journal.sqlite3").is_file():
        with Journal(folder) as journal:
            print(json.dumps([journal.counts(), journal.calls("lost"), journal.spent("answered")]), flush=True)
"""
CONCURRENCY = 4


@pytest.mark.parametrize(
    ("count", "kills"),
    [(100, 8), pytest.param(2500, 100, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])],  # texts, in two languages
)
def test_kills_at_any_moment_lose_nothing_and_pay_little_twice(tmp_path, count, kills):
    source = write(tmp_path / "in.json", records(count))
    with fake_endpoint(slowly) as server:
        share = 2 * count // (kills + 2)  # of the texts, at most, between two kills
        arguments = [str(source), str(tmp_path / "job"), server.url, str(kills), str(CONCURRENCY), str(share)]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    texts = count + 2
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    for counts, _, _ in moments:
        for states in counts.values():
            assert sum(states.values()) == texts
    counts, lost, answered = moments[-1]
    assert {language: states["done"] for language, states in counts.items()} == {"fr": texts, "hi": texts}
    again = sum(server.paid.values()) - 2 * texts
    assert 0 <= again <= lost <= kills * CONCURRENCY
    assert len(server.paid) == 2 * texts
    # Each text that is done was counted once, to the token.
    assert sum(tokens[0] for tokens in answered.values()) == 2 * texts
    assert len({json.dumps(counts) for counts, _, _ in moments}) > 2  # the kills fell into the work


def slowly(request: Request, reply: Reply) -> Reply:
    reply.delay = 0.02
    return reply


def test_an_english_export_becomes_nine_languages_with_a_tenth_of_faults(begun, tmp_path):
    """Nothing is lost: every record stands in every language, or is rejected with a reason, and what a fault rejected is
    translated when it is tried again."""
    source = write(tmp_path / "in.json", records(40))
    journal = begun(source, OTHERS)
    with fake_endpoint(faults(0.1)) as server:
        while any(states["pending"] + states["rejected"] for states in journal.counts().values()):
            journal.try_again()
            work(journal, server, plan(OTHERS, batch=4))
    (tmp_path / "pictures").mkdir()
    exported(tmp_path / "out", source, [journal], OTHERS)
    data = ConversationFiles(tmp_path / "out", tmp_path / "pictures", captions=True)
    assert {language: count.records for language, count in data.report().items()} == dict.fromkeys(OTHERS, 40)
    for language in OTHERS:
        written = json.loads((tmp_path / "out" / f"{language}.json").read_text("utf-8"))
        assert [one["id"] for one in written] == [one["id"] for one in records(40)]
        assert written[0]["conversations"][0]["value"].endswith("\n<image>")
        assert written[1]["conversations"][0]["value"].startswith("<image>\n")


def test_the_export_is_the_same_in_whatever_order_and_on_however_many_machines(begun, tmp_path):
    source, languages = write(tmp_path / "in.json", records(25)), ("zh", "ar")
    generator = random.Random(3)

    def shuffled(request: Request, reply: Reply) -> Reply:
        reply.delay = generator.random() * 0.03
        return reply

    alone = begun(source, languages, folder="alone")
    parts = [begun(source, languages, folder=f"part{part}", shard=(part, 3)) for part in range(3)]
    for part, journal in enumerate(parts):
        journal.agree({"shard": f"{part}/3"})
    with fake_endpoint(shuffled) as server:
        work(alone, server, plan(languages, concurrency=1))
        paid = Counter(server.paid)
        server.paid.clear()
        for journal in parts:
            work(journal, server, plan(languages))
        assert server.paid == paid  # no shard translates what another does
    assert exported(tmp_path / "a", source, [alone], languages) == exported(
        tmp_path / "b", source, parts[::-1], languages
    )
    with pytest.raises(DataError, match="1/3, 2/3"):
        Shards(parts[:2])
    with pytest.raises(DataError):
        Shards([*parts, parts[0]])


def test_only_one_process_works_in_a_folder(tmp_path):
    with opened(tmp_path / "job"), pytest.raises(RunBusy), opened(tmp_path / "job"):
        pass


@pytest.mark.parametrize("name", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_a_shard_that_cannot_be_is_refused(name):
    with pytest.raises(DataError, match="1/8"):
        shard_of_name(name)


EXPORTING = """
import os, sys
from pathlib import Path
from maya_core.learning.record_index import RecordFile
from tests.maya_core.weights.killing import state
from training.translate.export import Shards, export
from training.translate.journal import Journal

source, out, old = Path(sys.argv[1]), Path(sys.argv[3]), b"old"
kill_at = 0
while True:
    kill_at += 1
    out.write_bytes(old)
    child = os.fork()
    if not child:
        with Journal(Path(sys.argv[2]), new=False) as journal:
            file = RecordFile(source)
            state.update(calls=0, kill_at=kill_at)
            export(file, Shards([journal]), "fr", out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("old" if out.read_bytes() == old else out.read_bytes().hex(), flush=True)
    if os.WIFEXITED(status):
        break
"""


def test_a_kill_while_it_is_written_leaves_the_old_export_or_the_new(begun, tmp_path):
    source = write(tmp_path / "in.json", records(5))
    journal = begun(source)
    with fake_endpoint() as server:
        work(journal, server, plan())
    expected = exported(tmp_path / "whole", source, [journal], ("fr",))["fr"]
    journal.__exit__()
    arguments = [str(source), str(tmp_path / "job"), str(tmp_path / "out.json")]
    done = subprocess.run([sys.executable, "-c", EXPORTING, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = done.stdout.split()
    assert set(seen) == {"old", expected.hex()}
    assert len(seen) > 4


@pytest.mark.parametrize("damage", ["cut", "nul", "crlf", "no newline"])
def test_a_source_that_is_torn_is_translated_as_far_as_it_goes_and_then_the_rest(begun, tmp_path, damage):
    lines = [json.dumps(one) for one in records(6)]
    source = tmp_path / "in.jsonl"
    source.write_bytes({
        "cut": "\n".join(lines)[:-30].encode(),
        "nul": ("\n".join(lines[:5]) + "\n").encode() + b"\0" * 100,
        "crlf": ("\r\n".join(lines) + "\r\n").encode(),
        "no newline": "\n".join(lines).encode(),
    }[damage])  # fmt: skip
    journal = begun(source)
    is_whole = damage in ("crlf", "no newline")
    with fake_endpoint() as server:
        work(journal, server, plan())
        found = census(RecordFile(source), Shards([journal]), "fr")
        assert found.states == ({"done": 6} if is_whole else {"done": 5, "rejected": 1})
        source.write_text("\n".join(lines))
        again = begun(source)
        work(again, server, plan())
        assert set(server.paid.values()) == {1}
        assert len(server.paid) == 6 + 2
    assert census(RecordFile(source), Shards([again]), "fr").states == {"done": 6}


def test_an_export_of_another_source_is_refused(begun, tmp_path):
    source = write(tmp_path / "in.json", records(3))
    shards = Shards([begun(source)])
    shards.check_source(source_digest(source))
    write(source, records(4))
    with pytest.raises(DataError, match="changed"):
        shards.check_source(source_digest(source))


def test_ids_that_meet_are_found_before_anything_is_spent(begun, tmp_path):
    one = record(1, "<image>", "A cat sleeps.")
    content = [
        {**one, "id": "a"},
        {**one, "id": "a"},
        {**record(2, "<image>", "A dog runs."), "id": "a"},
        {**one, "id": "A"},
        {**one, "id": "caf\u00e9"},
        {**one, "id": "cafe\u0301"},
        {**one, "id": "b"},
    ]
    journal = begun(write(tmp_path / "in.json", content))
    assert journal.refused_records() == {
        1: "duplicate-id",
        2: "id-of-another",
        3: "id-almost-of-another",
        5: "id-almost-of-another",
    }
    assert journal.counts()["fr"]["pending"] == 1  # the cat: one text in three records
    found = census(RecordFile(tmp_path / "in.json"), Shards([journal]), "fr")
    assert found.states == {"pending": 3, "rejected": 4}


def test_a_record_that_cannot_be_used_is_named_and_the_others_go_on(begun, tmp_path):
    content = [
        record(0, "<image>", "A cat sleeps."),
        {"id": "no turns"},
        record(2, "<image>", "half an emoji \ud83d"),
        record(3, "<image>", "A dog runs.", corrupt=True),
        record(4, "<image>", ""),
    ]
    source = tmp_path / "in.json"
    source.write_text(json.dumps(content))
    journal = begun(source)
    assert journal.refused_records() == {1: "missing-keys", 2: "bad-letters", 3: "corrupt", 4: "empty-answer"}


@pytest.mark.parametrize(
    "said", ["e\u0301te\u0301 वक्\u200dफ", "می\u200cروم", "👩\u200d👩\u200d👧 ok", "a<image>b", "A", "[0.1, 0.2]"]
)
def test_what_is_said_is_cut_out_and_put_back_as_it_was(said):
    for value in (f"<image>\n{said}", f"{said}\n<image>", f" <image> <image>\n{said} ", said):
        piece = cut(value)
        assert "".join(piece) == value
        assert piece.words == said
    assert cut(" <image>\n") == (" <image>\n", "", "")


def test_a_full_disk_stops_the_run_and_loses_nothing(begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", records(100)))
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages + 1}")
    with fake_endpoint() as server:
        with pytest.raises(JournalUnavailable, match="free space"):
            work(journal, server, plan(concurrency=3))
        journal.__exit__()
        with Journal(tmp_path / "job") as again:
            states = again.counts()["fr"]
            assert sum(states.values()) == 102
            assert states["done"] < 102
            work(again, server, plan(concurrency=3))
            assert again.counts()["fr"]["done"] == 102
        assert sum(server.paid.values()) <= 102 + 3


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "journal.sqlite3").write_bytes(b"no database" * 500)
    with pytest.raises(JournalUnavailable, match="free space"):
        Journal(tmp_path)
    with pytest.raises(DataError, match="no journal"):
        Journal(tmp_path / "nowhere", new=False)


def test_a_job_goes_on_as_it_was_begun(tmp_path):
    with Journal(tmp_path) as journal:
        journal.agree({"model": "aya", "shard": "0/1"})
        journal.agree({"model": "aya"})
        with pytest.raises(DataError, match="model was aya, and is now other"):
            journal.agree({"model": "other"})


def test_what_was_rejected_for_a_reason_is_tried_again(begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", records(4)))
    with fake_endpoint(lambda request, reply: Reply(text="no" if request.number % 2 else "")) as server:
        work(journal, server, plan(concurrency=1))
    reasons = journal.reasons()["fr"]
    assert sum(reasons.values()) == 6
    assert journal.try_again(["empty"]) == reasons.get("empty", 0)
    assert journal.try_again() == 6 - reasons.get("empty", 0)


def test_a_kill_while_a_source_is_read_leaves_it_unread(tmp_path):
    """The source is taken in whole or not at all."""

    def broken():
        yield Incoming(number=0, id="1", folded="1", texts=("a cat",))
        raise RuntimeError

    with Journal(tmp_path) as journal:
        with pytest.raises(RuntimeError):
            journal.take_in(broken(), ["fr"], source="x", shard=(0, 1))
        assert journal.counts() == {}
        assert "source" not in journal.facts


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_hundred_thousand_texts_take_no_more_memory_at_the_end(tmp_path):
    """Concurrency 64; from a tenth of the way to the end."""
    import psutil

    class Instant:
        async def complete(self, prompt, *, most_tokens, temperature=0.0):
            return Completion(text=by_rote(prompt.split("\n\n")[1], "hi"), input_tokens=1, output_tokens=1)

    process, sizes, done = psutil.Process(), [], Counter()

    def note(language, state, reason):
        done[state] += 1
        if done["done"] % 10_000 == 0:
            gc.collect()
            sizes.append((process.memory_info().rss, len(os.listdir("/proc/self/fd"))))

    with Journal(tmp_path) as journal:
        texts = (
            Incoming(number=n, id=str(n), folded=str(n), texts=(f"{n} dogs run over a green field",))
            for n in range(100_000)
        )
        journal.take_in(texts, ["hi"], source="x", shard=(0, 1))
        asyncio.run(translate(journal, Instant(), plan(("hi",), concurrency=64), note))
    assert done == {"done": 100_000}
    assert (sizes[-1][0] - sizes[0][0]) / 9 < 1e6
    assert sizes[-1][1] == sizes[0][1]
