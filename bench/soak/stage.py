"""
What a fault is acted on: a Postgres and gateways that may be killed.

The listening socket belongs to this process and outlives every gateway, as it
does under systemd; what comes while none accepts waits in its backlog.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg

from bench.children import Children
from bench.errors import RunError
from bench.ours import Secrets, environment
from bench.procfs import tree
from bench.server import Terms, get
from bench.soak.metrics import totals
from local.environment import LOOPBACK
from local.postgres import Postgres, PostgresError
from workers.migrate import migrate

BACKLOG = 16_384

_PASSED_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What systemd does: the socket becomes descriptor 3 of the service."""

_SERVE = ("-m", "gateway", "serve")
_BACK_S = 60.0
_ANSWER_S = 10.0
_POLL_S = 0.02


class Stage:
    """
    `async with Stage() as stage:` and start a gateway.

    Args:
        settings: Besides those that every gateway needs.
        keeps_socket: Whether we listen, and not each gateway anew.
        address: Where the gateways listen.
        postgres: Settings of Postgres, besides ours.
        folder: Where Postgres has its data; made when left out.

    Attributes:
        known: Secrets of the gateways.
        gateway: The newest one's process.
        port: Where the gateways listen.
        url: Of the database; gateways that are started later may be led another way.
    """

    known: Secrets
    gateway: asyncio.subprocess.Process
    port: int
    url: str

    def __init__(
        self,
        *,
        settings: dict[str, str] | None = None,
        keeps_socket: bool = True,
        address: str = LOOPBACK,
        postgres: dict[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._settings = settings or {}
        self._keeps_socket = keeps_socket
        self._of_postgres = postgres
        self._folder = folder
        self.address = address
        self._leave = AsyncExitStack()
        self._started = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self.children = await self._leave.enter_async_context(Children())
            folder = self._folder or self.children.temporary("postgres-")
            folder.chmod(0o711)  # Postgres may run as another user
            self._postgres = await self._leave.enter_async_context(
                Postgres(
                    folder,
                    watchdog=self.children.watchdog,
                    settings=self._of_postgres,
                )
            )
            self.url = self._postgres.url
            await migrate(self.url)
            self._socket = self._leave.enter_context(
                socket.create_server((self.address, 0), backlog=BACKLOG)
            )
            self.port = int(self._socket.getsockname()[1])
            if not self._keeps_socket:
                self._socket.close()
        except BaseException:
            await self._leave.aclose()
            raise
        self.known = Secrets.made()
        self._leave.push_async_callback(self._started.aclose)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leave.aclose()

    async def start_gateway(
        self, command: tuple[str, ...] = _SERVE, *, is_talking: bool = False
    ) -> None:
        """Start another one; the one before it may still be there."""
        inherits = [self._socket.fileno()] if self._keeps_socket else []
        passed_on = ["-c", _PASSED_ON, *map(str, inherits)] if inherits else []
        self.gateway = await self._started.enter_async_context(
            self.children.child(
                "gateway",
                [sys.executable, *passed_on, *command],
                env=self.environment(),
                is_server=True,
                is_talking=is_talking,
                inherits=inherits,
            )
        )

    def environment(self) -> dict[str, str]:
        """Settings of a process beside the gateway, and of the gateway itself."""
        env = environment(self.known, self.url, self.port, Terms(files=0))
        return env | {f"REELREADY_{name}": one for name, one in self._settings.items()}

    async def end_gateway(self, by: signal.Signals = signal.SIGKILL) -> float:
        """Signal the newest one and wait; returns how many seconds it took."""
        asked_s = time.monotonic()
        with suppress(ProcessLookupError):
            self.gateway.send_signal(by)
        await self.gateway.wait()
        took_s = time.monotonic() - asked_s
        await self._started.aclose()
        return took_s

    async def ready(self) -> None:
        """
        Wait until the gateway hears its own doorbell.

        Raises:
            RunError: It does not.
        """
        deadline_s = time.monotonic() + _BACK_S
        while time.monotonic() < deadline_s:
            if (await self.ask("/readyz")).startswith(b"HTTP/1.1 200"):
                return
            await asyncio.sleep(_POLL_S)
        raise RunError(f"not ready: {self.children.last_words('gateway')}")

    async def ask(self, path: str) -> bytes:
        """GET something without a credential; nothing if it gives no answer."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection(self.address, self.port)
                writer.write(get(path, "Connection: close") + b"\r\n")
                answer = await reader.read()
                writer.close()
                return answer
        return b""

    async def metrics(self) -> dict[str, int]:
        """
        Read what the gateway counts.

        Raises:
            RunError: It does not say.
        """
        answer = await self.ask("/metrics")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RunError(f"no metrics: {self.children.last_words('gateway')}")
        return totals(answer.decode())

    async def alive(self) -> None:
        """
        Wait until the gateway serves.

        Raises:
            RunError: It does not.
        """
        deadline_s = time.monotonic() + _BACK_S
        while not (await self.ask("/healthz")).startswith(b"HTTP/1.1 200"):
            if time.monotonic() > deadline_s:
                raise RunError(f"not alive: {self.children.last_words('gateway')}")
            await asyncio.sleep(_POLL_S)

    def pids(self) -> list[int]:
        """Processes of the newest gateway."""
        return tree(self.gateway.pid)

    @property
    def postgres_is_alive(self) -> bool:
        """Whether its postmaster runs."""
        return self._postgres.is_alive

    def postgres_pids(self) -> list[int]:
        """Its postmaster and all sessions there are."""
        return tree(self._postgres.pid)

    def kill_postgres(self) -> None:
        """Kill -9 the postmaster; its sessions end with it."""
        os.kill(self._postgres.pid, signal.SIGKILL)

    async def start_postgres(self) -> None:
        """
        Start it again and wait until it answers.

        Raises:
            RunError: It does not come back.
        """
        deadline_s = time.monotonic() + _BACK_S
        while time.monotonic() < deadline_s:
            # Until the last session has noticed, its shared memory is in use.
            with suppress(PostgresError, OSError, asyncpg.PostgresError):
                async with self._postgres.stopped():
                    pass
                await (await asyncpg.connect(self.url)).close()
                return
            await asyncio.sleep(_POLL_S)
        raise RunError("Postgres does not come back")

    @asynccontextmanager
    async def database(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """Look behind the gateway's back."""
        connection = await asyncpg.connect(self.url)
        try:
            yield connection
        finally:
            await connection.close()
