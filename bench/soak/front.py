"""
The door without a socket, and without anything behind it.

Routes answer at once or a moment later, so what is seen is where one request
ends and the next one begins, and nothing else.
"""

import asyncio
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.errors import NotFoundError
from gateway.model import FileId
from gateway.parking import Line
from gateway.protocol.http import CONTINUE, Request
from gateway.telemetry import Metrics
from gateway.web.door import Door
from gateway.web.headers import CommonHeaders
from gateway.wheel import Wheel

_TURNS = 2
_LAST_TURNS = 24
_METRICS = Metrics()
_DATE = re.compile(rb"\r\nDate: [^\r]*")


@dataclass
class Seen:
    """
    What came of the bytes of one connection.

    Attributes:
        served: Method, path and body of every request, in order.
        written: What was answered, but for dates.
        handed_over: Bytes that went to aiohttp.
    """

    served: list[tuple[str, str, bytes]] = field(default_factory=list)
    written: bytes = b""
    handed_over: bytes = b""


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.protocol: Any = None
        self.closing = False

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(
        self, high: int | None = None, low: int | None = None
    ) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class _Cold(asyncio.Protocol):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def data_received(self, data: bytes) -> None:
        self._seen.handed_over += data


class _Routes:
    """Stands for what waits and for what takes reports."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def file(self, line: Line, request: Request, _: FileId) -> None:
        self._take(request)
        line.answer(200, (), b"{}")

    def events(self, line: Line, request: Request, _: FileId) -> None:
        self._take(request)
        request.arguments("after")
        request.cookie("reelready")
        line.open_stream(b"")
        line.hang_up()

    def many(self, _: Line, request: Request) -> None:
        self._take(request)
        raise NotFoundError

    def report(self, line: Line, request: Request, _: FileId) -> None:
        self._take(request)
        asyncio.get_running_loop().call_soon(line.answer, 200, (), b"{}")

    def manifest(self, line: Line, request: Request, file_id: FileId) -> None:
        self.report(line, request, file_id)

    def _take(self, request: Request) -> None:
        self._seen.served.append((request.method, request.path, request.body))


class _Anyone:
    """No limits and no addresses."""

    counts = False
    is_memory_full = False

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_args: None


def front(pieces: Iterable[bytes]) -> Seen:
    """
    Let bytes in on one connection, piece by piece.

    Raises:
        Exception: Whatever a callback of the loop raised.
    """
    loop = _loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, said: complaints.append(said))
    seen = loop.run_until_complete(_front(pieces))
    for said in complaints:
        raise said.get("exception") or RuntimeError(said["message"])
    return seen


async def _front(pieces: Iterable[bytes]) -> Seen:
    seen = Seen()
    routes: Any = _Routes(seen)
    anyone: Any = _Anyone()
    door = Door(
        waiting=routes,
        ingest=routes,
        access=anyone,
        cold=lambda _: _Cold(seen),
        wheel=Wheel(),
        headers=CommonHeaders(()),
        metrics=_METRICS,
    )
    connection, transport = door(), _Transport()
    transport.protocol = connection
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closing:
            transport.protocol.data_received(piece)
        for _ in range(_TURNS):
            await asyncio.sleep(0)
    for _ in range(_LAST_TURNS):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    written = bytes(transport.written).replace(CONTINUE, b"")
    seen.written = _DATE.sub(b"", written)
    return seen


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Make one loop for all; making one costs more than what is done on it."""
    return asyncio.new_event_loop()
