"""
A browser's EventSource, thousands of them: comes back by itself, with its last id.

Source: WHATWG HTML, "Server-sent events".
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from typing import cast

from bench.server import get
from bench.soak.ledger import Ledger
from local.environment import LOOPBACK

DEFAULT_RETRY_S = 2.0

_END = b"\n\n"
_RETRY = re.compile(rb"^retry: (\d+)$", re.MULTILINE)
_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)
_DATA = re.compile(rb"^data: (.*)$", re.MULTILINE)
_EVENT = re.compile(rb"^event: (\w+)$", re.MULTILINE)


class Tab(asyncio.Protocol):
    """
    One EventSource.

    Attributes:
        last: Seq of the last event it has.
        connects: How often it was let in.
        is_open: Whether it reads a stream.
        is_done: It was told that nothing can follow.
        is_dead: It was answered in a way that a browser never comes back from.
        on_event: Called after each event.
        happened: What came, by name; shared by many.

    Args:
        retry_s: To come back after, whatever the server says.
        hosts: Where gateways are; each time it goes to the next one.
    """

    def __init__(
        self,
        port: int,
        file_id: str,
        token: str,
        ledger: Ledger,
        happened: Counter[str],
        *,
        retry_s: float | None = None,
        hosts: Sequence[str] = (LOOPBACK,),
    ) -> None:
        self.file_id = file_id
        self.last = 0
        self.connects = 0
        self.is_open = self.is_done = self.is_dead = False
        self.on_event: Callable[[Tab], None] = lambda _: None
        self.happened = happened
        self._port = port
        self._hosts = cycle(hosts)
        self._token = token
        self._ledger = ledger
        self._retry_s = retry_s or DEFAULT_RETRY_S
        self._obeys = retry_s is None
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._coming: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._left = False

    def come(self) -> None:
        """Connect, now and whenever the connection is lost."""
        self._coming = asyncio.ensure_future(self._connect())

    def cut(self) -> None:
        """Lose the connection."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Close for good."""
        self._left = True
        if self._coming is not None:
            self._coming.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream, from where it was left."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._transport.write(
            get(
                f"/v1/files/{self.file_id}/events",
                f"Authorization: Bearer {self._token}",
                "Accept: text/event-stream",
                f"Last-Event-ID: {self.last}",
            )
            + b"\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        received = self._received + data
        if not self.is_open:
            head, end, received = received.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            self._begin(head)
        *frames, self._received = received.split(_END)
        for frame in frames:
            self._take(frame)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Come back after a while, unless told otherwise."""
        self._transport = None
        self.is_open = False
        if not (self._left or self.is_done or self.is_dead):
            loop = asyncio.get_running_loop()
            self._coming = loop.call_later(self._retry_s, self.come)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, next(self._hosts), self._port)
        except OSError:
            self.happened["refused connection"] += 1
            self._coming = loop.call_later(self._retry_s, self.come)

    def _begin(self, head: bytes) -> None:
        status = head[9:12]
        self.happened[f"answer {status.decode()}"] += 1
        self.connects += 1
        if status == b"200":
            self.is_open = True
        elif status == b"204":
            self.is_done = True
            self._ledger.finish(self.file_id, self.last)
        else:
            self.is_dead = True

    def _take(self, frame: bytes) -> None:
        if self._obeys and (retry := _RETRY.search(frame)):
            self._retry_s = int(retry[1]) / 1000
        named = _EVENT.search(frame)
        if named is not None:
            name = named[1].decode()
            data = _DATA.search(frame)
            said = data[1].decode() if data and name in {"bye", "reset"} else ""
            self.happened[f"{name} {said}".strip()] += 1
        elif (number := _ID.search(frame)) and (data := _DATA.search(frame)):
            seq = int(number[1])
            self._ledger.receive(self.file_id, self.last, seq, data[1])
            self.last = seq
            self.on_event(self)


async def until(so: Callable[[], bool], *, limit_s: float) -> bool:
    """Wait for something to be so; returns whether it came to be."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while True:
                if so():
                    return True
                await asyncio.sleep(0.02)
    return so()
