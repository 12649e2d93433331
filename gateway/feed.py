"""
Moves every subscriber's cursor: one loop, one read at a time.

    ring -> who is behind? -> one query for all of their cursors -> deliver

Subscribe first, then read, then drop what is not newer: a subscriber is in the
hub before its first reading is asked for, so an event that lands in between is
rung, read, or both - never neither.  A reading is only delivered to who still
stands where it was asked from, so a cursor only ever moves forward.  Reads are
kept apart a little, so that subscribers that arrive together, or are rung
together, share one query.

What this process commits itself need not be read back: it is delivered to those
who stand right before it, and its doorbell then finds nobody behind.

A lost doorbell costs a delay: `look` asks the table itself.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from gateway.errors import UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import FileId, Reading, Seq
from gateway.store.history import History
from gateway.store.pool import why
from gateway.telemetry import Metrics

if TYPE_CHECKING:
    from gateway.tracing import Tracing

MAX_READ_CURSORS = 2000
"""Of one query; a storm of clients that come is read in such batches."""

GATHER_S = 0.001
"""From the first who is behind to the read; others join it."""

GATHER_CROWD_S = 0.004
"""
And from there, if many did: a read costs as much CPU as ten cursors in it, so
10,000 clients that come in a second are read 50 at a time.
"""

HOLD_S = 0.1
"""A doorbell waits so long for a commit of our own, which may be stuck."""

_RETRY_S = (0.0, 0.1, 0.2, 0.5, 1.0)

_log = logging.getLogger("reelready.feed")


class Feed:
    """Keeps every subscriber of the hub at its file's newest event."""

    def __init__(
        self,
        hub: Hub,
        history: History,
        metrics: Metrics,
        tracing: "Tracing | None" = None,
    ) -> None:
        self._hub = hub
        self._history = history
        self._metrics = metrics
        self._tracing = tracing
        self._committing: dict[FileId, Seq] = {}

    async def run(self) -> None:
        """Deliver until cancelled; a database that is away is waited out."""
        failures = 0
        while True:
            behind = await self._hub.behind(
                gather_s=GATHER_S, gather_crowd_s=GATHER_CROWD_S
            )
            if await self._read_all(behind, failures):
                failures = 0
            else:
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
                failures += 1

    def ring(self, heads: Iterable[tuple[FileId, Seq]]) -> None:
        """Hear a doorbell; that of a file we are writing waits for our commit."""
        for file_id, head in heads:
            heard = self._committing.get(file_id)
            if heard is None:
                self._hub.ring(((file_id, head),))
            else:
                self._committing[file_id] = max(heard, head)

    def committing(self, file_ids: Collection[FileId]) -> None:
        """Hear that this process is writing these files."""
        for file_id in file_ids:
            self._committing.setdefault(file_id, Seq(0))
        asyncio.get_running_loop().call_later(HOLD_S, self.interrupted, file_ids)

    def committed(self, readings: Mapping[FileId, Reading]) -> None:
        """Deliver what was committed; what goes wrong there is not the writer's."""
        asyncio.get_running_loop().call_soon(self._hand_out, readings)

    def interrupted(self, file_ids: Collection[FileId]) -> None:
        """Hear the doorbells that waited for a commit, and hold no others."""
        self._hub.ring(self._let_go(file_ids).items())

    async def look(self, file_ids: Iterable[FileId] | None = None) -> None:
        """
        Ask the table itself which waited-for files have moved.

        Args:
            file_ids: Only of these; of all when left out.

        Raises:
            UnavailableError: The database is away.
        """
        seen = self._hub.seen(file_ids)
        self._metrics.catch_ups.inc()
        if not seen:
            return
        moved = await self._history.moved(seen)
        self._metrics.caught_up_files.inc(len(moved))
        self._hub.ring(moved.items())
        # A failover or a restore has taken back what was delivered.
        self._hub.mistrust(
            {
                file_id: head
                for file_id, head in moved.items()
                if head < seen[file_id][1]
            }
        )

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
        began_ns = time.time_ns()
        with self._metrics.read_seconds.time():
            readings = await self._history.read(waiting.keys())
        for pair, group in waiting.items():
            reading = readings.get(pair)
            for one in group:
                if one.cursor == pair[1]:
                    self._deliver(one, reading)
                elif reading is not None:
                    self._hub.ring(((one.file_id, reading.head),))
            if self._tracing is not None and reading is not None and pair[1] >= 0:
                self._tracing.pushed(
                    pair[0],
                    reading.events,
                    began_ns,
                    subscribers=len(group),
                    by="doorbell",
                )

    def _deliver(self, one: Subscriber, reading: Reading | None) -> None:
        try:
            self._hub.deliver(one, reading)
        except Exception:  # noqa: BLE001 - one subscriber must not silence the others
            _log.exception("cannot deliver %s", one.file_id)
            one.end("refused")

    def _let_go(self, file_ids: Iterable[FileId]) -> dict[FileId, Seq]:
        heard = ((one, self._committing.pop(one, None)) for one in file_ids)
        return {file_id: head for file_id, head in heard if head}

    def _hand_out(self, readings: Mapping[FileId, Reading]) -> None:
        heard = self._let_go(readings)
        for file_id, reading in readings.items():
            began_ns, waiting = time.time_ns(), self._hub.waiting_for(file_id)
            try:
                self._hub.hand_out(file_id, reading)
            except Exception:  # noqa: BLE001 - one subscriber must not silence the others
                _log.exception("cannot deliver %s; it is read again", file_id)
                self._hub.ring(((file_id, reading.head),))
            if self._tracing is not None and waiting:
                self._tracing.pushed(
                    file_id, reading.events, began_ns, subscribers=waiting, by="commit"
                )
        self._hub.ring(
            (file_id, head)
            for file_id, head in heard.items()
            if head > readings[file_id].head
        )

    def _postpone(
        self, subscribers: list[Subscriber], error: UnavailableError, *, refuse: bool
    ) -> None:
        """Let them wait; or refuse those who have had no reading yet."""
        _log.warning("%d subscribers wait: %s", len(subscribers), why(error))
        for one in subscribers:
            if refuse and (one.fresh or one.cursor < 0):
                one.end("refused")
        self._hub.put_back(subscribers)
