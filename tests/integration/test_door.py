"""Every way to speak HTTP to the door, on both kinds of loop."""

import asyncio
import contextlib
import json
import logging
import re
import ssl

import aiohttp
import pytest
import trustme
import uvloop

from gateway.web import connection as connections
from gateway.web import door
from tests.integration.wire import TIMEOUT_S, open_files, request, served

UPLOADED = b'{"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}'
SSE = {"Accept": "text/event-stream"}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def new_loop(request):
    """Both kinds of loop that the gateway runs on."""
    return LOOPS[request.param]


@pytest.fixture
def place(gateway_with, new_loop, caplog):
    """A gateway; whatever is sent to it, it has nothing to complain about."""
    with (
        caplog.at_level(logging.INFO, "reelready.access"),
        served(gateway_with, new_loop) as one,
    ):
        yield one
    assert [] == [one for one in caplog.records if one.levelno >= logging.WARNING]


@pytest.fixture
def post(sign):
    """Write a signed POST."""

    def write(path, body=UPLOADED, headers=None):
        return request("POST", path, sign(body) | (headers or {}), body)

    return write


@pytest.fixture
def post_chunked(sign):
    """Write a signed POST whose body comes in the chunks it is given as."""

    def write(path, *chunks, headers=None, end=b"0\r\n\r\n"):
        said = sign(b"".join(chunks)) | {"Transfer-Encoding": "chunked"}
        framed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
        return request("POST", path, said | (headers or {}), framed + end)

    return write


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


class TestKeepAlive:
    def test_it_survives_every_kind_of_wait(self, place):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        with place.wire() as wire:
            wire.send(request("GET", f"{path}/events?after=1&wait=20"))
            place.until(lambda: len(place.gateway.built.hub))
            place.report(file_id)
            polled = wire.answer()
            wire.send(request("GET", f"{path}?after=2&wait=20"))
            place.until(lambda: len(place.gateway.built.hub))
            place.report(file_id, "converting")
            blocked = wire.answer()
            wire.send(request("GET", f"{path}/events?after=3&wait=1"))
            empty = wire.answer()
            wire.send(request("GET", f"{path}?after=3&wait=1"))
            unchanged = wire.answer()
            wire.send(request("GET", path))
            state = wire.answer()

        assert (200, 2) == (polled.status, polled.json()["after"])
        assert (200, '"3"') == (blocked.status, blocked.headers["etag"])
        assert {"events": [], "after": 3, "final": False} == empty.json()
        assert (304, '"3"', b"") == (
            unchanged.status,
            unchanged.headers["etag"],
            unchanged.body,
        )
        assert (200, 3) == (state.status, state.json()["seq"])
        place.until(place.is_base)

    @pytest.mark.parametrize(
        ("version", "connection"),
        [
            ("HTTP/1.1", "close"),
            ("HTTP/1.1", "foo, Close"),
            ("HTTP/1.0", ""),
            ("HTTP/1.0", "keep-alive"),
        ],
    )
    def test_it_ends_when_the_client_says_so(self, place, post, version, connection):
        file_id = place.new_file()
        headers = {"Connection": connection}
        path = f"/v1/files/{file_id}"
        get = request("GET", path, headers, version=version)
        for asked in (
            get,
            request("GET", f"{path}?after=1&wait=1", headers, version=version),
            post(f"{path}/reports", headers=headers).replace(
                b"HTTP/1.1", version.encode()
            ),
        ):
            with place.wire() as wire:
                wire.send(asked + request("GET", path))
                answer = wire.answer()

                assert answer.status in {200, 304}
                assert "close" == answer.headers["connection"].lower()
                assert b"" == wire.rest_or_reset()

    def test_idle_late_and_silent_clients_are_let_go(self, place, monkeypatch, post):
        monkeypatch.setattr(connections, "KEEP_ALIVE_S", 0.3)
        monkeypatch.setattr(connections, "HEAD_DEADLINE_S", 0.3)
        monkeypatch.setattr(connections, "BODY_DEADLINE_S", 0.3)
        file_id = place.new_file()
        with place.wire() as silent, place.wire() as late, place.wire() as idle:
            late.send(b"GET / HTTP/1.1\r\nHost:")
            idle.send(request("GET", f"/v1/files/{file_id}"))

            assert b"" == silent.rest()
            assert b"" == late.rest()
            assert 200 == idle.answer().status
            assert b"" == idle.rest()
        report = post(f"/v1/files/{file_id}/reports")
        for begun in (report[:-1], report.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"):
            with place.wire() as wire:
                wire.send(begun)
                answer = wire.answer()

                assert (422, "body") == (answer.status, answer.json()["field"])
                assert b"" == wire.rest()
        assert 1 == place.events(file_id)


class TestPipelines:
    def test_hot_ingest_and_cold_are_answered_in_order(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        asked = [
            request("GET", path),
            request("HEAD", path),
            post(f"{path}/reports"),
            request("GET", f"{path}/events?after=1"),
            request("GET", f"{path}/events", {"Authorization": ""}),
            request("PUT", path, body=b"{}"),
            post(f"{path}/reports", b"[]"),
            request("GET", f"{path}?after=2"),
            request("GET", "/"),
            post(f"{path}/reports", UPLOADED.replace(b"uploaded", b"canceled")),
        ]
        with place.wire() as wire:
            wire.send(b"".join(asked))
            answers = [wire.answer(to_head=n == 1) for n in range(len(asked) - 1)]

            assert [200, 200, 200, 200, 401, 405, 422, 304, 200] == [
                answer.status for answer in answers
            ]
            assert b"" == wire.rest_or_reset()
        assert 2 == answers[3].json()["after"]
        assert answers[8].headers["content-type"].startswith("text/html")
        assert "close" == answers[8].headers["connection"]
        assert 2 == place.events(file_id)

    def test_requests_behind_a_parked_one_wait_for_it(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        with place.wire() as wire:
            wire.send(request("GET", f"{path}/events?after=1&wait=20"))
            wire.send(post(f"{path}/reports", b"[]"))
            wire.send(request("GET", path))

            assert wire.is_silent()
            assert 1 == place.events(file_id)

            place.report(file_id)

            assert [200, 422, 200] == [wire.answer().status for _ in range(3)]

    def test_what_waits_behind_a_parked_one_is_bounded(self, place):
        file_id = place.new_file()
        with place.wire() as wire:
            wire.send(request("GET", f"/v1/files/{file_id}/events?after=1&wait=20"))
            place.until(lambda: len(place.gateway.built.hub))
            with contextlib.suppress(ConnectionError):
                wire.send(b"x" * 2 * connections.MAX_WAITING_BYTES)

            assert b"" == wire.rest_or_reset()
            place.until(place.is_base)

    def test_a_thousand_in_one_write_are_all_answered(self, place):
        file_id = place.new_file()
        one = request("GET", f"/v1/files/{file_id}", {"Authorization": ""})
        with place.wire() as wire:
            wire.send(one * 1000)

            assert {401} == {wire.answer().status for _ in range(1000)}

    def test_a_client_that_never_reads_cannot_pile_up_answers(self, place):
        one = request("GET", "/v1/files/x", {"Authorization": ""})
        with place.wire(receive_buffer_bytes=4096) as wire:
            wire.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError, ConnectionError):
                for _ in range(100_000):
                    wire.send(one * 50)
            buffered = place.ask(
                lambda: sum(
                    one._transport.get_write_buffer_size()
                    for one in place.door.connections
                )
            )

            assert buffered < 256 * 1024
        place.until(place.is_base)


class TestPieces:
    def test_bytes_may_come_one_at_a_time(self, place, post, post_chunked):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        failed = UPLOADED.replace(b"uploaded", b"converting")
        with place.wire() as wire:
            wire.send_bytewise(request("GET", path))
            got = wire.answer()
            wire.send_bytewise(post(f"{path}/reports"))
            posted = wire.answer()
            wire.send_bytewise(post_chunked(f"{path}/reports", failed[:7], failed[7:]))
            chunked = wire.answer()
        with place.wire() as wire:
            wire.send_bytewise(request("GET", "/"))
            page = wire.answer()

        assert [200] * 4 == [one.status for one in (got, posted, chunked, page)]
        assert [2, 3] == [posted.json()["seq"], chunked.json()["seq"]]

    def test_empty_lines_before_a_request_are_nothing(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        with place.wire() as wire:
            for lines in (b"\r\n", b"\r\n\r\n", b"\r\n" * 9, b"\n"):
                wire.send(lines + request("GET", path))

                assert 200 == wire.answer().status
            wire.send(b"\r\n\r\n")
            wire.send(post(f"{path}/reports") + b"\r\n")
            wire.send(b"\r\n\r\n" + request("GET", "/healthz"))

            assert [200, 200] == [wire.answer().status, wire.answer().status]


class TestChunks:
    @pytest.mark.parametrize(
        "end",
        [
            b"0\r\n\r\n",
            b"000\r\n\r\n",
            b'0;a="b"\r\n\r\n',
            b"0\r\nETag: x\r\nA: b\r\n\r\n",
        ],
    )
    def test_any_legal_end_will_do(self, place, post_chunked, end):
        file_id = place.new_file()
        with place.wire() as wire:
            wire.send(
                post_chunked(
                    f"/v1/files/{file_id}/reports", UPLOADED[:9], UPLOADED[9:], end=end
                )
            )
            answer = wire.answer()

            assert (200, "close") == (answer.status, answer.headers["connection"])
            assert b"" == wire.rest()

    @pytest.mark.parametrize(
        "behind",
        [
            b"garbage",
            b"\x00\xff",
            b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            b"POST",
        ],
    )
    def test_what_follows_the_last_chunk_is_never_served(
        self, place, post, post_chunked, behind
    ):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        second = post(path, UPLOADED.replace(b"uploaded", b"canceled"))
        if behind == b"POST":
            behind = second
        with place.wire() as wire:
            wire.send(post_chunked(path, UPLOADED) + behind + second)

            assert 200 == wire.answer().status
            assert b"" == wire.rest_or_reset()
        assert 2 == place.events(file_id)

    @pytest.mark.parametrize(
        "end",
        [
            b"x\r\n",
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
            b"5\r\nabcdefg\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"1\na\r\n0\r\n\r\n",
        ],
    )
    def test_broken_chunks_are_refused(self, place, post_chunked, post, end):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        with place.wire() as wire:
            wire.send(post_chunked(path, UPLOADED, end=end) + post(path))
            answer = wire.answer()

            assert (400, "application/problem+json") == (
                answer.status,
                answer.headers["content-type"],
            )
            assert b"" == wire.rest_or_reset()
        assert 1 == place.events(file_id)


class TestBodies:
    def test_256_kib_are_taken_and_one_byte_more_is_not(
        self, place, post, post_chunked
    ):
        most = connections.MAX_BODY_BYTES
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        full, over = UPLOADED.ljust(most), UPLOADED.ljust(most + 1)
        with place.wire() as wire:
            wire.send(post(path, full))
            plain = wire.answer()
            wire.send(post_chunked(path, full[:9], full[9:]))
            chunked = wire.answer()
        assert [200, 200] == [plain.status, chunked.status]
        for asked in (post(path, over), post_chunked(path, over), post(path, over * 8)):
            with place.wire() as wire:
                wire.send(asked)
                answer = wire.answer()

                assert (413, "close") == (answer.status, answer.headers["connection"])
                assert b"" == wire.rest_or_reset()

    def test_a_client_is_told_to_continue_only_if_it_may(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}/reports"
        asked = post(path, headers={"Expect": "100-Continue"})
        head, _, body = asked.partition(b"\r\n\r\n")
        with place.wire() as wire:
            wire.send(head + b"\r\n\r\n")
            told = wire.answer()
            wire.send(body)
            answer = wire.answer()
            wire.send(post(path, b"[]" * 200_000, {"Expect": "100-continue"}))
            refused = wire.answer()

        assert [100, 200, 413] == [told.status, answer.status, refused.status]

    def test_a_body_on_a_get_is_read_and_passed_over(self, place):
        file_id = place.new_file()
        with place.wire() as wire:
            for _ in range(2):
                smuggled = request("GET", "/healthz")
                wire.send(request("GET", f"/v1/files/{file_id}", body=smuggled))

                assert '"1"' == wire.answer().headers["etag"]
            assert wire.is_silent()


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


class TestMethods:
    def test_wrong_ones_are_405_and_say_what_is_right(self, place):
        path = f"/v1/files/{place.new_file()}"
        right = {
            path: "GET, HEAD",
            f"{path}/events": "GET",
            f"{path}/reports": "POST",
            f"{path}/manifest": "POST",
            "/v1/events": "GET",
        }
        wrong = [
            (method, target, allow)
            for target, allow in right.items()
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
            if method not in allow
        ]
        with place.wire() as wire:
            for method, target, allow in wrong:
                wire.send(request(method, target))
                answer = wire.answer(to_head=method == "HEAD")

                assert (405, allow) == (answer.status, answer.headers["allow"])

    def test_head_is_get_without_the_body(self, place):
        path = f"/v1/files/{place.new_file()}"
        with place.wire() as wire:
            wire.send(request("GET", path) + request("HEAD", path))
            whole, bare = wire.answer(), wire.answer(to_head=True)
            wire.send(request("HEAD", f"{path}?after=1") + request("GET", path))
            unchanged, again = wire.answer(), wire.answer()

        dates = whole.headers.pop("date"), bare.headers.pop("date")
        assert all(dates)
        assert whole.headers == bare.headers
        assert [304, 200] == [unchanged.status, again.status]

    def test_preflights_of_hot_paths_are_answered(self, gateway_with, new_loop):
        asks = {
            "Origin": "https://app.example.com",
            "Access-Control-Request-Method": "GET",
            "Authorization": "",
        }

        def make():
            return gateway_with(allowed_origins=("https://app.example.com",))

        with served(make, new_loop) as place:
            for path in (
                "/v1/files/x",
                "/v1/files/x/events",
                "/v1/events",
                "/v1/files",
            ):
                with place.wire() as wire:
                    wire.send(request("OPTIONS", path, asks))
                    answer = wire.answer()

                    assert 204 == answer.status
                    assert "GET" in answer.headers["access-control-allow-methods"]
                    assert (
                        asks["Origin"] == answer.headers["access-control-allow-origin"]
                    )


PARKED = {
    "poll": ("{path}/events?after=1&wait=20", {}, 1),
    "blocking": ("{path}?after=1&wait=20", {}, 1),
    "stream": ("{path}/events", SSE, 1),
    "board": ("/v1/events?file={id}&file={other}", SSE, 2),
}


async def drained(place):
    """Drain, as a gateway does that is told to stop."""
    place.gateway.built.hub.drain()
    await place.door.drain()


class TestLeaving:
    @pytest.mark.parametrize("how", ["half_close", "reset"])
    @pytest.mark.parametrize("what", PARKED)
    def test_whoever_goes_while_parked_is_forgotten(self, place, what, how):
        file_id, other = place.new_file(), place.new_file()
        target, headers, legs = PARKED[what]
        target = target.replace("{path}", f"/v1/files/{file_id}")
        target = target.replace("{id}", file_id).replace("{other}", other)
        kind = "sse" if headers else "poll"
        gauge = f'reelready_subscribers{{transport="{kind}"}}'
        base = []
        for _ in range(3):
            wires = [place.wire() for _ in range(10)]
            for wire in wires:
                wire.send(request("GET", target, headers))
            place.until(lambda: len(place.gateway.built.hub) == legs * 10)
            while f"{gauge} 10.0" not in place.metrics():
                pass
            for wire in wires:
                getattr(wire, how)()
            place.until(place.is_base)
            for wire in wires:
                wire.sock.close()
            assert f"{gauge} 0.0" in place.metrics()
            place.until(place.is_base)
            base.append((place.ask(place.tasks), open_files()))

        assert base[0] == base[2]
        place.report(file_id)

    @pytest.mark.parametrize("how", ["half_close", "reset"])
    def test_a_report_whose_sender_goes_is_stored_all_the_same(self, place, post, how):
        file_id = place.new_file()
        with place.wire() as wire:
            wire.send(post(f"/v1/files/{file_id}/reports"))
            place.until(lambda: place.door.connections)
            getattr(wire, how)()
        place.until(place.is_base)

    def test_stray_bytes_on_a_stream_are_ignored_and_not_kept(self, place):
        file_id = place.new_file()
        with place.wire() as wire:
            wire.send(request("GET", f"/v1/files/{file_id}/events", SSE))
            wire.until(b"id: 1\n")
            wire.send(b"x" * 1_000_000 + request("GET", "/"))
            place.report(file_id)
            wire.until(b"id: 2\n")
            kept = place.ask(lambda: [one._received for one in place.door.connections])
            place.report(file_id, "canceled")

            assert wire.rest_or_reset().endswith(
                b'event: bye\ndata: {"reason": "final"}\n\n'
            )
        assert {b""} == set(kept)

    def test_a_drain_answers_a_report_that_is_being_stored(
        self, place, post, monkeypatch
    ):
        file_id = place.new_file()
        answers, drains = [], []
        ingest = place.door.ingest._ingest
        submit = ingest.submit

        def submit_and_drain(incoming):
            place.gateway.built.hub.drain()
            answered = submit(incoming)
            drains.append(asyncio.ensure_future(place.door.drain()))
            return answered

        monkeypatch.setattr(ingest, "submit", submit_and_drain)
        with place.wire() as wire, place.wire() as idle:
            place.until(lambda: len(place.door.connections) == 2)
            wire.send(post(f"/v1/files/{file_id}/reports"))
            answers.append(wire.answer())

            assert b"" == idle.rest()
            assert b"" == wire.rest()
        assert [200] == [answer.status for answer in answers]

    def test_what_is_on_its_way_when_a_drain_begins_is_answered(self, place):
        """
        Of a request without an answer a proxy makes a 502, for good in browsers.
        """
        path = f"/v1/files/{place.new_file()}"
        with (
            place.wire() as fresh,
            place.wire() as kept,
            place.wire() as cold,
            place.wire() as silent,
        ):
            kept.send(request("GET", path))
            before = kept.answer()
            place.until(lambda: len(place.door.connections) == 4)
            draining = place.start(drained(place))
            place.until(lambda: place.door.draining)
            fresh.send(request("GET", f"{path}/events", SSE))
            kept.send(request("GET", path))
            cold.send(request("GET", "/healthz"))
            refused = fresh.rest()
            answers = [kept.answer(), cold.answer()]

            assert [b"", b"", b""] == [one.rest() for one in (kept, cold, silent)]
            draining.result(TIMEOUT_S)
        assert b" 200 OK\r\n" in refused
        assert b"\nretry: " in refused
        assert refused.endswith(b'event: bye\ndata: {"reason": "refused"}\n\n')
        assert "connection" not in before.headers
        assert [200, 200] == [one.status for one in answers]
        assert {"close"} == {one.headers["connection"] for one in answers}

    def test_who_never_leaves_does_not_hold_a_drain_up(self, place, monkeypatch):
        monkeypatch.setattr(door, "DRAIN_LIMIT_S", 0.5)
        with place.wire() as slow:
            slow.send(b"POST /v1/files/f-1/reports HTTP/1.1\r\nHost: h\r\n")
            slow.send(b"Content-Length: 5\r\n\r\n")
            place.until(lambda: any(one._request for one in place.door.connections))
            place.run(drained(place))

            assert b"" == slow.rest()


def test_tls_carries_streams_polls_reports_and_pages(gateway_with, new_loop, post):
    authority = trustme.CA()
    at_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(at_server)
    at_client = ssl.create_default_context()
    at_client.check_hostname = False
    authority.configure_trust(at_client)

    def make():
        return gateway_with(heartbeat_seconds=1)

    @contextlib.asynccontextmanager
    async def listen(place):
        async with place.gateway.built.listening("127.0.0.1", 0, ssl=at_server) as one:
            yield one.sockets[0].getsockname()[1]

    with served(make, new_loop) as place:
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        listening = listen(place)
        place.port = place.run(listening.__aenter__())
        with (
            place.wire(tls=at_client) as stream,
            place.wire(tls=at_client) as wire,
            place.wire(tls=at_client) as many,
        ):
            stream.send(request("GET", f"{path}/events", SSE))
            stream.until(b"id: 1\n")
            wire.send(request("GET", f"{path}/events?after=1&wait=20"))
            place.until(lambda: len(place.gateway.built.hub) == 2)
            many.send(post(f"{path}/reports"))
            posted = many.answer()
            polled = wire.answer()
            stream.until(b"id: 2\n")
            wire.send(request("GET", path) + request("GET", "/"))
            state, page = wire.answer(), wire.answer()
            rest = wire.rest()
            stream.until(b"event: hb\n")
            stream.until(b"event: hb\n")
            place.report(file_id, "converting")
            stream.until(b"id: 3\n")
            place.report(file_id, "canceled")
            ended = stream.rest()
            many.send(post(f"{path}/reports", UPLOADED.ljust(300_000)))
            refused = many.answer()
        place.run(listening.__aexit__(None, None, None))

    assert [200, 200, 200, 200] == [one.status for one in (posted, polled, state, page)]
    assert b"" == rest
    assert 413 == refused.status
    assert ended.endswith(b'event: bye\ndata: {"reason": "final"}\n\n')


class TestWhatIsWrittenDown:
    def test_the_log_has_a_line_each_and_never_a_query(self, place, post, caplog):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        caplog.clear()
        with place.wire() as wire:
            wire.send(request("GET", f"{path}?token=secret", {"Authorization": ""}))
            wire.answer()
            wire.send(post(f"{path}/reports?token=secret"))
            wire.answer()
            wire.send(b"nonsense secret\r\n\r\n")
            wire.answer()
        with place.wire() as wire:
            wire.send(request("GET", f"{path}/events?token=secret", SSE))
            wire.until(b"id: 2\n")
        with place.wire() as wire:
            wire.send(request("GET", "/?token=secret"))
            wire.answer()
        while "GET / 200" not in caplog.text:
            pass
        lines = [
            (one.getMessage(), one.remote)
            for one in caplog.records
            if one.name == "reelready.access"
        ]

        assert [
            (f"GET {path} 401", "127.0.0.1"),
            (f"POST {path}/reports 200", "127.0.0.1"),
            (f"GET {path}/events 200", "127.0.0.1"),
            ("GET / 200", "127.0.0.1"),
        ] == sorted(lines, key=lambda line: line[0].startswith("GET / "))
        assert "secret" not in caplog.text

    def test_answers_are_counted_by_route_and_status(self, place, post):
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        with place.wire() as wire:
            wire.send(request("GET", path) * 2 + post(f"{path}/reports", b"{}"))
            statuses = [wire.answer().status for _ in range(3)]
            wire.send(post(f"{path}/manifest", b"[" * 300_000))
            statuses.append(wire.answer().status)
        for raw in (b"nonsense\r\n\r\n", request("GET", path) + b"nonsense\r\n\r\n"):
            with place.wire() as wire:
                wire.send(raw)
                wire.rest()
        pattern = r'http_requests_total{route="(.*)",status="(.*)"} (.*)\n'
        counted = {
            (route, int(status)): float(value)
            for route, status, value in re.findall(pattern, place.metrics())
        }

        assert [200, 200, 422, 413] == statuses
        assert 3 == counted["/v1/files/{file_id}", 200]
        assert 1 == counted["/v1/files/{file_id}/reports", 422]
        assert 1 == counted["/v1/files/{file_id}/manifest", 413]
        assert 2 == counted["unmatched", 400]
        assert not any(status >= 500 and status != 503 for _, status in counted)


COMPARED = [
    "server",
    "x-content-type-options",
    "referrer-policy",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
    "cache-control",
    "content-type",
    "www-authenticate",
]


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://evil.example"])
@pytest.mark.parametrize(
    ("by_door", "by_aiohttp"),
    [
        (("GET", "/v1/files/{id}/events"), ("GET", "/v1/files/{id}/history")),
        (("GET", "/v1/files/{id}?token=x"), ("POST", "/v1/files")),
        (("GET", "/v1/files/not-there"), ("GET", "/v1/files/not-there/history")),
        (("DELETE", "/v1/files/{id}"), ("DELETE", "/v1/files")),
        (("GET", "/v1/files/{id}?wait=x"), ("POST", "/v1/files")),
    ],
    ids=["state", "no key", "not there", "wrong method", "invalid"],
)
async def test_both_ways_in_put_the_same_headers_on(
    gateway_with, by_door, by_aiohttp, origin, request
):
    seen = []
    anonymous = "no key" in request.node.callspec.id
    async with gateway_with(allowed_origins=("https://app.example.com",)) as gateway:
        file_id = await gateway.new_file()
        headers = {"Authorization": "Bearer nobody"} if anonymous else {}
        for method, path in (by_door, by_aiohttp):
            async with gateway.http.request(
                method,
                gateway.url + path.replace("{id}", file_id),
                headers=headers | {"Origin": origin},
                json={} if method == "POST" else None,
            ) as answer:
                await answer.read()
                common = {name: answer.headers.get(name) for name in COMPARED}
                assert re.fullmatch(
                    r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", answer.headers["Date"]
                )
                seen.append((answer.status, common))

    assert seen[0] == seen[1]
    assert "reelready" == seen[0][1]["server"]
    granted = seen[0][1]["access-control-allow-origin"]
    assert (origin if "app" in origin else None) == granted


async def test_aiohttp_reuses_a_connection_for_hot_requests(gateway):
    file_id = await gateway.new_file()
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            path = f"{gateway.url}/v1/files/{file_id}/events?after=1&wait=0"
            async with http.get(path) as answer:
                assert 401 == answer.status
                assert "application/problem+json" == answer.headers["Content-Type"]
                assert "unauthorized" in json.loads(await answer.read())["type"]
        connector = http.connector
        assert connector is not None
        assert 1 == sum(len(idle) for idle in connector._conns.values())
