"""A connection, byte by byte, without a socket."""

import asyncio
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.web import connection as connections
from gateway.web import door as doors
from tests.unit.gateway.fakes import settle
from tests.unit.gateway.web.in_memory import Rooms
from tests.unit.gateway.web.raw import PATH, SSE, get, post, statuses


@pytest.mark.parametrize("what", ["get", "post", "chunked"])
async def test_a_request_may_be_split_at_any_byte(rooms, what):
    raw = {"get": get(), "post": post(), "chunked": post(chunked=True)}[what]
    for at in range(len(raw) + 1):
        connection, transport = rooms.connect()
        for piece in (raw[:at], raw[at:]):
            connection.data_received(piece)
        await settle()

        assert [200] == statuses(transport.written), at
    assert (0 if what == "get" else len(raw) + 1) == len(rooms.stored)


async def test_a_cold_request_is_handed_over_with_every_byte(rooms):
    raw = get("/", "Content-Length: 3\r\n") + b"abc" + get("/x")
    for at in range(1, len(raw)):
        connection, transport = rooms.connect()
        for piece in (raw[:at], raw[at:]):
            transport.protocol.data_received(piece)

        assert raw == rooms.cold[-1].received
        assert transport.protocol is rooms.cold[-1]
        assert connection not in rooms.door.connections
        assert b"" == transport.written


async def test_a_refusal_is_flushed_and_what_comes_behind_it_thrown_away(rooms):
    connection, transport = rooms.connect()
    connection.data_received(b"nonsense\r\n\r\n" + post())
    connection.data_received(post())

    assert [400] == statuses(transport.written)
    assert transport.ended
    assert not transport.closing

    rooms.wheel.pass_s(connections.LINGER_S + 1)
    await settle()

    assert transport.lost
    assert (0, []) == (len(rooms.door.connections), rooms.stored)


async def test_where_nothing_can_be_half_closed_a_refusal_lingers_too(rooms):
    connection, transport = rooms.connect(can_half_close=False)
    connection.data_received(b"nonsense\r\n\r\n")

    assert not transport.closing
    connection.data_received(b"x" * 300_000)
    rooms.wheel.pass_s(connections.LINGER_S + 1)

    assert transport.closing


async def test_a_full_socket_stops_the_reading_and_not_the_order(rooms):
    connection, transport = rooms.connect()
    transport.high = 1000
    transport.full = True
    connection.data_received(get(headers="Authorization: no\r\n") * 50)
    await settle()
    held = len(transport.buffered)
    transport.make_room()
    await settle()

    assert 1000 < held < 2000
    assert [401] * 50 == statuses(transport.written)


async def test_more_behind_a_full_socket_than_may_wait_is_cut(rooms):
    connection, transport = rooms.connect()
    transport.high = 0
    transport.full = True
    connection.data_received(get(headers="Authorization: no\r\n"))
    connection.data_received(b"x" * connections.MAX_WAITING_BYTES)
    assert not transport.closing
    connection.data_received(b"x")

    assert transport.lost


async def test_a_close_that_does_not_flush_is_cut_in_the_end(rooms):
    connection, transport = rooms.connect()
    transport.full = True
    connection.data_received(get(headers="Connection: close\r\n"))
    await settle()

    assert (True, False) == (transport.closing, transport.lost)

    rooms.wheel.pass_s(connections.FLUSH_LIMIT_S + 1)
    await settle()

    assert transport.lost
    assert not rooms.door.connections


async def test_the_deadlines_of_head_body_and_idleness(rooms):
    silent, at_silent = rooms.connect()
    slow, at_slow = rooms.connect()
    idle, at_idle = rooms.connect()
    slow.data_received(post()[:-1])
    idle.data_received(get())
    await settle()
    rooms.wheel.pass_s(connections.BODY_DEADLINE_S - 0.2)
    assert b"" == at_slow.written
    rooms.wheel.pass_s(0.5)
    assert [422] == statuses(at_slow.written)
    rooms.wheel.pass_s(connections.HEAD_DEADLINE_S - connections.BODY_DEADLINE_S - 0.5)
    assert not at_silent.closing
    rooms.wheel.pass_s(0.5)
    assert at_silent.closing
    rooms.wheel.pass_s(connections.KEEP_ALIVE_S - connections.HEAD_DEADLINE_S - 0.5)
    assert not at_idle.closing
    rooms.wheel.pass_s(0.5)
    assert at_idle.closing
    await settle()

    assert not rooms.door.connections
    assert [] == rooms.wheel.complaints
    assert silent.due == slow.due == idle.due == -1


async def test_an_error_nobody_foresaw_is_a_500_that_leaves_nobody(rooms, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(rooms.hub, "add", broken)
    connection, transport = rooms.connect()
    connection.data_received(get() + get())
    await settle()

    assert [500] == statuses(transport.written)
    assert transport.lost
    assert 0 == len(rooms.hub)


async def test_limits_by_address_are_counted_back(rooms):
    async with Rooms({"f-1": 1}, max_subscribers_per_ip=2) as narrow:
        clients = [narrow.connect() for _ in range(3)]
        for connection, _ in clients:
            connection.data_received(get(f"{PATH}?after=1&wait=9"))
        await settle()
        assert [503] == statuses(clients[2][1].written)
        clients[0][1].abort()
        narrow.ring("f-1", 2)
        await settle()
        assert [200] == statuses(clients[1][1].written)

        assert not narrow.door.access._waiting


async def test_a_next_head_has_no_more_time_than_the_first(rooms):
    connection, transport = rooms.connect()
    connection.data_received(get())
    await settle()
    for _ in range(int(connections.HEAD_DEADLINE_S)):
        assert not transport.closing
        connection.data_received(b"G")
        rooms.wheel.pass_s(1)
    rooms.wheel.pass_s(0.2)

    assert transport.closing


@pytest.mark.parametrize("kind", ["length", "chunks", "waiting", "head"])
async def test_what_is_held_of_unfinished_requests_is_bounded(rooms, monkeypatch, kind):
    monkeypatch.setattr(doors, "MAX_HELD_BYTES", 30_000)
    begun = {
        "length": get(f"{PATH}/reports", "Content-Length: 20000\r\n", "POST"),
        "chunks": get(f"{PATH}/reports", "Transfer-Encoding: chunked\r\n", "POST")
        + b"4e20\r\n",
        "waiting": get(f"{PATH}?after=1&wait=9"),
        "head": b"GET / HTTP/1.1\r\nA: ",
    }[kind]
    clients = [rooms.connect() for _ in range(5)]
    for connection, _ in clients:
        connection.data_received(begun)
        await settle()
        connection.data_received(b"x" * 9_000)
    await settle()
    written = [statuses(transport.written) for _, transport in clients]

    assert [[]] * 3 == written[2:]
    if kind == "waiting":
        assert [True, True] == [transport.lost for _, transport in clients[:2]]
    elif kind == "head":
        # Perhaps an EventSource's: it comes back from that, and from no 503.
        assert [(True, b"")] * 2 == [
            (transport.closing, transport.written) for _, transport in clients[:2]
        ]
    else:
        assert [[503], [503]] == written[:2]
        assert b"Retry-After: " in clients[0][1].written

    for connection, _ in clients:
        connection.abort()
    await settle()

    assert 0 == rooms.door.held_bytes


async def test_who_never_ends_a_request_keeps_out_nobody_who_does(rooms, monkeypatch):
    monkeypatch.setattr(doors, "MAX_HELD_BYTES", 30_000)
    begun = get(f"{PATH}/reports", "Content-Length: 200000\r\n", "POST")
    for _ in range(9):
        stranger, _ = rooms.connect()
        stranger.data_received(begun + b"x" * 9_000)
    head, body = post()[:-5], post()[-5:]

    reporter, transport = rooms.connect()
    reporter.data_received(head)
    stranger.data_received(b"x" * 12_000)
    reporter.data_received(body)
    await settle()

    assert [200] == statuses(transport.written)
    assert rooms.door.held_bytes <= 30_000


async def test_a_retry_is_asked_for_at_different_times(rooms):
    rooms.memory.used_share = 1.0
    asked = set()
    for _ in range(100):
        connection, transport = rooms.connect()
        connection.data_received(post())
        asked.add(int(re.search(rb"Retry-After: (\d+)", transport.written)[1]))

    assert {2, 3, 4, 5} == asked
    assert not rooms.stored


async def test_who_asks_again_before_an_answer_has_left_waits(rooms):
    connection, transport = rooms.connect()
    transport.full = True
    connection.data_received(get() * 8)
    await settle()
    assert b"" == transport.written
    assert 1 == transport.buffered.count(b"HTTP/1.1 200")

    for _ in range(8):
        transport.make_room()
        await settle()

    assert [200] * 8 == statuses(transport.written)


REQUESTS = [
    get(),
    get(f"{PATH}?after=1&wait=5"),
    get(f"{PATH}/events?after=1&wait=5"),
    get(f"{PATH}/events", SSE),
    get("/v1/events?file=f-1&file=f-1", SSE),
    get("/v1/events?file=f-1&file=no", SSE),
    get("/v1/files/no"),
    get(f"{PATH}/events", "Origin: x\r\nConnection: close\r\n"),
    get(PATH, "Content-Length: 5\r\n", "PUT") + b"abcde",
    get(PATH, "Access-Control-Request-Method: GET\r\n", "OPTIONS"),
    get("/"),
    post(),
    post(chunked=True),
    post()[:-5],
    b"\r\n\r\n",
    b"nonsense",
]


@st.composite
def mutated(draw):
    """Take a request or two, and change, drop or add bytes."""
    raw = bytearray(b"".join(draw(st.lists(st.sampled_from(REQUESTS), max_size=4))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(raw)


LIMITS_S = (
    connections.BODY_DEADLINE_S,
    connections.LINGER_S,
    connections.FLUSH_LIMIT_S,
)
STEPS = st.one_of(
    mutated(),
    mutated(),
    st.binary(max_size=40),
    st.sampled_from(["ring", "full", "room", "settle", "away", "back"]),
    st.floats(0, 80).map(lambda seconds: ("pass", seconds)),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@example(steps=["full", post()[:-5]], ending="close")
@given(steps=st.lists(STEPS, max_size=12), ending=st.sampled_from(["lost", "close"]))
def test_no_bytes_in_any_order_break_a_connection(steps, ending):
    async def play():
        complaints = []
        async with Rooms({"f-1": 1}) as rooms:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, said: complaints.append(said))
            connection, transport = rooms.connect()
            for step in steps:
                _do(step, rooms, transport)
                await settle()
                _check(rooms, connection, transport)
            if ending == "lost":
                transport.abort()
            else:
                rooms.hub.drain()
                rooms.door.retire()
                for limit_s in LIMITS_S:
                    rooms.wheel.pass_s(limit_s + 1)
            await settle()
            handed_over = bool(rooms.cold)

            assert handed_over or transport.lost
            assert not rooms.door.connections
            assert (0, 0, 0) == (len(rooms.hub), rooms.lot.polls, rooms.lot.streams)
            assert not handed_over or len(rooms.cold) == 1
            seen = statuses(transport.written)
            assert 500 not in seen
            assert (
                len(rooms.stored)
                <= sum(b"POST" in str(one).encode() for one in steps) * 4
            )
        assert [] == complaints

    asyncio.run(play())


def _do(step, rooms, transport):
    if isinstance(step, bytes):
        if not transport.closing:
            transport.protocol.data_received(step)
    elif isinstance(step, tuple):
        rooms.wheel.pass_s(step[1], at_once=True)
    elif step == "ring":
        rooms.ring("f-1", rooms.history.heads["f-1"] + 1)
    elif step in {"away", "back"}:
        rooms.history.away = step == "away"
    elif step == "full":
        transport.full = True
    elif step == "room" and transport.protocol is not None and not rooms.cold:
        transport.make_room()


def _check(rooms, connection, transport):
    if connection._parked is not None:
        assert connection._busy
        assert connection._request is None
        assert len(rooms.hub) >= 1
    else:
        assert 0 == len(rooms.hub)
    assert len(connection._received) <= max(connections.MAX_WAITING_BYTES, 400_000)
    if connection._transport is None or transport.closing:
        assert b"" == connection._received
    elif not connection._busy:
        assert connection.due != -1, "nothing would end this connection"
