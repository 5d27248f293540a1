"""A small hub on 127.0.0.1 that keeps what is pushed and gives it back: as much of Hugging Face's protocol as that takes,
with whatever can go wrong on the way.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote

import pytest

LARGE = (".safetensors", ".bin")  # kept apart, under their SHA-256
PIECE = 16 * 1024  # bytes sent at once


@dataclass
class Fault:
    """What goes wrong where a path that is read matches, the first `times` times.

    status: answered instead, with `headers` and `body`. reset, short: the connection breaks, or ends politely, after
    `after` bytes of a file. flip: the byte at `after` has another bit. slow: `rate` bytes a second from `after` on. silent:
    no answer for `seconds`.
    """

    match: str
    kind: Literal["status", "reset", "short", "flip", "slow", "silent"]
    times: int = 10**9
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: int = 0
    rate: int = 0
    seconds: float = 0
    commands: tuple[str, ...] = ("GET",)


@dataclass(frozen=True)
class Request:
    """One that came. start: of the bytes asked for. token: of the person who asked."""

    method: str
    path: str
    start: int
    token: str | None


class LocalHub(ThreadingHTTPServer):
    """files: of every repository, by `owner/name` and path; each push adds to them. gated: repositories that only `tokens`
    of people who accepted their licence may read; tokens: the person of each token that there is; who signs in in
    the browser gets the first. private: repositories that were made so. readers: tokens that may not write."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.gated: dict[str, set[str]] = {}
        self.tokens: dict[str, str] = {}
        self.private: set[str] = set()
        self.readers: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, repository: str) -> str:
        listed = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.files[repository].items())
        return hashlib.sha1(json.dumps(listed).encode()).hexdigest()

    def starts_of(self, name: str) -> list[int]:
        """From which byte on a file was asked for, each time."""
        return [one.start for one in self.requests if one.method == "GET" and one.path.endswith(f"/{name}")]


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


def use_hub(hub: LocalHub, folder: Any, patch: pytest.MonkeyPatch) -> None:
    """Have the client library of this process know no other hub, and keep everything in `folder`."""
    from huggingface_hub import constants, hf_api
    from huggingface_hub.utils import close_session

    close_session()
    patch.setattr(hf_api.api, "endpoint", hub.address)
    for name, value in {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_STORED_TOKENS_PATH": str(folder / "stored_tokens"),
        "HF_HUB_OFFLINE": False,
    }.items():
        patch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        patch.delenv(name, raising=False)


def hub_environment(hub: LocalHub, folder: Any) -> dict[str, str]:
    """The same for a process of its own."""
    return {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(folder),
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "0",
        "XDG_DATA_HOME": str(folder / "data"),
    }


def large_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def small_digest(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def digest_of(name: str, data: bytes) -> str:
    return (large_digest if name.endswith(LARGE) else small_digest)(data)


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.server.requests.append(Request("POST", self.path, 0, token))
        if fault := self._fault(self.path):
            self._send(fault.status, fault.body, fault.headers)
        elif token in self.server.readers and parts[0] == "api" and parts[1] != "validate-yaml":
            self._refuse(403, "", "You don't have the rights to do that")
        elif parts == ["api", "repos", "create"]:
            asked = json.loads(content)
            repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.files.setdefault(repository, {})
            if asked.get("visibility") == "private":
                self.server.private.add(repository)
            self._json({"url": f"{self.server.address}/{repository}", "name": repository})
        elif parts == ["oauth", "device"]:
            self._json(
                {"device_code": "one", "user_code": "ABCD", "verification_uri": self.server.address, "interval": 0}
            )
        elif parts == ["oauth", "token"]:
            self._json({"access_token": next(iter(self.server.tokens))})
        elif parts == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif parts[:2] == ["api", "models"] and parts[4] == "preupload":
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for one in json.loads(content)["files"]]  # fmt: skip
            self._json({"files": files})
        elif parts[:2] == ["api", "models"] and parts[4] == "commit":
            repository = "/".join(parts[2:4])
            for line in content.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.server.files[repository][value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "deletedFile":
                    del self.server.files[repository][entry["value"]["path"]]
            commit = self.server.commit_of(repository)
            self._json({"commitUrl": f"{self.server.address}/{repository}/commit/{commit}", "commitOid": commit})
        else:
            self._json({"error": "unknown"}, status=404)

    def do_GET(self) -> None:
        path = unquote(self.path.split("?")[0])
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        start = int(ranged[1]) if ranged else 0
        self.server.requests.append(Request(self.command, path, start, token))
        fault = self._fault(path)
        if fault and fault.kind == "silent":
            time.sleep(fault.seconds)
        if fault and fault.kind == "status":
            self._send(fault.status, fault.body, fault.headers)
        elif fault and fault.kind == "reset" and not fault.after:
            self._reset()
        else:
            self._answer(path.strip("/").split("/"), start, token, fault)

    do_HEAD = do_GET

    def _fault(self, path: str) -> Fault | None:
        for fault in self.server.faults:
            if fault.times and self.command in fault.commands and re.search(fault.match, path):
                fault.times -= 1
                return fault
        return None

    def _answer(self, parts: list[str], start: int, token: str | None, fault: Fault | None) -> None:
        is_api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if is_api else parts[:2])
        files = self.server.files.get(repository)
        name = "/".join(parts[4:])
        if token is not None and token not in self.server.tokens and self.server.tokens:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif parts == ["api", "whoami-v2"]:
            self._json({"name": self.server.tokens.get(token or "", "me"), "type": "user", "orgs": []})
        elif files is None or (not is_api and len(parts) < 5):
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif is_api:
            self._describe(repository, files, *parts[4:6])
        elif repository in self.server.gated and token not in self.server.gated[repository]:
            self._refuse(403 if token else 401, "GatedRepo", "Access to the model is restricted")
        elif parts[3] not in ("main", self.server.commit_of(repository)):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        elif name not in files:
            self._refuse(404, "EntryNotFound", "Entry not found")
        else:
            self._file(repository, name, start, fault)

    def _describe(self, repository: str, files: dict[str, bytes], what: str = "", commit: str = "main") -> None:
        """A repository and its files, or at `tree` the files alone, in other words."""
        if commit not in ("main", self.server.commit_of(repository)):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        siblings, tree = [], []
        for name, data in files.items():
            digest = {"sha256": large_digest(data)} if name.endswith(LARGE) else None
            lfs = {"lfs": {**digest, "size": len(data), "pointerSize": 130}} if digest else {}
            oid = {"lfs": {**lfs["lfs"], "oid": digest["sha256"]}} if digest else {}
            siblings.append({"rfilename": name, "size": len(data), "blobId": small_digest(data), **lfs})
            tree.append({"type": "file", "path": name, "size": len(data), "oid": small_digest(data), **oid})
        described = {"id": repository, "sha": self.server.commit_of(repository), "siblings": siblings}
        described["private"] = repository in self.server.private
        self._json(tree if what == "tree" else described)

    def _file(self, repository: str, name: str, start: int, fault: Fault | None) -> None:
        data = self.server.files[repository][name]
        headers = {
            "ETag": f'"{digest_of(name, data)}"',
            "X-Repo-Commit": self.server.commit_of(repository),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if fault and fault.kind == "flip":
            data = data[: fault.after] + bytes([data[fault.after] ^ 1]) + data[fault.after + 1 :]
        self._send(206 if start else 200, data[start:], headers, fault)

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self._json({"error": message}, status=status, headers=headers)

    def _json(self, content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {**(headers or {}), "Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str], fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        for sent in range(0, len(data), PIECE):
            if fault and fault.kind in ("reset", "short") and sent >= fault.after:
                self._reset() if fault.kind == "reset" else self._end()
                return
            try:
                self.wfile.write(data[sent : sent + PIECE])
            except OSError:  # nobody listens any more
                self.close_connection = True
                return
            if fault and fault.kind == "slow" and sent >= fault.after:
                time.sleep(PIECE / fault.rate)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        self.close_connection = True
        if not self.wfile.closed:
            self.wfile.flush()
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass
