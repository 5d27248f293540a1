"""Models are asked once, in batches, here or at an endpoint; what an endpoint does wrong is borne or told."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, GenerationConfig

from maya_core.answering.options import GenerationOptions
from tests.tiny import TEXT, picture, tiny_session, tiny_tokenizer
from tests.training.benchmarks.endpoint import scripted_endpoint, text_of
from training.benchmarks import remote
from training.benchmarks.asking import EvaluationError, Reply, Request, open_store, replies
from training.benchmarks.local import LanguageModel, LocalModel, open_local
from training.benchmarks.remote import RemoteModel
from training.endpoint import Patience
from training.engine import EngineRefused, EngineUnavailable

ROOT = Path(__file__).parents[3]
KEY = "canary-5c1f"
JSON = {"Content-Type": "application/json"}
SHORT = GenerationOptions(max_new_tokens=8)


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "replies.sqlite") as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", Patience(first_pause=0.001, most_pause=0.01))


def asked(number, **fields):
    return Request(prompt=f"question {number}", longest=8, **fields)


class Counting:
    """Replies with the prompt, and counts."""

    def __init__(self, *, until=10**9, **fingerprint):
        self.name = "counting"
        self.fingerprint = fingerprint
        self.asked = 0
        self.until = until

    def ask(self, requests):
        for number, request in enumerate(requests):
            if self.asked == self.until:
                raise EvaluationError("stopped")
            self.asked += 1
            failed = "bad" in request.prompt
            yield number, Reply(failure="refused") if failed else Reply(text=request.prompt.upper())


# --- once ---


def test_the_same_is_asked_once_and_another_again(store, tmp_path):
    model = Counting()
    requests = [asked(1), asked(2), asked(1)]
    texts = [reply.text for reply in replies(model, requests, store)]
    assert texts == ["QUESTION 1", "QUESTION 2", "QUESTION 1"]
    assert model.asked == 2
    assert [reply.text for reply in replies(model, requests, store)] == texts
    assert model.asked == 2
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"two")
    others = [
        asked(1, picture=b"one"),
        asked(1, picture=tmp_path / "b.png"),
        Request(prompt="question 1", longest=9),
        asked(1, picture=tmp_path / "a.png"),  # the first one's bytes
    ]
    replies(model, others, store)
    assert model.asked == 5
    other = Counting(files="other")
    replies(other, requests, store)
    assert other.asked == 2


def test_an_interrupted_run_goes_on_where_it_stopped(store):
    requests = [asked(number) for number in range(10)]
    with pytest.raises(EvaluationError):
        replies(Counting(until=4), requests, store)
    model, told = Counting(), []
    assert len(replies(model, requests, store, told.append)) == 10
    assert model.asked == 6
    assert told == [4] + [1] * 6


def test_failures_are_not_kept(store):
    model = Counting()
    for turn in (1, 2):
        [reply] = replies(model, [Request(prompt="bad", longest=1)], store)
        assert reply == Reply(failure="refused")
        assert model.asked == turn


def test_where_everything_fails_the_run_ends_and_says_why(store):
    model = Counting()
    with pytest.raises(EvaluationError, match="first 10 requests all failed, the last one so: refused"):
        replies(model, [Request(prompt=f"bad {number}", longest=1) for number in range(50)], store)
    assert model.asked == 10
    mixed = [asked(0), *(Request(prompt=f"bad {number}", longest=1) for number in range(50))]
    assert len(replies(Counting(), mixed, store)) == 51


def test_what_was_put_outlives_a_kill(tmp_path):
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from training.benchmarks.asking import open_store\n"
        f"with open_store(Path({str(tmp_path / 'r.sqlite')!r})) as store:\n"
        "    for number in range(50): store.put(str(number), 'x' * 100)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    with open_store(tmp_path / "r.sqlite") as store:
        assert len(store.get([str(number) for number in range(60)])) == 50


def test_a_file_that_is_no_store_is_said(tmp_path):
    (tmp_path / "r.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(EvaluationError, match="r.sqlite is damaged"), open_store(tmp_path / "r.sqlite"):
        pass


# --- here ---


def test_a_store_that_is_full_or_cannot_be_made_is_said(tmp_path):
    with open_store(tmp_path / "replies.sqlite") as store:
        store.put("before", "kept")
        store._connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(EvaluationError, match="look for free space .* What was kept before is there"):
            store.put("now", "x" * 100_000)
        assert store.get(["before"]) == {"before": "kept"}
    (tmp_path / "folder").mkdir()
    with pytest.raises(EvaluationError, match="cannot be opened"), open_store(tmp_path / "folder"):
        pass


def test_a_model_here_answers_as_alone_and_what_cannot_be_asked_fails_alone(tmp_path):
    picture().save(tmp_path / "red.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    session = tiny_session()
    requests = [
        asked(1, picture=tmp_path / "red.png"),
        asked(2, picture=tmp_path / "broken.png"),
        Request(prompt="word " * 1500, longest=8),
        asked(3, picture=tmp_path / "gone.png"),
        asked(4),
        asked(5, picture=(tmp_path / "red.png").read_bytes()),
    ]
    given = dict(LocalModel(session, tmp_path, "tiny", batch=4).ask(requests))
    message = session.processor.user_message
    alone = session.answer(message("question 1", [picture()]), SHORT)
    assert given[0] == Reply(text=alone)
    assert given[4] == Reply(text=session.answer(message("question 4"), SHORT))
    assert not given[5].failure
    assert [bool(given[number].failure) for number in (1, 2, 3)] == [True] * 3
    assert "no file" in given[3].failure


def test_a_language_model_can_judge(tmp_path, store):
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    known = tokenizer.get_added_vocab()
    end = known["<|END_OF_TURN_TOKEN|>"]
    model = CohereForCausalLM(CohereConfig(**(TEXT | {"eos_token_id": end, "pad_token_id": known["<PAD>"]})))
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=known["<PAD>"])
    model.save_pretrained(tmp_path)
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path)
    tokenizer.chat_template = None
    judge = open_local(tmp_path, batch=2)
    assert isinstance(judge, LanguageModel)
    assert judge.name == tmp_path.name
    told = replies(judge, [asked(number) for number in range(3)], store)
    assert all(not reply.failure for reply in told)


# --- at an endpoint ---


def test_an_endpoint_is_asked_with_picture_and_key(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", KEY)
    picture().save(tmp_path / "red.png")
    with scripted_endpoint(lambda body: text_of(body).upper()) as server:
        model = RemoteModel(server.url, "peer", key_variable="MY_KEY", seed=5)
        given = dict(model.ask([asked(1, picture=tmp_path / "red.png"), asked(2)]))
    assert given == {0: Reply(text="QUESTION 1"), 1: Reply(text="QUESTION 2")}
    with_picture = next(body for body in server.requests if isinstance(body["messages"][0]["content"], list))
    assert with_picture["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert (with_picture["model"], with_picture["temperature"], with_picture["seed"]) == ("peer", 0, 5)
    assert with_picture["max_tokens"] == 8
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(model.fingerprint)


def test_a_reply_with_half_a_character_is_kept(store):
    content = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    with scripted_endpoint(lambda body: (200, JSON, content)) as server:
        assert replies(RemoteModel(server.url, "peer"), [asked(1)], store) == [Reply(text="a?b")]


PASSING = {
    "429": (429, {"Retry-After": "0.01"}, b""),
    "429 with a date": (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""),
    "429 without": (429, {}, b""),
    "503": (503, {}, b"busy"),
    "529": (529, {}, b""),
    "a page": (200, {"Content-Type": "text/html"}, b"<html>"),
    "cut off": (200, JSON, b'{"choices": [{"mess'),
    "empty": (200, JSON, b""),
    "other JSON": (200, JSON, b"[]"),
    "no choice": (200, JSON, b'{"choices": []}'),
    "not UTF-8": (200, JSON, b"\xff\xfe{"),
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(fault):
    answers = itertools.chain([PASSING[fault], PASSING[fault]], itertools.repeat("fine"))
    with scripted_endpoint(lambda body: next(answers)) as server:
        assert dict(RemoteModel(server.url, "peer").ask([asked(1)])) == {0: Reply(text="fine")}
    assert len(server.requests) == 3


def test_a_fault_that_stays_ends_the_run_after_bounded_attempts():
    with scripted_endpoint(lambda body: (500, {}, b"")) as server, pytest.raises(EngineUnavailable, match="status 500"):
        list(RemoteModel(server.url, "peer").ask([asked(1)]))
    assert len(server.requests) == remote.PATIENCE.attempts


def test_nobody_there_is_told():
    with pytest.raises(EngineUnavailable, match="ConnectError"):
        list(RemoteModel("http://127.0.0.1:1/v1", "peer").ask([asked(1)]))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_is_hopeless_is_not_tried_again(status, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with (
        scripted_endpoint(lambda body: (status, {}, KEY.encode())) as server,
        pytest.raises(EngineRefused, match=f"status {status}") as error,
    ):
        list(
            RemoteModel(server.url, "peer", concurrency=1, key_variable="MY_KEY").ask(
                [asked(number) for number in range(50)]
            )
        )
    assert len(server.requests) == 1
    assert KEY not in str(error.value)


def test_what_is_refused_fails_alone():
    def script(body):
        if text_of(body) == "question 2":
            return (400, {}, b'{"error": {"code": "too_long", "message": "question 2"}}')
        if text_of(body) == "question 3":
            refusal = b'{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}'
            return (200, JSON, refusal)
        return "fine"

    with scripted_endpoint(script) as server:
        given = dict(RemoteModel(server.url, "peer").ask([asked(number) for number in range(5)]))
    assert given[2] == Reply(failure="The endpoint refuses a request: http-400 (too_long).")
    assert given[3] == Reply(failure="The endpoint refuses a request: content-policy.")
    assert [given[number].text for number in (0, 1, 4)] == ["fine"] * 3
    assert len(server.requests) == 5


def test_no_more_are_asked_at_once_than_agreed_and_none_when_nobody_waits():
    with scripted_endpoint(lambda body: "fine") as server:
        given = RemoteModel(server.url, "peer", concurrency=3).ask([asked(number) for number in range(50)])
        assert next(given)[1].text == "fine"
        given.close()
        assert len(server.requests) <= 3
        assert len(dict(RemoteModel(server.url, "peer", concurrency=3).ask([asked(n) for n in range(10)]))) == 10


def test_an_answer_that_has_no_end_is_an_answer():
    cut = b'{"choices": [{"message": {"content": "a long"}, "finish_reason": "length"}]}'
    with scripted_endpoint(lambda body: (200, JSON, cut)) as server:
        assert dict(RemoteModel(server.url, "peer").ask([asked(1)])) == {0: Reply(text="a long")}
