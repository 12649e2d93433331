"""
Child processes, each ended by its own pid, whatever happens to the bench.

A watchdog process outlives us: it ends them and removes our folder when we are
killed without a chance to do it.
"""

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import (
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path
from ssl import SSLContext
from tempfile import mkdtemp
from types import TracebackType
from typing import Self

from bench.cores import on_server_core
from bench.errors import RunError
from local.environment import LOOPBACK
from local.postgres_account import temporary_folder
from local.watchdog import Watchdog

_GRACE_S = 5.0
_POLL_S = 0.02
_UP_S = 30.0
_TRY_S = 3.0
_PORTS = range(10_000, 32_768)
"""Below those that connections from here are given."""


class Children:
    """
    The processes and the temporary folder of one bench.

    Attributes:
        folder: For logs, plans and data; goes with the last of them.
        watchdog: For what starts processes itself.
    """

    folder: Path
    watchdog: Watchdog

    def __init__(self) -> None:
        self._leave = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.watchdog = self._leave.enter_context(Watchdog())
        folders = self._leave.enter_context(ExitStack())
        self.folder = temporary_folder("reelready-bench-", self.watchdog, folders)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave.aclose()

    @asynccontextmanager
    async def child(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        is_server: bool = False,
        is_talking: bool = False,
        inherits: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> AsyncIterator[asyncio.subprocess.Process]:
        """
        Run one child for the length of the block.

        Args:
            is_server: It is what is measured: it runs on the server's core.
            is_talking: Its standard input and output are pipes.
            inherits: Descriptors of ours that it has, too.
            cwd: The folder it runs in; absent: ours.
        """
        pipe = asyncio.subprocess.PIPE if is_talking else None
        core = on_server_core() if is_server else nullcontext()
        with self.log(name).open("ab") as log, core:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=dict(env),
                stdin=pipe or asyncio.subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                start_new_session=True,
                pass_fds=inherits,
                cwd=cwd,
            )
        self.watchdog.end(process.pid)
        try:
            yield process
        finally:
            await asyncio.shield(_end(process))
            self.watchdog.forget(process.pid)

    def log(self, name: str) -> Path:
        """Where a child of this name says what it says besides."""
        return self.folder / f"{name}.log"

    def last_words(self, name: str) -> str:
        """The last line of its log."""
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def temporary(self, prefix: str) -> Path:
        """Make a folder of one run; goes with everything else."""
        return Path(mkdtemp(prefix=prefix, dir=self.folder))


def free_port() -> int:
    """
    A port of 127.0.0.1 that nobody listens on now, nor will by accident.

    Raises:
        RunError: Every port that was tried is taken.
    """
    for port in random.sample(_PORTS, 100):
        with suppress(OSError), socket.create_server((LOOPBACK, port)):
            return port
    raise RunError("no port is free")


async def listening(
    port: int,
    process: asyncio.subprocess.Process,
    children: Children,
    name: str,
    *,
    ssl: SSLContext | None = None,
) -> None:
    """
    Wait until a child takes connections.

    Args:
        ssl: To shake hands with it, too.

    Raises:
        RunError: It ended, or did not come up in time.
    """
    deadline = time.monotonic() + _UP_S
    while process.returncode is None and time.monotonic() < deadline:
        # Who comes while it starts may be left without an answer.
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TRY_S):
                _, writer = await asyncio.open_connection(LOOPBACK, port, ssl=ssl)
            writer.close()
            return
        await asyncio.sleep(_POLL_S)
    raise RunError(f"{name} did not come up: {children.last_words(name)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, after a grace SIGKILL to its whole group, and reap it."""
    with suppress(ProcessLookupError):
        process.terminate()
    if process.stdin is not None:
        process.stdin.close()
    gone = asyncio.ensure_future(process.wait())
    await asyncio.wait([gone], timeout=_GRACE_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await gone
