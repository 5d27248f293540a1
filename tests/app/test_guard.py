"""Only this computer's own page may ask."""

import pytest
from starlette.datastructures import Headers

from app.guard import CONTENT_SECURITY_POLICY, HEADERS, LocalOnly, is_own

OWN = {"host": "127.0.0.1:7860"}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        (OWN, True),
        ({"host": "localhost:7860"}, True),
        ({"host": "LOCALHOST:7860"}, True),
        ({"host": "127.0.0.1:80"}, False),
        ({"host": "127.0.0.1"}, False),
        ({"host": "localhost.:7860"}, False),
        ({"host": "x.localhost:7860"}, False),
        ({"host": "evil.example:7860"}, False),
        ({}, False),
        (OWN | {"origin": "http://127.0.0.1:7860"}, True),
        (OWN | {"origin": "https://127.0.0.1:7860"}, False),
        (OWN | {"origin": "http://evil.example"}, False),
        (OWN | {"origin": "null"}, False),
        (OWN | {"sec-fetch-site": "same-origin"}, True),
        (OWN | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, False),
        (OWN | {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, False),
        (OWN | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, True),
        (OWN | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, False),
    ],
)
def test_who_may_ask(headers, allowed):
    assert is_own(Headers(headers), port=7860) is allowed
    assert is_own(Headers(headers), port=7860, changes=True) is (allowed and "origin" in headers)


def test_the_policy_allows_nothing_from_elsewhere():
    sources = {source for rule in CONTENT_SECURITY_POLICY.split("; ") for source in rule.split()[1:]}
    assert sources <= {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1:7860", 200), ("evil.example", 403)])
def test_the_middleware_refuses_and_sets_headers(host, status):
    import asyncio

    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"secret"})

    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(b"host", host.encode())],
        "server": ("127.0.0.1", 7860),
    }
    asyncio.run(LocalOnly(page)(scope, receive, send))
    assert sent[0]["status"] == status
    body = b"".join(message.get("body", b"") for message in sent)
    assert (b"secret" in body) is (status == 200)
    if status == 200:
        assert HEADERS["content-security-policy"].encode() in dict(sent[0]["headers"]).values()
