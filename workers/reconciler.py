"""
Every file ends: whoever is silent is asked about, and ended when time is over.

What AWS knows is written as the lost report would have been, so that one that
comes late changes nothing.  A file is ended only while it is still as it was
found (`if_seq`): a report that comes in between wins.  Several workers may run;
each silent file is found by one of them.
"""

import asyncio
import logging
import random
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import uvloop
from msgspec.structs import replace

from gateway.config import PREFIX, Config
from gateway.errors import GatewayError, RejectedError
from gateway.model import (
    FileError,
    FileId,
    FileRecord,
    FileState,
    Outcome,
    Report,
    ReportType,
    Seq,
    Status,
)
from gateway.store.append import Answer, Append, Incoming
from gateway.store.expired import Expired
from gateway.store.pool import Pool, expect_primary
from gateway.store.silent import Silent, SilentFile
from gateway.telemetry import start_logging
from workers.checkup import Verdict, aws_of_worker
from workers.janitor import Janitor
from workers.migrate import note_schema
from workers.sweeping import sweep_until
from workers.upstream import SENDER, Finding, Upstream

SWEEP_INTERVAL_S = 5.0
MAX_SWEEP_FILES = 400
STATEMENT_TIMEOUT_S = 10.0
"""Nobody waits for a sweep, and what it deletes may be cold."""

PATIENCE = timedelta(minutes=4)
"""
A file whose time is over is asked about for so long while AWS does not answer, or
while the database will not take what it says.
With the time until it is seen, and seen again, it ends in ten.
"""

AGAIN = timedelta(minutes=2)
"""
At most so long after it was found a file is found again, if its worker died or
its time is over.
"""

LONGEST_SILENCE = 2
"""
Silences that one may become: of two minutes, four.  With a fifth, a worker that dies
of it and the sweeps, what was lost is found ten minutes later at most.
"""

MAX_JOB_AGE = timedelta(hours=48)
"""
A job that runs is waited for; MediaConvert itself ends it after that long.  Once AWS
has said to any worker that it runs, that is believed as long while there is no answer.
"""

_ENDINGS = {
    Status.AWAITING_UPLOAD: (
        ReportType.EXPIRED,
        FileError(
            code="upload_never_came",
            message="The upload never arrived.",
            retryable=True,
        ),
    ),
    Status.UPLOADED: (
        ReportType.FAILED,
        FileError(
            code="conversion_never_started",
            message="The upload arrived, but its conversion never started.",
            retryable=True,
        ),
    ),
    Status.CONVERTING: (
        ReportType.FAILED,
        FileError(
            code="conversion_never_reported",
            message="The conversion started, but nothing was heard of it since.",
            retryable=True,
        ),
    ),
}

_log = logging.getLogger("reelready.reconciler")


class Asked(Protocol):
    """Whoever knows what became of files; `Upstream`, but in unit tests."""

    async def ask(self, files: Sequence[FileRecord]) -> Sequence[Finding]:
        """Learn what became of files."""

    async def convert(self, states: Sequence[FileState]) -> None:
        """Have uploads that nothing came of converted."""


class Reconciler:
    """Asks about silent files, and ends those whose time is over."""

    def __init__(
        self,
        silent: Silent,
        upstream: Asked,
        append: Append,
    ) -> None:
        self._silent = silent
        self._upstream = upstream
        self._append = append

    async def sweep(self) -> int:
        """
        Look into what is silent now.

        Returns:
            How many files were dealt with; as many as `MAX_SWEEP_FILES` means
            that there may be more.

        Raises:
            UnavailableError: The database is away.
        """
        found = await self._silent.claim(MAX_SWEEP_FILES)
        random.shuffle(found)  # so that no file is always the one there is no time for
        findings = await self._upstream.ask([file.record for file in found])
        moved, asked = await self._pass_on(list(zip(found, findings, strict=True)))
        await self._write(
            [
                _ending(file)
                for file, finding in asked
                if file.record.state.id not in moved and _is_over(file, finding)
            ]
        )
        await self._upstream.convert(
            [
                file.record.state
                for file, finding in asked
                if finding.unstarted and (finding.reports or not _is_late(file))
            ]
        )
        await self._note_alive(
            [file for file, finding in asked if finding.alive], moved
        )
        idle = [
            file
            for file, finding in asked
            if finding.unknown is None and not finding.alive and not _is_late(file)
        ]
        if idle:
            await self._silent.put_off(idle)
        if in_vain := [file for file, finding in asked if _is_in_vain(file, finding)]:
            await self._silent.note_unanswered(in_vain)
        return len(found)

    async def _note_alive(
        self, alive: list[SilentFile], moved: Mapping[FileId, Seq]
    ) -> None:
        """Believe of jobs that they are at work, whether or not that was news."""
        if as_found := [file for file in alive if file.record.state.id not in moved]:
            await self._silent.put_off(as_found, believed=MAX_JOB_AGE)
        ids = [file.record.state.id for file in alive]
        if further := {one: moved[one] for one in ids if one in moved}:
            await self._silent.note_at_work(further, believed=MAX_JOB_AGE)

    async def _pass_on(
        self, asked: list[tuple[SilentFile, Finding]]
    ) -> tuple[dict[FileId, Seq], list[tuple[SilentFile, Finding]]]:
        """
        Write what lost reports would have said.

        Returns:
            Whose state moved, and to which seq; and what was learned that counts: a job that is over
            but cannot be written of may not be called silent, so nothing was.
        """
        batch = [
            Incoming(file.record.state.id, said)
            for file, finding in asked
            for said in finding.reports
        ]
        answers = list(zip(batch, await self._write(batch), strict=True))
        moved = {
            incoming.file_id: answer.seq
            for incoming, answer in answers
            if isinstance(answer, Answer) and answer.outcome is Outcome.APPLIED
        }
        refused = {
            incoming.file_id: str(answer)
            for incoming, answer in answers
            if isinstance(answer, GatewayError) and incoming.file_id not in moved
        }
        return moved, [
            (file, replace(finding, unknown=refused[file.record.state.id]))
            if file.record.state.id in refused and not finding.alive
            else (file, finding)
            for file, finding in asked
        ]

    async def _write(self, batch: list[Incoming]) -> list[Answer | GatewayError]:
        """Write; one that the database will not take does not hold up others."""
        if not batch:
            return []
        try:
            answers = await self._append(batch)
        except RejectedError as error:
            if len(batch) == 1:
                _log.error("cannot write of %s: %s", batch[0].file_id, error)
                return [error]
            return [answer for one in batch for answer in await self._write([one])]
        for incoming, answer in zip(batch, answers, strict=True):
            said = incoming.report.type
            _log.info("%s was silent: %s, %s", incoming.file_id, said, answer)
        return answers

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until told to stop; a database that is away is waited out."""
        await sweep_until(
            stop,
            self.sweep,
            full=MAX_SWEEP_FILES,
            interval_s=SWEEP_INTERVAL_S,
            log=_log,
        )


def run(config: Config) -> None:
    """Run the worker in this process until SIGINT or SIGTERM; blocks."""
    start_logging()
    uvloop.run(_work(config))


async def _work(config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await expect_primary(config.database_url, f"{PREFIX}DATABASE_URL")
    await note_schema(config.database_url)
    async with (
        Pool(
            config.database_url,
            max_connections=2,
            statement_timeout_s=STATEMENT_TIMEOUT_S,
        ) as pool,
        Upstream(config) as upstream,
    ):
        append = Append(pool, config.silences)
        janitor = Janitor(
            Expired(pool),
            progress_life=timedelta(seconds=config.progress_life_seconds),
            expired_file_life=timedelta(seconds=config.expired_file_life_seconds),
        )
        silent = Silent(
            pool,
            config.deadlines,
            again=min(config.silence, AGAIN),
            longest=LONGEST_SILENCE * config.silence,
        )
        noting = asyncio.create_task(_note_aws(config))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Reconciler(silent, upstream, append).run(stop))
            tasks.create_task(janitor.run(stop))
        noting.cancel()


async def _note_aws(config: Config) -> None:
    """Say what AWS would refuse, before a file depends on it."""
    async for one in aws_of_worker(config):
        if one.verdict is Verdict.WRONG:
            _log.warning("%s: %s: %s", one.check, one.said, one.remedy)


def _is_late(file: SilentFile) -> bool:
    return file.late >= timedelta(0)


def _is_over(file: SilentFile, finding: Finding) -> bool:
    """Whether silence ends the file now."""
    if not _is_late(file) or finding.unasked:
        return False
    if finding.alive:
        return file.late > MAX_JOB_AGE
    if finding.unknown is None:
        return True
    return file.unanswered is not None and file.unanswered > PATIENCE


def _is_in_vain(file: SilentFile, finding: Finding) -> bool:
    """Whether patience begins now: a job that has said its end is not at work."""
    if not _is_late(file) or finding.unknown is None or finding.unasked:
        return False
    if file.unanswered is None:
        return True
    return bool(finding.reports) and file.unanswered < timedelta(0)


def _ending(file: SilentFile) -> Incoming:
    state = file.record.state
    kind, error = _ENDINGS[state.status]
    said = Report(type=kind, occurred_at=datetime.now(UTC), error=error, sender=SENDER)
    return Incoming(state.id, said, if_seq=state.seq)
