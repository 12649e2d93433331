"""What all connections share: the reserve of descriptors, and the end."""

import resource
from types import SimpleNamespace

import pytest

from gateway.web.connection import GUEST_DEADLINE_S, LAST_REQUEST_S
from gateway.web.door import (
    COLD_GUEST_LIMIT_S,
    COLD_LIMIT_S,
    RESERVED_FILES,
    SILENT_SHARE,
    _files,
)
from tests.unit.gateway.fakes import settle
from tests.unit.gateway.web.in_memory import FakeTransport
from tests.unit.gateway.web.raw import PATH, SSE, get, post, statuses


async def test_a_drain_answers_what_was_asked_and_hangs_up_on_the_rest(rooms):
    idle, busy, last, parked, late = (rooms.connect() for _ in range(5))
    parked[0].data_received(get(f"{PATH}/events?after=1&wait=9"))
    await settle()
    busy[0].data_received(post())
    last[0].data_received(post().replace(b"Host", b"Connection: close\r\nHost"))
    rooms.hub.drain()
    rooms.door.retire()
    rooms.door.retire()
    await settle()
    assert not idle[1].closing
    late[0].data_received(get(f"{PATH}?wait=0"))
    newest = rooms.connect()
    newest[0].data_received(get(f"{PATH}?wait=0"))
    await settle()
    rooms.wheel.pass_s(LAST_REQUEST_S + 0.2)
    assert idle[1].closing
    await settle()

    for _, transport in (busy, last, late, newest):
        assert [200] == statuses(transport.written)
        assert b"Connection: close" in transport.written
        assert transport.lost
    assert parked[1].lost
    assert (0, 0) == (len(rooms.hub), len(rooms.door.connections))


class Numbered(FakeTransport):
    """A transport whose socket has a number."""

    def __init__(self, number):
        super().__init__()
        self._extra["socket"] = SimpleNamespace(fileno=lambda: number)


@pytest.fixture
def at_file(rooms):
    """Connect as so many files are open; of 100, 20 are reserved."""
    rooms.door.first_reserved, rooms.door.last_file = 80, 90

    def connect(number):
        connection, transport = rooms.door(), Numbered(number)
        transport.protocol = connection
        connection.connection_made(transport)
        return connection, transport

    return connect


async def test_in_the_reserve_nobody_waits_and_everybody_is_answered(at_file):
    below, at_below = at_file(79)
    below.data_received(get(f"{PATH}?after=1&wait=9"))
    asked = (get(f"{PATH}?after=1&wait=9"), get(f"{PATH}/events", SSE), get(), post())
    answers = []
    for raw in asked:
        connection, transport = at_file(80)
        connection.data_received(raw)
        await settle()
        answers.append(statuses(transport.written))
        assert b"Connection: close" in transport.written
        assert transport.lost

    assert [[503], [200], [200], [200]] == answers
    assert b"" == at_below.written


async def test_in_the_reserve_whoever_is_silent_makes_room(rooms, at_file):
    first, second = at_file(88), at_file(89)
    second[0].data_received(b"GET ")
    busy, at_busy = at_file(88)
    busy.data_received(post())
    third = at_file(90)
    fourth = at_file(90)
    await settle()

    assert [True, True] == [first[1].lost, second[1].lost]
    assert [200] == statuses(at_busy.written)
    assert not third[1].lost
    assert not fourth[1].lost
    assert 2 == rooms.metrics.registry.get_sample_value("reelready_evicted_total")


async def test_in_the_reserve_there_are_only_so_many(rooms, at_file):
    """A descriptor that was freed has a low number, and there is no room for all."""
    transports = [at_file(80)[1] for _ in range(15)]
    await settle()

    assert [True] * 5 + [False] * 10 == [one.lost for one in transports]


async def test_in_the_reserve_of_busy_ones_the_newest_is_heard(rooms, at_file):
    busy = [at_file(80) for _ in range(10)]
    for connection, _ in busy:
        connection.data_received(post())
    newest, at_newest = at_file(80)
    newest.data_received(get("/healthz"))
    await settle()

    assert [[]] + [[200]] * 9 == [statuses(one.written) for _, one in busy]
    assert not at_newest.lost
    assert [get("/healthz")] == [one.received for one in rooms.cold]


async def test_whoever_stands_in_the_reserve_takes_the_place_of_one_that_idles(
    rooms, at_file
):
    kept = [at_file(number) for number in range(10, 14)]
    for connection, _ in kept[:3]:
        connection.data_received(get(f"{PATH}?wait=0"))
        await settle()
    kept[0][0].data_received(b"GET ")
    at_file(79)
    newest = at_file(80)[1]
    rooms.wheel.pass_s(LAST_REQUEST_S + 0.2)

    assert [False, True, False, False] == [one.closing for _, one in kept]
    assert not newest.closing
    assert 1 == rooms.metrics.registry.get_sample_value("reelready_evicted_total")


async def test_what_one_asks_that_idled_just_now_is_answered(rooms, at_file):
    kept, at_kept = at_file(10)
    kept.data_received(get(f"{PATH}?wait=0"))
    await settle()
    at_file(80)
    kept.data_received(post())
    await settle()

    assert [200, 200] == statuses(at_kept.written)


async def test_in_the_reserve_a_head_has_less_time(rooms, at_file):
    _, slow = at_file(80)
    rooms.wheel.pass_s(GUEST_DEADLINE_S + 0.2)

    assert slow.closing


async def test_in_the_reserve_a_cold_answer_has_little_time(rooms, at_file):
    connection, transport = at_file(80)
    connection.data_received(get("/"))
    rooms.wheel.pass_s(COLD_GUEST_LIMIT_S - 0.2)
    assert not transport.lost
    rooms.wheel.pass_s(0.4)

    await settle()

    assert transport.lost
    assert not rooms.door._guests


async def test_a_cold_answer_has_its_time_outside_of_the_reserve_too(rooms):
    connection, transport = rooms.connect()
    connection.data_received(get("/"))
    rooms.wheel.pass_s(COLD_LIMIT_S - 0.2)
    assert not transport.lost
    rooms.wheel.pass_s(0.4)

    assert transport.lost


async def test_in_the_reserve_who_took_a_cold_answer_stands_nowhere(rooms, at_file):
    for _ in range(30):
        connection, transport = at_file(80)
        connection.data_received(get("/"))
        transport.close()
        await settle()

    assert not rooms.door._guests
    assert not rooms.door._leaving
    assert 0 == rooms.metrics.registry.get_sample_value("reelready_evicted_total")


async def test_in_the_reserve_a_cold_answer_makes_room(rooms, at_file):
    cold = [at_file(80) for _ in range(10)]
    for connection, _ in cold:
        connection.data_received(get("/"))
    at_file(90)

    assert [True] + [False] * 9 == [transport.lost for _, transport in cold]


async def test_a_drain_waits_for_the_rest_of_a_body_and_then_closes(rooms):
    connection, transport = rooms.connect()
    said = post()
    connection.data_received(said[:-5])
    await settle()
    rooms.door.retire()
    connection.data_received(said[-5:])
    await settle()

    assert [200] == statuses(transport.written)
    assert b"Connection: close" in transport.written
    assert transport.closing


async def test_in_the_reserve_whoever_does_not_take_its_answer_makes_room(at_file):
    """It has been answered and is closed, and its answer has not left."""
    unread = [at_file(80) for _ in range(10)]
    for connection, transport in unread:
        transport.full = True
        connection.data_received(get(f"{PATH}?wait=0"))
    await settle()
    assert all(one.closing and not one.lost for _, one in unread)

    newest, at_newest = at_file(80)
    newest.data_received(get(f"{PATH}?wait=0"))
    await settle()

    assert [True] + [False] * 9 == [one.lost for _, one in unread]
    assert [200] == statuses(at_newest.written)


async def test_with_little_memory_everybody_stands_in_the_reserve(rooms, at_file):
    rooms.memory.used_share = 0.81

    newcomers = [at_file(10) for _ in range(12)]
    for connection, _ in newcomers[2:]:
        connection.data_received(get(f"{PATH}?wait=0"))
    await settle()

    assert [False] * 2 + [True] * 10 == [one.lost for _, one in newcomers]
    answers = [statuses(one.written) for _, one in newcomers]
    assert [[]] * 2 + [[200]] * 10 == answers
    assert all(b"Connection: close" in one.written for _, one in newcomers[2:])


async def test_with_little_memory_only_so_many_may_be_silent(rooms, at_file):
    rooms.memory.used_share = 0.81

    silent = [at_file(10)[1] for _ in range(10 * SILENT_SHARE + 3)]

    assert [True] * 3 + [False] * 10 * SILENT_SHARE == [one.lost for one in silent]


@pytest.mark.parametrize(
    ("path", "is_whole"),
    [(f"{PATH}?wait=0", True), ("/openapi.yaml", True), ("/static/hls.js", False)],
)
async def test_with_little_memory_only_so_many_may_leave_an_answer(
    rooms, at_file, path, is_whole
):
    """They came, and were answered once, while there was enough."""
    known = [at_file(10) for _ in range(15)]
    for connection, _ in known:
        connection.data_received(get(f"{PATH}?wait=0"))
    await settle()
    rooms.memory.used_share = 0.81

    for connection, transport in known:
        transport.full = True
        connection.data_received(get(path))
        await settle()
        if rooms.cold:
            transport.write(b"as aiohttp answers, and closes when all is written")
            if is_whole:
                transport.close()

    assert [True] * 5 + [False] * 10 == [one.lost for _, one in known]


async def test_without_a_limit_of_files_there_is_a_reserve_for_little_memory(
    monkeypatch, rooms
):
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    first_reserved, last_file = _files()

    assert RESERVED_FILES * 2 // 3 == last_file - first_reserved
