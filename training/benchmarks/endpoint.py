"""Models behind any OpenAI-compatible endpoint (vLLM, Ollama, a provider's): chat completions, a picture as a data URI.

What may pass by itself (too many requests, a server's fault, no connection) is tried again, with growing pauses or the one
that the server asks for; what a request itself is refused for, fails; a key that is refused ends the run.
"""

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)

from training.benchmarks.asking import EvaluationError, Reply, Request

ATTEMPTS = 6
LONGEST_PAUSE = 60.0  # seconds
TIMEOUT = httpx.Timeout(300.0, connect=20.0)  # seconds without a byte
TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504, 529)
HOPELESS = (401, 403, 404)  # every other request would fare the same
_KINDS = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp"}
_PAUSES = wait_exponential_jitter(multiplier=0.5, max=LONGEST_PAUSE)


class _Passing(Exception):
    """A fault that may pass. pause: seconds that the server asks for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Endpoint:
    """A model at an endpoint, asked greedily. url: such as http://127.0.0.1:8000/v1. key_variable: what in the
    environment holds the key, where one is needed; it goes nowhere but into the requests' header."""

    def __init__(
        self, url: str, model: str, *, seed: int = 0, concurrency: int = 8, key_variable: str | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.name = model
        self.seed = seed
        self.concurrency = concurrency
        self._limit = "max_tokens"  # what the endpoint calls it
        self.fingerprint: Mapping[str, str] = {
            "model": model,
            "endpoint": httpx.URL(self.url).netloc.decode(),
            "seed": str(seed),
        }
        self._key = os.environ.get(key_variable, "") if key_variable else ""

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        with (
            httpx.Client(timeout=TIMEOUT, headers=headers) as client,
            ThreadPoolExecutor(self.concurrency) as pool,
        ):
            left = Event()  # nobody waits for the rest
            waiting = {pool.submit(self._reply, client, request, left): n for n, request in enumerate(requests)}
            try:
                for done in as_completed(waiting):
                    if reply := done.result():
                        yield waiting[done], reply
            finally:
                left.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def _reply(self, client: httpx.Client, request: Request, left: Event) -> Reply | None:
        """None where the run has been left; it is left where there is no hope for any request."""
        if left.is_set():
            return None
        try:
            return self._tried(client, request, left)
        except EvaluationError:
            left.set()
            raise

    def _tried(self, client: httpx.Client, request: Request, left: Event) -> Reply:
        try:
            body = self._body(request)
        except OSError:
            return Reply(failure="The picture's file is missing.")
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS) | stop_when_event_set(left),
            sleep=sleep_using_event(left),
            wait=_pause,
            retry=retry_if_exception_type(_Passing),
            reraise=True,
        )
        try:
            return retrying(self._once, client, body)
        except _Passing as fault:
            raise EvaluationError(
                f"{httpx.URL(self.url).host} gave no answer in {ATTEMPTS} attempts ({fault}); what came is kept, and the "
                "same command goes on."
            ) from None

    def _once(self, client: httpx.Client, body: dict[str, Any]) -> Reply:
        try:
            response = client.post(f"{self.url}/chat/completions", json=body)
        except httpx.TransportError as error:
            raise _Passing(type(error).__name__) from None
        status = response.status_code
        if status in TRANSIENT:
            raise _Passing(f"status {status}", _asked_pause(response.headers.get("Retry-After")))
        if status in HOPELESS:
            raise EvaluationError(
                f"{httpx.URL(self.url).host} refuses with status {status}; check the address, the model's name, and the key "
                "in the environment."
            )
        if response.is_success:
            return _read(response)
        reason = _reason(response)
        if status == 400 and "max_tokens" in reason and "max_tokens" in body:
            self._limit = "max_completion_tokens"
            others = {name: value for name, value in body.items() if name != "max_tokens"}
            return self._once(client, {**others, self._limit: body["max_tokens"]})
        return Reply(failure=f"refused with status {status}" + (f" ({', '.join(reason)})" if reason else ""))

    def _body(self, request: Request) -> dict[str, Any]:
        content: str | list[dict[str, Any]] = request.prompt
        if request.picture is not None:
            picture = {"type": "image_url", "image_url": {"url": _data_uri(request.picture)}}
            content = [picture, {"type": "text", "text": request.prompt}]
        return {
            "model": self.name,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            self._limit: request.longest,
            "seed": self.seed,
        }


def _read(response: httpx.Response) -> Reply:
    """The text of a reply; what is no reply may pass, for it is often a proxy's page."""
    try:
        choice = response.json()["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise _Passing("a reply that is no chat completion") from None
    if choice.get("finish_reason") == "content_filter" or not isinstance(text, str):
        return Reply(failure="refused by a content filter")
    return Reply(text=text.encode("utf-8", "replace").decode())  # half a character cannot be kept


def _reason(response: httpx.Response) -> list[str]:
    """What an endpoint says is wrong, in its own codes; its sentences may hold what was asked."""
    try:
        error = response.json()["error"]
        told = [error.get(name) for name in ("code", "param")]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []
    return [str(one)[:40] for one in told if isinstance(one, str)]


def _data_uri(picture: Path | bytes) -> str:
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    return f"data:image/{_KINDS.get(data[:2], 'jpeg')};base64,{base64.b64encode(data).decode()}"


def _pause(state: RetryCallState) -> float:
    assert state.outcome is not None
    fault = state.outcome.exception()
    asked = fault.pause if isinstance(fault, _Passing) else None
    return min(asked, LONGEST_PAUSE) if asked is not None else _PAUSES(state)


def _asked_pause(header: str | None) -> float | None:
    """Seconds, of a Retry-After in seconds or as a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
