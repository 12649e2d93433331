"""Connections to the door that go on from request to request, on both kinds of loop."""

import contextlib
import json
import ssl

import aiohttp
import pytest
import trustme

from gateway.web import connection as connections
from tests.integration.wire import SSE, UPLOADED, request, served


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
