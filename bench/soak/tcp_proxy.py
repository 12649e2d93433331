"""
A TCP proxy that breaks connections on purpose: it cuts them, or lets nothing by.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from local.environment import LOOPBACK

_CHUNK_BYTES = 65_536


class TcpProxy:
    """
    `async with TcpProxy(port) as proxy:` and connect to `proxy.port`.

    Args:
        host: Where it listens, if not for this machine alone.

    Attributes:
        target: Port that new connections are led to; a failover changes it.
        port: Where it listens.
    """

    port: int

    def __init__(self, target: int, *, host: str = LOOPBACK) -> None:
        self.target = target
        self._host = host
        self._passes = asyncio.Event()
        self._passes.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lead, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        await self.cut()

    def instead_of(self, url: str) -> str:
        """Give the URL of the target by way of this proxy."""
        parts = urlsplit(url)
        who, at, _ = parts.netloc.rpartition("@")
        netloc = f"{who}{at}{self._host}:{self.port}"
        return parts._replace(netloc=netloc).geturl()

    @asynccontextmanager
    async def black_hole(self) -> AsyncIterator[None]:
        """
        Let nothing by for the length of a block, not even the end of a connection.

        What was sent meanwhile arrives afterwards, as TCP would send it again.
        """
        self._passes.clear()
        try:
            yield
        finally:
            self._passes.set()

    async def cut(self) -> None:
        """Reset every connection there is."""
        connections = tuple(self._connections)
        for one in connections:
            one.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _lead(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await self._passes.wait()
            with suppress(OSError):
                there, to_there = await asyncio.open_connection(LOOPBACK, self.target)
                try:
                    await self._pass_both(reader, to_there, there, writer)
                finally:
                    to_there.transport.abort()
        finally:
            writer.transport.abort()

    async def _pass_both(
        self,
        here: asyncio.StreamReader,
        to_there: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        to_here: asyncio.StreamWriter,
    ) -> None:
        """Pass bytes until either side has ended."""
        ways = {
            asyncio.ensure_future(self._pass(here, to_there)),
            asyncio.ensure_future(self._pass(there, to_here)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in ways:
                one.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
        await self._passes.wait()
