"""
From a doorbell to every subscriber's cursor: one loop, one read at a time.

    ring -> did we write it ourselves? -> deliver it from memory, at once
         -> else: who is behind? -> one query for all of their cursors -> deliver

A newcomer is behind, and its first reading is always the table's.

Subscribe first, then read, then drop what is not newer: a subscriber is in the
hub before its first reading is asked for, so an event that lands in between is
rung, read, or both - never neither.  A reading is only delivered to who still
stands where it was asked from, so a cursor only ever moves forward.  Reads are
kept apart a little, so that subscribers that arrive together, or are rung
together, share one query.

A lost doorbell costs a delay: `look` asks the table itself.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable

from gateway.errors import UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import FileId, Reading, Seq
from gateway.protocol import cursor
from gateway.store.history import History
from gateway.store.newest import Newest
from gateway.telemetry import Metrics

MAX_READ_CURSORS = 2000
"""Cursors of one query; a storm of returning clients is read in such batches."""

GATHER_S = 0.001
"""
From the first who is behind to the read: others join it, and what this process
wrote is remembered by then, though the doorbell came before the commit's answer.
"""

_RETRY_S = (0.0, 0.1, 0.2, 0.5, 1.0)

_log = logging.getLogger("reelready.feed")


class Feed:
    """Keeps every subscriber of the hub at its file's newest event."""

    def __init__(
        self, hub: Hub, history: History, newest: Newest, metrics: Metrics
    ) -> None:
        self._hub = hub
        self._history = history
        self._newest = newest
        self._metrics = metrics

    async def run(self) -> None:
        """Deliver until cancelled; a database that is away is waited out."""
        failures = 0
        while True:
            behind = await self._hub.behind(gather_s=GATHER_S)
            if await self._read_all(behind, failures):
                failures = 0
            else:
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1

    def ring(self, heads: Iterable[tuple[FileId, Seq]]) -> None:
        """Hear a doorbell; what is not remembered is read."""
        for file_id, head in heads:
            reading = self._newest.get(file_id)
            if reading is not None and reading.head >= head:
                self._hub.hand_out(file_id, reading)
            else:
                self._hub.ring(((file_id, head),))

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

    async def _read_all(self, subscribers: list[Subscriber], failures: int) -> bool:
        """Read everybody forward; returns whether the database was there."""
        for first in range(0, len(subscribers), MAX_READ_CURSORS):
            batch = subscribers[first : first + MAX_READ_CURSORS]
            try:
                await self._read_forward(batch)
            except UnavailableError as error:
                self._hub.put_back(subscribers[first + MAX_READ_CURSORS :])
                # A restart leaves one dead connection in the pool; only the
                # second failure in a row says that the database is away.
                self._postpone(batch, error, refuse=failures > 0)
                return False
            failures = 0
        return True

    async def _read_forward(self, subscribers: list[Subscriber]) -> None:
        waiting: defaultdict[tuple[FileId, int], list[Subscriber]] = defaultdict(list)
        for one in subscribers:
            waiting[one.file_id, one.cursor].append(one)
        readings: dict[tuple[FileId, int], Reading | None] = {
            pair: reading
            for pair, group in waiting.items()
            if not any(one.fresh for one in group)
            and (reading := self._remembered(*pair))
        }
        unknown = waiting.keys() - readings.keys()
        if unknown:
            with self._metrics.read_seconds.time():
                readings |= await self._history.read(unknown)
        for pair, group in waiting.items():
            reading = readings.get(pair)
            for one in group:
                if one.cursor == pair[1]:
                    self._hub.deliver(one, reading)
                elif reading is not None:
                    self._hub.ring(((one.file_id, reading.head),))

    def _remembered(self, file_id: FileId, after: int) -> Reading | None:
        """Recall all there is beyond a cursor."""
        reading = self._newest.get(file_id)
        if (
            reading is None
            or reading.head < self._hub.head(file_id)
            or reading.events[0].seq != after + 1
        ):
            return None
        return reading

    def _postpone(
        self, subscribers: list[Subscriber], error: UnavailableError, *, refuse: bool
    ) -> None:
        """Let them wait; or refuse those who have seen nothing yet."""
        _log.warning("%d subscribers wait: %s", len(subscribers), error)
        for one in subscribers:
            if refuse and one.cursor in {cursor.CURRENT, cursor.UNKNOWN}:
                one.end("refused")
        self._hub.put_back(subscribers)
