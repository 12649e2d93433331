"""
Apply the numbered SQL of `migrations`, forward only, one process at a time.

Each file is applied once, in its own transaction, under an advisory lock, and
its checksum is kept: a file that was edited after it was applied stops the
start instead of leaving two machines with two schemas.  A newer schema stops
nothing, since the way back leads there.

Whoever waits for a lock holds up everybody who asks for one after him, readers
too.  So a file waits for its locks for less than a report waits for its answer,
and lets the others pass before it tries again.
"""

import asyncio
import hashlib
import logging
import random
import time
from dataclasses import dataclass
from importlib import resources

import asyncpg

from gateway.config import PREFIX
from gateway.errors import GatewayError
from gateway.store.pool import ACQUIRE_TIMEOUT_S, AWAY, PRIMARY, refuse_standby

_LOCK = 7_233_265_017_901
"""Any number nobody else in this database locks by."""

_LOCK_TIMEOUT_S = 1.2
"""
Longer than Postgres' `deadlock_timeout` (1 s), when an autovacuum makes way, and
a deadlock ends the try;
shorter than `STATEMENT_TIMEOUT_S`, by what a statement behind us takes itself.
"""

_PAUSE_S = (2.0, 6.0)
"""At least as long as a report waits: no more than one try falls into it."""

_PATIENCE_S = 600.0
"""
Of each file, while others migrate and while its tables are locked: shorter than the
`TimeoutStartSec` of the unit, which would not say why.
"""

_LEDGER = """
create table schema_migrations (
    name text primary key,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""
_APPLIED = "insert into schema_migrations (name, sha256) values ($1, $2)"

# Others show when they began to whoever may see it: pg_monitor, or the same role.
_HOLDERS = """
select string_agg(
    distinct concat_ws(' ', 'pid', pid, nullif(application_name, '')), ', '
)
from pg_locks l join pg_class c on c.oid = l.relation
join pg_stat_activity a using (pid)
where l.granted and pid <> pg_backend_pid() and a.datname = current_database()
  and strpos($1, c.relname) > 0
  and coalesce(a.xact_start < clock_timestamp() - make_interval(secs => $2), true)
"""
"""Who has locked tables that a file ($1) names for as long as it tried ($2)."""

_ENDS = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
"""Postgres' last words in a session."""

_SETTING = f"{PREFIX}DATABASE_URL"
_OLDER = (
    "%s: its schema is older than this release, which stores nothing until"
    " `reelready migrate` has run: %s is missing"
)
_NEWER = (
    "%s: its schema is newer than this release: install the one that has %s here, too"
)
_WAITS = (
    "%s waits for a lock, and tries again for %.0f minutes: its tables are in use by %s"
)

_log = logging.getLogger("reelready.migrate")


class MigrationError(GatewayError):
    """The database and the files of `migrations` contradict each other."""

    code = "migration"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Checksum of the text, for noticing later edits."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Read every numbered file that ships with this version, in order."""
    files = resources.files("migrations").iterdir()
    return sorted(
        (
            Migration(file.name, file.read_text(encoding="utf-8"))
            for file in files
            if file.name.endswith(".sql")
        ),
        key=lambda one: one.name,
    )


async def migrate(dsn: str) -> list[str]:
    """
    Bring a database to this version's schema; a newer one is left as it is.

    Returns:
        Names of the files applied now; empty if there was nothing to do.

    Raises:
        ConfigError: It is a standby.
        MigrationError: The database refuses us or ends the session, `dsn` is
            none, an applied file was edited, it has files of another release and
            lacks some of this one, or others did not give the locks free that a
            file needs.
        OSError: The database cannot be reached.
    """
    await refuse_standby(dsn, _SETTING)
    done: list[str] = []
    try:
        connection = await _connect(dsn)
        try:
            while name := await _apply_next(connection):
                done.append(name)
        finally:
            await connection.close()
    except asyncpg.PostgresError as error:
        raise _refused(error) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise _unusable(error) from error
    return done


async def note_schema(dsn: str) -> None:
    """
    Say at a start that the schema is not this release's; the start goes on.

    The order of an upgrade brings both about: a newer schema is lived with, and
    with an older one nothing is lost, for what cannot be stored is refused.
    """
    try:
        async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
            connection = await _connect(dsn)
            try:
                there = await applied(connection)
            finally:
                connection.terminate()
    except AWAY:
        return  # whoever uses it says so
    known = migrations()
    if missing := [one.name for one in known if one.name not in there]:
        _log.warning(_OLDER, _SETTING, missing[0])
    elif newer := _unknown(known, there):
        _log.warning(_NEWER, _SETTING, newer[-1])


async def applied(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, str]:
    """Read which files a database has, and their checksums."""
    if not await _has_ledger(connection):
        return {}
    rows = await connection.fetch("select name, sha256 from schema_migrations")
    return {row["name"]: row["sha256"] for row in rows}


async def _has_ledger(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    there = "select to_regclass('schema_migrations') is not null"
    return bool(await connection.fetchval(there))


async def _connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    # A transaction pooler keeps no statement from one transaction to the next.
    return await asyncpg.connect(
        dsn, target_session_attrs=PRIMARY, statement_cache_size=0
    )


async def _apply_next(connection: "asyncpg.Connection[asyncpg.Record]") -> str | None:
    """Apply the first file that is missing; returns its name, if there was one."""
    until_s = time.monotonic() + _PATIENCE_S
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
        # "if not exists" asks for the right to create even when it does.
        if not await _has_ledger(connection):
            await connection.execute(_LEDGER)
        there = await applied(connection)
        known = migrations()
        _check(known, there)
        for one in known:
            if one.name not in there:
                await _apply(connection, one, until_s)
                return one.name
    if newer := _unknown(known, there):
        _log.warning(_NEWER, _SETTING, newer[-1])
    return None


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", one: Migration, until_s: float
) -> None:
    """Apply a file; between tries it holds no lock on any table of ours."""
    waits = False
    while True:
        try:
            async with connection.transaction():  # a savepoint
                await connection.execute(
                    f"set local lock_timeout = {_LOCK_TIMEOUT_S * 1000:.0f}"
                )
                await connection.execute(one.sql)
                await connection.execute(_APPLIED, one.name, one.sha256)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            holders = await connection.fetchval(_HOLDERS, one.sql, _LOCK_TIMEOUT_S)
            holders = holders or "others, in turn"
            if time.monotonic() > until_s:
                raise MigrationError(
                    f"{_SETTING}: {one.name} got no lock in {_PATIENCE_S / 60:.0f}"
                    f" minutes: its tables are in use by {holders}; migrate again"
                    " when that has ended"
                ) from error
            if not waits:
                left_s = until_s - time.monotonic()
                _log.warning(_WAITS, one.name, left_s / 60, holders)
                waits = True
            await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - spreads
        except asyncpg.PostgresError as error:
            raise _refused(error, one.name) from error
        else:
            return


def _refused(error: asyncpg.PostgresError, *of: str) -> MigrationError:
    # Without its detail, which may have a row in it.
    return MigrationError(
        ": ".join((_SETTING, *of, f"Postgres refuses us: {error.args[0]}"))
    )


def _unusable(error: Exception) -> MigrationError:
    """Say what ended the session, if it was heard: it is not, between two tries."""
    said: BaseException | None = error
    while said is not None and not isinstance(said, _ENDS):
        said = said.__context__
    words = str((said or error).args[0])
    if said is None and type(error) is asyncpg.InterfaceError:
        words = "the session ended meanwhile; migrate again when Postgres is up"
    return MigrationError(f"{_SETTING}: cannot be used: {words}")


def _check(known: list[Migration], there: dict[str, str]) -> None:
    for one in known:
        if there.get(one.name, one.sha256) != one.sha256:
            raise MigrationError(
                f"{_SETTING}: {one.name} was edited after it was applied here;"
                " install the release that this database is of"
            )
    unknown = _unknown(known, there)
    missing = [one.name for one in known if one.name not in there]
    if unknown and missing:
        raise MigrationError(
            f"{_SETTING}: {unknown[-1]} was applied here without {missing[0]};"
            " install the release that this database is of"
        )


def _unknown(known: list[Migration], there: dict[str, str]) -> list[str]:
    return sorted(there.keys() - {one.name for one in known})
