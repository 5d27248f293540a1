"""An OpenAI-compatible endpoint on 127.0.0.1 that replies by a script."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | tuple[int, dict[str, str], bytes]  # a reply's text; or status, headers and body


def text_of(body: dict[str, Any]) -> str:
    """The words of a request's only message."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


@dataclass
class ScriptedEndpoint:
    """script: what is answered to a request's body. requests: bodies that came; headers: theirs."""

    script: Callable[[dict[str, Any]], Answer]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def scripted_endpoint(script: Callable[[dict[str, Any]], Answer]) -> Iterator[ScriptedEndpoint]:
    endpoint = ScriptedEndpoint(script)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                endpoint.requests.append(body)
                endpoint.headers.append(dict(self.headers))
                answer = endpoint.script(body)
            if isinstance(answer, str):
                message = {"role": "assistant", "content": answer}
                content = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
                answer = (200, {"Content-Type": "application/json"}, content.encode())
            status, headers, data = answer
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield endpoint
    server.shutdown()
    server.server_close()
