"""A second Maya opens the first; a dead one is not in the way."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from app.__main__ import AppOptions, _shown_instead
from app.running import PATH, Running

HOLD = """
import sys, time
from pathlib import Path
from app.running import Running
running = Running(Path(sys.argv[1]))
assert running.claim()
running.listens_at(int(sys.argv[2]))
print(running.token, flush=True)
time.sleep(600)
"""


@pytest.fixture
def answering():
    """A server on this computer that says yes to `paths`."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204 if self.path in server.paths else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.paths = set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_first_is_found_by_the_second_until_it_ends(tmp_path, answering):
    first, second, port = Running(tmp_path), Running(tmp_path), answering.server_address[1]
    assert first.other() is None
    assert second.other(patience=0) is None  # it does not listen yet
    first.listens_at(port)
    answering.paths.add(f"{PATH}/{first.token}")
    assert second.other() == f"http://127.0.0.1:{port}/"
    if os.name != "nt":
        assert (tmp_path / "running.json").stat().st_mode & 0o777 == 0o600
    first.end()
    assert second.other() is None
    second.end()


def test_another_program_at_the_port_is_not_taken_for_it(tmp_path, answering):
    first = Running(tmp_path)
    assert first.claim()
    first.listens_at(answering.server_address[1])
    assert Running(tmp_path).other(patience=0) is None
    first.end()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"port": "x", "token": 1}', '{"port": 1, "token": "x"}'])
def test_what_a_dead_one_left_is_ignored(tmp_path, content):
    (tmp_path / "running.json").write_text(content)
    (tmp_path / "running.lock").touch()
    running = Running(tmp_path)
    assert running.other() is None
    assert not (tmp_path / "running.json").exists()
    running.end()


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_a_killed_one_leaves_the_way_free(tmp_path, answering):
    port = answering.server_address[1]
    command = [sys.executable, "-c", HOLD, str(tmp_path), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        answering.paths.add(f"{PATH}/{first.stdout.readline().strip()}")
        assert Running(tmp_path).other() == f"http://127.0.0.1:{port}/"
        assert json.loads((tmp_path / "running.json").read_text())["port"] == port
        first.send_signal(signal.SIGKILL)
        first.wait()
    again = Running(tmp_path)
    assert again.other() is None
    again.end()


@pytest.mark.parametrize(
    ("options", "is_shown"),
    [({}, True), ({"port": 7861}, True), ({"port": 786}, False), ({"port": 0}, False), ({"new": True}, False)],
)
def test_one_that_runs_is_shown_unless_another_is_asked_for(options, is_shown):
    class Other:
        def other(self, patience=None):
            return "http://127.0.0.1:7861/"

        def claim(self):
            return False

    shown = _shown_instead(AppOptions(**options), Other())
    assert bool(shown) == is_shown
