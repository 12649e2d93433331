"""
Connections to Postgres, and the one place where its failures get our words.

Sessions are with a primary or not at all: what a standby says may be older than
what a client has seen.

JSON columns travel as the bytes they are: what was encoded once is stored,
read and sent without being parsed in between.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self, TypeAlias

import asyncpg
from asyncpg.connect_utils import SessionAttribute
from asyncpg.pool import PoolConnectionProxy

from gateway.config import PREFIX, Config
from gateway.errors import ConfigError, UnavailableError

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

ACQUIRE_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_S = 2.0
"""Ten times what the largest reading takes; whoever waits is better told."""

RELEASE_TIMEOUT_S = 0.5
"""For the server to hear that a statement was given up."""

PROMOTION_S = 5.0
"""Less often restarted than that, no supervisor gives a service up."""

_AGAIN_S = 0.25

PRIMARY = SessionAttribute.primary
"""`target_session_attrs` of every session that we open."""

_BY_KEY = """
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off
"""
"""
Every statement here finds rows by key, for one report or for hundreds: planned
once, and never as a scan, of a table or of an index, because the tables were
small on that day.

The settings forbid scans of tables.  Of an index Postgres scans all if its order looks
useful, as it does for `key = other`.  With `key = any (array[other])` there is nothing
to do but look the key up; nor is there in a lateral subselect with a limit, which takes
no locks here and is the faster one where little else is read.
"""

ON_DISK = """
case when current_setting('synchronous_commit') = 'off'
     then set_config('synchronous_commit', 'on', true) end
"""
"""
A statement that selects or returns this is committed to disk, whatever the default
of server, database or role.  Not a matter of the session: a pooler leads statements
to others, and a default may change at any time.
"""

_IDENTITY = """
select concat_ws(
    '/', split_part(reelready_epoch(), '/', 1), 'files'::regclass::oid::text,
    current_database()
)
"""

_OURS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""What is wrong with the values we gave; everything else is the database's state."""

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # A session used between the server's last word and the end of its socket.
    asyncpg.InternalClientError,
)
"""
What passes, by itself or by an operator: network, restart, overload, a full
disk, a failover, a changed password, a schema not yet migrated.
"""

POOLED = (
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)
"""A pooler has led a session to a server that has not what it prepared, or has it."""

_OTHER_SCHEMA = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)
_PAST_IT = (
    "%sDATABASE_URL leads to a transaction pooler that keeps no prepared"
    " statements: lead it past that, or let it keep them (max_prepared_statements)"
)
_AWAY_YET = (
    "%s: cannot be used yet: %s; is the server up, and do its address, user and password"
    " fit?"
)

_log = logging.getLogger("reelready.pool")


class Pool:
    """
    Postgres connections of one process.

    Opens lazily, so the gateway starts, and says it is not ready, while the
    database is away.

    Args:
        statement_timeout_s: Of each statement; then it counts as away.
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_connections: int,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        self._dsn = dsn
        self._max_connections = max_connections
        self._statement_timeout_s = statement_timeout_s
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._is_pooled = False

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._max_connections,
            init=_prepare,
            reset=_as_it_is,
            timeout=ACQUIRE_TIMEOUT_S,
            command_timeout=self._statement_timeout_s,
            target_session_attrs=PRIMARY,
            server_settings={"application_name": "reelready"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """
        Borrow a connection.

        Raises:
            UnavailableError: The database is away, full or too slow.
        """
        if self._pool is None:
            raise UnavailableError("the database is not connected")
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
            try:
                yield connection
            except TimeoutError:
                # Whatever holds this session up may do so to all there are.
                await self._pool.expire_connections()
                raise
            finally:
                # It is closed then, and what the block came to stays so.
                with suppress(*AWAY):
                    await self._pool.release(connection, timeout=RELEASE_TIMEOUT_S)
        except _OURS:
            raise
        except asyncpg.TargetServerAttributeNotMatched as error:
            raise UnavailableError("the database is a standby") from error
        except AWAY as error:
            if isinstance(error, POOLED) and not self._is_pooled:
                self._is_pooled = True
                _log.warning(_PAST_IT, PREFIX)
            raise UnavailableError("the database is away") from error

    async def ping(self) -> None:
        """
        Go to the database and back.

        Raises:
            UnavailableError: It is away.
        """
        async with self.acquire() as connection:
            await connection.execute("select 1")

    async def identity(self) -> str:
        """
        Name this database: the same on whichever server has it, and on no other.

        Raises:
            UnavailableError: It is away.
        """
        async with self.acquire() as connection:
            return str(await connection.fetchval(_IDENTITY))

    async def notify(self, channel: str, payload: str) -> None:
        """
        Ring, from a session that reports are written in.

        Raises:
            UnavailableError: It is away.
        """
        async with self.acquire() as connection:
            await connection.execute("select pg_notify($1, $2)", channel, payload)


def why(error: BaseException) -> str:
    """Tell an operator in one line why the database cannot be used, and what to do."""
    cause = error.__cause__ if isinstance(error, UnavailableError) else error
    if cause is None:
        return str(error)
    if isinstance(cause, POOLED):
        return _PAST_IT % PREFIX
    said = next(iter(str(cause).splitlines()), "") or type(cause).__name__
    if isinstance(cause, _OTHER_SCHEMA):
        return f"{said}: `reelready migrate` has to run"
    return said


async def expect_primaries(config: Config) -> None:
    """
    Expect one behind each setting of what writes and LISTENs.

    Raises:
        ConfigError: It is a standby; naming the setting.
    """
    await expect_primary(config.database_url, f"{PREFIX}DATABASE_URL")
    if config.listen_database_url != config.database_url:
        setting = f"{PREFIX}LISTEN_DATABASE_URL"
        await expect_primary(config.listen_database_url, setting)


async def expect_primary(dsn: str, setting: str) -> None:
    """
    Stop a start that is pointed at a standby; say it of one that is away.

    Raises:
        ConfigError: It is a standby; naming the setting.
    """
    if away := await refuse_standby(dsn, setting):
        _log.warning(_AWAY_YET, setting, away)


async def refuse_standby(dsn: str, setting: str) -> str:
    """
    Stop what is pointed at a standby; one that is away is waited for.

    A standby may be about to be promoted: it is given `PROMOTION_S`.

    Returns:
        Why it is away; empty for a primary.

    Raises:
        ConfigError: naming the setting.
    """
    until_s = time.monotonic() + PROMOTION_S
    while True:
        try:
            connection = await asyncpg.connect(
                dsn, timeout=ACQUIRE_TIMEOUT_S, target_session_attrs=PRIMARY
            )
        except asyncpg.TargetServerAttributeNotMatched as error:
            if time.monotonic() > until_s:
                problem = "names a standby, where nothing can be written or listened to"
                raise ConfigError(setting, problem) from error
            await asyncio.sleep(_AGAIN_S)
        except AWAY as error:
            return why(error)
        else:
            connection.terminate()
            return ""


async def _as_it_is(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Spare a round trip: nothing here locks, listens, sets or opens cursors."""


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(_BY_KEY)
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary"
    )
