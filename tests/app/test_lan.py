"""The page from a telephone: nothing without the code. 127.0.0.1 stands for the local network, at a port of its own."""

from contextlib import closing
from html import unescape

import httpx
import pytest
import segno
from starlette.datastructures import Headers

from app.i18n import Say
from app.lan import COOKIE, DIGITS, MOST_TRIES, TRIES_SECONDS, Lan, NoLocalNetwork, local_address, qr_code
from maya_core.languages import CODES, get_language
from tests.app.client import API, events_of, join, listen, question, upload
from tests.app.conftest import serve_site
from tests.app.scripted import ScriptedEngine
from tests.app.test_load import PHOTO

pytestmark = pytest.mark.filterwarnings("default")  # what the server's libraries warn about is theirs
TOO_MANY, WRONG = (
    "Too many wrong codes. Wait a minute and try again.",
    "This code is wrong. Look at the computer again.",
)
ASKED = "Type the code that Maya shows on the computer."


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A page that is also at a place in the local network."""
    lan = Lan("127.0.0.1")
    for site in serve_site(ScriptedEngine("An ", "answer."), tmp_path_factory.mktemp("lan"), lan=lan):
        yield site, lan


@pytest.fixture
def clock(served, monkeypatch):
    """Hours that pass, so that no test sees another one's tries."""
    now = [served[1]._clock() + 1e6]
    monkeypatch.setattr(served[1], "_clock", lambda: now[0])
    served[1]._wrong.clear()
    return now


def telephone(lan: Lan, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=lan.address.rstrip("/"), timeout=60, headers=headers, follow_redirects=False)


def bring(client: httpx.Client, lan: Lan, code: str) -> httpx.Response:
    return client.post("/code", data={"code": code}, headers={"origin": lan.address.rstrip("/")})


def test_without_the_code_nothing_is_served_but_the_page_that_asks_for_it(served, clock):
    site, lan = served
    inside = [
        "/config", "/theme.css", "/fonts/NotoSans.woff2", "/manifest.json", "/favicon.ico", "/code", "/info",
        f"/conversations/{'0' * 32}.json", f"{API}/info", f"{API}/queue/data?session_hash=x", f"{API}/heartbeat/x",
        f"{API}/file={site.history.pictures}", "//", "/?x=1/config", "/%2e%2e/config",
    ]  # fmt: skip
    with telephone(lan) as client, telephone(lan, cookie=f"{COOKIE}=guess") as guessing:
        for who in (client, guessing):
            for path in inside:
                answer = who.get(path)
                assert answer.status_code == 403 or ASKED in answer.text, path
                assert "gradio" not in answer.text.lower(), path
            own = {"origin": lan.address.rstrip("/")}
            for path in (f"{API}/queue/join", f"{API}/upload", f"{API}/component_server", "/login", "/"):
                assert who.post(path, content=b"{}", headers=own).status_code == 403, path
            socket = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
                      "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
            assert who.get("/", headers=socket).status_code in (200, 400, 403)
            assert site.engine.asked == ()


def test_other_names_and_pages_are_refused_there_too(served, clock):
    _, lan = served
    with telephone(lan) as client:
        for host in ("evil.test", f"localhost:{lan.port}", "127.0.0.1"):
            assert client.get("/", headers={"host": host}).status_code == 403
        for origin in ("http://evil.test", "null"):
            sent = client.post("/code", data={"code": lan.code}, headers={"origin": origin})
            assert (sent.status_code, "set-cookie" in sent.headers) == (403, False)


@pytest.mark.parametrize("typed", ["{code}", " {half} {rest} ", "{half}-{rest}", "{arabic}"])
def test_who_brings_the_code_has_the_page_and_its_answers(served, clock, typed):
    site, lan = served
    arabic = lan.code.translate({ord("0") + digit: 0x0660 + digit for digit in range(10)})
    code = typed.format(code=lan.code, half=lan.code[:3], rest=lan.code[3:], arabic=arabic)
    with telephone(lan) as client:
        come = bring(client, lan, code)
        assert (come.status_code, come.headers["location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=lax"} <= set(come.headers["set-cookie"].split("; "))
        assert "gradio" in client.get("/").text
        session = join(client, events_of(site)["ask"], [question("What?", upload(client, PHOTO)), None, "en"])
        assert "answer." in str(list(listen(client, session)))
        assert client.get("/").headers["content-security-policy"]
    newest = site.history.conversations()[0]
    assert [entry.text for entry in site.history.entries(newest.id)] == ["What?", "An answer."]
    with closing(httpx.Client()) as here:
        assert here.get(site.address).status_code == 200  # as ever, without a code


def test_after_some_wrong_codes_none_is_looked_at_for_a_while(served, clock):
    _, lan = served
    with telephone(lan) as client:
        for _ in range(MOST_TRIES - 1):
            wrong = bring(client, lan, lan.code[:-1] + str((int(lan.code[-1]) + 1) % 10))
            assert (wrong.status_code, WRONG in wrong.text) == (403, True)
        assert bring(client, lan, "").status_code == 429
        full = bring(client, lan, lan.code)
        assert (full.status_code, TOO_MANY in full.text, "set-cookie" in full.headers) == (429, True, False)
        clock[0] += TRIES_SECONDS + 1
        assert bring(client, lan, lan.code).status_code == 303


@pytest.mark.parametrize("body", [b"", b"code", b"code=" + b"9" * 10_000, b"\xff\xfe", b"code=%ff&code=1"])
def test_nonsense_for_a_code_is_a_wrong_one(served, clock, body):
    _, lan = served
    with telephone(lan) as client:
        sent = client.post("/code", content=body, headers={"origin": lan.address.rstrip("/")})
        assert (sent.status_code, "set-cookie" in sent.headers) == (403, False)


@pytest.mark.parametrize("code", CODES)
def test_the_code_is_asked_for_in_the_telephones_language(served, code):
    with telephone(served[1], **{"accept-language": code}) as client:
        asked = client.get("/")
    assert f'<html lang="{code}" dir="{get_language(code).direction}">' in asked.text
    assert Say(code)(ASKED) in unescape(asked.text)
    assert asked.headers["cache-control"] == "no-store"


def test_the_page_shows_address_and_code_where_maya_is_open_and_not_where_it_is_not(served):
    site, lan = served
    config = httpx.get(f"{site.address}config", timeout=30).text
    assert "maya-telephone" in config
    assert segno.make(lan.link, error="m").version is not None
    assert "<svg" in qr_code(lan.link)


def test_codes_and_visits_differ():
    doors = [Lan("127.0.0.1") for _ in range(3)]
    assert len({door.code for door in doors}) == 3
    assert all(len(door.code) == DIGITS and door.code.isdecimal() for door in doors)
    visits = [door.visit(door.code) for door in doors]
    assert len(set(visits)) == 3
    assert doors[0].knows(Headers({"cookie": f"a=b; {COOKIE}={visits[0]}"}))
    assert not doors[0].knows(Headers({"cookie": f"{COOKIE}={visits[1]}"}))
    assert not doors[0].knows(Headers({"cookie": f"{COOKIE}="}))
    for door in doors:
        door.socket.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "8.8.8.8", None])
def test_no_local_network_is_told(monkeypatch, address):
    class Asked:
        def __init__(self, *_): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def connect(self, _):
            if address is None:
                raise OSError

        def getsockname(self):
            return (address, 1)

    monkeypatch.setattr("app.lan.socket.socket", Asked)
    with pytest.raises(NoLocalNetwork, match="without --lan"):
        local_address()
