"""What an endpoint's client does that no journal and no benchmark sees; for the rest see translate/test_faults.py and
benchmarks/test_asking.py."""

import asyncio
from dataclasses import replace

import pytest

from tests.training.benchmarks.endpoint import Answer, scripted_endpoint
from training.endpoint import Endpoint, Patience, retry_after
from training.engine import Completion, EngineRefused, ReplyUnusable

QUICK = Patience(first_pause=0.01, most_pause=0.05)
JSON = {"Content-Type": "application/json"}


def complete(url: str, *, times: int = 1, patience: Patience = QUICK) -> list[Completion]:
    """Replies to so many requests, one after the other."""

    async def asking() -> list[Completion]:
        endpoint = Endpoint(url, "model", patience=patience)
        try:
            return [await endpoint.complete("Hello", most_tokens=8) for _ in range(times)]
        finally:
            await endpoint.close()

    return asyncio.run(asking())


def test_a_pause_is_read_in_either_form():
    assert retry_after("7", 0.0) == 7
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40.0) == 60
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400.0) == 0
    assert retry_after("soon", 0.0) is None
    assert retry_after("inf", 0.0) is None
    assert retry_after(None, 0.0) is None


@pytest.mark.parametrize("url", ["ftp://x/v1", "x/v1", "https://me:secret@x/v1", "https://x/v1?key=1"])
def test_an_address_that_cannot_be_or_holds_a_secret_is_refused(url):
    with pytest.raises(EngineRefused, match="https://host/v1") as refusal:
        Endpoint(url, "fake")
    assert "secret" not in str(refusal.value)


def test_a_pause_longer_than_any_is_cut_short():
    """Else this test would take an hour."""
    answers: list[Answer] = [(429, {"Retry-After": "3600"}, b""), "fine", "fine"]
    with scripted_endpoint(lambda body: answers.pop(0)) as server:
        said = complete(server.url, times=2, patience=replace(QUICK, most_asked=0.05))
    assert [one.text for one in said] == ["fine", "fine"]


def test_an_endpoint_that_calls_the_limit_otherwise_is_asked_so():
    def script(body: dict[str, object]) -> Answer:
        if "max_tokens" in body:
            return (400, JSON, b'{"error": {"code": "unsupported_parameter", "param": "max_tokens"}}')
        return str(body["max_completion_tokens"])

    with scripted_endpoint(script) as server:
        assert [one.text for one in complete(server.url, times=5)] == ["8"] * 5
    assert len(server.requests) == 6


@pytest.mark.parametrize(("content", "reason"), [("cut", "cut-off"), (" ", "empty"), ("null", "empty")])
def test_half_a_reply_is_none_unless_it_is_asked_for(content, reason):
    def script(body: dict[str, object]) -> Answer:
        text = b"null" if content == "null" else f'"{content}"'.encode()
        ending = b"length" if content == "cut" else b"stop"
        choice = b'{"message": {"content": ' + text + b'}, "finish_reason": "' + ending + b'"}'
        return (200, JSON, b'{"choices": [' + choice + b'], "usage": {"prompt_tokens": 3, "completion_tokens": 8}}')

    with scripted_endpoint(script) as server, pytest.raises(ReplyUnusable) as trouble:
        complete(server.url)
    told = trouble.value
    assert (told.reason, told.input_tokens, told.output_tokens) == (reason, 3, 8)
