"""
Every file ends: whoever has been silent past its deadline is ended here.

The reconciler writes through `Append`, as everybody does, and only while the
file is still as it was found (`if_seq`): a report that comes in between wins,
and two workers that find the same file end it once.
"""

import asyncio
import logging
import signal
from datetime import UTC, datetime

import uvloop

from gateway.config import Config
from gateway.errors import RejectedError
from gateway.model import FileError, FileId, Report, ReportType, Seq, Status
from gateway.store.append import Append, Incoming
from gateway.store.expired import Expired
from gateway.store.overdue import Overdue
from gateway.store.pool import Pool
from gateway.telemetry import start_logging
from workers.janitor import Janitor
from workers.sweeping import sweep_until

SENDER = "reconciler"
SWEEP_INTERVAL_S = 5.0
MAX_SWEEP_FILES = 200

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


class Reconciler:
    """Ends files whose deadline has passed."""

    def __init__(self, overdue: Overdue, append: Append) -> None:
        self._overdue = overdue
        self._append = append

    async def sweep(self) -> int:
        """
        End what is overdue now.

        Returns:
            How many files were dealt with; as many as `MAX_SWEEP_FILES` means
            that there may be more.

        Raises:
            UnavailableError: The database is away.
        """
        found = await self._overdue(MAX_SWEEP_FILES)
        return await self._end([_ending(*one) for one in found]) if found else 0

    async def _end(self, batch: list[Incoming]) -> int:
        """End files; one that the database will not take does not hold up others."""
        try:
            answers = await self._append(batch)
        except RejectedError as error:
            if len(batch) == 1:
                _log.error("cannot end %s: %s", batch[0].file_id, error)
                return 0
            return sum([await self._end([one]) for one in batch])
        for incoming, answer in zip(batch, answers, strict=True):
            _log.info("%s was silent: %s", incoming.file_id, answer)
        return len(batch)

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
    async with Pool(config.database_url, max_connections=2) as pool:
        append = Append(pool, config.deadlines)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Reconciler(Overdue(pool), append).run(stop))
            tasks.create_task(Janitor(Expired(pool)).run(stop))


def _ending(file_id: FileId, status: Status, seq: Seq) -> Incoming:
    kind, error = _ENDINGS[status]
    said = Report(type=kind, occurred_at=datetime.now(UTC), error=error, sender=SENDER)
    return Incoming(file_id, said, if_seq=seq)
