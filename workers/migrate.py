"""
Apply the numbered SQL of `migrations`, forward only, one process at a time.

Each file is applied once, in its own transaction, under an advisory lock, and
its checksum is kept: a file that was edited after it was applied stops the
start instead of leaving two machines with two schemas.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources

import asyncpg

from gateway.config import PREFIX
from gateway.errors import GatewayError
from gateway.store.pool import PRIMARY, refuse_standby

_LOCK = 7_233_265_017_901
"""Any number nobody else in this database locks by."""

_LEDGER = """
create table if not exists schema_migrations (
    name text primary key,
    sha256 text not null,
    applied_at timestamptz not null default now()
)
"""


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
    Bring a database to this version's schema.

    Returns:
        Names of the files applied now; empty if there was nothing to do.

    Raises:
        ConfigError: It is a standby.
        MigrationError: The database refuses us, an applied file was edited, or
            the database is newer in a way this version does not know.
        OSError: The database cannot be reached.
    """
    await refuse_standby(dsn, f"{PREFIX}DATABASE_URL")
    try:
        connection = await asyncpg.connect(dsn, target_session_attrs=PRIMARY)
    except asyncpg.PostgresError as error:
        raise MigrationError(f"the database refuses us: {error}") from error
    try:
        await connection.execute("select pg_advisory_lock($1)", _LOCK)
        await connection.execute(_LEDGER)
        applied = {
            row["name"]: row["sha256"]
            for row in await connection.fetch(
                "select name, sha256 from schema_migrations"
            )
        }
        known = migrations()
        _check(known, applied)
        pending = [one for one in known if one.name not in applied]
        for one in pending:
            await _apply(connection, one)
        return [one.name for one in pending]
    finally:
        await connection.close()


def _check(known: list[Migration], applied: dict[str, str]) -> None:
    for one in known:
        if applied.get(one.name, one.sha256) != one.sha256:
            raise MigrationError(f"{one.name} was edited after it was applied here")
    if unknown := sorted(applied.keys() - {one.name for one in known}):
        raise MigrationError(f"this database is newer: it has {', '.join(unknown)}")


async def _apply(
    connection: "asyncpg.Connection[asyncpg.Record]", one: Migration
) -> None:
    async with connection.transaction():
        await connection.execute(one.sql)
        await connection.execute(
            "insert into schema_migrations (name, sha256) values ($1, $2)",
            one.name,
            one.sha256,
        )
