"""
One durable Postgres for the whole bench, a fresh database for each run.

It flushes every commit (fsync on), and runs beside the load client, not on the
server's core.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import asyncpg

from bench.children import Children
from bench.procfs import tree
from local.postgres import Postgres

_READS = """
select xact_commit + xact_rollback from pg_stat_database
where datname = current_database()
"""


_SESSIONS = """
select count(*) from pg_stat_activity where application_name like 'reelready%'
"""


@dataclass(frozen=True)
class Database:
    """One database of one run."""

    url: str

    async def transactions(self) -> int:
        """How many transactions it has seen, this one not counted."""
        connection = await asyncpg.connect(self.url)
        try:
            return int(await connection.fetchval(_READS))
        finally:
            await connection.close()


class Databases:
    """The server; `async with` it, then ask for a `fresh` database per run."""

    def __init__(self, children: Children) -> None:
        folder = children.temporary("postgres-")
        folder.chmod(0o711)  # Postgres may run as another user
        self._postgres = Postgres(folder, watchdog=children.watchdog)
        self._made = 0

    async def __aenter__(self) -> Self:
        await self._postgres.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._postgres.__aexit__(kind, error, traceback)

    def pids(self) -> list[int]:
        """Every process of the server."""
        return tree(self._postgres.pid)

    async def sessions(self) -> int:
        """How many sessions gateways hold now."""
        connection = await asyncpg.connect(self._postgres.url)
        try:
            return int(await connection.fetchval(_SESSIONS))
        finally:
            await connection.close()

    async def version(self) -> str:
        """As it says itself."""
        connection = await asyncpg.connect(self._postgres.url)
        try:
            return str(await connection.fetchval("show server_version"))
        finally:
            await connection.close()

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Database]:
        """Make an empty database, dropped with the block."""
        self._made += 1
        name = f"run_{self._made}"
        connection = await asyncpg.connect(self._postgres.url)
        try:
            await connection.execute(f"create database {name}")
            try:
                url = urlsplit(self._postgres.url)._replace(path=f"/{name}")
                yield Database(url.geturl())
            finally:
                await connection.execute(f"drop database {name} with (force)")
        finally:
            await connection.close()
