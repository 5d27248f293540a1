"""Part F of the catalogue of faults: foreign names, foreign pages, foreign content, other people's files."""

import ast
import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import gradio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.guard import REFUSAL
from app.history import Entry
from tests.app.client import API, events_of, join, listen, of_page, question, upload
from tests.app.conftest import CHROMIUM
from tests.app.test_browser import ask, finished, settled
from tests.app.test_load import PHOTO, ROOT, start, visit

pytestmark = pytest.mark.filterwarnings("default")  # what the server's libraries warn about is theirs
MARKER = "CANARY-8d1f"


def answer_to(site, request: str) -> bytes:
    """What the server says to bytes on the wire."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as raw:
        raw.sendall(request.encode().replace(b"\n", b"\r\n"))
        received = b""
        while b"\r\n\r\n" not in received and (part := raw.recv(65536)):
            received += part
    return received.split(b"\r\n")[0]


def test_only_our_own_two_names_are_answered_on_any_route(site):
    page = httpx.get(f"{site.address}config", timeout=30)
    assert page.status_code == 200
    paths = ["/", "/config", "/fonts/NotoSans.woff2", "/theme.css", f"/conversations/{'0' * 32}.json"]
    paths += [f"{API}/{name}" for name in ("info", "upload", "queue/join", "queue/data?session_hash=x", "file=x")]
    own = [f"127.0.0.1:{site.port}", f"localhost:{site.port}"]
    foreign = ["x.localhost", "localhost.", "evil.test", "[::1]", "127.1", "0.0.0.0", "127.0.0.1."]
    for path in paths:
        for host in [f"{name}:{site.port}" for name in foreign] + ["127.0.0.1:1", "127.0.0.1", ""]:
            assert b" 403 " in answer_to(site, f"GET {path} HTTP/1.1\nHost: {host}\nConnection: close\n\n"), (
                path,
                host,
            )
    for host in own:
        assert b" 200 " in answer_to(site, f"GET / HTTP/1.1\nHost: {host}\nConnection: close\n\n")
    refused = answer_to(site, "GET / HTTP/1.1\nConnection: close\n\n")
    assert b" 400 " in refused or b" 403 " in refused
    both = answer_to(site, f"GET / HTTP/1.1\nHost: {own[0]}\nHost: evil.test\nConnection: close\n\n")
    assert b" 400 " in both or b" 403 " in both


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "null"}, {"origin": "http://127.0.0.1:1"}, {"origin": "https://127.0.0.1"}, {"origin": "http://evil.test"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}],
)  # fmt: skip
def test_other_pages_cannot_post(site, headers):
    with visit(site) as client:
        for path in (f"{API}/queue/join", f"{API}/upload"):
            assert client.post(path, headers=headers, content=b"{}").status_code == 403


def test_nobody_outside_this_computer_can_connect(site):
    listening = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
    addresses = re.findall(rf": ([0-9A-F]+):{site.port:04X} [0-9A-F]+:0000 0A", listening)
    assert addresses == ["0100007F"]


def test_what_we_do_not_offer_is_not_there(site):
    with visit(site) as client:
        for path in ("/docs", "/redoc", "/openapi.json", "/monitoring", f"{API}/openapi.json", f"{API}/mcp", "/mcp",
                     f"{API}/runs", "/gradio_api/vibe-editor", "/login"):  # fmt: skip
            assert client.get(path).status_code in (403, 404, 405), path


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret.txt"
    file.write_text(MARKER)
    return file


def test_files_elsewhere_stay_there(site, secret):
    up = "../" * 12
    names = [str(secret), f"{up}{secret}", quote(f"{up}{secret}", safe=""), f"/proc/self/environ/../../..{secret}",
             "/etc/passwd", "C:\\windows\\win.ini", f"file://{secret}", f"//{secret}", str(site.settings.file),
             str(site.history.folder / "history.sqlite"), f"{site.history.pictures}/../history.sqlite",
             f"{site.history.pictures}/..%2fhistory.sqlite"]  # fmt: skip
    with visit(site) as client:
        for name in names:
            for path in (f"{API}/file={name}", f"/file={name}", f"/static/{name}", f"/fonts/{name}", f"/assets/{name}"):
                answer = client.get(path)
                assert answer.status_code >= 400 or answer.headers["content-type"].startswith("text/html"), (
                    path,
                    answer,
                )
                assert MARKER not in answer.text
                assert "SQLite format" not in answer.text


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["..", ".", "%2e%2e", "%2f", "\\", "//", "a", "%00", "history.sqlite"]), max_size=8)
)
def test_no_path_out_of_the_fonts(parts):
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles
    from starlette.testclient import TestClient

    from maya_core.assets import asset_path

    fonts = StaticFiles(directory=asset_path("fonts"))
    client = TestClient(Starlette(routes=[Mount("/fonts", fonts)]))
    answer = client.get("/fonts/" + "/".join(parts))
    assert answer.status_code in (404, 405)


def test_a_question_cannot_name_a_file_of_its_own(site, secret):
    with visit(site) as client:
        for path in (str(secret), str(site.history.folder / "history.sqlite"), "http://127.0.0.1:9/x.png"):
            session = join(client, events_of(site)["ask"], [question("What?", path), None, "en"])
            told = str(list(listen(client, session)))
            assert MARKER not in told
    assert site.history.conversations() == []


class Listener(http.server.BaseHTTPRequestHandler):
    hits: list[str] = []  # noqa: RUF012 - one for each test, which empties it
    page = b""

    def do_GET(self):
        self.hits.append(self.path)
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def beacon():
    """Another server, which notes what it is asked for."""
    Listener.hits = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("form", ["http://127.0.0.1:{port}/x", "http://localhost:{port}/x", "http://2130706433:{port}/x",
                                  "http://[::ffff:127.0.0.1]:{port}/x", "http://127.0.0.1.nip.io:{port}/x"])  # fmt: skip
def test_the_server_fetches_nothing_for_anybody(site, beacon, form):
    url = form.format(port=beacon.server_address[1])
    with visit(site) as client:
        for file in ({"path": url, "url": url}, {"path": "x.png", "url": url}):
            data = {"text": "What?", "files": [file | {"meta": {"_type": "gradio.FileData"}}]}
            session = join(client, events_of(site)["ask"], [data, None, "en"])
            list(listen(client, session))
        client.get(f"{API}/proxy={url}")
        client.get(f"{API}/file={url}", follow_redirects=False)
    assert Listener.hits == []


def test_one_session_cannot_see_another_ones_answer(site):
    site.engine.answer = lambda messages: [MARKER]
    with visit(site) as mine, visit(site) as other:
        session = join(mine, events_of(site)["ask"], [question("What?", upload(mine, PHOTO)), None, "en"])
        stream = listen(mine, session)
        next(stream)
        for guess in (uuid.uuid4().hex, session[:-1], ""):
            with other.stream("GET", f"{API}/queue/data", params={"session_hash": guess}, timeout=2) as guessed:
                seen = b""
                try:
                    for part in guessed.iter_bytes():
                        seen += part
                except (httpx.ReadTimeout, httpx.RemoteProtocolError):
                    pass  # it waits for ever, or is cut off
                assert MARKER.encode() not in seen
        assert MARKER in str(list(stream))
        for guess in ("0" * 32, "..", "%2e%2e", "*"):
            assert other.get(f"/conversations/{guess}.json").status_code == 404


def test_an_upload_is_never_served_as_anything_but_a_picture_made_anew(site):
    polyglot = PHOTO + b"<script>alert(1)</script>"
    with visit(site) as client:
        path = upload(client, polyglot, "evil.html")
        session = join(client, events_of(site)["ask"], [question("What?", path), None, "en"])
        list(listen(client, session))
        [conversation] = site.history.conversations()
        [picture] = site.history.entries(conversation.id)[0].pictures
        kept = client.get(f"{API}/file={picture}")
        assert kept.headers["content-type"] == "image/png"
        assert b"<script>" not in kept.content
        assert kept.headers["x-content-type-options"] == "nosniff"


NAMES = ["../../evil.png", "x" * 4000 + ".png", "\u202egnp.exe", "<img src=x onerror=alert(1)>.png", "a\0b.png",
         "con.png", "تصویر.png", "%2e%2e%2fevil.png", "C:\\evil.png", "file.png; rm -rf ~"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_kept_under_a_name_of_our_own_whatever_it_was_called(site, name, tmp_path):
    with visit(site) as client:
        path = upload(client, PHOTO, name)
        session = join(client, events_of(site)["ask"], [question("What?", path), None, "en"])
        list(listen(client, session))
    assert Path(path).resolve().is_relative_to(Path(gradio.utils.get_upload_folder()).resolve())
    [conversation] = site.history.conversations()
    [kept] = site.history.entries(conversation.id)[0].pictures
    assert Path(kept).parent == site.history.pictures
    assert re.fullmatch(r"[0-9a-f]+\.png", Path(kept).name)
    assert not list(tmp_path.parent.rglob("evil*"))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["path", "url", "meta", "text"]), inner),
    max_leaves=12,
)  # fmt: skip


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=ANYTHING, number=st.integers(-2, 40) | ANYTHING, session=st.text(max_size=5) | ANYTHING)
def test_nonsense_is_refused_tells_nothing_and_breaks_nothing(site, data, number, session):
    call = json.dumps({"data": data, "fn_index": number, "session_hash": session})
    with visit(site) as client:
        headers = of_page(client) | {"content-type": "application/json", "connection": "close"}
        for path in (f"{API}/queue/join", f"{API}/reset", f"{API}/cancel", f"{API}/component_server", f"{API}/upload"):
            with suppress(httpx.TransportError):  # it may hang up on nonsense
                answer = client.post(path, content=call, headers=headers)
                assert "Traceback" not in answer.text
                assert "site-packages" not in answer.text
        assert client.get("/theme.css").status_code == 200
    assert site.history.conversations() == []
    assert site.queue.busy == 0


# --- in the browser ---

PAYLOADS = [
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    "<svg onload=\"document.title='owned'\">",
    "[x](javascript:document.title='owned')",
    "![x](http://BEACON/img.png)",
    "<img src=http://BEACON/img2.png>",
    "<style>@import url(http://BEACON/style.css);</style>",
    "<div style=\"background:url(http://BEACON/bg.png)\">x</div>",
    "<iframe src=http://BEACON/frame></iframe>",
    "<video src=http://BEACON/video autoplay></video>",
    "<object data=http://BEACON/object></object>",
    "<link rel=stylesheet href=http://BEACON/link.css>",
    "<base href=http://BEACON/>",
    "<form action=http://BEACON/form><input type=submit autofocus></form>",
    "<meta http-equiv=refresh content=\"0;url=http://BEACON/meta\">",
    "$$\\href{javascript:document.title='owned'}{x}$$",
]  # fmt: skip


@pytest.mark.browser
def test_nothing_that_is_said_can_act_or_call_home(open_page, site, beacon):
    port = beacon.server_address[1]
    payloads = [one.replace("BEACON", f"127.0.0.1:{port}") for one in PAYLOADS]
    said = "\n\n".join(payloads)
    site.engine.answer = lambda messages: [said]
    key = site.history.create(payloads[0])
    site.history.append(key, Entry(role="user", text=said))
    page = open_page(site)
    page.locator("#maya-list label").first.click()
    page.wait_for_timeout(500)
    page.locator("#maya-delete").click()
    page.wait_for_timeout(500)
    ask(page, said[:7000], ROOT / "assets" / "examples" / "1.png")
    page.wait_for_timeout(1000)
    assert page.title() == "Maya"
    assert Listener.hits == []
    assert page.url.startswith(site.address)


COVERS = [
    '<div style="position:fixed;inset:0;z-index:99999;background:#fff">Update Maya</div>',
    '<div style="position:absolute;inset:-2000px;z-index:99999">Update Maya</div>',
    '<div id="maya-lost">Update Maya</div><div id="maya-seen"><textarea>x</textarea></div>',
    '<p style="margin:-900px;padding:900px">Update Maya</p><button accesskey="n" id="maya-new">Update Maya</button>',
]
REACHING = """() => [...document.querySelectorAll("#maya-conversation .message .prose *")].flatMap((one) => {
    const { position, margin } = getComputedStyle(one), isOut = ["fixed", "absolute"].includes(position);
    return isOut || margin.includes("-") || one.id || one.accessKey ? [one.outerHTML] : [];
})"""


@pytest.mark.browser
def test_what_is_said_reaches_nothing_outside_its_place(open_page, site):
    site.engine.answer = lambda messages: ["\n\n".join(COVERS)]
    page = open_page(site)
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    settled(page)
    assert page.evaluate(REACHING) == []
    page.locator("#maya-new").click()  # which what covers it would take
    page.locator("#maya-conversation .placeholder-content").wait_for()
    assert page.errors == []


@pytest.mark.browser
def test_a_normal_session_breaks_no_rule_of_the_policy(open_page, site):
    page = open_page(site)
    told = []
    page.on("console", lambda message: told.append(message.text))
    ask(page, "What is this?", ROOT / "assets" / "examples" / "1.png")
    page.reload()
    page.wait_for_timeout(1500)
    assert [text for text in told if "Content Security Policy" in text] == []
    assert (page.foreign, page.errors) == ([], [])


EVIL = """<script>
const seen = [];
async function tried(what) { try { const answer = await what(); seen.push((await answer.text?.()) ?? "opened"); } catch {} }
async function attack(target) {
  const form = new FormData(); form.append("files", new Blob(["MARKER"]), "evil.png");
  await tried(() => fetch(target + "/config"));
  await tried(() => fetch(target + "/config", { mode: "no-cors" }).then(() => { throw 0; }));
  await tried(() => fetch(target + "API/upload", { method: "POST", body: form }));
  await tried(() => fetch(target + "API/upload", { method: "POST", body: form, mode: "no-cors" }).then(() => { throw 0; }));
  const call = JSON.stringify({ data: [{ text: "MARKER", files: [] }, null, "en"], fn_index: 0, session_hash: "evil" });
  for (const type of ["application/json", "text/plain"])
    await tried(() => fetch(target + "API/queue/join", { method: "POST", body: call, headers: { "content-type": type } }));
  const image = new Image(); image.src = target + "API/file=x"; image.onload = () => seen.push("image");
  const frame = document.createElement("iframe"); frame.src = target; document.body.append(frame);
  const events = new EventSource(target + "API/queue/data?session_hash=evil"); events.onmessage = (e) => seen.push(e.data);
}
document.addEventListener("DOMContentLoaded", async () => {
  for (const target of TARGETS) await attack(target);
  setTimeout(() => { window.done = seen; }, 1500);
});
</script><body></body>"""


@pytest.mark.browser
@pytest.mark.parametrize("space", ["local", "public"])  # what the browser takes the evil page's address for
def test_an_evil_page_can_neither_read_nor_do_anything(site, beacon, space):
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    targets = [f"http://{name}:{site.port}" for name in ("127.0.0.1", "localhost", "evil.test")]
    Listener.page = EVIL.replace("TARGETS", str(targets)).replace("API", API).replace("MARKER", MARKER).encode()
    uploads = Path(gradio.utils.get_upload_folder())
    before = set(uploads.rglob("*"))
    visited = subprocess.run(
        [sys.executable, "-m", "tests.app.evil_visit", CHROMIUM, f"http://evil.test:{beacon.server_address[1]}/", space],
        capture_output=True, text=True, timeout=90, cwd=ROOT,
    )  # fmt: skip
    Listener.page = b""
    assert visited.returncode == 0, visited.stderr
    assert set(ast.literal_eval(visited.stdout)) <= {REFUSAL}
    assert site.history.conversations() == []
    assert site.engine.asked == ()
    assert set(uploads.rglob("*")) == before


def around(page):
    """Where something lies that a turned text must not mirror."""
    box = page.locator("#maya-new").bounding_box()
    return round(box["x"]), round(box["width"])


@pytest.mark.browser
@pytest.mark.parametrize("code", ["en", "ur"])
def test_marks_that_turn_text_around_stay_inside_it(open_page, site, code):
    site.engine.answer = lambda messages: ["good \u202egnp.exe\u202c end\u202e never closed"]
    page = open_page(site, code)
    before = around(page)
    ask(page, "\u202eabc \u2066xyz", ROOT / "assets" / "examples" / "1.png")
    finished(page)
    assert around(page) == before
    isolation = page.locator("#maya-list span > span").first.evaluate("one => getComputedStyle(one).unicodeBidi")
    assert isolation in ("plaintext", "isolate", "isolate-override")
    [conversation] = site.history.conversations()
    asked = site.history.entries(conversation.id)[0].text
    assert asked.count("\u202e") == asked.count("\u202c")
    assert asked.count("\u2066") == asked.count("\u2069")


# --- logs ---


def test_logs_hold_nothing_of_the_user(tmp_path):
    process = start(tmp_path, "--port", "0")
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout))
    while not lines:
        if not reader.is_alive():
            reader.start()
        time.sleep(0.1)
    address = lines[0].split()[-1]
    with httpx.Client(base_url=address.rstrip("/"), timeout=60) as client:
        events = {one["api_name"]: one["id"] for one in client.get("/config").json()["dependencies"]}
        for content in (PHOTO, b"no picture"):
            path = upload(client, content, f"{MARKER}.png")
            session = join(client, events["ask"], [question(f"{MARKER} What is this?", path), None, "en"])
            list(listen(client, session))
        stream = listen(
            client, join(client, events["ask"], [question(f"{MARKER} again", upload(client, PHOTO)), None, "en"])
        )
        next(stream)
        stream.close()
        client.get(f"/conversations/{MARKER}.json")
        call = {"data": [MARKER], "fn_index": 9999, "session_hash": MARKER}
        client.post(f"{API}/queue/join", json=call, headers=of_page(client))
    process.terminate()
    process.wait(timeout=20)
    reader.join(timeout=10)
    process.stdout.close()
    said = "".join(lines)
    assert "Maya is at" in said
    assert MARKER not in said
