"""P1a: Postgres acknowledges commits before they are on disk, and crashes."""

import asyncio
import os
import signal
import time
from datetime import UTC, datetime

import asyncpg
import pytest

from gateway.model import FileId, Report, ReportType, Seq
from gateway.protocol.registration import Registration
from gateway.store.append import Append, Incoming
from gateway.store.files import Files
from gateway.store.history import History
from gateway.store.pool import ON_DISK, Pool
from local.postgres import Postgres
from workers.migrate import migrate

LAX = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
"""By itself it writes every ten seconds what it has committed meanwhile."""

SAID = Registration(name="a.mp4", content_type="video/mp4", size=1)
ONE, OTHER = FileId("f1"), FileId("f2")


async def crash(postgres):
    os.kill(postgres.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 10
    while postgres.is_alive:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)
    await postgres.restart()


async def heads(url):
    """Read the newest seq of each file."""
    async with Pool(url, max_connections=1) as pool:
        read = await History(pool).read([(ONE, Seq(0)), (OTHER, Seq(0))])
    return {file_id: reading.head for (file_id, _), reading in read.items()}


async def test_what_was_answered_is_there_after_a_crash():
    """Each is the last thing before one: the next would take it to disk, too."""
    async with Postgres(settings=LAX) as postgres:
        await migrate(postgres.url)
        async with Pool(postgres.url, max_connections=1) as pool:
            async with pool.acquire() as connection:
                await connection.execute("checkpoint")
            await Files(pool, {}).create(ONE, SAID)
        await crash(postgres)
        async with Pool(postgres.url, max_connections=1) as pool:
            for attempt in (2, 3):
                report = Report(
                    type=ReportType.CONVERTING,
                    attempt=attempt,
                    occurred_at=datetime.now(UTC),
                )
                await Append(pool, {})([Incoming(ONE, report)])
        await crash(postgres)
        reported = await heads(postgres.url)
        async with Pool(postgres.url, max_connections=1) as pool:
            await Files(pool, {}).create(OTHER, SAID)
        await crash(postgres)
        registered = await heads(postgres.url)

    assert {ONE: 3} == reported
    assert {ONE: 3, OTHER: 1} == registered


@pytest.mark.parametrize(
    ("default", "expected"),
    [
        ("off", "on"),
        ("on", "on"),
        ("local", "local"),
        ("remote_write", "remote_write"),
        ("remote_apply", "remote_apply"),
    ],
)
async def test_only_off_is_overruled_and_for_one_transaction(
    shared_database_url, default, expected
):
    connection = await asyncpg.connect(
        shared_database_url, server_settings={"synchronous_commit": default}
    )
    try:
        async with connection.transaction():
            await connection.execute(f"select {ON_DISK}")
            during = await connection.fetchval("show synchronous_commit")
        after = await connection.fetchval("show synchronous_commit")
    finally:
        await connection.close()

    assert (expected, default) == (during, after)
