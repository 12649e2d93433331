"""
Group commit: many concurrent reports, one transaction.

Reports are collected while transactions are under way, so a batch is as large
as the load makes it and a lone report waits for nobody.  A few transactions may
be under way: some are prepared here while Postgres is at another.  A file is
only ever in one of them, so its reports are written in the order of arrival.
Each is answered with its own outcome, after the commit.

Nobody waits longer than `ANSWER_TIMEOUT_S`: a sender that was told to come back
sends the same report again, and gets its answer if it was stored meanwhile.

One report that the database cannot take, or whose file's row cannot be read, fails
alone: its batch is rolled back and written one by one.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

from gateway.errors import GatewayError, RejectedError, UnavailableError
from gateway.model import FileId
from gateway.store.append import Answer, Append, Incoming
from gateway.telemetry import Metrics

MAX_BATCH_REPORTS = 400
MAX_WAITING_REPORTS = 10_000
ANSWER_TIMEOUT_S = 2.0
_LATE_CHECK_S = 0.25
WRITERS = 2
MIN_SHARE_REPORTS = 16
"""What one transaction may hold before others are given a part of the rest."""

_Waiting = tuple[Incoming, "asyncio.Future[Answer]"]

_log = logging.getLogger("reelready.ingest")


class Ingest:
    """The one way in: what is accepted here is stored before it is answered."""

    def __init__(self, append: Append, metrics: Metrics) -> None:
        self._append = append
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._under_way: dict[FileId, list[_Waiting]] = {}
        self._unanswered = 0
        self._due: deque[tuple[float, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()
        self._ended = False

    def submit(self, incoming: Incoming) -> "asyncio.Future[Answer]":
        """
        Take one report; the future is done after its commit.

        Raises:
            UnavailableError: It cannot be stored now; nothing was.
            UnavailableError: From the future: it could not be stored in time;
                it may be yet.
            NotFoundError: From the future: there is no such file.
            WebhookReusedError: From the future: the webhook id came before
                with another body.
        """
        if self._ended:
            raise UnavailableError("shutting down")
        if self._unanswered >= MAX_WAITING_REPORTS:
            raise UnavailableError("too many reports are waiting to be stored")
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()
        self._due.append((loop.time() + ANSWER_TIMEOUT_S, answered))
        self._waiting.append((incoming, answered))
        self._unanswered += 1
        self._arrived.set()
        return answered

    async def run(self) -> None:
        """Write batches until cancelled; then refuse whoever still waits."""
        try:
            async with asyncio.TaskGroup() as writers:
                writers.create_task(self._refuse_late())
                for _ in range(WRITERS):
                    writers.create_task(self._write())
        finally:
            self._ended = True
            _refuse(self._waiting, "shutting down")
            for held in self._under_way.values():
                _refuse(held, "shutting down")

    async def _refuse_late(self) -> None:
        """Answer whoever waits too long, whatever is under way."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LATE_CHECK_S)
            while self._due:
                due_at, answered = self._due[0]
                if not answered.done():
                    if due_at > loop.time():
                        break
                    answered.set_exception(UnavailableError("not stored in time"))
                self._due.popleft()

    async def _write(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                await self._commit(batch)
                self._release(batch)
            else:
                self._arrived.clear()
                await self._arrived.wait()

    def _next_batch(self) -> list[_Waiting]:
        """Take what waits, but for files that are being written."""
        batch: list[_Waiting] = []
        share = max(MIN_SHARE_REPORTS, self._unanswered // WRITERS)
        while self._waiting and len(batch) < min(share, MAX_BATCH_REPORTS):
            one = self._waiting.popleft()
            if one[1].done() and not one[1].cancelled():
                # Refused meanwhile: it comes again.
                self._unanswered -= 1
                continue
            held = self._under_way.get(one[0].file_id)
            if held is None:
                batch.append(one)
            else:
                held.append(one)
        for incoming, _ in batch:
            self._under_way.setdefault(incoming.file_id, [])
        return batch

    def _release(self, batch: list[_Waiting]) -> None:
        """Let those go on that came for these files meanwhile."""
        self._unanswered -= len(batch)
        for incoming, _ in batch:
            held = self._under_way.pop(incoming.file_id, None)
            if held:
                self._waiting.extendleft(reversed(held))
                self._arrived.set()

    async def _commit(self, batch: list[_Waiting]) -> None:
        self._metrics.batch_reports.observe(len(batch))
        try:
            with self._metrics.commit_seconds.time():
                answers = await self._append([incoming for incoming, _ in batch])
        except UnavailableError as error:
            _answer(batch, [error] * len(batch))
        except (RejectedError, msgspec.DecodeError) as error:
            await self._commit_alone(batch, error)
        else:
            self._count(answers)
            _answer(batch, answers)
        finally:
            _refuse(batch, "interrupted")

    def _count(self, answers: "list[Answer | GatewayError]") -> None:
        outcomes = Counter(one.outcome for one in answers if isinstance(one, Answer))
        for outcome, count in outcomes.items():
            self._metrics.reports.labels(outcome).inc(count)

    async def _commit_alone(
        self, batch: list[_Waiting], error: RejectedError | msgspec.DecodeError
    ) -> None:
        if len(batch) > 1:
            for one in batch:
                await self._commit([one])
            return
        _log.error("report for %s refused: %s", batch[0][0].file_id, error)
        _answer(batch, [UnavailableError("this report cannot be stored")])


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
