"""Clients that leave the door, and a door that is drained, on both kinds of loop."""

import asyncio

import pytest

from gateway.web import door
from tests.integration.wire import SSE, TIMEOUT_S, open_files, request

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
