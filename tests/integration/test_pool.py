"""Whatever the database does, the rest of us hears one of our own words."""

import asyncio
import os
import signal

import asyncpg
import pytest

from gateway.errors import UnavailableError
from gateway.store.pool import Pool, why

PAST_THE_POOLER = (
    "REELREADY_DATABASE_URL leads to a transaction pooler that keeps no prepared"
    " statements: lead it past that, or let it keep them (max_prepared_statements)"
)


@pytest.fixture
async def pool(gateway):
    async with Pool(gateway.config.database_url, max_connections=2) as one:
        yield one


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        TimeoutError(),
        asyncpg.TooManyConnectionsError("full"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.UndefinedTableError("not migrated"),
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InternalClientError("cannot switch to state 12"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_passes_is_unavailable(pool, error):
    with pytest.raises(UnavailableError) as caught:
        async with pool.acquire():
            raise error

    assert error is caught.value.__cause__
    await pool.ping()


async def test_what_is_wrong_with_a_value_is_said_as_it_is(pool):
    with pytest.raises(asyncpg.DataError):
        async with pool.acquire() as connection:
            await connection.fetch("select 1 / 0")


async def test_a_session_that_was_ended_by_the_server_passes(pool):
    for _ in range(20):
        async with pool.acquire() as connection:
            pid = await connection.fetchval("select pg_backend_pid()")
        async with pool.acquire() as one, pool.acquire() as two:
            other = two if one.get_server_pid() == pid else one
            await other.execute("select pg_terminate_backend($1)", pid)
        for _ in range(3):
            try:
                await pool.ping()
            except UnavailableError:
                continue
            break
        else:
            pytest.fail("it does not come back")


@pytest.fixture
async def stopped(pool):
    """All sessions of the pool answer nothing any more."""
    async with pool.acquire() as one, pool.acquire() as two:
        pids = [one.get_server_pid(), two.get_server_pid()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.usefixtures("stopped")
async def test_a_session_that_does_not_answer_is_given_up_with_all_others(pool):
    async with asyncio.timeout(10):
        with pytest.raises(UnavailableError):
            await pool.ping()

        await pool.ping()


@pytest.mark.usefixtures("stopped")
async def test_who_is_cancelled_stays_so_though_the_session_does_not_answer(pool):
    """Else a writer that must end would go on."""
    asking = asyncio.create_task(pool.ping())
    done, _ = await asyncio.wait([asking], timeout=0.2)
    assert not done

    asking.cancel()

    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, "the database is not connected"),
        (ConnectionResetError(), "ConnectionResetError"),
        (asyncpg.TooManyConnectionsError("full\nHINT: wait"), "full"),
        (
            asyncpg.UndefinedTableError("there is no files"),
            "there is no files: `reelready migrate` has to run",
        ),
        (
            asyncpg.InvalidSQLStatementNameError("there is no stmt_1"),
            PAST_THE_POOLER,
        ),
    ],
)
def test_an_operator_is_told_why(cause, expected):
    error = UnavailableError("the database is not connected")
    error.__cause__ = cause

    assert expected == why(error) == why(cause or error)
