"""A legacy client: long-polls one after the other, from its cursor."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from typing import cast

import msgspec

from bench.server import get
from bench.soak.ledger import Ledger
from local.environment import LOOPBACK

_LENGTH = re.compile(rb"^content-length: (\d+)\r$", re.MULTILINE | re.IGNORECASE)
_WAIT_S = 25


class _Answer(msgspec.Struct):
    events: list[msgspec.Raw]
    after: int
    final: bool


class _Seq(msgspec.Struct):
    seq: int


class Poller(asyncio.Protocol):
    """
    One client.

    Attributes:
        last: Seq of the last event it has.
        answers: How many polls were answered.
        is_open: Whether it waits for an answer.
        is_done: It was told that nothing can follow.

    Args:
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
        retry_s: float = 1.0,
        hosts: Sequence[str] = (LOOPBACK,),
    ) -> None:
        self.file_id = file_id
        self.last = 0
        self.answers = 0
        self.is_open = self.is_done = False
        self.happened = happened
        self._port = port
        self._hosts = cycle(hosts)
        self._token = token
        self._ledger = ledger
        self._retry_s = retry_s
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
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a whole answer."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r")
        if end and length and len(body) >= int(length[1]):
            self._received = b""
            self.is_open = False
            self._take(head[9:12].decode(), body)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Come back after a while."""
        self._transport = None
        self.is_open = False
        if not (self._left or self.is_done):
            loop = asyncio.get_running_loop()
            self._coming = loop.call_later(self._retry_s, self.come)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            await loop.create_connection(lambda: self, next(self._hosts), self._port)
            return
        self.happened["refused connection"] += 1
        self._coming = loop.call_later(self._retry_s, self.come)

    def _ask(self) -> None:
        if self._transport is None:
            return
        self.is_open = True
        path = f"/v1/files/{self.file_id}/events?after={self.last}&wait={_WAIT_S}"
        token = f"Authorization: Bearer {self._token}"
        self._transport.write(get(path, token) + b"\r\n")

    def _take(self, status: str, body: bytes) -> None:
        self.happened[f"poll answered {status}"] += 1
        if status != "200":
            loop = asyncio.get_running_loop()
            self._coming = loop.call_later(self._retry_s, self._ask)
            return
        self.answers += 1
        said = msgspec.json.decode(body, type=_Answer)
        for event in said.events:
            seq = msgspec.json.decode(event, type=_Seq).seq
            self._ledger.receive(self.file_id, self.last, seq, bytes(event))
            self.last = seq
        self.is_done = said.final
        if not said.final:
            self._ask()
            return
        self._ledger.finish(self.file_id, self.last)
        if self._transport is not None:
            self._transport.close()
