"""Slow readers beside fast ones, and the time that parked clients are given."""

import asyncio
import contextlib
import re
import time

import jwt
import pytest
import uvloop

from gateway import parking
from gateway.store.history import MAX_PAGE_EVENTS
from gateway.web.connection import Connection
from tests.integration.wire import request, served

SSE = {"Accept": "text/event-stream"}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
EVENT_BYTES = 1000

FIREHOSE = f"""
with moved as (update files set seq = seq + $2 where id = $1 returning seq),
added as (
    insert into events (file_id, seq, type, occurred_at, recorded_at, state)
    select $1, moved.seq - $2 + n, 'report', now(), now(),
        json_build_object('pad', repeat('x', {EVENT_BYTES}))
    from moved, generate_series(1, $2) n
)
select pg_notify('reelready', $1 || ':' || seq) from moved
"""


@pytest.fixture(params=LOOPS)
def place(request, gateway_with):
    """A gateway that beats every second."""
    with served(lambda: gateway_with(heartbeat_seconds=1), LOOPS[request.param]) as one:
        yield one


def pour(place, file_id, count):
    """Add events of a kilobyte behind the gateway's back, and ring."""
    place.run(place.gateway.fetch(FIREHOSE, file_id, count))


def seqs(stream):
    """List what ids a stream has carried."""
    return [int(seq) for seq in re.findall(rb"(?:^|\n)id: (\d+)\n", stream)]


def buffered_bytes(place):
    """Sum what the gateway itself holds for its clients; call through `ask`."""
    return sum(one._transport.get_write_buffer_size() for one in place.door.connections)


def test_a_stalled_reader_costs_a_page_and_misses_nothing(place):
    file_id = place.new_file()
    target = f"/v1/files/{file_id}/events?after=0"
    begun, slowest_s, most = time.monotonic(), 0.0, 0
    with place.wire(receive_buffer_bytes=2048) as stalled, place.wire() as other:
        for wire in (stalled, other):
            wire.send(request("GET", target, SSE))
        place.until(lambda: len(place.gateway.built.hub) == 2)
        got = other.until(b"id: 1\n")
        for burst in range(1, 31):
            poured = time.monotonic()
            pour(place, file_id, 100)
            got += other.until(b"id: %d\n" % (1 + 100 * burst))
            slowest_s = max(slowest_s, time.monotonic() - poured)
            most = max(most, place.ask(lambda: buffered_bytes(place)))
        late = stalled.until(b"id: 3001\n")
        place.until(lambda: buffered_bytes(place) == 0)
        pour(place, file_id, 1)
        late += stalled.until(b"id: 3002\n")

    everything = list(range(1, 3002))
    assert everything == seqs(got)
    assert [*everything, 3002] == seqs(late)
    assert 0 < most <= MAX_PAGE_EVENTS * (EVENT_BYTES + 100)
    assert slowest_s < 5
    assert time.monotonic() - begun < 40
    place.until(place.is_base)


def test_who_never_reads_is_cut_and_leaves_nothing(place, monkeypatch):
    monkeypatch.setattr(parking, "STALL_LIMIT_S", 0.5)
    monkeypatch.setattr(parking, "FIRST_READING_TIMEOUT_S", 1)
    file_id = place.new_file()
    target = f"/v1/files/{file_id}/events?after=0"
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            wire = stack.enter_context(place.wire(receive_buffer_bytes=2048))
            wire.send(request("GET", target, SSE))
        place.until(lambda: len(place.gateway.built.hub) == 5)
        pour(place, file_id, 1000)
        place.until(lambda: buffered_bytes(place) > 0)
        place.until(place.is_base)

        assert 'byes_total{reason="behind"} 5.0' in place.metrics()
        assert 'subscribers{transport="sse"} 0.0' in place.metrics()


def test_a_board_is_as_patient_as_a_stream(place):
    one, two = place.new_file(), place.new_file()
    with place.wire(receive_buffer_bytes=2048) as stalled:
        stalled.send(request("GET", f"/v1/events?file={one}&file={two}", SSE))
        stalled.until(one.encode())
        for _ in range(10):
            pour(place, one, 100)
            pour(place, two, 100)
        place.until(lambda: buffered_bytes(place) > 0)
        got = b""
        while got.count(b'xxx"}\n\n') < 2000:
            got += stalled.until(b"\n\n")

    assert 2000 == got.count(b'data: {"pad"')
    place.until(place.is_base)


def test_a_board_that_nobody_reads_costs_little_and_is_whole_when_it_is_read(place):
    """A hundred files of 4 KiB: what there is no room for is read later."""
    files = {place.new_file(metadata={"pad": "x" * 4000}) for _ in range(100)}
    board = "&".join(f"file={one}" for one in files)
    with place.wire(receive_buffer_bytes=2048) as slow:
        slow.send(request("GET", f"/v1/events?{board}", SSE))
        place.until(lambda: buffered_bytes(place) > 0)
        most = 0
        got = b""
        while len(seen(got)) < 100:
            got += slow.until(b"\n\n")
            most = max(most, place.ask(lambda: buffered_bytes(place)))

    assert files == seen(got)
    assert 0 < most <= 64 * 1024
    place.until(place.is_base)


def test_a_board_with_room_is_whole_at_once(place):
    files = {place.new_file(metadata={"pad": "x" * 4000}) for _ in range(100)}
    board = "&".join(f"file={one}" for one in files)
    with place.wire() as wire:
        wire.send(request("GET", f"/v1/events?{board}", SSE))
        got = b""
        while len(seen(got)) < 100:
            got += wire.until(b"\n\n")

    assert files == seen(got)
    assert 100 == got.count(b"data: {")


def seen(board):
    """Name the files that a board has told of."""
    return {one.decode() for one in re.findall(rb'data: {"id":"([^"]+)"', board)}


def test_a_page_that_stops_short_is_not_the_state(place):
    file_id = place.new_file()
    pour(place, file_id, 3 * MAX_PAGE_EVENTS)
    first, then = 1 + 3 * MAX_PAGE_EVENTS, 1 + 5 * MAX_PAGE_EVENTS
    with place.wire() as wire:
        wire.send(request("GET", f"/v1/files/{file_id}?after=1"))
        at_once = wire.answer()
        wire.send(request("GET", f"/v1/files/{file_id}?after={first}&wait=20"))
        place.until(lambda: len(place.gateway.built.hub))
        pour(place, file_id, 2 * MAX_PAGE_EVENTS)
        waited = wire.answer()

    assert (200, f'"{first}"') == (at_once.status, at_once.headers["etag"])
    assert (200, f'"{then}"') == (waited.status, waited.headers["etag"])


def test_waits_ages_and_tokens_end_when_they_should(gateway_with):
    async def one(wire_of, target, headers):
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", wire_of.port)
        writer.write(request("GET", target, headers))
        answer = await reader.readuntil(b"\r\n\r\n")
        if b"event-stream" in answer:
            answer += await reader.read()
        writer.close()
        return time.monotonic() - begun, answer

    def make():
        return gateway_with(stream_max_age_seconds=3, heartbeat_seconds=1)

    with served(make, uvloop.new_event_loop) as place:
        file_id = place.new_file()
        path = f"/v1/files/{file_id}"
        claims = {"aud": "reelready", "exp": time.time() + 1.5, "files": [file_id]}
        token = jwt.encode(claims, "t" * 40, algorithm="HS256")
        by_token = SSE | {"Authorization": f"Bearer {token}"}

        async def all_of_them():
            return await asyncio.gather(
                one(place, f"{path}?after=1&wait=1", {}),
                one(place, f"{path}/events?after=1&wait=2", {}),
                one(place, f"{path}/events", SSE),
                one(place, f"{path}/events", by_token),
            )

        blocked, polled, aged, expired = place.run(all_of_them())

    assert b" 304 " in blocked[1]
    assert b" 200 " in polled[1]
    assert aged[1].endswith(b'{"reason": "age"}\n\n')
    assert expired[1].endswith(b'{"reason": "token"}\n\n')
    for (taken_s, _), least_s, most_s in (
        (blocked, 1, 1),
        (polled, 2, 2),
        (aged, 2.4, 3),
        (expired, 0, 1.5),
    ):
        assert least_s <= taken_s < most_s + 1


async def test_waiting_clients_cost_no_task(gateway):
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}/events"
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(gateway.open_stream(path))
        await anext(first)
        # Those of the client of this test, and no other.
        tasks = {task for task in asyncio.all_tasks() if not task.done()}
        for _ in range(10):
            frames = await stack.enter_async_context(gateway.open_stream(path))
            await anext(frames)
        more = {task for task in asyncio.all_tasks() if not task.done()} - tasks

        assert 11 == len(gateway.built.hub)
    assert not [task for task in more if "gateway" in repr(task.get_coro())]


async def test_subscribers_are_written_the_same_bytes_object(gateway, monkeypatch):
    file_id = await gateway.new_file()
    written = []
    write = Connection.write

    def noted(self, data):
        written.append(data)
        write(self, data)

    path = f"/v1/files/{file_id}/events"
    async with gateway.open_stream(path) as one, gateway.open_stream(path) as two:
        await anext(one)
        await anext(two)
        monkeypatch.setattr(Connection, "write", noted)
        await gateway.report(file_id, "uploaded")
        await anext(one)
        await anext(two)

    frames = [data for data in written if data.startswith(b"id: 2\n")]
    assert 2 == len(frames)
    assert frames[0] is frames[1]
