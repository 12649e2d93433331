"""A door to tables in memory, and a transport that keeps what is written."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Self

from gateway.config import Config
from gateway.errors import GatewayError
from gateway.feed import Feed
from gateway.hub import Hub
from gateway.ingest import Ingest
from gateway.memory import Memory
from gateway.model import Seq
from gateway.parking import Lot
from gateway.store.append import Answer, Incoming
from gateway.telemetry import Metrics
from gateway.web.access import Access
from gateway.web.connection import Connection
from gateway.web.door import Door
from gateway.web.headers import CommonHeaders
from gateway.web.ingest import IngestRoutes
from gateway.web.waiting import Waiting
from tests.unit.gateway.fakes import FakeHistory, settle
from tests.unit.gateway.turned import TurnedWheel

API_KEY = "k" * 40
INGEST_KEY = b"i" * 24


def config(**settings: Any) -> Config:
    """What has to be set, and these."""
    return Config(
        **{
            "database_url": "postgresql://h/d",
            "listen_database_url": "postgresql://h/d",
            "bucket": "b",
            "playback_base_url": "https://play.example.com/",
            "public_url": "https://gateway.example.com/",
            "ingest_secrets": (INGEST_KEY,),
            "api_keys": (API_KEY,),
            "token_secrets": ("t" * 40,),
        }
        | settings
    )


class FakeTransport(asyncio.Transport):
    """
    Takes everything, until it is `full`.

    Attributes:
        written: What came through.
        buffered: What waits for room.
    """

    def __init__(self, *, can_half_close: bool = True) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""
        self.buffered = b""
        self.full = False
        self.ended = self.closing = self.lost = False
        self.high = 65536
        self.protocol: Any = None
        self._paused = False
        self._can_half_close = can_half_close

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        assert not self.closing, "written after the close"
        if self.full:
            self.buffered += data
            self._tell()
        else:
            self.written += data

    def make_room(self) -> None:
        """Let out what waits."""
        self.full = False
        self.written, self.buffered = self.written + self.buffered, b""
        self._tell()
        if self.closing:
            self._lose()

    def set_write_buffer_limits(self, high=None, low=None) -> None:
        self.high = 65536 if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self.buffered)

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return self._can_half_close

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closing = True
        if not self.buffered:
            self._lose()

    def abort(self) -> None:
        self.closing = True
        self._lose()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def _tell(self) -> None:
        if len(self.buffered) > self.high and not self._paused:
            self._paused = True
            self.protocol.pause_writing()
        elif not self.buffered and self._paused:
            self._paused = False
            self.protocol.resume_writing()


class Cold(asyncio.Protocol):
    """Stands for aiohttp."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.received = b""
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self._on_lost()


class Rooms:
    """
    Everything behind a door.

    Attributes:
        stored: The reports that were accepted.
        cold: Connections that were handed over.
    """

    def __init__(self, heads: dict[str, int], **settings: Any) -> None:
        read = config(**settings)
        self.hub = Hub()
        self.wheel = TurnedWheel()
        self.history = FakeHistory(heads)
        self.metrics = Metrics()
        self.stored: list[Incoming] = []
        self.cold: list[Cold] = []
        self.lot = Lot(
            self.hub, self.wheel, self.metrics, heartbeat_s=read.heartbeat_seconds
        )
        self.memory = Memory(self.metrics)
        access = Access(read, self.hub, self.memory, self.metrics)
        self._feed = Feed(self.hub, self.history, self.metrics)
        self._ingest = Ingest(self._append, self.metrics)
        self.door = Door(
            waiting=Waiting(read, self.lot, access),
            ingest=IngestRoutes(read, self._ingest, self.memory),
            access=access,
            cold=self._hand_over,
            wheel=self.wheel,
            headers=CommonHeaders(read.allowed_origins),
            metrics=self.metrics,
        )

    def connect(self, **how: Any) -> tuple[Connection, FakeTransport]:
        """Let one client in."""
        connection, transport = self.door(), FakeTransport(**how)
        transport.protocol = connection
        connection.connection_made(transport)
        return connection, transport

    def ring(self, file_id: str, seq: int) -> None:
        """Let a file move."""
        self.history.heads[file_id] = seq
        self.hub.ring([(file_id, Seq(seq))])

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(work.run()) for work in (self._feed, self._ingest)
        ]
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _append(self, batch: Collection[Incoming]) -> list[Answer | GatewayError]:
        self.stored += batch
        return [Answer("applied", Seq(2)) for _ in batch]

    def _hand_over(self, on_lost: Callable[[], None]) -> Cold:
        self.cold.append(Cold(on_lost))
        return self.cold[-1]
