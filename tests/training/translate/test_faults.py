"""Every fault of a network, a server and a model, scripted: what must happen, and that nothing is lost."""

import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest

from tests.training.faults import missing
from tests.training.translate.conftest import HASTY, plan, records, work, write
from tests.training.translate.fake_endpoint import FAULTS, Reply, Request, fake_endpoint, faults
from training.endpoint import Endpoint
from training.engine import EngineRefused, EngineUnavailable
from training.translate.bulk import FAILURES, BudgetReached, Price
from training.translate.journal import MOST_TRIES, Journal

QUESTIONS = 2  # texts beside the answers in `records`
PASSING = ("429", "500", "503", "529", "dropped", "dropped within")
UNUSABLE = {
    "html": "not-json",
    "empty body": "not-json",
    "torn json": "not-json",
    "bad utf-8": "not-json",
    "repeated keys": "not-json",
    "cut off": "cut-off",
    "null": "empty",
}
ATTEMPTS = 4  # of QUICK


def states(journal: Journal, language: str = "fr") -> dict[str, int]:
    return {state: count for state, count in journal.counts()[language].items() if count}


def first(times: int, change: Callable[[Reply], Reply]) -> Callable[[Request, Reply], Reply]:
    """A fault for the first so many requests."""
    return lambda request, reply: change(reply) if request.number < times else reply


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_is_tried_again_and_paid_once(begun, tmp_path, kind):
    journal = begun(write(tmp_path / "in.json", records(3)))
    with fake_endpoint(first(3, FAULTS[kind])) as server:
        work(journal, server, plan(concurrency=1))
    assert states(journal) == {"done": 3 + QUESTIONS}
    assert len(server.requests) == 3 + 3 + QUESTIONS
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize(("kind", "reason"), UNUSABLE.items())
def test_a_reply_that_is_none_is_asked_for_again_and_then_rejected(begun, tmp_path, kind, reason):
    journal = begun(write(tmp_path / "in.json", records(1)))
    with fake_endpoint(first(MOST_TRIES - 1, FAULTS[kind])) as server:
        work(journal, server, plan(concurrency=1))
    assert states(journal) == {"done": 1 + QUESTIONS - 1}
    journal = begun(tmp_path / "in.json", folder="hopeless")
    with fake_endpoint(lambda request, reply: FAULTS[kind](reply)) as server:
        work(journal, server, plan(concurrency=1))
    assert states(journal) == {"rejected": 2}
    assert journal.reasons() == {"fr": {reason: 2}}
    assert len(server.requests) == 2 * MOST_TRIES
    assert len({request.body["temperature"] for request in server.requests}) == MOST_TRIES


@pytest.mark.parametrize("header", ["0.4", "date", None])
def test_the_server_is_left_alone_as_long_as_it_asks(begun, tmp_path, header):
    journal = begun(write(tmp_path / "in.json", records(1)))
    times = []

    def script(request: Request, reply: Reply) -> Reply:
        times.append(time.monotonic())
        if request.number == 0:
            asked = formatdate(time.time() + 2, usegmt=True) if header == "date" else header
            return Reply(status=429, headers={"Retry-After": asked} if asked else {})
        return reply

    with fake_endpoint(script) as server:
        work(journal, server, plan(concurrency=1))
    assert states(journal) == {"done": 2}
    assert times[1] - times[0] >= {"0.4": 0.4, "date": 0.9, None: 0.005}[header]


def test_an_endpoint_that_is_gone_ends_the_run_and_costs_nothing(begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", records(20)))
    with fake_endpoint(lambda request, reply: FAULTS["503"](reply)) as server:
        with pytest.raises(EngineUnavailable, match="what is done is kept"):
            work(journal, server, plan(concurrency=2))
        assert len(server.requests) <= (FAILURES + 2) * ATTEMPTS
    assert states(journal) == {"pending": 20 + QUESTIONS}
    with fake_endpoint() as server:
        work(journal, server, plan())
    assert states(journal) == {"done": 20 + QUESTIONS}


def unknown_host(*_: object, **__: object) -> None:
    raise socket.gaierror("Name or service not known")


@pytest.mark.parametrize("where", ["refused", "tls", "dns"])
def test_no_connection_ends_the_run_with_a_sentence(begun, tmp_path, where, monkeypatch):
    journal = begun(write(tmp_path / "in.json", records(1)))
    with fake_endpoint() as server:
        url = server.url
        if where == "refused":
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        if where == "tls":
            url = url.replace("http:", "https:")
        if where == "dns":
            monkeypatch.setattr(socket, "getaddrinfo", unknown_host)
            url = "http://nowhere.example/v1"
        with pytest.raises(EngineUnavailable, match=f"in {ATTEMPTS} attempts"):
            work(journal, url, plan(concurrency=1))
    assert states(journal) == {"pending": 2}


def test_a_text_that_breaks_the_server_is_rejected_and_the_others_are_not(begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", records(12)))

    def script(request: Request, reply: Reply) -> Reply:
        return FAULTS["500"](reply) if "7 people" in request.texts[0] else reply

    with fake_endpoint(script) as server:
        with contextlib.suppress(EngineUnavailable):  # when nothing else is left
            work(journal, server, plan(concurrency=4))
        work(journal, server, plan(concurrency=4))
    assert states(journal) == {"done": 12 + QUESTIONS - 1, "rejected": 1}
    assert journal.reasons() == {"fr": {"no-reply": 1}}


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_of_everything_ends_the_run_at_once(begun, tmp_path, status):
    journal = begun(write(tmp_path / "in.json", records(30)))
    with fake_endpoint(lambda request, reply: Reply(status=status)) as server:
        with pytest.raises(EngineRefused, match=str(status)):
            work(journal, server, plan(concurrency=4))
        assert len(server.requests) <= 4
    assert states(journal) == {"pending": 30 + QUESTIONS}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(status=400, body=b'{"error": {"message": "too long"}}'), "http-400"),
        (Reply(status=400, body=b'{"error": {"code": "content_policy_violation"}}'), "content-policy"),
        (Reply(status=403, body=b'{"error": {"code": "content_filter"}}'), "content-policy"),
        (Reply(text="", ending="content_filter"), "content-policy"),
    ],
)
def test_a_request_that_is_refused_is_not_sent_again(begun, tmp_path, reply, reason):
    journal = begun(write(tmp_path / "in.json", records(3)))
    with fake_endpoint(lambda request, ours: reply if "4 people" in request.texts[0] else ours) as server:
        work(journal, server, plan())
        assert len(server.requests) == 3 + QUESTIONS
    assert journal.reasons() == {"fr": {reason: 1}}
    with fake_endpoint(
        lambda request, ours: reply if any("4 people" in text for text in request.texts) else ours
    ) as server:
        journal.try_again([reason])
        work(begun(tmp_path / "in.json", folder="several"), server, plan(batch=5))
    assert states(begun(tmp_path / "in.json", folder="several")) == {"done": 2 + QUESTIONS, "rejected": 1}


@pytest.mark.parametrize("hang", ["before", "after", "drip"])
def test_what_hangs_is_given_up_and_its_place_is_free(begun, tmp_path, hang):
    journal = begun(write(tmp_path / "in.json", records(6)))

    def script(request: Request, reply: Reply) -> Reply:
        reply.hang = hang if request.number < 2 else ""
        return reply

    with fake_endpoint(script) as server:
        start = time.monotonic()
        work(journal, server, plan(concurrency=2), patience=HASTY)
        assert time.monotonic() - start < 15
    assert states(journal) == {"done": 6 + QUESTIONS}


def test_nothing_connects_for_longer_than_it_may(begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", records(1)))
    with socket.socket() as deaf:  # takes nobody in, once one waits
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), pytest.raises(EngineUnavailable):
            work(journal, f"http://127.0.0.1:{port}/v1", plan(concurrency=1), patience=replace(HASTY, attempts=1))


@pytest.mark.parametrize("trick", ["swapped", "missing", "repeated", "foreign", "fenced", "prose"])
def test_of_a_batch_only_what_bears_its_id_is_taken(begun, tmp_path, trick):
    journal = begun(write(tmp_path / "in.json", records(8)))
    expected = begun(tmp_path / "in.json", folder="plain")

    def script(request: Request, reply: Reply) -> Reply:
        if not request.listed:
            return reply
        listed = json.loads(reply.text or "")
        one = listed[0]
        tricks = {
            "swapped": listed[::-1],
            "missing": listed[1:],
            "repeated": [*listed, {**one, "text": "une autre maison dans la lumière du soir"}],
            "foreign": [*listed, {"id": 99, "text": "une autre"}, {"id": "1", "text": "une autre"}],
        }
        reply.text = json.dumps(tricks.get(trick, listed))
        if trick == "fenced":
            reply.text = f"```json\n{reply.text}\n```"
        if trick == "prose":
            reply.text = f"Here you are: {reply.text}"
        return reply

    with fake_endpoint() as server:
        work(expected, server, plan())
    with fake_endpoint(script) as server:
        work(journal, server, plan(batch=5, concurrency=2))
    assert states(journal) == {"done": 8 + QUESTIONS}
    assert all_of(journal) == all_of(expected)
    asked = 2 + {"missing": 2, "repeated": 2, "prose": 8 + QUESTIONS}.get(trick, 0)
    assert len(server.requests) == asked


def all_of(journal: Journal) -> list[tuple[str, ...]]:
    query = "SELECT source, state, translation FROM jobs JOIN texts USING (text) ORDER BY source"
    return journal._db.execute(query).fetchall()


def test_a_budget_is_never_exceeded_and_every_token_is_counted(begun, tmp_path):
    journal = begun(write(tmp_path / "in.json", records(30)))
    price = Price(input=10.0, output=1000.0)
    with fake_endpoint(faults(0.1)) as server:
        with pytest.raises(BudgetReached, match="larger --budget"):
            work(journal, server, plan(price=price, budget=1.0))
        spent = journal.spent()["fr"]
        assert 0.3 < price.of(spent) <= 1.0
        assert spent.output == server.output_tokens
        assert states(journal)["pending"] > 0
        work(journal, server, plan(price=price, budget=100.0))
    assert states(journal).keys() <= {"done", "rejected"}
    assert journal.spent()["fr"].output == server.output_tokens


def test_the_key_stands_in_the_header_and_nowhere_else(begun, tmp_path, caplog, capfd):
    key = "sk-CANARY-1234"
    caplog.set_level(logging.DEBUG)
    journal = begun(write(tmp_path / "in.json", records(4)))
    seen = []

    def script(request: Request, reply: Reply) -> Reply:
        seen.append(request.headers["Authorization"])
        return Reply(status=401) if request.number > 2 else reply

    with fake_endpoint(script) as server, pytest.raises(EngineRefused) as refusal:
        work(journal, server, plan(concurrency=1), key=key)
    assert set(seen) == {f"Bearer {key}"}
    told = [caplog.text, str(refusal.value), repr(refusal.value.__context__), *capfd.readouterr()]
    with pytest.raises(EngineRefused) as unusable:
        Endpoint(server.url, "fake", key=f"{key}\n")
    told.append(str(unusable.value))
    journal.__exit__()
    told += [file.read_bytes().decode(errors="replace") for file in (tmp_path / "job").iterdir()]
    assert not [text for text in told if "CANARY" in text]


@pytest.mark.parametrize("concurrency", [1, 5])
def test_no_more_requests_are_out_than_agreed(begun, tmp_path, concurrency):
    journal = begun(write(tmp_path / "in.json", records(12)))

    def script(request: Request, reply: Reply) -> Reply:
        reply.delay = 0.05
        return reply

    with fake_endpoint(script) as server:
        work(journal, server, plan(concurrency=concurrency))
    assert server.most_at_once == concurrency


def test_the_table_of_faults_names_tests_that_are_there():
    assert not missing()
