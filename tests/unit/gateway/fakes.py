"""A table of events and a subscriber of memory, for the hub and the feed."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec.structs import replace

from gateway.errors import UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import Event, FileId, FileRecord, FileState, Reading, Seq, Status
from gateway.protocol.cursor import CURRENT
from gateway.store.history import MAX_PAGE_EVENTS, _reading

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILE = FileId("f-1")


def file_state(**changes: object) -> FileState:
    """A file of which nothing has arrived yet, unless said otherwise."""
    values: dict[str, object] = {
        "id": FILE,
        "seq": Seq(1),
        "status": Status.AWAITING_UPLOAD,
        "name": "휴가.mov",
        "content_type": "video/quicktime",
        "size": 1_048_576,
        "owner": None,
        "metadata": {},
        "created_at": NOW,
        "updated_at": NOW,
    }
    return FileState(**values | changes)


def record(**changes: object) -> FileRecord:
    """The same as the state machine sees it."""
    return FileRecord(state=file_state(**changes))


class FakeHistory:
    """
    What `History` reads, from memory.

    Attributes:
        heads: Newest seq of each file; every seq up to it is retained, ...
        pruned: ... except those up to this one.
        during_read: Runs after the snapshot is taken, before it is returned.
        away: Whether every read fails.
        reads: The cursors of every read so far.
    """

    def __init__(self, heads: Mapping[str, int], *, page: int = MAX_PAGE_EVENTS):
        self.heads = dict(heads)
        self.pruned: dict[str, int] = {}
        self.during_read: Callable[[], None] = lambda: None
        self.away = False
        self.reads: list[list[tuple[FileId, int]]] = []
        self.looks: list[Mapping[FileId, tuple[Seq, Seq]]] = []
        self.going_on = asyncio.Event()
        self.going_on.set()
        self._page = page

    async def read(
        self, cursors: Collection[tuple[FileId, int]]
    ) -> dict[tuple[FileId, int], Reading]:
        self.reads.append(list(cursors))
        snapshot = {
            (file_id, after): self._reading(file_id, after)
            for file_id, after in cursors
            if file_id in self.heads
        }
        away = self.away
        self.during_read()
        await self.going_on.wait()
        if away or self.away:
            raise UnavailableError("the database is away")
        return snapshot

    async def moved(self, seen: Mapping[FileId, tuple[Seq, Seq]]) -> dict[FileId, Seq]:
        self.looks.append(seen)
        if self.away:
            raise UnavailableError("the database is away")
        return {
            file_id: Seq(self.heads[file_id])
            for file_id, both in seen.items()
            if file_id in self.heads and (self.heads[file_id],) * 2 != both
        }

    def _reading(self, file_id: FileId, after: int) -> Reading:
        """Do as the SQL of `History.read`: a left join, so one row at least."""
        head = self.heads[file_id]
        low = after if 0 <= after <= head else head - 1
        seqs = range(max(low, self.pruned.get(file_id, 0)) + 1, head + 1)
        rows = [
            {"head": head, "owner": None, "status": "converting", "seq": seq} | _DATA
            for seq in list(seqs)[: self._page] or [None]
        ]
        reading = _reading(after, rows)
        if reading.reset is not None and reading.events[-1].seq < head:
            return replace(self._reading(file_id, CURRENT), reset=reading.reset)
        return reading


class RecordingSubscriber(Subscriber):
    """
    Remembers what it was handed.

    Attributes:
        full_after: How many readings it takes before it stalls by itself.
        leaves_at_end: Goes when told to, as a parked connection does.
    """

    __slots__ = ("ends", "full_after", "hub", "readings", "seqs")

    def __init__(
        self,
        cursor: int = 0,
        *,
        hub: Hub | None = None,
        file_id: str = FILE,
        full_after: int | None = None,
    ) -> None:
        super().__init__(FileId(file_id), cursor)
        self.hub = hub
        self.full_after = full_after
        self.readings: list[Reading | None] = []
        self.seqs: list[int] = []
        self.ends: list[str] = []

    def deliver(self, reading: Reading | None) -> None:
        assert not self.stalled, "a stalled subscriber is left alone"
        self.readings.append(reading)
        if reading is not None:
            self.seqs += [event.seq for event in reading.events]
            self.cursor = reading.events[-1].seq if reading.events else reading.head
        self.stalled = len(self.readings) == self.full_after

    def end(self, reason: str) -> None:
        self.ends.append(reason)
        if self.hub is not None:
            self.hub.remove(self)


@contextmanager
def joined(hub: Hub, *subscribers: Subscriber) -> Iterator[None]:
    """Hold subscribers for as long as a block runs."""
    for subscriber in subscribers:
        hub.add(subscriber)
    try:
        yield
    finally:
        for subscriber in subscribers:
            hub.remove(subscriber)


async def settle() -> None:
    """Let every task run until it waits for something from outside."""
    for _ in range(25):
        await asyncio.sleep(0)


def reading(*seqs: int, head: int | None = None) -> Reading:
    return Reading(
        head=Seq(head or seqs[-1]),
        owner=None,
        events=tuple(Event(Seq(seq), b"{}", b"") for seq in seqs),
    )


async def anyone_behind(hub: Hub) -> list[Subscriber] | None:
    """Who is behind now; None if the hub would have to wait for somebody."""
    waiting = asyncio.ensure_future(hub.behind())
    await settle()
    if not waiting.done():
        waiting.cancel()
        return None
    return waiting.result()


async def caught_up(hub: Hub, subscriber: RecordingSubscriber, *seqs: int) -> None:
    """Bring a subscriber to its file's head, as the feed would."""
    assert [subscriber] == await anyone_behind(hub)
    hub.deliver(subscriber, reading(*seqs))


def assert_empty(hub: Hub) -> None:
    assert 0 == len(hub)
    assert {} == hub._files
    assert {} == hub._behind


_DATA = {"state": b"{}"}
