"""
One gateway on tables in memory, wired as `gateway.app` wires it.

Its clock of tokens is the loop's, so that an hour passes when it is told to.
"""

# ruff: noqa: SLF001 - what is left behind can only be seen from inside

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from unittest.mock import patch

from bench.invariants.tables import Session, Tables
from bench.invariants.transport import Transport
from bench.invariants.turned_loop import TurnedLoop
from gateway.config import Config
from gateway.errors import UnavailableError
from gateway.feed import Feed
from gateway.hub import Hub
from gateway.ingest import Ingest
from gateway.memory import Memory
from gateway.parking import Lot
from gateway.protocol import notification
from gateway.telemetry import Metrics
from gateway.web.access import Access
from gateway.web.connection import Connection
from gateway.web.door import Door
from gateway.web.headers import CommonHeaders
from gateway.web.ingest import IngestRoutes
from gateway.web.waiting import Waiting
from gateway.wheel import Wheel

API_KEY = "k" * 40
TOKEN_SECRET = "t" * 40
INGEST_KEY = b"i" * 24
BUCKET = "reelready-test"

CONFIG = Config(
    database_url="postgresql://h/d",
    listen_database_url="postgresql://h/d",
    bucket=BUCKET,
    playback_base_url="https://play.example.com/",
    public_url="https://gateway.example.com/",
    ingest_secrets=(INGEST_KEY,),
    api_keys=(API_KEY,),
    token_secrets=(TOKEN_SECRET,),
    max_subscribers_per_ip=10_000,
    stream_max_age_seconds=60,
)

_METRICS = Metrics()
"""Of all rooms; what they say is not judged here."""

_MEMORY = Memory(_METRICS)
"""Nobody looks, so it is never full."""


@contextmanager
def clock_of(loop: TurnedLoop) -> Iterator[None]:
    """Let tokens age by the loop's clock."""
    clock = SimpleNamespace(time=loop.time)
    with patch("gateway.auth.time", clock), patch("gateway.web.waiting.time", clock):
        yield


class Rooms:
    """
    Everything of one gateway that has started.

    Attributes:
        doorbells: What its listener has not said yet.
        deaf: Whether its listener hears nothing.
    """

    def __init__(self, tables: Tables) -> None:
        self.session = Session(tables)
        self.doorbells: deque[str] = deque()
        self.deaf = False
        self.hub = Hub()
        wheel = Wheel()
        self.feed = Feed(self.hub, self.session, _METRICS)  # type: ignore[arg-type]
        self.session.followers = self.feed
        ingest = Ingest(self.session.append, _METRICS)  # type: ignore[arg-type]
        self.lot = Lot(self.hub, wheel, _METRICS, heartbeat_s=CONFIG.heartbeat_seconds)
        self.access = Access(CONFIG, self.hub, _MEMORY, _METRICS)
        self.door = Door(
            waiting=Waiting(CONFIG, self.lot, self.access),
            ingest=IngestRoutes(CONFIG, ingest, _MEMORY),
            access=self.access,
            cold=_refuse_to_hand_over,
            wheel=wheel,
            headers=CommonHeaders(CONFIG.allowed_origins),
            metrics=_METRICS,
        )
        loop = asyncio.get_running_loop()
        work = (self.feed.run(), ingest.run(), wheel.run())
        self._tasks = [loop.create_task(one) for one in work]
        self._tables = tables
        tables.listeners.append(self.doorbells)

    def look(self) -> None:
        """Let the listener look at the table; it hears again if it can."""
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._look()))

    def connect(self) -> Transport:
        """Let one client in."""
        transport = Transport()
        connection: Connection = self.door()
        transport.protocol = connection
        connection.connection_made(transport)
        return transport

    def hear(self) -> None:
        """Let the listener say what it heard."""
        while self.doorbells:
            payload = self.doorbells.popleft()
            if not self.deaf:
                self.feed.ring(notification.decode(payload))

    async def _look(self) -> None:
        with suppress(UnavailableError):
            await self.feed.look()
            self.deaf = False

    def held(self) -> dict[str, int]:
        """Count everything that is kept for anybody."""
        return {
            "subscribers": len(self.hub),
            "files": len(self.hub._files),
            "behind": len(self.hub._behind),
            "polls": self.lot.polls,
            "streams": self.lot.streams,
            "connections": len(self.door.connections),
            "bytes": self.door.held_bytes,
            "addresses": len(self.access._waiting),
            "commits": len(self.feed._committing),
        }

    def must_work(self) -> None:
        """Raise what any of its tasks has ended with."""
        for task in self._tasks:
            if task.done():
                task.result()
        self._tasks = [one for one in self._tasks if not one.done()]

    def drain(self) -> None:
        """Do as at SIGTERM."""
        self.hub.drain()
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self.door.drain()))

    def stop(self) -> list["asyncio.Task[None]"]:
        """End, with nothing left to write with."""
        self.session.end()
        listeners = self._tables.listeners
        listeners[:] = [one for one in listeners if one is not self.doorbells]
        for task in self._tasks:
            task.cancel()
        return self._tasks


def _refuse_to_hand_over(_: Callable[[], None]) -> asyncio.Protocol:
    raise AssertionError("the steps ask for nothing that aiohttp would serve")
