"""Models at an endpoint, asked a benchmark's questions; a picture goes as a data URI."""

import asyncio
import base64
import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from training.benchmarks.asking import Reply, Request
from training.endpoint import Endpoint, Parts, Patience, checked_host
from training.engine import ReplyUnusable, RequestRefused

PATIENCE = Patience(read=300.0, total=600.0)  # a judge writes long
_KINDS = {b"\xff\xd8": "jpeg", b"\x89P": "png", b"GI": "gif", b"RI": "webp", b"BM": "bmp"}


class RemoteModel:
    """A model at an endpoint, asked greedily. url: such as http://127.0.0.1:8000/v1. key_variable: what in the
    environment holds the key, where one is needed; it goes nowhere but into the requests' header."""

    def __init__(
        self, url: str, model: str, *, seed: int = 0, concurrency: int = 8, key_variable: str | None = None
    ) -> None:
        """Raises EngineRefused where address or key cannot be."""
        self._key = os.environ.get(key_variable, "") if key_variable else ""
        checked_host(url, self._key)
        self.url = url
        self.name = model
        self.seed = seed
        self.concurrency = concurrency
        self.fingerprint: Mapping[str, str] = {"model": model, "endpoint": urlsplit(url).netloc, "seed": str(seed)}

    def ask(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Raises EngineRefused, EngineUnavailable."""
        with asyncio.Runner() as runner:
            replies = self._replies(requests)

            async def following() -> tuple[int, Reply] | None:
                return await anext(replies, None)

            async def leaving() -> None:
                await replies.aclose()

            try:
                while (reply := runner.run(following())) is not None:
                    yield reply
            finally:
                runner.run(leaving())

    async def _replies(self, requests: Sequence[Request]) -> AsyncGenerator[tuple[int, Reply]]:
        """As they come, with no more on their way than agreed."""
        endpoint = Endpoint(
            self.url,
            self.name,
            key=self._key,
            concurrency=self.concurrency,
            patience=PATIENCE,
            passing=("not-json",),  # a proxy's page, as a rule
        )
        numbers = iter(range(len(requests)))
        running: dict[asyncio.Task[Reply], int] = {}
        try:
            while True:
                while len(running) < self.concurrency and (number := next(numbers, None)) is not None:
                    running[asyncio.create_task(self._reply(endpoint, requests[number]))] = number
                if not running:
                    return
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield running[task], task.result()
                    del running[task]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await endpoint.close()

    async def _reply(self, endpoint: Endpoint, request: Request) -> Reply:
        try:
            content = _content(request)
        except OSError:
            return Reply(failure="The picture's file is missing.")
        try:
            said = await endpoint.say(content, most_tokens=request.longest, seed=self.seed)
        except (RequestRefused, ReplyUnusable) as trouble:
            return Reply(failure=str(trouble))
        return Reply(text=said.text.encode("utf-8", "replace").decode())  # half a character cannot be kept


def _content(request: Request) -> str | Parts:
    if request.picture is None:
        return request.prompt
    picture = {"type": "image_url", "image_url": {"url": _data_uri(request.picture)}}
    return [picture, {"type": "text", "text": request.prompt}]


def _data_uri(picture: Path | bytes) -> str:
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    return f"data:image/{_KINDS.get(data[:2], 'jpeg')};base64,{base64.b64encode(data).decode()}"
