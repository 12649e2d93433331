"""The load client sees what is wrong: every fault is planted and must be found."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from shutil import which

import pytest
import pytest_asyncio

from bench.errors import BenchError, RunError
from bench.load import Load, Phase, compiled
from bench.server import Kind
from tests.unit.bench.conftest import Connect
from tests.unit.bench.faulty_server import FaultyServer, publication

WAIT_S = 10.0

Planned = Sequence[tuple[int, int, str]]


@pytest_asyncio.fixture
async def server(request: pytest.FixtureRequest) -> AsyncIterator[FaultyServer]:
    """Of SSE, or of the kind a test asks for."""
    kind = getattr(request, "param", Kind.SSE)
    async with FaultyServer(kind).serving() as serving:
        yield serving


async def published(
    load: Load, folder: Path, planned: Planned, *, timeout_s: float = 0.3
) -> Phase:
    plan = folder / "plan"
    with plan.open("wb") as out:
        for file, seq, fault in planned:
            request = publication(file, seq, fault)
            out.write(struct.pack("<III", file, seq, len(request)) + request)
    return await load.publish(plan, in_flight=2, timeout_s=timeout_s)


async def test_all_is_well(server: FaultyServer, connect: Connect, tmp_path: Path):
    async with connect(server.port, Kind.SSE, files=[0, 1, 2]) as load:
        opened = await load.open(0, 3)
        phase = await published(
            load, tmp_path, [(f, s, "none") for s in (2, 3) for f in range(3)]
        )

    assert (3, 3) == (opened.connected, opened.live)
    assert (6, 6, 6, 0) == (phase.sent, phase.answered, phase.delivered, phase.wrong)
    assert 0 < phase.p50_ms <= phase.p90_ms <= phase.p99_ms <= phase.max_ms


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ("lost", {"missing": 1}),
        ("doubled", {"doubled": 1}),
        ("misrouted", {"missing": 1, "misrouted": 1}),
    ],
)
async def test_a_planted_fault_is_found(
    server: FaultyServer, connect: Connect, tmp_path: Path, fault: str, found: dict
):
    async with connect(server.port, Kind.SSE, files=[0, 1]) as load:
        await load.open(0, 2)
        phase = await published(load, tmp_path, [(0, 2, fault), (1, 2, "none")])

    names = ("missing", "doubled", "misrouted", "skipped", "late", "wrong_state")
    assert found == {n: getattr(phase, n) for n in names if getattr(phase, n)}
    assert sum(found.values()) == phase.wrong


async def test_an_event_that_comes_with_the_next_command_is_late(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.SSE, files=[0, 1]) as load:
        await load.open(0, 2)
        await published(load, tmp_path, [(1, 2, "none")])
        first = await published(load, tmp_path, [(1, 3, "late")])
        second = await published(load, tmp_path, [(0, 2, "none")])

    assert (1, 0) == (first.missing, first.late)
    assert (0, 1) == (second.missing, second.late)


async def test_a_hole_in_the_seqs_is_skipped(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.SSE, files=[0]) as load:
        await load.open(0, 1)
        phase = await published(
            load, tmp_path, [(0, 2, "none"), (0, 3, "lost"), (0, 4, "none")]
        )

    assert (1, 1) == (phase.missing, phase.skipped)


async def test_everybody_who_waits_for_a_hot_file_is_expected_to_get_it(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.SSE, files=[0] * 5) as load:
        await load.open(0, 5)
        phase = await published(load, tmp_path, [(0, 2, "none"), (0, 3, "lost")])

    assert (10, 5, 5) == (phase.expected, phase.delivered, phase.missing)


async def test_a_publication_that_is_not_taken_is_not_missing(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(
        server.port, Kind.SSE, files=[0, 1], accepted='"applied"'
    ) as load:
        await load.open(0, 2)
        phase = await published(load, tmp_path, [(0, 2, "refused"), (1, 2, "stale")])

    assert (2, 0, 0) == (phase.refused, phase.expected, phase.missing)
    assert phase.refusal.startswith("HTTP/1.1 503")
    assert "too many" in phase.refusal


async def test_the_first_event_is_what_counts_as_connected_when_asked_for(
    server: FaultyServer, connect: Connect
):
    server.states = {0: 1}
    async with connect(
        server.port, Kind.SSE, files=[0, 1], wants_first_event=True
    ) as load:
        phase = await load.open(0, 2, timeout_s=0.5)

    assert (1, 1) == (phase.connected, phase.states)


async def test_a_storm_checks_the_state_of_each(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    server.states = {0: 1, 1: 1}
    async with connect(
        server.port, Kind.SSE, files=[0, 1], wants_first_event=True
    ) as load:
        await load.open(0, 2)
        await published(load, tmp_path, [(0, 2, "none"), (1, 2, "none")])
        server.states = {0: 2, 1: 1}
        phase = await load.storm()

    assert (2, 2, 1) == (phase.connected, phase.states, phase.wrong_state)


async def test_the_event_shown_again_on_connect_is_not_doubled(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.SSE, files=[0]) as load:
        await load.open(0, 1)
        await published(load, tmp_path, [(0, 2, "none")])
        server.states = {0: 2}
        await load.storm()
        phase = await published(load, tmp_path, [(0, 3, "none")])

    assert (1, 0) == (phase.delivered, phase.wrong)


async def test_heartbeats_and_lost_connections_are_counted(
    server: FaultyServer, connect: Connect
):
    async with connect(
        server.port, Kind.SSE, files=[0, 1], heartbeat="event: hb"
    ) as load:
        await load.open(0, 2)
        server.send_all(b"event: hb\ndata:\n\nevent: hb\ndata:\n\n")
        server.drop(1)
        phase = await load.wait(0.3)

    assert (4, 1, 1) == (phase.heartbeats, phase.closed, phase.live)


async def test_an_event_in_pieces_is_one_event(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    server.states = {0: 1}
    async with connect(
        server.port, Kind.SSE, files=[0], wants_first_event=True
    ) as load:
        await load.open(0, 1)
        server.states = {}
        for piece in (b'id: 2\ndata: {"id":"00000000-0000-70', b"00-8000-0000"):
            server.send_all(piece)
            await load.wait(0.05)
        server.send_all(b'00000000","seq":2}\n\n')
        phase = await load.wait(0.2)

    assert (1, 0, 0) == (phase.late, phase.misrouted, phase.doubled)


@pytest.mark.parametrize("server", [Kind.LONG_POLL], indirect=True)
async def test_a_long_poll_goes_on_where_the_last_answer_ended(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.LONG_POLL, files=[0]) as load:
        await load.open(0, 1)
        phase = await published(load, tmp_path, [(0, 2, "none"), (0, 3, "none")])

    assert (2, 0) == (phase.delivered, phase.wrong)
    assert [False, True, True] == [b"Last-Event-ID" in head for head in server.heads]
    assert b"Last-Event-ID: 3\r\n" in server.heads[-1]


@pytest.mark.parametrize("server", [Kind.WEBSOCKET], indirect=True)
async def test_a_websocket_is_heard_and_answers_pings(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.WEBSOCKET, files=[0]) as load:
        await load.open(0, 1)
        server.send_all(b"\x89\x02hi")
        beats = await load.wait(0.2)
        phase = await published(load, tmp_path, [(0, 2, "none")])

    assert 1 == beats.heartbeats
    assert [b"\x8a\x82\0\0\0\0hi"] == server.pongs
    assert (1, 0) == (phase.delivered, phase.wrong)


@pytest.mark.parametrize("server", [Kind.POLLING], indirect=True)
async def test_a_poll_that_reads_the_same_row_again_is_no_second_delivery(
    server: FaultyServer, connect: Connect, tmp_path: Path
):
    async with connect(server.port, Kind.POLLING, files=[0]) as load:
        await load.polling(0.05)
        await load.open(0, 1)
        phase = await published(load, tmp_path, [(0, 2, "none")], timeout_s=5)
        polled = await load.wait(0.5)

    assert (1, 0) == (phase.delivered, phase.wrong)
    assert polled.requests >= 5
    assert (0, 0) == (polled.doubled, polled.late)


async def test_a_refused_stream_says_why(connect: Connect):
    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as refusing:
        port = refusing.sockets[0].getsockname()[1]
        async with connect(port, Kind.SSE, files=[0]) as load:
            phase = await load.open(0, 1)

    assert (0, 1) == (phase.connected, phase.refused_connects)
    assert phase.refusal.startswith("HTTP/1.1 404 Not Found")


async def test_a_command_it_does_not_know_ends_the_run_with_its_last_words(
    server: FaultyServer, connect: Connect
):
    async with connect(server.port, Kind.SSE, files=[0]) as load:
        with pytest.raises(RunError, match="not so many subscribers"):
            await load.open(0, 2)


def test_a_missing_compiler_is_said_clearly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")

    assert which("no-such-compiler") is None
    with pytest.raises(BenchError, match="needs a C compiler"):
        compiled()


def test_it_is_compiled_once(monkeypatch: pytest.MonkeyPatch):
    program = compiled()
    monkeypatch.setenv("CC", "no-such-compiler")

    assert program == compiled()
