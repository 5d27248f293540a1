"""A browser's side of gradio's queue, without a browser."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx

from tests.app.conftest import Site

API = "/gradio_api"


def events_of(site: Site) -> dict[str, int]:
    """What can be called: name -> number."""
    config = httpx.get(f"{site.address}config", timeout=30).json()
    return {dependency["api_name"]: dependency["id"] for dependency in config["dependencies"]}


def of_page(client: httpx.Client) -> dict[str, str]:
    """What a browser says of a request that our own page sends."""
    return {"origin": str(client.base_url).rstrip("/")}


def upload(client: httpx.Client, file: Any, name: str = "photo.png") -> str:
    """The path on the server of a file that is sent there."""
    sent = client.post(f"{API}/upload", files={"files": (name, file, "image/png")}, headers=of_page(client))
    sent.raise_for_status()
    path = sent.json()[0]
    assert isinstance(path, str)
    return path


def question(text: str, *paths: str) -> dict[str, Any]:
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    return {"text": text, "files": files}


def join(client: httpx.Client, number: int, data: list[Any], session: str | None = None) -> str:
    """Call an event; the session that its answers come to."""
    session = session or uuid.uuid4().hex
    call = {"data": data, "fn_index": number, "session_hash": session, "event_data": None}
    sent = client.post(f"{API}/queue/join", json=call, headers=of_page(client))
    sent.raise_for_status()
    return session


def listen(client: httpx.Client, session: str) -> Iterator[dict[str, Any]]:
    """What comes back, until the event is done."""
    with client.stream("GET", f"{API}/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                message = json.loads(line[5:])
                yield message
                if message["msg"] in ("process_completed", "close_stream", "unexpected_error"):
                    return
