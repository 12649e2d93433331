"""
THE write: many reports, one transaction, one NOTIFY.

    lock the file rows in id order -> look up the webhook ids -> let
    `lifecycle` act in arrival order -> write everything -> commit

The rows are locked in one order, so two writers cannot deadlock; the seq is
taken under the lock, so it is gapless and in commit order; nothing is answered
before the commit.  A commit that notifies holds a database-wide lock, so the
fewer and larger the transactions, the better.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from gateway import lifecycle
from gateway.errors import (
    GatewayError,
    NotFoundError,
    RejectedError,
    WebhookReusedError,
)
from gateway.model import (
    FileId,
    FileRecord,
    FileState,
    Job,
    Outcome,
    Report,
    Seq,
    Status,
)
from gateway.protocol import notification
from gateway.store.pool import Connection, Pool

INGEST_ID_LIFE = timedelta(days=3)
"""Longer than any sender of ours retries: EventBridge gives up after a day."""

_LOCK = """
select id, state, jobs, progressed_at, clock_timestamp() as now from files
where id = any($1::text[]) order by id for update
"""

_SEEN = """
select webhook_id, digest, outcome, seq from ingest_ids
where webhook_id = any($1::text[])
"""

_WRITE = """
with event as (
    insert into events (file_id, seq, type, sender, occurred_at, recorded_at, state)
    select file_id, seq, type, sender, occurred_at, $7, state
    from unnest($1::text[], $2::integer[], $3::text[], $4::text[],
                $5::timestamptz[], $6::json[])
        as e (file_id, seq, type, sender, occurred_at, state)
), moved as (
    update files f
    set seq = n.seq, status = n.status, attempt = n.attempt, state = n.state,
        jobs = n.jobs, progressed_at = n.progressed_at, deadline_at = n.deadline_at
    from unnest($8::text[], $9::integer[], $10::text[], $11::integer[], $12::json[],
                $13::json[], $14::timestamptz[], $15::timestamptz[])
        as n (id, seq, status, attempt, state, jobs, progressed_at, deadline_at)
    where f.id = n.id
), remembered as (
    insert into ingest_ids (webhook_id, digest, outcome, seq, expires_at)
    select webhook_id, digest, outcome, seq, $20
    from unnest($16::text[], $17::bytea[], $18::text[], $19::integer[])
        as i (webhook_id, digest, outcome, seq)
)
select pg_notify($21, payload) from unnest($22::text[]) as n (payload)
"""


@dataclass(frozen=True, slots=True)
class Incoming:
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


@dataclass(frozen=True, slots=True)
class Answer:
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
    events: list[tuple[FileRecord, Report]] = field(default_factory=list)
    encoded: dict[tuple[FileId, Seq], bytes] = field(default_factory=dict)
    new_ids: dict[str, tuple[bytes, Answer]] = field(default_factory=dict)

    def moved_to(self) -> dict[FileId, Seq]:
        """Name the files that moved, and their newest seq."""
        return {record.state.id: record.state.seq for record, _ in self.events}

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
        self.records[incoming.file_id] = after
        self.events.append((after, incoming.report))
        state = after.state
        self.encoded[state.id, state.seq] = msgspec.json.encode(state)
        return Answer(Outcome.APPLIED, after.state.seq)


class Append:
    """The only code that changes a file after it was registered."""

    def __init__(self, pool: Pool, deadlines: Mapping[Status, timedelta]) -> None:
        self._pool = pool
        self._deadlines = deadlines

    async def __call__(self, batch: Sequence[Incoming]) -> list[Answer | GatewayError]:
        """
        Write many reports in one transaction.

        Returns:
            For each report its answer, or the error that refuses it alone.

        Raises:
            UnavailableError: Nothing was stored.
            RejectedError: One of them cannot be; nothing was stored.
        """
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                work = await _open(connection, batch)
                work.answers = [work.take(incoming) for incoming in batch]
                await self._write(connection, work)
        except asyncpg.PostgresError as error:
            raise RejectedError(str(error)) from error
        return work.answers

    async def _write(self, connection: Connection, work: _Batch) -> None:
        if work.events or work.new_ids:
            await connection.fetch(
                _WRITE,
                *_event_columns(work),
                *self._file_columns(work),
                *_id_columns(work),
                notification.CHANNEL,
                list(notification.encode(work.moved_to())),
            )

    def _file_columns(self, work: _Batch) -> list[Any]:
        records = [work.records[file_id] for file_id in work.moved_to()]
        states = [record.state for record in records]
        return [
            [state.id for state in states],
            [state.seq for state in states],
            [state.status for state in states],
            [state.attempt for state in states],
            [work.encoded[state.id, state.seq] for state in states],
            [msgspec.json.encode(record.jobs) for record in records],
            [record.progressed_at for record in records],
            [lifecycle.deadline(state, self._deadlines) for state in states],
        ]


async def _open(connection: Connection, batch: Sequence[Incoming]) -> _Batch:
    rows = await connection.fetch(_LOCK, [incoming.file_id for incoming in batch])
    seen = await connection.fetch(
        _SEEN, [one.webhook_id for one in batch if one.webhook_id is not None]
    )
    return _Batch(
        # Without a row there is nothing to put a time to.
        now=rows[0]["now"] if rows else datetime.now(UTC),
        records={FileId(row["id"]): _record(row) for row in rows},
        seen={
            row["webhook_id"]: (
                row["digest"],
                Answer(Outcome(row["outcome"]), Seq(row["seq"])),
            )
            for row in seen
        },
    )


def _record(row: asyncpg.Record) -> FileRecord:
    state = msgspec.json.decode(row["state"], type=FileState)
    jobs = msgspec.json.decode(row["jobs"], type=dict[str, Job | int])
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


def _event_columns(work: _Batch) -> list[Any]:
    states = [record.state for record, _ in work.events]
    reports = [report for _, report in work.events]
    return [
        [state.id for state in states],
        [state.seq for state in states],
        [report.type for report in reports],
        [report.sender for report in reports],
        [report.occurred_at for report in reports],
        [work.encoded[state.id, state.seq] for state in states],
        work.now,
    ]


def _id_columns(work: _Batch) -> list[Any]:
    remembered = work.new_ids.values()
    return [
        list(work.new_ids),
        [digest for digest, _ in remembered],
        [answer.outcome for _, answer in remembered],
        [answer.seq for _, answer in remembered],
        work.now + INGEST_ID_LIFE,
    ]
