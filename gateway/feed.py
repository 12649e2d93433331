"""
From a doorbell to every subscriber's cursor: one loop, one read at a time.

    ring -> who is behind? -> one query for all of their cursors -> deliver

Subscribe first, then read, then drop what is not newer: a subscriber is in the
hub before its first reading is asked for, so an event that lands in between is
rung, read, or both - never neither.  All deliveries happen in this one loop, so
a cursor only ever moves forward, and subscribers that arrive together, or are
rung together, share one query.

A lost doorbell costs a delay: `look` asks the table itself.
"""

import asyncio
import logging
from collections import defaultdict

from gateway.errors import UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import FileId
from gateway.protocol import cursor
from gateway.store.history import History
from gateway.telemetry import Metrics

MAX_READ_CURSORS = 2000
"""Cursors of one query; a storm of returning clients is read in such batches."""

_RETRY_S = (0.0, 0.1, 0.2, 0.5, 1.0)

_log = logging.getLogger("reelready.feed")


class Feed:
    """Keeps every subscriber of the hub at its file's newest event."""

    def __init__(self, hub: Hub, history: History, metrics: Metrics) -> None:
        self._hub = hub
        self._history = history
        self._metrics = metrics

    async def run(self) -> None:
        """Deliver until cancelled; a database that is away is waited out."""
        failures = 0
        while True:
            subscribers = await self._hub.behind()
            while subscribers:
                batch = subscribers[:MAX_READ_CURSORS]
                subscribers = subscribers[MAX_READ_CURSORS:]
                try:
                    await self._read_forward(batch)
                except UnavailableError as error:
                    self._hub.put_back(subscribers)
                    # A restart leaves one dead connection in the pool; only the
                    # second failure in a row says that the database is away.
                    self._postpone(batch, error, refuse=failures > 0)
                    await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                    failures += 1
                    break
                failures = 0

    async def look(self) -> None:
        """
        Ask the table itself which waited-for files have moved.

        Raises:
            UnavailableError: The database is away.
        """
        heads = self._hub.heads()
        self._metrics.catch_ups.inc()
        if not heads:
            return
        moved = await self._history.beyond(heads)
        self._metrics.caught_up_files.inc(len(moved))
        self._hub.ring(moved.items())

    async def _read_forward(self, subscribers: list[Subscriber]) -> None:
        waiting: defaultdict[tuple[FileId, int], list[Subscriber]] = defaultdict(list)
        for one in subscribers:
            waiting[one.file_id, one.cursor].append(one)
        with self._metrics.read_seconds.time():
            readings = await self._history.read(waiting)
        for pair, group in waiting.items():
            reading = readings.get(pair)
            for one in group:
                self._hub.deliver(one, reading)

    def _postpone(
        self, subscribers: list[Subscriber], error: UnavailableError, *, refuse: bool
    ) -> None:
        """Let them wait; or refuse those who have seen nothing yet."""
        _log.warning("%d subscribers wait: %s", len(subscribers), error)
        for one in subscribers:
            if refuse and one.cursor in {cursor.CURRENT, cursor.UNKNOWN}:
                one.end("refused")
        self._hub.put_back(subscribers)
