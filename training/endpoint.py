"""A model behind any OpenAI-compatible endpoint: vLLM, Ollama, Cohere, ..."""

import asyncio
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from training.engine import Completion, EngineRefused, EngineUnavailable, ReplyUnusable, RequestRefused

TRANSIENT = frozenset({408, 409, 425, 429})  # and all from 500 on
HOPELESS = frozenset({401, 402, 403, 404, 405})  # of every request alike
MOST_BYTES = 4 * 1024**2  # of a reply
FILTERED = ("content_filter", "content_policy")  # words of a refusal for its content

Parts = Sequence[Mapping[str, Any]]  # of a message: texts, and pictures as data URIs


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds for a connection, for sending, between two pieces of a reply, and for a reply in all; attempts, the first
    pause between two and the longest. A longer pause that the server asks for is kept, up to `most_asked`."""

    connect: float = 20.0
    write: float = 30.0
    read: float = 120.0
    total: float = 300.0
    attempts: int = 6
    first_pause: float = 1.0
    most_pause: float = 60.0
    most_asked: float = 900.0


@dataclass(frozen=True, kw_only=True)
class Said(Completion):
    """A reply as it came. is_cut: it had no room for its end."""

    is_cut: bool


class Endpoint:
    """Sends chat completions of one turn. key: a secret; it stands in the request's header and nowhere else."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str = "",
        concurrency: int = 16,
        patience: Patience = Patience(),
        passing: Collection[str] = (),
    ) -> None:
        """url: up to `/v1`. passing: reasons for which a reply that cannot be used is asked for again here; for others
        whoever asked may. Raises EngineRefused where address or key cannot be."""
        self.host = checked_host(url, key)
        self.model = model
        self.patience = patience
        self.passing = frozenset(passing)
        self._limit = "max_tokens"  # what the endpoint calls it
        self._not_before = 0.0  # monotonic; when the server lets us go on
        self._backoff = wait_exponential_jitter(
            multiplier=patience.first_pause, max=patience.most_pause, jitter=patience.first_pause
        )
        self._client = httpx2.AsyncClient(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(patience.read, connect=patience.connect, write=patience.write, pool=None),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def complete(self, prompt: str, *, most_tokens: int, temperature: float = 0.0) -> Completion:
        """The whole reply, after as many attempts as patience allows."""
        said = await self.say(prompt, most_tokens=most_tokens, temperature=temperature)
        reason = "cut-off" if said.is_cut else "" if said.text.strip() else "empty"
        if reason:
            raise ReplyUnusable(reason, input_tokens=said.input_tokens, output_tokens=said.output_tokens)
        return said

    async def say(self, content: str | Parts, *, most_tokens: int, temperature: float = 0.0, **more: Any) -> Said:
        """The reply as far as it goes, after as many attempts as patience allows. more: of the request, such as seed."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": temperature,
            **more,
        }
        attempts = AsyncRetrying(
            stop=stop_after_attempt(self.patience.attempts),
            retry=retry_if_exception_type(_Passing),
            wait=self._pause,
            reraise=True,
        )
        try:
            return await attempts(self._once, body, most_tokens)
        except _Passing as trouble:
            raise EngineUnavailable(
                f"{self.host} gave no reply in {self.patience.attempts} attempts ({trouble}); what is done is kept. "
                "Run the same command again when it answers."
            ) from None

    async def close(self) -> None:
        await self._client.aclose()

    def _pause(self, state: RetryCallState) -> float:
        """Seconds until the next attempt; where the server asks for a pause, everybody makes it."""
        assert state.outcome is not None
        trouble = state.outcome.exception()
        pause = self._backoff(state)
        asked = trouble.asked if isinstance(trouble, _Passing) else None
        if asked is not None:
            pause += min(asked, self.patience.most_asked)
            self._not_before = max(self._not_before, time.monotonic() + asked)
        return pause

    async def _once(self, body: Mapping[str, Any], most_tokens: int) -> Said:
        await asyncio.sleep(min(self._not_before - time.monotonic(), self.patience.most_asked))
        limit = self._limit
        try:
            async with asyncio.timeout(self.patience.total):
                response, content = await self._sent({**body, limit: most_tokens})
        except TimeoutError:
            raise _Passing("the reply took too long") from None
        except httpx2.TransportError as trouble:
            raise _Passing(type(trouble).__name__) from None
        codes = _codes(content) if response.status_code == 400 else ()
        if limit in codes and limit == "max_tokens":  # newer models know it by another name
            self._limit = "max_completion_tokens"
            return await self._once(body, most_tokens)
        _check_status(response, content, self.host, codes)
        try:
            return _said(response, content)
        except ReplyUnusable as trouble:
            if trouble.reason in self.passing:
                raise _Passing(trouble.reason) from None
            raise

    async def _sent(self, body: Mapping[str, Any]) -> tuple[httpx2.Response, bytes]:
        async with self._client.stream("POST", "chat/completions", json=body) as response:
            content = bytearray()
            try:
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MOST_BYTES:
                        raise ReplyUnusable("too-long")
            except httpx2.DecodingError:
                raise ReplyUnusable("not-json") from None
        return response, bytes(content)


class _Passing(Exception):
    """Trouble that may pass by itself. asked: seconds that the server wants to be left alone."""

    def __init__(self, what: str, *, asked: float | None = None) -> None:
        super().__init__(what)
        self.asked = asked


def checked_host(url: str, key: str = "") -> str:
    """The host of an endpoint's address. Raises EngineRefused where address or key cannot be."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise EngineRefused("The endpoint must look like https://host/v1, with the key in the environment.")
    if not (key.isascii() and key.isprintable()):
        raise EngineRefused("The endpoint's key has characters that no key has; look at the environment variable.")
    return parts.hostname


def _check_status(response: httpx2.Response, content: bytes, host: str, codes: Sequence[str]) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in TRANSIENT or status >= 500:
        raise _Passing(f"status {status}", asked=retry_after(response.headers.get("Retry-After"), time.time()))
    is_filtered = any(word.encode() in content for word in FILTERED)
    if is_filtered:
        raise RequestRefused("content-policy")
    if status in HOPELESS or status < 400:
        raise EngineRefused(
            f"{host} refuses with status {status}; look at the address, the model's name, the key and the account. "
            "What is done is kept."
        )
    raise RequestRefused(f"http-{status}" + (f" ({', '.join(codes)})" if codes else ""))


def _codes(content: bytes) -> tuple[str, ...]:
    """What an endpoint says is wrong, in its own codes; its sentences may hold what was asked."""
    try:
        error = json.loads(content)["error"]
        told = [error.get(name) for name in ("code", "param")]
    except (ValueError, LookupError, TypeError, AttributeError):
        return ()
    return tuple(one[:40] for one in told if isinstance(one, str))


def retry_after(header: str | None, now: float) -> float | None:
    """Seconds of a Retry-After header, in seconds or as a date. now: seconds since 1970."""
    if header is None:
        return None
    try:
        asked = float(header)
    except ValueError:
        try:
            asked = parsedate_to_datetime(header).timestamp() - now
        except ValueError:
            return None
    return max(0.0, asked) if asked < float("inf") else None


def _said(response: httpx2.Response, content: bytes) -> Said:
    """The reply in a body, whatever is in it. Raises ReplyUnusable, RequestRefused."""
    if "json" not in response.headers.get("Content-Type", ""):
        raise ReplyUnusable("not-json")
    try:
        said = json.loads(content.decode("utf-8-sig"), object_pairs_hook=without_repeats)
    except (ValueError, RecursionError):
        raise ReplyUnusable("not-json") from None
    usage = said.get("usage") if isinstance(said, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    paid = {"input_tokens": _count(usage.get("prompt_tokens")), "output_tokens": _count(usage.get("completion_tokens"))}
    try:
        choice = said["choices"][0]
        text, ending = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ReplyUnusable("not-json", **paid) from None
    if ending == "content_filter":
        raise RequestRefused("content-policy")
    if not isinstance(text, str):
        raise ReplyUnusable("empty", **paid)
    return Said(text=text, is_cut=ending == "length", **paid)


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no key may stand twice; ValueError where one does."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("A key stands twice.")
    return found


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
