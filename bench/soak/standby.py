"""
A standby that streams from a primary, and may be left behind and promoted.

Source: PostgreSQL manual, "Log-Shipping Standby Servers", `pg_basebackup`.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from bench.children import Children
from bench.errors import RunError
from local.postgres import Postgres
from local.postgres_account import Account, find_binaries
from local.whole_file import write_whole

REPLICATES = {"wal_level": "replica", "max_wal_senders": "4"}
"""Settings of the primary."""

_BACKUP_S = 60.0
_REACHED_S = 60.0
_POLL_S = 0.02


@asynccontextmanager
async def standby_of(url: str, children: Children) -> AsyncIterator[Postgres]:
    """
    Copy a primary and follow it for the length of the block.

    Raises:
        RunError: It cannot be copied.
    """
    folder = children.temporary("standby-")
    folder.chmod(0o711)  # Postgres may run as another user
    await asyncio.to_thread(_copy, url, folder, children)
    write_whole(folder / "password", urlsplit(url).password or "", mode=0o600)
    async with Postgres(
        folder, watchdog=children.watchdog, settings=REPLICATES
    ) as standby:
        yield standby


async def has_all(standby: Postgres, primary_url: str) -> None:
    """
    Wait until a standby has replayed all that the primary has committed.

    Raises:
        TimeoutError: It does not.
    """
    position = await _ask(primary_url, "select pg_current_wal_flush_lsn()::text")
    await _until(standby, f"select pg_last_wal_replay_lsn() >= '{position}'::pg_lsn")


async def leave_behind(standby: Postgres) -> None:
    """
    Let a standby hear nothing more of its primary.

    Raises:
        TimeoutError: It still does.
    """
    await _ask(standby.url, "alter system set primary_conninfo = ''")
    await _ask(standby.url, "select pg_reload_conf()")
    await _until(standby, "select count(*) = 0 from pg_stat_wal_receiver")


async def promote(standby: Postgres) -> None:
    """
    Make it a primary of its own.

    Raises:
        RunError: It does not become one.
    """
    if not await _ask(standby.url, "select pg_promote()"):
        raise RunError("the standby is not promoted")


async def _until(standby: Postgres, so: str) -> None:
    async with asyncio.timeout(_REACHED_S):
        while not await _ask(standby.url, so):  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(_POLL_S)


async def _ask(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def _copy(url: str, folder: Path, children: Children) -> None:
    account = Account.find()
    data = folder / "data"
    account.make_folder(data)
    with ExitStack() as leave:
        binaries = find_binaries(account, children.watchdog, leave)
        process = account.start(
            [
                str(binaries / "pg_basebackup"),
                *("--pgdata", account.name_of(data), "--dbname", url),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            folder=data,
            output=subprocess.PIPE,
        )
        try:
            said, _ = process.communicate(timeout=_BACKUP_S)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise RunError(f"pg_basebackup: {said.decode(errors='replace').strip()}")
