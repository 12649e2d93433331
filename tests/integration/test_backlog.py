"""What workers have not come to is seen from the gateway, and costs it little."""

import contextlib
import math
import secrets
from datetime import timedelta

import asyncpg
import pytest

from gateway.config import Config
from gateway.store.backlog import ENDS_WITHIN, MAX_LOOK_FILES, Backlog
from gateway.store.pool import Pool
from gateway.telemetry import Metrics
from tests.integration.conftest import config_for


class Seen:
    """A backlog, and what it says."""

    def __init__(self, pool: Pool, config: Config) -> None:
        self._metrics = Metrics()
        self._backlog = Backlog(pool, config.deadlines, self._metrics)

    async def look(self) -> tuple[float, float, float]:
        await self._backlog.look()
        up, lag_s, stuck = (
            self._metrics.registry.get_sample_value(f"reelready_{name}")
            for name in ("database_up", "worker_lag_seconds", "stuck_files")
        )
        return up, lag_s, stuck


@pytest.fixture
async def own_gateway(database_url, make_gateway):
    async with make_gateway(database_url) as gateway:
        yield gateway


@pytest.fixture
async def seen(own_gateway):
    async with Pool(own_gateway.config.database_url, max_connections=1) as pool:
        yield Seen(pool, own_gateway.config)


@contextlib.asynccontextmanager
async def session(url):
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def age(gateway, file_id, heard, due):
    """Let a file have been heard of, and be due, so long ago."""
    connection = await asyncpg.connect(gateway.config.database_url)
    await connection.execute(
        "update files set deadline_at = now() - $3::interval, state = jsonb_set("
        " state::jsonb, '{updated_at}', to_jsonb(now() - $2::interval))::json"
        " where id = $1",
        file_id,
        heard,
        due,
    )
    await connection.close()


async def test_nothing_is_behind_where_nothing_waits(seen, own_gateway):
    assert (1, 0, 0) == await seen.look()

    await own_gateway.new_file()

    assert (1, 0, 0) == await seen.look()


async def test_the_file_that_waits_longest_for_a_worker_is_told(seen, own_gateway):
    minute = timedelta(minutes=1)
    for minutes in (1, 5, 3):
        file_id = await own_gateway.new_file()
        await age(own_gateway, file_id, (minutes + 2) * minute, minutes * minute)

    _, lag_s, stuck = await seen.look()

    assert 300 <= lag_s < 400
    assert 0 == stuck


@pytest.mark.parametrize("stage", [[], ["uploaded"], ["uploaded", "converting"]])
async def test_a_file_that_has_not_ended_in_time_is_stuck(seen, own_gateway, stage):
    file_id = await own_gateway.new_file()
    for kind in stage:
        await own_gateway.report(file_id, kind)
    life = list(own_gateway.config.deadlines.values())[len(stage)]
    almost = ENDS_WITHIN - timedelta(minutes=1)
    looked_into = -timedelta(minutes=2)

    await age(own_gateway, file_id, life + almost, looked_into)
    assert (1, 0, 0) == await seen.look()

    await age(own_gateway, file_id, life + ENDS_WITHIN, looked_into)
    assert (1, 0, 1) == await seen.look()

    await own_gateway.complete(file_id)
    assert (1, 0, 0) == await seen.look()


async def test_the_queue_of_notifications_is_told_without_a_listener(database_url):
    """With a relay no gateway LISTENs; the queue is that of the whole server."""
    metrics = Metrics()
    name = "reelready_notification_queue_usage"
    async with (
        Pool(database_url, max_connections=1) as pool,
        session(database_url) as stuck,
        session(database_url) as other,
    ):
        await stuck.execute("listen noise")
        await stuck.execute("begin; select 1")
        for _ in range(20):
            await other.execute(
                "select pg_notify('noise', $1)", secrets.token_hex(3900)
            )
        await Backlog(pool, config_for(database_url).deadlines, metrics).look()

        assert 0 < metrics.registry.get_sample_value(name) < 0.1


async def test_while_the_database_is_away_there_is_no_number():
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with Pool(nowhere, max_connections=1) as pool:
        up, *numbers = await Seen(pool, config_for(nowhere)).look()

    assert 0 == up
    assert all(map(math.isnan, numbers))


async def test_however_many_files_there_are_few_are_looked_at(seen, own_gateway):
    file_id = await own_gateway.new_file()
    connection = await asyncpg.connect(own_gateway.config.database_url)
    await connection.execute(
        "insert into files select id || '-' || n, seq, status, owner, attempt, state,"
        " jobs, progressed_at, now() - interval '2 days', created_at, epoch"
        " from files, generate_series(1, $2) n where id = $1",
        file_id,
        10 * MAX_LOOK_FILES,
    )
    await connection.execute(
        "update files set state = jsonb_set(state::jsonb, '{updated_at}',"
        " to_jsonb(now() - interval '9 days'))::json"
    )
    await connection.close()

    up, lag_s, stuck = await seen.look()

    assert (1, MAX_LOOK_FILES) == (up, stuck)
    assert lag_s >= 2 * 86_400


async def test_a_row_that_cannot_be_read_ends_nothing(seen, own_gateway, database_url):
    """A later release may write what this one cannot read."""
    file_id = await own_gateway.new_file(metadata={"a": "b"})
    session = await asyncpg.connect(database_url)
    await session.execute(
        "update files set state = "
        'regexp_replace(state::text, \'"updated_at":"2\', \'"updated_at":"no\')::json '
        "where id = $1",
        file_id,
    )
    await session.close()

    assert (1, 0, 0) == await seen.look()
