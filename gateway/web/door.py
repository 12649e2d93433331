"""
The door: every connection comes in here.

What is hot - the waiting GETs and the ingest POSTs - is read and answered
by its `gateway.web.connection`; anything else is handed over to aiohttp, bytes
and all, for the rest of the connection, and aiohttp closes it after its answer.
So each route is served in one place only, and nothing of aiohttp is relied on but
its public protocol (`gateway.web.cold`, `tests/integration/test_aiohttp_contract.py`).
"""

import asyncio
import logging
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from gateway.telemetry import Count, Metrics
from gateway.web.access import Access
from gateway.web.connection import Connection
from gateway.web.headers import CommonHeaders
from gateway.web.ingest import IngestRoutes
from gateway.web.waiting import Waiting
from gateway.wheel import TICK_S, Timed, Wheel

RESERVED_FILES = 192
"""
So many of the files a process may open are kept from waiting clients: a third for
Postgres, S3 and whatever else it opens, the others for who is answered and goes.
"""

SILENT_SHARE = 8
"""
With little memory so many times more may stand in the reserve, if they have not been
answered: many come at once, and none shall be cut off before it was heard.
"""

MAX_HELD_BYTES = 16 * 1024 * 1024
"""Of requests that are not all there, all connections together."""

PROBE_AFTER_S = 15
PROBE_INTERVAL_S = 5
"""A client that only waits is sent nothing that it could fail to take."""

USER_TIMEOUT_MS = 20_000
"""
What was sent must be acknowledged in that time, by a peer that may be gone.  The
kernel looks when it sends again, at intervals that double, so it may be late by
half as much; with a heartbeat before it, all of it stays under 45 s.
"""

SEND_BUFFER_BYTES = 16 * 1024
"""As much as a page; Linux doubles it, for its own records of what it holds."""

COLD_LIMIT_S = 60.0
"""For a request that aiohttp serves, and to take its answer: a file of the page at most."""
COLD_GUEST_LIMIT_S = 5.0
"""The same for whoever stands in the reserve."""

DRAIN_LIMIT_S = 3.0
"""A report is answered within 2 s and a little, stored or not."""


_access_log = logging.getLogger("reelready.access")


class _Cold(Timed):
    """A connection that was handed over."""

    is_being_answered = False
    """As far as we know."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport

    @property
    def is_leaving(self) -> bool:
        """Whether its answer is written, or as much of it as the client lets in."""
        transport = self._transport
        return transport.is_closing() or transport.get_write_buffer_size() > 0

    def on_time(self) -> None:
        """Have had the time there is."""
        self.abort()

    def abort(self) -> None:
        """Close now."""
        self._transport.abort()


_Guest = Connection | _Cold


class Door:
    """What all connections share; called by the server for each new one."""

    def __init__(
        self,
        *,
        waiting: Waiting,
        ingest: IngestRoutes,
        access: Access,
        cold: Callable[[Callable[[], None]], asyncio.Protocol],
        wheel: Wheel,
        headers: CommonHeaders,
        metrics: Metrics,
    ) -> None:
        self.waiting = waiting
        self.ingest = ingest
        self.access = access
        self._cold = cold
        self.wheel = wheel
        self.headers = headers
        self.logs_access = not _access_log.disabled
        self.wants_addresses = self.logs_access or access.counts
        self.held_bytes = 0
        self._holders: dict[Connection, None] = {}
        self.first_reserved, self.last_file = _files()
        self._guests: dict[_Guest, None] = {}
        self._leaving: dict[_Guest, None] = {}
        self._evicted = metrics.evicted
        self._answered: dict[tuple[str, int], Count] = {}
        self._requests = metrics.requests
        self.connections: set[Connection] = set()
        self.idle: dict[Connection, None] = {}
        self.draining = False
        self._left = asyncio.Event()
        metrics.connections.set_function(lambda: len(self.connections))

    def __call__(self) -> Connection:
        return Connection(self)

    def count(self, route: str, status: int) -> None:
        """Count one answer."""
        answered = self._answered.get((route, status))
        if answered is None:
            answered = self._requests.labels(route, status)
            self._answered[route, status] = answered
        answered.inc()

    def takes_reserve(self, connection: Connection, number: int = 0) -> bool:
        """
        Tell whether a connection stands in the reserve: of files, or of memory.

        Whoever does not ask there, or does not take its answer, makes room for the
        next one; if there is no such one, whoever has been served for longest.  Where
        files are short, one that is kept alive and idle gives its own back.

        Args:
            number: Of its descriptor, if it is new.  The kernel gives the lowest that
                is free, so at least as many are open, whatever for (POSIX, "open").
        """
        if number < self.first_reserved and not self.access.is_memory_full:
            return False
        if number >= self.first_reserved and self.idle:
            self._evicted.inc()
            oldest = next(iter(self.idle))
            del self.idle[oldest]
            oldest.retire()
        self._guests[connection] = None
        most = self.last_file - self.first_reserved
        if number < self.first_reserved:
            # Who says nothing costs little memory; an answer that nobody takes, much.
            leaving = (one for one in self._leaving if one.is_leaving)
            if len(self._guests) > most and (one := next(leaving, None)):
                self._evict(one)
            most *= SILENT_SHARE
        if len(self._guests) > most or number >= self.last_file:
            one = next(one for one in self._guests if not one.is_being_answered)
            self._evict(next(iter(self._guests)) if one is connection else one)
        return True

    def _evict(self, guest: "_Guest") -> None:
        self._evicted.inc()
        self._forget_guest(guest)
        guest.abort()

    def _forget_guest(self, guest: "_Guest") -> None:
        self._guests.pop(guest, None)
        self._leaving.pop(guest, None)

    def hold(self, connection: Connection, held: int, before: int) -> None:
        """
        Account for the bytes that one holds of a request that is not all there.

        Beyond the limit whoever began first gives way: a request that is meant to
        arrive is soon all there.
        """
        self.held_bytes += held - before
        if held:
            self._holders.setdefault(connection)
        else:
            self._holders.pop(connection, None)
        while self.held_bytes > MAX_HELD_BYTES:
            next(iter(self._holders)).give_way()

    def leave_reserve(self, connection: Connection) -> None:
        """Hear that one in the reserve has been answered, and has yet to take it."""
        self._leaving[connection] = None

    def hand_over(
        self, transport: asyncio.Transport, *, in_reserve: bool
    ) -> asyncio.Protocol:
        """Let a connection be served by aiohttp, for one request and not for ever."""
        cold = _Cold(transport)

        def lost() -> None:
            self.wheel.drop(cold)
            self._forget_guest(cold)

        if in_reserve:
            self._guests[cold] = self._leaving[cold] = None
        self.wheel.put(cold, COLD_GUEST_LIMIT_S if in_reserve else COLD_LIMIT_S)
        return self._cold(lost)

    async def drain(self) -> None:
        """
        Close every connection, but answer first what came before it could know.

        A proxy makes a 502 of a request that was sent and not answered, and that
        is the end of a browser's EventSource.
        """
        self.retire()
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_LIMIT_S):
                # What was accepted last, the loop has yet to tell us of.
                await asyncio.sleep(TICK_S)
                self._left.clear()
                if self.connections:
                    await self._left.wait()
        for connection in list(self.connections):
            connection.hang_up()

    def retire(self) -> None:
        """Let no connection have more than one more request."""
        self.draining = True
        for connection in list(self.connections):
            connection.retire()

    def forget(self, connection: Connection) -> None:
        """Hear that a connection is gone, or another's."""
        self.connections.discard(connection)
        self.idle.pop(connection, None)
        self._forget_guest(connection)
        if not self.connections:
            self._left.set()


def bound_peers(server: asyncio.Server) -> None:
    """
    Let the kernel hold little for a slow reader, and not for ever.

    Set where connections are accepted, which inherit it: on each of them it
    would cost system calls.
    """
    for sock in server.sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_USER_TIMEOUT", USER_TIMEOUT_MS),
            ("TCP_KEEPIDLE", PROBE_AFTER_S),
            ("TCP_KEEPINTVL", PROBE_INTERVAL_S),
        ):
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _files() -> tuple[int, int]:
    """Find the descriptors where the reserve begins, and where its last third."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        limit = sys.maxsize
    reserved = min(RESERVED_FILES, limit // 4)
    return limit - reserved, limit - reserved // 3
