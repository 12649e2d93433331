"""
THE write: many reports, one transaction, one NOTIFY.

    read the files and the webhook ids -> let `lifecycle` act in arrival order
        -> in one statement: lock the rows in id order, check that nobody was
           faster, write everything, notify

The statement is the transaction, so nothing is locked while we think, and a
batch costs two round trips.  A seq is only taken if, under the row's lock, it
is still the next one: gapless and in commit order.  Whoever was overtaken by
another gateway reads again, and so does whoever would deadlock, though the rows
are locked in one order.  Nothing is answered before the commit.  A commit that
notifies holds a database-wide lock, so the fewer and larger the transactions,
the better.  If the queue of notifications is full, it is committed without.

A database that was failed over or restored may lack events that clients have
seen, and so is another epoch: there the next seq of a file is far beyond any
that was given out before.  Every older cursor then meets a hole, never events
other than those it stands for.
"""

import hashlib
import logging
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway import lifecycle
from gateway.errors import (
    GatewayError,
    NotFoundError,
    RejectedError,
    UnavailableError,
    WebhookReusedError,
)
from gateway.model import (
    LEAP,
    Event,
    FileId,
    FileRecord,
    Outcome,
    Reading,
    Report,
    Seq,
    Status,
)
from gateway.protocol import notification, sse
from gateway.store.pool import ON_DISK, Connection, Pool
from gateway.store.records import file_record

INGEST_ID_LIFE = timedelta(days=3)
"""Longer than any sender of ours retries: EventBridge gives up after a day."""

_READ = """
select f.id, f.state, f.jobs, f.progressed_at, f.epoch,
       i.webhook_id, i.digest, i.outcome, i.seq,
       case when place = 1 then clock_timestamp() end as now,
       case when place = 1 then reelready_epoch() end as epoch_now,
       case when place = 1 then pg_postmaster_start_time() end as server
from unnest($1::text[], $2::text[]) with ordinality as r (file_id, webhook_id, place)
left join files f on f.id = any (array[r.file_id])
left join ingest_ids i on i.webhook_id = any (array[r.webhook_id])
"""

# One row per event; the last one of each file also says what becomes of the file,
# and which seq that rests on.  Rows come by file id, and so are they locked.  An
# event of a file that moved meanwhile gets no file id, which the table refuses; so
# do all if a pooler has led us to another server meanwhile.
_WRITE = f"""
with said as materialized (
    select * from json_to_recordset($1::json)
    as (file_id text, seq integer, state text, type text, sender text,
        occurred_at timestamptz, rests_on integer, status text, attempt integer,
        jobs text, progressed_at timestamptz, deadline_at timestamptz)
), moved as (
    update files f
    set seq = n.seq, status = n.status, attempt = n.attempt, state = n.state::json,
        jobs = n.jobs::json, progressed_at = n.progressed_at,
        deadline_at = n.deadline_at, unanswered_since = null, epoch = $8::text
    from said n
    where n.rests_on is not null and f.id = any (array[n.file_id])
      and f.seq = n.rests_on and pg_postmaster_start_time() = $9
    returning 1
), event as (
    insert into events (file_id, seq, state, type, sender, occurred_at, recorded_at)
    select case when (select count(*) from moved) = $2 then file_id end,
           seq, state::json, type, sender, occurred_at, $3
    from said
), remembered as (
    insert into ingest_ids (webhook_id, digest, outcome, seq, expires_at)
    select webhook_id, decode(digest, 'hex'), outcome, seq, $5
    from json_to_recordset($4::json)
        as (webhook_id text, digest text, outcome text, seq integer)
)
select (select count(pg_notify($6, payload)) from unnest($7::text[]) as n (payload)),
    {ON_DISK}
"""  # noqa: S608 - a constant

_JSON = msgspec.json.Encoder()

_OVERTAKEN = (asyncpg.NotNullViolationError, asyncpg.UniqueViolationError)
_QUEUE_FULL = asyncpg.ProgramLimitExceededError.sqlstate
_MAX_ATTEMPTS = 5

_log = logging.getLogger("reelready.append")


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
    """
    What one transaction is about to write.

    Attributes:
        epoch: Of the database; None if it does not tell.
        server: When the one we read from was started, which tells it from others.
        heads: Newest seq of each file in the table.
        strays: Files that were last written in another epoch.
        rings: Whether the doorbell is rung.
    """

    now: datetime
    records: dict[FileId, FileRecord]
    seen: dict[str, tuple[bytes, Answer]]
    epoch: str | None = None
    server: datetime | None = None
    heads: dict[FileId, Seq] = field(default_factory=dict)
    strays: set[FileId] = field(default_factory=set)
    rings: bool = True
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

    def readings(self) -> dict[FileId, Reading]:
        """Tell what a reader who stands right before this batch would read."""
        readings = {}
        for file_id, written in self.events.items():
            state = self.records[file_id].state
            readings[file_id] = Reading(
                head=state.seq,
                owner=state.owner,
                events=tuple(event for _, event in written),
                terminal=state.status.terminal,
            )
        return readings

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
        if incoming.file_id in self.strays:
            self.strays.remove(incoming.file_id)
            after = _leapt(after)
        seq = after.state.seq
        data = _JSON.encode(after.state)
        self.records[incoming.file_id] = after
        self.events.setdefault(incoming.file_id, []).append(
            (incoming.report, Event(seq, data, sse.event(seq, data)))
        )
        return Answer(Outcome.APPLIED, seq)


def _leapt(record: FileRecord) -> FileRecord:
    """
    Put the seq out of reach of every cursor of another epoch.

    By chance, so that two epochs that come from one do not meet either.
    """
    seq = record.state.seq + LEAP + random.randrange(LEAP)  # noqa: S311 - spreads, guards nothing
    return replace(record, state=replace(record.state, seq=Seq(seq)))


class Followers(Protocol):
    """Whoever delivers what is written, in this process."""

    def committing(self, file_ids: Collection[FileId]) -> None:
        """Hear that these files are being written: their doorbells can wait."""

    def committed(self, readings: Mapping[FileId, Reading]) -> None:
        """Take what was committed, as a reader right before it would read it."""

    def interrupted(self, file_ids: Collection[FileId]) -> None:
        """Hear that it failed, or that nobody knows."""


class Append:
    """
    The only code that changes a file after it was registered.

    Args:
        silences: After how long without a word a file in each state is looked
            into.
        followers: In this process; all others hear the doorbell.
    """

    def __init__(
        self,
        pool: Pool,
        silences: Mapping[Status, timedelta],
        followers: Followers | None = None,
    ) -> None:
        self._pool = pool
        self._silences = silences
        self._followers = followers
        self._knows_epoch = True
        self._rings = True

    async def __call__(self, batch: Sequence[Incoming]) -> list[Answer | GatewayError]:
        """
        Write many reports in one transaction.

        Returns:
            For each report its answer, or the error that refuses it alone.

        Raises:
            UnavailableError: Nothing was stored.
            RejectedError: One of them cannot be; nothing was stored.
        """
        attempts, rings = 0, True
        while True:
            attempts += 1
            try:
                async with self._pool.acquire() as connection:
                    work = await _read(connection, batch)
                    self._note_epoch(work.epoch)
                    work.rings = rings
                    work.answers = [work.take(incoming) for incoming in batch]
                    await self._write(connection, work)
            except UnavailableError as error:
                cause = error.__cause__
                if attempts == _MAX_ATTEMPTS:
                    raise
                if getattr(cause, "sqlstate", None) == _QUEUE_FULL and rings:
                    rings = False
                elif not isinstance(cause, asyncpg.DeadlockDetectedError):
                    raise
            except asyncpg.PostgresError as error:
                if not isinstance(error, _OVERTAKEN) or attempts == _MAX_ATTEMPTS:
                    # Without its detail, which has the row in it, and so a file's name.
                    raise RejectedError(str(error.args[0])) from error
            else:
                if work.events:
                    self._note_ringing(rings=rings)
                return work.answers

    async def _write(self, connection: Connection, work: _Batch) -> None:
        if not (work.events or work.new_ids):
            return
        readings = work.readings()
        if self._followers is None:
            await self._commit(connection, work, readings)
            return
        self._followers.committing(readings)
        try:
            await self._commit(connection, work, readings)
        except BaseException:
            self._followers.interrupted(readings)
            raise
        self._followers.committed(readings)

    async def _commit(
        self,
        connection: Connection,
        work: _Batch,
        readings: Mapping[FileId, Reading],
    ) -> None:
        heads = {file_id: reading.head for file_id, reading in readings.items()}
        await connection.fetch(
            _WRITE,
            _JSON.encode(self._rows(work)),
            len(heads),
            work.now,
            _JSON.encode(_id_rows(work)),
            work.now + INGEST_ID_LIFE,
            notification.CHANNEL,
            list(notification.encode(heads)) if work.rings else [],
            work.epoch,
            work.server,
        )

    def _note_epoch(self, epoch: str | None) -> None:
        """Say it when clients are not safe from a failover that loses commits."""
        if epoch is None and self._knows_epoch:
            _log.warning("no epoch: is pg_control_system() not granted to us?")
        self._knows_epoch = epoch is not None

    def _note_ringing(self, *, rings: bool) -> None:
        """Say it when others learn of our commits by looking only."""
        if self._rings and not rings:
            _log.warning("the notification queue is full: commits do not ring")
        self._rings = rings

    def _rows(self, work: _Batch) -> list["_Row"]:
        rows: list[_Row] = []
        for file_id in sorted(work.events):
            written = work.events[file_id]
            rows.extend(_row(file_id, report, event) for report, event in written)
            record = work.records[file_id]
            last = rows[-1]
            last.rests_on = work.heads[file_id]
            last.status = record.state.status
            last.attempt = record.state.attempt
            last.jobs = _JSON.encode(record.jobs).decode()
            last.progressed_at = record.progressed_at
            last.deadline_at = lifecycle.look_at(record.state, self._silences)
        return rows


class _Row(Struct):
    """One event, and with the last one of a file what becomes of the file."""

    file_id: FileId
    seq: Seq
    state: str
    type: str
    sender: str | None
    occurred_at: datetime
    rests_on: int | None = None
    status: Status | None = None
    attempt: int | None = None
    jobs: str | None = None
    progressed_at: datetime | None = None
    deadline_at: datetime | None = None


def _row(file_id: FileId, report: Report, event: Event) -> _Row:
    return _Row(
        file_id,
        event.seq,
        event.data.decode(),
        report.type,
        report.sender,
        report.occurred_at,
    )


class _IdRow(Struct):
    """What is answered to one webhook id."""

    webhook_id: str
    digest: str
    outcome: Outcome
    seq: Seq


def _id_rows(work: _Batch) -> list[_IdRow]:
    return [
        _IdRow(webhook_id, digest.hex(), answer.outcome, answer.seq)
        for webhook_id, (digest, answer) in work.new_ids.items()
    ]


async def _read(connection: Connection, batch: Sequence[Incoming]) -> _Batch:
    rows = await connection.fetch(
        _READ,
        [incoming.file_id for incoming in batch],
        [incoming.webhook_id for incoming in batch],
    )
    first = next(row for row in rows if row["now"] is not None)
    work = _Batch(
        now=first["now"],
        records={},
        seen={},
        epoch=first["epoch_now"],
        server=first["server"],
    )
    for row in rows:
        if row["id"] is not None and row["id"] not in work.records:
            record = file_record(row["state"], row["jobs"], row["progressed_at"])
            work.records[row["id"]] = record
            work.heads[row["id"]] = record.state.seq
            if work.epoch is not None and row["epoch"] != work.epoch:
                work.strays.add(row["id"])
        if row["webhook_id"] is not None:
            answer = Answer(msgspec.convert(row["outcome"], Outcome), Seq(row["seq"]))
            work.seen[row["webhook_id"]] = (row["digest"], answer)
    return work
