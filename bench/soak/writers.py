"""
Two writers of the same files, and a reader between all of their steps.

Each writer reads, decides, writes and commits when it is told to, so a commit is
held open for as long as the schedule wants; who writes meanwhile waits for a lock.
A cursor that skipped what commits late would be seen here.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from bench.children import Children
from bench.soak.part import Outcome, Part, Size, at_least, none, told
from gateway.model import FileId, Reading, Report, ReportType
from gateway.model import Outcome as ReportOutcome
from gateway.protocol.registration import Registration
from gateway.store.append import Answer, Append, Incoming
from gateway.store.files import Files, new_file_id
from gateway.store.history import History
from gateway.store.pool import Connection, Pool
from local.postgres import Postgres
from workers.migrate import migrate

_SCHEDULES = {Size.SHORT: 150, Size.FULL: 10_000}
_FILES = 3
_WRITERS = 2
_STEPS = ("read", "write", "commit")
_REPORTS = 2
"""Of each writer in each schedule; its batch has one for each file."""

_OVERLAPS = 0.2
"""In so large a part of the schedules, at least, one overtakes the other."""

_LOCKED_S = 0.003
"""A step that takes longer waits for a lock, and the next one is due."""

_END_S = 20.0


class _Writer(Append):
    """
    Stops before each step, until it is told to go on.

    Attributes:
        attempt: The last one it spoke of; no other writer does.
        steps: How many it took.
        batches: How many it was about to write, one again when it was overtaken.
    """

    def __init__(self, pool: Pool, number: int) -> None:
        super().__init__(pool, {})
        self.attempt = number
        self.steps = self.batches = 0
        self.allowed = asyncio.Semaphore(0)
        self.idle = asyncio.Event()

    async def _write(self, connection: Connection, work: object) -> None:
        self.batches += 1
        await self._step()
        await super()._write(connection, work)  # type: ignore[arg-type]

    async def _commit(
        self, connection: Connection, work: object, readings: Mapping[FileId, Reading]
    ) -> None:
        async with connection.transaction():
            await super()._commit(connection, work, readings)  # type: ignore[arg-type]
            await self._step()

    async def _step(self) -> None:
        self.idle.set()
        await self.allowed.acquire()
        self.steps += 1


class _Reader:
    """Pages through each file by cursor, as every subscriber does."""

    def __init__(self, history: History, file_ids: list[FileId]) -> None:
        self.faults: Counter[str] = Counter()
        self.events = 0
        self._history = history
        self._cursors = dict.fromkeys(file_ids, 1)

    async def read(self) -> None:
        cursors = list(self._cursors.items())
        for (file_id, cursor), reading in (await self._history.read(cursors)).items():
            if reading.reset:
                self.faults["a reset"] += 1
            seqs = [event.seq for event in reading.events]
            if seqs != list(range(cursor + 1, cursor + 1 + len(seqs))):
                self.faults["an event was skipped"] += 1
            if cursor + len(seqs) != reading.head:
                self.faults["the head is ahead of its events"] += 1
            self._cursors[file_id] = reading.head
            self.events += len(seqs)


async def _schedule(
    writers: list[_Writer], reader: _Reader, file_ids: list[FileId], order: list[int]
) -> list[Answer]:
    """Let the writers go step by step, in this order; returns what they answered."""
    working = [asyncio.ensure_future(_report(writer, file_ids)) for writer in writers]
    for number in order:
        writer = writers[number]
        writer.idle.clear()
        writer.allowed.release()
        idle = asyncio.ensure_future(writer.idle.wait())
        await asyncio.wait(
            {idle, working[number]},
            timeout=_LOCKED_S,
            return_when=asyncio.FIRST_COMPLETED,
        )
        idle.cancel()
        await reader.read()
    # Who was overtaken reads and writes once more.
    async with asyncio.timeout(_END_S):
        while not all(one.done() for one in working):
            for writer in writers:
                writer.allowed.release()
            await asyncio.wait(working, timeout=_LOCKED_S)
            await reader.read()
    for writer in writers:
        writer.allowed = asyncio.Semaphore(0)
    return [answer for one in working for answer in one.result()]


async def _report(writer: _Writer, file_ids: list[FileId]) -> list[Answer]:
    """Say something new of each file, in an order of its own."""
    answers: list[Answer] = []
    for _ in range(_REPORTS):
        writer.attempt += _WRITERS
        said = Report(
            type=ReportType.CONVERTING,
            occurred_at=datetime.now(UTC),
            attempt=writer.attempt,
        )
        mixed = random.sample(file_ids, len(file_ids))
        await writer._step()  # noqa: SLF001 - the step before the reading
        for answer in await writer([Incoming(one, said) for one in mixed]):
            if isinstance(answer, Exception):
                raise answer
            answers.append(answer)
    return answers


async def _writers(size: Size) -> Outcome:
    registration = Registration(name="a.mp4", content_type="video/mp4", size=10)
    answers: Counter[str] = Counter()
    async with Children() as children, Postgres(watchdog=children.watchdog) as server:
        await migrate(server.url)
        async with (
            Pool(server.url, max_connections=1) as one,
            Pool(server.url, max_connections=1) as other,
            Pool(server.url, max_connections=1) as readers,
        ):
            file_ids = [new_file_id() for _ in range(_FILES)]
            for file_id in file_ids:
                await Files(readers, {}).create(file_id, registration)
            reader = _Reader(History(readers), file_ids)
            writers = [_Writer(one, 0), _Writer(other, 1)]
            for _ in range(_SCHEDULES[size]):
                order = [
                    number
                    for number in range(_WRITERS)
                    for _ in range(len(_STEPS) * _REPORTS)
                ]
                random.shuffle(order)
                for answer in await _schedule(writers, reader, file_ids, order):
                    answers[answer.outcome] += 1
    due = _SCHEDULES[size] * _WRITERS * _REPORTS
    steps = sum(writer.steps for writer in writers)
    overtaken = sum(writer.batches for writer in writers) - due
    applied = answers[ReportOutcome.APPLIED]
    return Outcome(
        figures=[
            none("events skipped, doubled or out of order", reader.faults.total()),
            none("events that were acknowledged and not read", applied - reader.events),
            at_least("events read", reader.events, _SCHEDULES[size]),
            at_least("steps that the writers took", steps, due * len(_STEPS)),
            at_least(
                "batches that the other writer overtook",
                overtaken,
                _SCHEDULES[size] * _OVERLAPS,
            ),
            told("schedules", _SCHEDULES[size]),
        ],
        samples={"answers": dict(answers), "faults": dict(reader.faults)},
    )


WRITERS = Part(
    name="writers",
    rows="P6",
    about="two writers held open in every order, a reader in between: none skipped",
    run=_writers,
)
