"""The doorbell may fail in any way; events may not."""

import asyncio
import json
import os
import signal
from datetime import UTC, datetime

import asyncpg
import pytest

from gateway.hub import Hub
from gateway.model import Outcome, Report, ReportType
from gateway.store.append import Append, Incoming
from gateway.store.pool import Pool
from gateway.telemetry import Metrics
from workers.listener import Listener


async def listener_pid(gateway):
    """The backend that LISTENs for this gateway's database."""
    (pid,) = (
        await gateway.fetch(
            "select pid from pg_stat_activity where datname = current_database()"
            " and application_name = 'reelready-listener' limit 1"
        )
    )[0]
    return pid


async def ready(gateway, *, expected):
    """Wait for readiness to be so; the test's timeout is the bound."""
    while True:
        async with gateway.http.get(f"{gateway.url}/readyz") as answer:
            if (answer.status == 200) == expected:
                return await answer.json()


@pytest.fixture
async def own_gateway(database_url, make_gateway):
    """A gateway on a database of its own, so that its listener is the only one."""
    async with make_gateway(database_url, safety_read_seconds=3600) as one:
        yield one


async def test_a_lost_doorbell_is_a_delay_and_not_a_loss(database_url, make_gateway):
    """
    The event is written behind the gateway's back and nobody rings.
    """
    async with make_gateway(database_url, safety_read_seconds=1) as gateway:
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            await append_silently(gateway, file_id)

            assert "2" == (await anext(frames)).id


async def test_a_killed_listener_comes_back_and_catches_up(own_gateway):
    gateway = own_gateway
    file_id = await gateway.new_file()
    async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
        await anext(frames)
        pid = await listener_pid(gateway)
        await gateway.fetch("select pg_terminate_backend($1)", pid)
        await append_silently(gateway, file_id)

        assert "2" == (await anext(frames)).id
        await report_elsewhere(gateway, file_id, ReportType.CONVERTING)
        assert "3" == (await anext(frames)).id
    assert pid != await listener_pid(gateway)


async def test_a_session_that_ends_amid_a_word_is_only_lost(own_gateway, monkeypatch):
    """
    asyncpg then contradicts itself, which is no reason for the gateway to end.
    """
    gateway = own_gateway
    listen, contradicted = asyncpg.Connection.add_listener, asyncio.Event()

    async def contradict(session, *arguments):
        if not contradicted.is_set():
            contradicted.set()
            raise asyncpg.InternalClientError("cannot switch to state 12")
        await listen(session, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "add_listener", contradict)
    file_id = await gateway.new_file()
    async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
        await anext(frames)
        pid = await listener_pid(gateway)
        await gateway.fetch("select pg_terminate_backend($1)", pid)
        await append_silently(gateway, file_id)

        assert "2" == (await anext(frames)).id
        await contradicted.wait()
        await report_elsewhere(gateway, file_id, ReportType.CONVERTING)
        assert "3" == (await anext(frames)).id


async def test_what_a_failover_took_back_is_said_to_who_is_connected(own_gateway):
    """
    The table has lost an event, as a standby without the last commits has.
    """
    gateway = own_gateway
    file_id = await gateway.new_file()
    await gateway.report(file_id, "uploaded")
    async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
        assert "2" == (await anext(frames)).id
        await gateway.fetch(
            "delete from events where file_id = $1 and seq = 2", file_id
        )
        await gateway.fetch(
            "update files set seq = 1, status = 'awaiting_upload', state = ("
            "select state from events where file_id = $1) where id = $1",
            file_id,
        )
        pid = await listener_pid(gateway)
        await gateway.fetch("select pg_terminate_backend($1)", pid)

        assert {"reason": "unknown_cursor"} == (await anext(frames)).json()
        assert ("1", "awaiting_upload") == (
            (state := await anext(frames)).id,
            state.json()["status"],
        )


async def test_a_listener_that_answers_nothing_is_noticed_and_replaced(own_gateway):
    """
    The backend is stopped, not killed: nothing in the network says so.
    """
    gateway = own_gateway
    file_id = await gateway.new_file()
    async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
        await anext(frames)
        pid = await listener_pid(gateway)
        os.kill(pid, signal.SIGSTOP)
        try:
            await append_silently(gateway, file_id)
            async with asyncio.timeout(10):
                not_ready = await ready(gateway, expected=False)
                assert "2" == (await anext(frames)).id
        finally:
            os.kill(pid, signal.SIGCONT)
        await ready(gateway, expected=True)
    assert not_ready["checks"]["database"]
    assert not not_ready["checks"]["listener"]


async def test_a_deaf_session_is_not_ready(database_url):
    """
    What a transaction pooler does: LISTEN is accepted and nothing ever comes.
    """
    looked_twice = asyncio.Event()
    looks = 0

    async def look():
        nonlocal looks
        looks += 1
        if looks == 2:
            looked_twice.set()

    class Deaf(Listener):
        def _on_notification(self, *_):
            """Hear nothing."""

    pool = Pool(database_url, max_connections=1)
    listener = Deaf(
        database_url,
        setting="REELREADY_DATABASE_URL",
        ring=Hub().ring,
        look=look,
        notify=pool.notify,
        metrics=Metrics(),
        safety_look_s=3600,
        echo_timeout_s=0.2,
    )
    running = asyncio.create_task(listener.run())
    async with pool:
        await looked_twice.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert not listener.listening.is_set()


async def test_a_database_that_stays_away_is_said_once(caplog):
    tried_again, looks = asyncio.Event(), 0

    async def look():
        nonlocal looks
        looks += 1
        if looks == 3:
            tried_again.set()

    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with Pool(nowhere, max_connections=1) as pool:
        listener = Listener(
            nowhere,
            setting="REELREADY_LISTEN_DATABASE_URL",
            ring=Hub().ring,
            look=look,
            notify=pool.notify,
            metrics=Metrics(),
            safety_look_s=3600,
        )
        running = asyncio.create_task(listener.run())
        await tried_again.wait()
    running.cancel()
    await asyncio.wait([running])

    (said,) = caplog.messages
    assert said.startswith(
        "listener lost: REELREADY_LISTEN_DATABASE_URL: [Errno 111] Connect"
    )


async def test_a_restart_of_postgres_loses_nothing(restartable_database, make_gateway):
    async with make_gateway(restartable_database.url) as gateway:
        file_id = await gateway.new_file()
        await gateway.report(file_id, "uploaded")
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            assert "2" == (await anext(frames)).id
            await restartable_database.restart()
            await ready(gateway, expected=True)
            await report_elsewhere(gateway, file_id, ReportType.FAILED)

            assert "failed" == (await anext(frames)).json()["status"]


async def test_while_the_database_is_away_each_kind_of_client_is_told(
    restartable_database, make_gateway
):
    """
    Streams softly, everybody else with 503 and Retry-After; health stays up.
    """
    postgres = restartable_database.postgres
    async with make_gateway(restartable_database.url) as gateway:
        file_id = await gateway.new_file()
        path = f"/v1/files/{file_id}"
        async with postgres.stopped():
            refused = await gateway.stream(f"{path}/events")
            statuses = {}
            for route in (path, f"{path}/events"):
                async with gateway.http.get(f"{gateway.url}{route}") as answer:
                    statuses[route] = (answer.status, "Retry-After" in answer.headers)
            posted, problem = await gateway.post(
                file_id,
                "reports",
                {"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"},
            )
            async with gateway.http.get(f"{gateway.url}/healthz") as answer:
                alive = answer.status
            not_ready = await ready(gateway, expected=False)
            while not_ready["checks"]["database"]:
                await asyncio.sleep(0.05)
                not_ready = await ready(gateway, expected=False)
        await ready(gateway, expected=True)
        state = await gateway.state(file_id)

    assert {"reason": "refused"} == refused[0].json()
    assert {(503, True)} == set(statuses.values())
    assert (503, "urn:reelready:problem:unavailable") == (posted, problem["type"])
    assert 200 == alive
    assert 1 == state["seq"]


async def report_elsewhere(gateway, file_id, kind):
    """Report through another process: this gateway can only hear the doorbell."""
    said = Report(type=kind, occurred_at=datetime.now(UTC))
    async with Pool(gateway.config.database_url, max_connections=2) as pool:
        (answer,) = await Append(pool, {})([Incoming(file_id, said)])
    assert Outcome.APPLIED is answer.outcome


async def append_silently(gateway, file_id):
    """Commit the next event of a file as `Append` would, and do not ring."""
    connection = await asyncpg.connect(gateway.config.database_url)
    try:
        row = await connection.fetchrow(
            "select seq, state from files where id = $1", file_id
        )
        state = json.loads(row["state"]) | {"seq": row["seq"] + 1, "status": "uploaded"}
        async with connection.transaction():
            await connection.execute(
                "insert into events"
                " (file_id, seq, type, occurred_at, recorded_at, state)"
                " values ($1, $2, 'uploaded', now(), now(), $3)",
                file_id,
                state["seq"],
                json.dumps(state),
            )
            await connection.execute(
                "update files set seq = $2, state = $3, status = 'uploaded'"
                " where id = $1",
                file_id,
                state["seq"],
                json.dumps(state),
            )
    finally:
        await connection.close()


async def test_a_database_that_refuses_us_is_waited_out(own_gateway):
    """
    A revoked right, a changed password, a missing table: none ends the process.
    """
    gateway = own_gateway
    file_id = await gateway.new_file()
    path = f"/v1/files/{file_id}"
    async with gateway.open_stream(f"{path}/events") as frames:
        await anext(frames)
        await gateway.fetch("alter table events rename to events_away")
        try:
            refused = await gateway.stream(f"{path}/events")
            async with gateway.http.get(f"{gateway.url}{path}") as answer:
                read = answer.status
            posted, _ = await gateway.post(
                file_id,
                "reports",
                {"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"},
            )
        finally:
            await gateway.fetch("alter table events_away rename to events")
        await gateway.report(file_id, "uploaded")

        assert "2" == (await anext(frames)).id
    assert {"reason": "refused"} == refused[0].json()
    assert (503, 503) == (read, posted)
