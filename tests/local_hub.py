"""A small hub on 127.0.0.1 that keeps what is pushed and gives it back: as much of Hugging Face's protocol as that takes."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class LocalHub(ThreadingHTTPServer):
    """files: of every repository, by `owner/name` and path; each push adds to them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, repository: str) -> str:
        listed = sorted((name, hashlib.sha1(data).hexdigest()) for name, data in self.files[repository].items())
        return hashlib.sha1(json.dumps(listed).encode()).hexdigest()


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    hub = LocalHub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            asked = json.loads(content)
            repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.server.files.setdefault(repository, {})
            self._json({"url": f"{self.server.address}/{repository}", "name": repository})
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
            commit = self.server.commit_of(repository)
            self._json({"commitUrl": f"{self.server.address}/{repository}/commit/{commit}", "commitOid": commit})
        else:
            self._json({"error": "unknown"}, status=404)

    def do_GET(self) -> None:
        parts = unquote(self.path.split("?")[0]).strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if is_api else parts[:2])
        files = self.server.files.get(repository)
        name = "/".join(parts[4:])
        if parts == ["api", "whoami-v2"]:
            self._json({"name": "me", "type": "user", "orgs": []})
        elif files is None or (not is_api and name not in files):
            code = "RepoNotFound" if files is None else "EntryNotFound"
            self._json({"error": code}, status=404, headers={"X-Error-Code": code})
        elif is_api:
            siblings = [{"rfilename": one} for one in files]
            self._json({"id": repository, "sha": self.server.commit_of(repository), "siblings": siblings})
        else:
            data = files[name]
            headers = {
                "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
                "X-Repo-Commit": self.server.commit_of(repository),
            }
            self._send(200, data, headers | {"Content-Type": "application/octet-stream"})

    do_HEAD = do_GET

    def _json(self, content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), (headers or {}) | {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass
