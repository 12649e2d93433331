"""
THE write: many reports, one transaction, one NOTIFY.

    read the files and the webhook ids -> let `lifecycle` act in arrival order
        -> in one statement: lock the rows in id order, check that nobody was
           faster, write everything, notify

The statement is the transaction, so nothing is locked while we think, and a
batch costs two round trips.  A seq is only taken if, under the row's lock, it
is still the next one: gapless and in commit order.  Whoever was overtaken by
another gateway reads again, and so does whoever would deadlock, though the rows
are locked in one order.  Nothing is answered before the commit.  A commit that notifies
holds a database-wide lock, so the fewer and larger the transactions, the better.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from gateway import lifecycle
from gateway.errors import (
    GatewayError,
    NotFoundError,
    RejectedError,
    UnavailableError,
    WebhookReusedError,
)
from gateway.model import (
    Event,
    FileId,
    FileRecord,
    FileState,
    Job,
    Outcome,
    Reading,
    Report,
    Seq,
    Status,
)
from gateway.protocol import notification, sse
from gateway.store.newest import Newest
from gateway.store.pool import Connection, Pool

INGEST_ID_LIFE = timedelta(days=3)
"""Longer than any sender of ours retries: EventBridge gives up after a day."""

_READ = """
select f.id, f.state, f.jobs, f.progressed_at,
       i.webhook_id, i.digest, i.outcome, i.seq,
       case when place = 1 then clock_timestamp() end as now
from unnest($1::text[], $2::text[]) with ordinality as r (file_id, webhook_id, place)
left join files f on f.id = r.file_id
left join ingest_ids i on i.webhook_id = r.webhook_id
"""

# One row per event; the last one of each file also says what becomes of the file,
# and which seq that rests on.  Rows come by file id, and so are they locked.  An
# event of a file that moved meanwhile gets no file id, which the table refuses.
_WRITE = """
with moved as (
    update files f
    set seq = n.seq, status = n.status, attempt = n.attempt, state = n.state,
        jobs = n.jobs, progressed_at = n.progressed_at, deadline_at = n.deadline_at
    from unnest($1::text[], $2::integer[], $3::json[], $7::integer[], $8::text[],
                $9::integer[], $10::json[], $11::timestamptz[], $12::timestamptz[])
        as n (id, seq, state, rests_on, status, attempt, jobs, progressed_at,
              deadline_at)
    where f.id = n.id and f.seq = n.rests_on
    returning 1
), event as (
    insert into events (file_id, seq, state, type, sender, occurred_at, recorded_at)
    select case when (select count(*) from moved) = $13 then file_id end,
           seq, state, type, sender, occurred_at, $14
    from unnest($1::text[], $2::integer[], $3::json[], $4::text[], $5::text[],
                $6::timestamptz[])
        as e (file_id, seq, state, type, sender, occurred_at)
), remembered as (
    insert into ingest_ids (webhook_id, digest, outcome, seq, expires_at)
    select webhook_id, digest, outcome, seq, $19
    from unnest($15::text[], $16::bytea[], $17::text[], $18::integer[])
        as i (webhook_id, digest, outcome, seq)
)
select pg_notify($20, payload) from unnest($21::text[]) as n (payload)
"""

_STATE = msgspec.json.Decoder(FileState)
_JOBS = msgspec.json.Decoder(dict[str, Job | int])

_OVERTAKEN = (asyncpg.NotNullViolationError, asyncpg.UniqueViolationError)
_MAX_ATTEMPTS = 5
_NO_FILE = (None,) * 6


class Incoming(Struct, frozen=True):
    """
    One report on its way in.

    Attributes:
        webhook_id: Of the sender; the same id is answered the same.  None for
            reports of our own workers, which need no memory.
        body: As signed; with the file id it tells a repeat from a reuse.
        if_seq: Act only while this is the newest seq; for reports that rest on
            what was read before the lock was taken.
    """

    file_id: FileId
    report: Report
    webhook_id: str | None = None
    body: bytes = b""
    if_seq: Seq | None = None

    @property
    def digest(self) -> bytes:
        """What must be equal for two deliveries to be the same."""
        return hashlib.sha256(self.file_id.encode() + b"\0" + self.body).digest()


class Answer(Struct, frozen=True):
    """What became of one report; `seq` is the last stored of its file."""

    outcome: Outcome
    seq: Seq


@dataclass(slots=True)
class _Batch:
    """What one transaction is about to write."""

    now: datetime
    records: dict[FileId, FileRecord]
    seen: dict[str, tuple[bytes, Answer]]
    answers: list[Answer | GatewayError] = field(default_factory=list)
    events: dict[FileId, list[tuple[Report, Event]]] = field(default_factory=dict)
    new_ids: dict[str, tuple[bytes, Answer]] = field(default_factory=dict)

    def take(self, incoming: Incoming) -> Answer | GatewayError:
        """Decide one report against all that came before it."""
        digest = incoming.digest
        known = self.seen.get(incoming.webhook_id or "")
        if known is not None:
            known_digest, answer = known
            return answer if known_digest == digest else WebhookReusedError()
        before = self.records.get(incoming.file_id)
        if before is None:
            return NotFoundError()
        answer = self._apply(incoming, before)
        if incoming.webhook_id is not None:
            remembered = (digest, answer)
            self.seen[incoming.webhook_id] = remembered
            self.new_ids[incoming.webhook_id] = remembered
        return answer

    def readings(self) -> Iterator[tuple[FileId, Reading]]:
        """Tell what a reader who stood right before this batch would read."""
        for file_id, written in self.events.items():
            state = self.records[file_id].state
            yield (
                file_id,
                Reading(
                    head=state.seq,
                    owner=state.owner,
                    events=tuple(event for _, event in written),
                    terminal=state.status.terminal,
                ),
            )

    def _apply(self, incoming: Incoming, before: FileRecord) -> Answer:
        seq = before.state.seq
        if incoming.if_seq not in {None, seq}:
            return Answer(Outcome.STALE, seq)
        after = lifecycle.apply(before, incoming.report, self.now)
        if after is None:
            repeats = lifecycle.repeats(before, incoming.report)
            return Answer(Outcome.DUPLICATE if repeats else Outcome.STALE, seq)
        if lifecycle.coalesces(before, incoming.report, after, self.now):
            return Answer(Outcome.COALESCED, seq)
        seq = after.state.seq
        data = msgspec.json.encode(after.state)
        self.records[incoming.file_id] = after
        self.events.setdefault(incoming.file_id, []).append(
            (incoming.report, Event(seq, data, sse.event(seq, data)))
        )
        return Answer(Outcome.APPLIED, seq)


class Append:
    """
    The only code that changes a file after it was registered.

    Args:
        newest: Where to remember what was written, for readers of this process.
    """

    def __init__(
        self,
        pool: Pool,
        deadlines: Mapping[Status, timedelta],
        newest: Newest | None = None,
    ) -> None:
        self._pool = pool
        self._deadlines = deadlines
        self._newest = newest

    async def __call__(self, batch: Sequence[Incoming]) -> list[Answer | GatewayError]:
        """
        Write many reports in one transaction.

        Returns:
            For each report its answer, or the error that refuses it alone.

        Raises:
            UnavailableError: Nothing was stored.
            RejectedError: One of them cannot be; nothing was stored.
        """
        attempts = 0
        while True:
            attempts += 1
            try:
                async with self._pool.acquire() as connection:
                    work = await _read(connection, batch)
                    work.answers = [work.take(incoming) for incoming in batch]
                    await self._write(connection, work)
            except UnavailableError as error:
                deadlock = isinstance(error.__cause__, asyncpg.DeadlockDetectedError)
                if not deadlock or attempts == _MAX_ATTEMPTS:
                    raise
            except asyncpg.PostgresError as error:
                if not isinstance(error, _OVERTAKEN) or attempts == _MAX_ATTEMPTS:
                    raise RejectedError(str(error)) from error
            else:
                return work.answers

    async def _write(self, connection: Connection, work: _Batch) -> None:
        if not (work.events or work.new_ids):
            return
        readings = dict(work.readings())
        heads = {file_id: reading.head for file_id, reading in readings.items()}
        await connection.fetch(
            _WRITE,
            *self._event_columns(work),
            len(heads),
            work.now,
            *_id_columns(work),
            notification.CHANNEL,
            list(notification.encode(heads)),
        )
        if self._newest is not None:
            for file_id, reading in readings.items():
                self._newest.put(file_id, reading)

    def _event_columns(self, work: _Batch) -> list[list[Any]]:
        columns: list[list[Any]] = [[] for _ in range(12)]
        for file_id in sorted(work.events):
            written = work.events[file_id]
            for report, event in written[:-1]:
                _add_row(columns, file_id, event, report, *_NO_FILE)
            report, event = written[-1]
            record = work.records[file_id]
            state = record.state
            _add_row(
                columns,
                file_id,
                event,
                report,
                written[0][1].seq - 1,
                state.status,
                state.attempt,
                msgspec.json.encode(record.jobs),
                record.progressed_at,
                lifecycle.deadline(state, self._deadlines),
            )
        return columns


def _add_row(
    columns: list[list[Any]], file_id: FileId, event: Event, report: Report, *file: Any
) -> None:
    row = (
        file_id,
        event.seq,
        event.data,
        report.type,
        report.sender,
        report.occurred_at,
        *file,
    )
    for column, value in zip(columns, row, strict=True):
        column.append(value)


async def _read(connection: Connection, batch: Sequence[Incoming]) -> _Batch:
    rows = await connection.fetch(
        _READ,
        [incoming.file_id for incoming in batch],
        [incoming.webhook_id for incoming in batch],
    )
    now = next(row["now"] for row in rows if row["now"] is not None)
    work = _Batch(now=now, records={}, seen={})
    for row in rows:
        if row["id"] is not None and row["id"] not in work.records:
            work.records[row["id"]] = _record(row)
        if row["webhook_id"] is not None:
            answer = Answer(Outcome(row["outcome"]), Seq(row["seq"]))
            work.seen[row["webhook_id"]] = (row["digest"], answer)
    return work


def _record(row: asyncpg.Record) -> FileRecord:
    state = _STATE.decode(row["state"])
    jobs = _JOBS.decode(row["jobs"])
    return FileRecord(
        state=state,
        jobs={job_id: _job(stored, state) for job_id, stored in jobs.items()},
        progressed_at=row["progressed_at"],
    )


def _job(stored: Job | int, state: FileState) -> Job:
    """Rows of older releases hold the attempt alone; the file's time is near."""
    if isinstance(stored, int):
        return Job(attempt=stored, occurred_at=state.updated_at)
    return stored


def _id_columns(work: _Batch) -> list[Any]:
    remembered = work.new_ids.values()
    return [
        list(work.new_ids),
        [digest for digest, _ in remembered],
        [answer.outcome for _, answer in remembered],
        [answer.seq for _, answer in remembered],
        work.now + INGEST_ID_LIFE,
    ]
