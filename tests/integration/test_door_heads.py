"""Heads that the door takes and that it refuses, on both kinds of loop."""

import contextlib

import pytest

from tests.integration.wire import request


class TestExpect:
    @pytest.mark.parametrize("path", ["/healthz", "/v1/files", "/nowhere"])
    @pytest.mark.parametrize("expect", ["foo", "100-continue, foo", '"'])
    def test_what_cannot_be_met_ends_the_connection(self, place, path, expect):
        """Through a proxy, the next request on it would be somebody else's."""
        with place.wire() as wire:
            wire.send(request("GET", path, {"Expect": expect}))
            refused = wire.answer()
            rest = wire.rest()

        assert 400 == refused.status
        assert "close" == refused.headers["connection"]
        assert b"" == rest


GET = "GET {path} HTTP/1.1\r\nHost: h\r\n"
POST = "POST {path}/reports HTTP/1.1\r\nHost: h\r\n"
REFUSED = {
    "no host": "GET {path} HTTP/1.1\r\n\r\n",
    "two hosts": GET + "Host: i\r\n\r\n",
    "version 0.9": "GET {path}\r\n\r\n",
    "version 2.0": "GET {path} HTTP/2.0\r\nHost: h\r\n\r\n",
    "version 1.2": "GET {path} HTTP/1.2\r\nHost: h\r\n\r\n",
    "version 9": "GET {path} HTTP/9\r\nHost: h\r\n\r\n",
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "method": "BREW {path} HTTP/1.1\r\nHost: h\r\n\r\n",
    "method in lower case": "get {path} HTTP/1.1\r\nHost: h\r\n\r\n",
    "bare LF": "GET {path} HTTP/1.1\nHost: h\n\n\r\n\r\n",
    "bare LF at the end": GET + "\n\r\n\r\n",
    "bare CR": GET + "A: b\rC: d\r\n\r\n",
    "NUL in the target": "GET {path}\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "NUL in a value": GET + "A: \0\r\n\r\n",
    "NUL in a name": GET + "A\0: b\r\n\r\n",
    "8 bit target": "GET {path}/\xe9 HTTP/1.1\r\nHost: h\r\n\r\n",
    "blank before colon": POST + "Content-Length : 5\r\n\r\n",
    "no name": GET + ": b\r\n\r\n",
    "no colon": GET + "A\r\n\r\n",
    "obs-fold": GET + "A: b\r\n c\r\n\r\n",
    "length and chunks": POST
    + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST
    + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": POST + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "one length twice": POST + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": POST + "Content-Length: 5, 5\r\n\r\n",
    "negative length": POST + "Content-Length: -5\r\n\r\n",
    "signed length": POST + "Content-Length: +5\r\n\r\n",
    "hex length": POST + "Content-Length: 0x5\r\n\r\n",
    "empty length": POST + "Content-Length: \r\n\r\n",
    "huge length": POST + "Content-Length: 99999999999999999999\r\n\r\n",
    "large length": POST + "Content-Length: 999999999999999999\r\n\r\n",
    "other coding": POST + "Transfer-Encoding: identity\r\n\r\n",
    "coding before": POST + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding behind": POST + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "two codings": POST
    + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "control in coding": POST + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "17 KiB in one line": GET + "A: " + "b" * 17_000 + "\r\n\r\n",
    "17 KiB in many lines": GET + "A: bcdefg\r\n" * 1_700 + "\r\n",
    "17 KiB of target": "GET {path}?" + "a" * 17_000 + " HTTP/1.1\r\nHost: h\r\n\r\n",
    "17 KiB without an end": GET + "A: " + "b" * 17_000,
    "17 KiB for a page": "GET /?" + "a" * 17_000 + " HTTP/1.1\r\nHost: h\r\n\r\n",
    "garbage": "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
}


def test_broken_requests_are_refused_and_end_the_connection(place, post):
    """
    No request is smuggled behind one: the report that follows is not stored.
    """
    file_id = place.new_file()
    path = f"/v1/files/{file_id}"
    seen = {}
    for what, raw in REFUSED.items():
        with place.wire() as wire:
            wire.send(raw.replace("{path}", path).encode("latin-1"))
            with contextlib.suppress(ConnectionError):
                wire.send(post(f"{path}/reports"))
            answer = wire.answer()
            rest = wire.rest_or_reset()
            kind = answer.headers["content-type"], answer.headers["connection"]
            seen[what] = (answer.status, *kind, rest)

    expected = dict.fromkeys(REFUSED, (400, "application/problem+json", "close", b""))
    expected["large length"] = (413, *expected["garbage"][1:])
    assert expected == seen
    assert 1 == place.events(file_id)


UPGRADE = "Connection: Upgrade\r\nUpgrade: "
ODD = {
    "GET http://h{path} HTTP/1.1\r\nHost: h\r\n\r\n": 200,
    "GET HTTPS://else.where:1{path}?wait=0 HTTP/1.1\r\nHost: h\r\n\r\n": 200,
    "GET http://h/healthz HTTP/1.1\r\nHost: h\r\n\r\n": 200,
    "GET /v1/%66iles/{id} HTTP/1.1\r\nHost: h\r\n\r\n": 200,
    "GET /v1/files/{id}%2Fevents HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET /v1%2ffiles/{id} HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET /v1/files/%2e%2E/files/{id} HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET {path}%00 HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET {path}%ff%c0%af HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET {path}%zz HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET {path}%0d%0aA:b HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET //v1/files/{id} HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET {path}/ HTTP/1.1\r\nHost: h\r\n\r\n": 404,
    "GET {path}?%ff=%00&&=&after=%31 HTTP/1.1\r\nHost: h\r\n\r\n": 304,
    "GET {path}?" + "a&" * 199 + " HTTP/1.1\r\nHost: h\r\n\r\n": 200,
    "GET {path}?" + "a&" * 999 + " HTTP/1.1\r\nHost: h\r\n\r\n": 422,
    "GET /v1/events?" + "a&" * 999 + " HTTP/1.1\r\nHost: h\r\n\r\n": 422,
    GET + "A: b\r\n" * 2_600 + "\r\n": 200,
    GET + UPGRADE + "h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n": 200,
    GET + UPGRADE + "websocket\r\nSec-WebSocket-Key: dGhl\r\n\r\n": 200,
    "GET /healthz HTTP/1.1\r\nHost: h\r\n" + UPGRADE + "h2c\r\n\r\n": 200,
    "GET /healthz HTTP/1.1\r\nHost: h\r\n" + UPGRADE + "websocket\r\n\r\n": 200,
    "TRACE {path} HTTP/1.1\r\nHost: h\r\n\r\n": 405,
    "GET {path} HTTP/1.1\r\nhOsT: h\r\nAUTHORIZATION:Bearer {key} \t \r\n\r\n": 200,
    "GET {path} HTTP/1.1\r\nHost:\r\n\r\n": 200,
    GET + 'If-None-Match: "0"\r\nIf-None-Match: "1"\r\n\r\n': 304,
    GET + "Expect: 200-maybe\r\n\r\n": 200,
}


def test_odd_requests_are_answered_as_what_they_say(place):
    file_id, key = place.new_file(), "k" * 40
    names = {"{path}": f"/v1/files/{file_id}", "{id}": file_id, "{key}": key}
    seen = {}
    for raw in ODD:
        text = raw
        for name, value in names.items():
            text = text.replace(name, value)
        if "AUTHORIZATION" not in text:
            text = text.replace("\r\n", f"\r\nAuthorization: Bearer {key}\r\n", 1)
        with place.wire() as wire:
            wire.send(text.encode("latin-1"))
            seen[raw] = wire.answer().status

    assert ODD == seen


@pytest.mark.parametrize(
    "raw",
    [
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://[/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h:99999999/healthz HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /static/%2e%2e%2f HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /static/%00 HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_cold_oddities_are_refused_once(place, post, raw):
    file_id = place.new_file()
    with place.wire() as wire:
        wire.send(raw.encode() + post(f"/v1/files/{file_id}/reports"))

        assert 400 <= wire.answer().status < 500
        assert b"" == wire.rest_or_reset()
    assert 1 == place.events(file_id)
