"""
What Postgres holds, in memory: files, events, webhook ids, doorbells.

A commit happens at one moment and a read is one snapshot, as there; what can go
wrong is when they are answered, and whether.  Everything that is ever committed
is kept for the judges, pruned or not.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from bench.invariants.rules import must
from gateway.errors import GatewayError, UnavailableError
from gateway.model import (
    Event,
    FileId,
    FileRecord,
    FileState,
    Phase,
    Reading,
    Report,
    Seq,
    Status,
)
from gateway.protocol import notification, sse
from gateway.protocol.cursor import CURRENT
from gateway.store.append import Answer, Followers, Incoming, _Batch
from gateway.store.history import _reading

PAGE_EVENTS = 4
"""Of one reading; small, so that pages end everywhere."""

_EPOCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
_JSON = msgspec.json.Encoder()
_STATE = msgspec.json.Decoder(FileState)
_RANKS = {Status.AWAITING_UPLOAD: 0, Status.UPLOADED: 1, Status.CONVERTING: 2}
_PHASES = {None: 0, Phase.PROBING: 1, Phase.TRANSCODING: 2, Phase.UPLOADING: 3}


class Fate(StrEnum):
    """How the next commit ends."""

    ANSWERED = "answered"
    FAILED = "failed"
    ANSWER_LOST = "answer lost"


class Hold(StrEnum):
    """What may hang: a read, a commit before it happens, or its answer."""

    READS = "reads"
    COMMITS = "commits"
    ANSWERS = "answers"


class File:
    """
    One file: its row, and all that was ever committed of it.

    Attributes:
        seqs: Of the events that were committed and not lost.
        pruned: Those of them that retention has deleted, ...
        ever_pruned: ... and those that came back since.
        events, states, epochs: By seq, lost or not.
        said: All reports that were answered, each with its commit.
        failovers: How many there were.
        floor: The lowest head that one of them left.
    """

    def __init__(self, state: FileState, epoch: int) -> None:
        self.id = state.id
        self.owner = state.owner
        self.first = FileRecord(state=state)
        self.record = self.first
        self.seqs: list[int] = []
        self.pruned: set[int] = set()
        self.ever_pruned: set[int] = set()
        self.events: dict[int, Event] = {}
        self.states: dict[int, FileState] = {}
        self.epochs: dict[int, int] = {}
        self.said: list[tuple[int, Report]] = []
        self.failovers = 0
        self.floor = sys.maxsize
        data = _JSON.encode(state)
        first = Event(state.seq, data, sse.event(state.seq, data))
        self._store(state, first, epoch)

    @property
    def head(self) -> int:
        """Seq of the newest event."""
        return self.record.state.seq

    @property
    def terminal(self) -> bool:
        """Whether it has ended."""
        return self.record.state.status.terminal

    def append(
        self, record: FileRecord, written: Sequence[tuple[Report, Event]], epoch: int
    ) -> None:
        """Commit what one transaction adds."""
        head = self.head
        for _, event in written:
            state, before = _STATE.decode(event.data), self.states[head]
            if epoch == self.epochs[head]:
                must(3, event.seq == head + 1 == state.seq, (head, event.seq))
            else:
                # No cursor that was ever given out stands at it, or right before it.
                given_out = self.events.keys() & {event.seq - 1, event.seq}
                must(11, event.seq > head and not given_out, (head, event.seq))
            must(4, height(before) <= height(state), (before, state))
            if state.status.terminal:
                ends = [one.attempt for one in self._told() if one.status.terminal]
                must(6, state.attempt not in ends, (ends, state))
            if before.status.terminal:
                must(5, state.attempt > before.attempt, (before, state))
                must(6, before.status is not Status.PLAYABLE, (before, state))
            self._store(state, event, epoch)
            head = event.seq
        must(18, record.state == self.states[head], (record, self.states[head]))
        self.record = record

    def prune(self, back: int) -> None:
        """Delete the event that is so many before the newest."""
        self.pruned.update(self.seqs[-1 - back : -back])
        self.ever_pruned |= self.pruned

    def lose(self, record: FileRecord) -> None:
        """Be again as of `record`."""
        self.failovers += 1
        self.record = record
        self.seqs = [one for one in self.seqs if one <= self.head]
        self.pruned = {one for one in self.pruned if one < self.head}
        self.floor = min(self.floor, self.head)

    def retained(self, after: int) -> list[Event]:
        """Give a page of what is left after a seq."""
        left = [one for one in self.seqs if one > after and one not in self.pruned]
        return [self.events[one] for one in left[:PAGE_EVENTS]]

    def is_broken_after(self, cursor: int) -> bool:
        """Whether a cursor cannot be continued from, any more."""
        left = [one for one in self.seqs if one > cursor and one not in self.pruned]
        whole = list(range(cursor + 1, cursor + 1 + len(left)))
        return (
            not 0 <= cursor <= self.head
            or left != whole
            or (not left and cursor < self.head)
        )

    def is_broken_between(self, cursor: int, seq: int) -> bool:
        """Whether it ever was so that from one to the other some are missing."""
        pruned = any(cursor < one <= seq for one in self.ever_pruned)
        return pruned or self.epochs.get(max(cursor, 1)) != self.epochs[seq]

    def told_after(self, cursor: int) -> list[tuple[int, bool]]:
        """
        Say what a reader must be told from a cursor, to the head.

        Returns:
            Each seq, and whether a reset comes before it.
        """
        if cursor == self.head:
            return []
        if self.is_broken_after(cursor):
            return [(self.head, True)]
        return [(seq, False) for seq in range(cursor + 1, self.head + 1)]

    def _told(self) -> Iterator[FileState]:
        return (self.states[seq] for seq in self.seqs)

    def _store(self, state: FileState, event: Event, epoch: int) -> None:
        self.seqs.append(event.seq)
        self.events[event.seq] = event
        self.states[event.seq] = state
        self.epochs[event.seq] = epoch


class Tables:
    """
    The database that all gateways share.

    Attributes:
        ids: What was answered to each webhook id.
        away: Whether nobody reaches it.
        fate: Of the next commit; those after it are answered.
        ailed_at_s: When anything was last away, held or lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.files: dict[FileId, File] = {}
        self.ids: dict[str, tuple[bytes, Answer]] = {}
        self.epoch = 0
        self.away = False
        self.fate = Fate.ANSWERED
        self.ailed_at_s = -60.0
        self.sessions: list[Session] = []
        self.listeners: list[deque[str]] = []
        self._loop = loop
        self._commits: list[tuple[dict[FileId, FileRecord], set[str]]] = []

    @property
    def ails(self) -> bool:
        """Whether anything may be refused for it."""
        return self.away or any(one.held for one in self.sessions)

    def ail(self) -> None:
        """Note that whoever is refused now may be."""
        self.ailed_at_s = self._loop.time()

    def now(self) -> datetime:
        """The database's clock."""
        return _EPOCH + timedelta(seconds=self._loop.time())

    def register(self, file_id: FileId, name: str, owner: str) -> None:
        """Store event 1 of a file."""
        now = self.now()
        state = FileState(
            id=file_id,
            seq=Seq(1),
            status=Status.AWAITING_UPLOAD,
            name=name,
            content_type="video/mp4",
            size=10,
            owner=owner,
            metadata={},
            created_at=now,
            updated_at=now,
        )
        self.files[file_id] = File(state, self.epoch)

    def commit(self, batch: Sequence[Incoming]) -> tuple[_Batch, dict[FileId, Reading]]:
        """Decide and store a batch, and ring."""
        records = {one: file.record for one, file in self.files.items()}
        work = _Batch(
            now=self.now(),
            records=dict(records),
            seen=dict(self.ids),
            strays={
                one.id
                for one in self.files.values()
                if one.epochs[one.head] < self.epoch
            },
        )
        work.answers = [work.take(incoming) for incoming in batch]
        for file_id, written in work.events.items():
            file = self.files[file_id]
            file.append(work.records[file_id], written, self.epoch)
        for incoming, answer in zip(batch, work.answers, strict=True):
            if isinstance(answer, Answer):
                told = len(self._commits), incoming.report
                self.files[incoming.file_id].said.append(told)
        self._commits.append(
            ({one: records[one] for one in work.events}, set(work.new_ids))
        )
        must(7, not self.ids.keys() & work.new_ids.keys(), work.new_ids)
        self.ids |= work.new_ids
        readings = work.readings()
        heads = {file_id: reading.head for file_id, reading in readings.items()}
        for payload in notification.encode(heads):
            for queue in self.listeners:
                queue.append(payload)
        return work, readings

    def fail_over(self, lost: int) -> None:
        """Go on with a standby that never heard of so many commits."""
        for _ in range(min(lost, len(self._commits))):
            records, webhook_ids = self._commits.pop()
            for file_id, record in records.items():
                self.files[file_id].lose(record)
            for webhook_id in webhook_ids:
                del self.ids[webhook_id]
        for file in self.files.values():
            file.said = [one for one in file.said if one[0] < len(self._commits)]
        self.epoch += 1
        self.ail()


class Session:
    """
    The database as one gateway reaches it: its `History` and its `Append`.

    Attributes:
        cut: Whether the gateway is dead.
    """

    def __init__(self, tables: Tables) -> None:
        self.cut = False
        self.followers: Followers | None = None
        self._tables = tables
        self._gates = {what: asyncio.Event() for what in Hold}
        self.go_on()
        tables.sessions.append(self)

    @property
    def held(self) -> bool:
        """Whether anything waits for `go_on`."""
        return not all(gate.is_set() for gate in self._gates.values())

    @property
    def reads(self) -> bool:
        """Whether what is asked for now is answered."""
        return not self._tables.away and self._gates[Hold.READS].is_set()

    def hold(self, what: "Hold") -> None:
        """Let something hang."""
        self._gates[what].clear()

    def go_on(self, *first: "Hold") -> None:
        """Let nothing hang any more, and these before the others."""
        for what in (*first, *Hold):
            self._gates[what].set()

    def answer(self, what: "Hold") -> None:
        """Let this go on, and what else hangs hang."""
        self._gates[what].set()

    def end(self) -> None:
        """Be cut off for good."""
        self.cut = True
        self._tables.sessions.remove(self)

    async def read(
        self, cursors: Collection[tuple[FileId, int]]
    ) -> dict[tuple[FileId, int], Reading]:
        """Do as `History.read`."""
        self._reach()
        files = self._tables.files
        snapshot = {
            (file_id, after): _told(files[file_id], after)
            for file_id, after in cursors
            if file_id in files
        }
        epoch = self._tables.epoch
        await self._gates[Hold.READS].wait()
        self._reach(epoch)
        return snapshot

    async def moved(self, seen: Mapping[FileId, tuple[Seq, Seq]]) -> dict[FileId, Seq]:
        """Do as `History.moved`."""
        self._reach()
        files = self._tables.files
        return {
            file_id: Seq(files[file_id].head)
            for file_id, (low, high) in seen.items()
            if file_id in files and not high <= files[file_id].head <= low
        }

    async def append(self, batch: Sequence[Incoming]) -> list[Answer | GatewayError]:
        """Do as `Append`."""
        assert self.followers is not None
        file_ids = {one.file_id for one in batch}
        self.followers.committing(file_ids)
        try:
            work, readings = await self._commit(batch)
        except BaseException:
            self.followers.interrupted(file_ids)
            raise
        self.followers.interrupted(file_ids - readings.keys())
        self.followers.committed(readings)
        return work.answers

    async def _commit(
        self, batch: Sequence[Incoming]
    ) -> tuple[_Batch, dict[FileId, Reading]]:
        self._reach()
        epoch = self._tables.epoch
        await self._gates[Hold.COMMITS].wait()
        self._reach(epoch)
        fate, self._tables.fate = self._tables.fate, Fate.ANSWERED
        if fate is not Fate.ANSWERED:
            self._tables.ail()
        if fate is Fate.FAILED:
            raise UnavailableError("rolled back")
        done = self._tables.commit(batch)
        await self._gates[Hold.ANSWERS].wait()
        if fate is Fate.ANSWER_LOST:
            raise UnavailableError("nobody knows")
        self._reach(epoch)
        return done

    def _reach(self, since: int | None = None) -> None:
        """Be there, and the same database as then."""
        if self.cut or self._tables.away or since not in {None, self._tables.epoch}:
            raise UnavailableError("the database is away")


def _told(file: File, after: int) -> Reading:
    """Do as `History.read`: one page, but of no cursor that breaks further on."""
    reading = _reading(after, _rows(file, after))  # type: ignore[arg-type]
    is_page = reading.events and reading.events[-1].seq < file.head
    if is_page and file.is_broken_after(after):
        return replace(_told(file, CURRENT), reset="pruned_cursor")
    return reading


def _rows(file: File, after: int) -> list[dict[str, object]]:
    """Do as the SQL of `History.read`: a left join, so one row at least."""
    shared: dict[str, object] = {
        "head": file.head,
        "owner": file.owner,
        "status": file.record.state.status,
    }
    low = after if 0 <= after <= file.head else file.head - 1
    return [
        shared | {"seq": one.seq, "state": one.data} for one in file.retained(low)
    ] or [shared | {"seq": None, "state": None}]


def height(state: FileState) -> tuple[int, ...]:
    """How far a file has come; never falls."""
    return (
        state.attempt,
        _RANKS.get(state.status, 3),
        _PHASES[state.phase],
        0 if state.status.terminal else state.percent or 0,
    )
