"""
Group commit: many concurrent reports, one transaction.

Reports are collected while the previous transaction is under way, so a batch
is as large as the load makes it and a lone report waits for nobody.  Each is
answered with its own outcome, after the commit.

One report that the database cannot take fails alone: its batch is rolled back
and written one by one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable

from gateway.errors import GatewayError, RejectedError, UnavailableError
from gateway.store.append import Answer, Append, Incoming
from gateway.telemetry import Metrics

MAX_BATCH_REPORTS = 400
MAX_WAITING_REPORTS = 10_000

_Waiting = tuple[Incoming, "asyncio.Future[Answer]"]

_log = logging.getLogger("reelready.ingest")


class Ingest:
    """The one way in: what is accepted here is stored before it is answered."""

    def __init__(self, append: Append, metrics: Metrics) -> None:
        self._append = append
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    def submit(self, incoming: Incoming) -> "asyncio.Future[Answer]":
        """
        Take one report; the future is done after its commit.

        Raises:
            UnavailableError: It cannot be stored now; nothing was.  From the
                future, too.
            NotFoundError: From the future: there is no such file.
            WebhookReusedError: From the future: the webhook id came before
                with another body.
        """
        if self._ended:
            raise UnavailableError("shutting down")
        if len(self._waiting) >= MAX_WAITING_REPORTS:
            raise UnavailableError("too many reports are waiting to be stored")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((incoming, answered))
        self._arrived.set()
        return answered

    async def run(self) -> None:
        """Write batches until cancelled; then refuse whoever still waits."""
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    count = min(len(self._waiting), MAX_BATCH_REPORTS)
                    await self._commit([self._waiting.popleft() for _ in range(count)])
        finally:
            self._ended = True
            _refuse(self._waiting, "shutting down")

    async def _commit(self, batch: list[_Waiting]) -> None:
        self._metrics.batch_reports.observe(len(batch))
        try:
            with self._metrics.commit_seconds.time():
                answers = await self._append([incoming for incoming, _ in batch])
        except UnavailableError as error:
            _answer(batch, [error] * len(batch))
        except RejectedError as error:
            await self._commit_alone(batch, error)
        else:
            self._count(answers)
            _answer(batch, answers)
        finally:
            _refuse(batch, "interrupted")

    def _count(self, answers: "list[Answer | GatewayError]") -> None:
        for answer in answers:
            if isinstance(answer, Answer):
                self._metrics.reports.labels(answer.outcome).inc()

    async def _commit_alone(self, batch: list[_Waiting], error: RejectedError) -> None:
        if len(batch) > 1:
            for one in batch:
                await self._commit([one])
            return
        _log.error("report for %s refused: %s", batch[0][0].file_id, error)
        _answer(batch, [UnavailableError("the database refused this report")])


def _answer(batch: list[_Waiting], answers: "list[Answer | GatewayError]") -> None:
    for (_, answered), answer in zip(batch, answers, strict=True):
        if answered.done():
            continue
        if isinstance(answer, GatewayError):
            answered.set_exception(answer)
        else:
            answered.set_result(answer)


def _refuse(waiting: Iterable[_Waiting], problem: str) -> None:
    """Leave nobody without an answer."""
    for _, answered in waiting:
        if not answered.done():
            answered.set_exception(UnavailableError(problem))
