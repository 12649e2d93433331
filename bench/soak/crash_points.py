"""
Kill -9 at every line that a report runs through, from its bytes to the clients'.

One file, clients of each kind, one report at a time.  A gateway is ended at the
first line of it, the next at the second, and so on to the last; each time the
report is said again until it is answered, to a gateway that lives.
"""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress

from bench.errors import RunError
from bench.soak.kills import audit
from bench.soak.ledger import Ledger
from bench.soak.part import Outcome, Part, Size, at_least, none, told
from bench.soak.poller import Poller
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until

_STEP = {Size.SHORT: 60, Size.FULL: 1}
"""Every so manieth line."""

_MANY = {Size.SHORT: 8, Size.FULL: 500}
"""Lines that a report runs through, at the least."""

_LONGEST = 5000
_MISSES = 3
"""In a row: then no gateway came to so many lines."""

_POINTS_OF_A_FILE = 400
_RETRY_S = 0.05
_LIMIT_S = 20.0
_SETTLED_S = 0.1


class _Gateways:
    """The forked ones: one at a time."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._gone: asyncio.Task[bytes] | None = None
        self._pid = 0

    async def start(self, lines: int) -> None:
        """Fork one that will run so many lines; 0: as many as it likes."""
        if self._gone is not None:
            await self._gone
        pipe = self._stage.gateway.stdin
        said = self._stage.gateway.stdout
        if pipe is None or said is None:
            raise RunError("the gateways cannot be talked to")
        pipe.write(b"%d\n" % lines)
        self._pid = int(await said.readline() or b"0")
        if not self._pid:
            raise RunError(self._stage.children.last_words("gateway"))
        self._gone = asyncio.ensure_future(said.readline())

    @property
    def is_gone(self) -> bool:
        """Whether the last one has ended."""
        return self._gone is not None and self._gone.done()

    async def kill(self) -> int:
        """End the last one, unless it has; returns how it ended."""
        if not self.is_gone:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        return int(await self._gone or b"1") if self._gone is not None else 0


class _Run:
    """All points, one after the other."""

    def __init__(self, stage: Stage, reporter: Reporter, ledger: Ledger) -> None:
        self.points = 0
        self.stuck: list[int] = []
        self.alone: list[int] = []
        self.others: list[int] = []
        self.file_ids: list[str] = []
        self._stage = stage
        self._reporter = reporter
        self._ledger = ledger
        self._gateways = _Gateways(stage)
        self._happened: Counter[str] = Counter()
        self._clients: list[Tab | Poller] = []

    async def __call__(self, step: int) -> None:
        misses = 0
        for number, line in enumerate(range(1, _LONGEST, step)):
            if number % _POINTS_OF_A_FILE == 0:
                await self._gateways.start(0)
                await self._new_file()
                await self._gateways.kill()
            misses = 0 if await self._crash_at(line) else misses + 1
            if misses == _MISSES:
                break
        self._leave()
        await self._gateways.kill()

    async def _new_file(self) -> None:
        self._leave()
        file_id, token = await self._reporter.register()
        self.file_ids.append(file_id)
        about = (self._stage.port, file_id, token, self._ledger, self._happened)
        self._clients = [
            Tab(*about, retry_s=_RETRY_S),
            Tab(*about, retry_s=_RETRY_S),
            Poller(*about, retry_s=_RETRY_S),
        ]
        for one in self._clients:
            one.come()

    def _leave(self) -> None:
        for one in self._clients:
            one.leave()

    async def _crash_at(self, line: int) -> bool:
        """Let one gateway crash there; returns whether there is such a line."""
        file_id = self.file_ids[-1]
        await self._gateways.start(line)
        if not await until(self._ready, limit_s=_LIMIT_S):
            self.alone.append(line)
        report = asyncio.ensure_future(self._reporter.report(file_id))
        await until(
            lambda: self._gateways.is_gone or (report.done() and self._told()),
            limit_s=_LIMIT_S,
        )
        await asyncio.sleep(0 if self._gateways.is_gone else _SETTLED_S)
        crashed = self._gateways.is_gone
        if crashed and await self._gateways.kill() != -signal.SIGKILL:
            self.others.append(line)
        if crashed:
            self.points += 1
            await self._gateways.start(0)
        if not await until(lambda: report.done() and self._told(), limit_s=_LIMIT_S):
            self.stuck.append(line)
            report.cancel()
        await asyncio.wait([report])
        await self._gateways.kill()
        return crashed

    def _ready(self) -> bool:
        return all(one.is_open for one in self._clients)

    def _told(self) -> bool:
        head = self._ledger.heads[self.file_ids[-1]]
        return not self._reporter.under_way and all(
            one.last >= head for one in self._clients
        )


async def _crash_points(size: Size) -> Outcome:
    ledger = Ledger()
    async with Stage() as stage:
        await stage.start_gateway(("-m", "bench.soak.crashing"), is_talking=True)
        async with Reporter(stage, ledger) as reporter:
            run = _Run(stage, reporter, ledger)
            await run(_STEP[size])
            await audit(stage, ledger, run.file_ids)
    return Outcome(
        figures=[
            none("events lost, doubled, reordered or wrong", ledger.faults.total()),
            none("crashes after which someone waited for ever", len(run.stuck)),
            none("gateways that ended otherwise", len(run.others)),
            none("crashes before the clients were there", len(run.alone)),
            at_least("crashes", run.points, _MANY[size]),
            at_least("reports acknowledged", ledger.acknowledged, run.points),
            told("every so manieth line", _STEP[size]),
        ],
        samples={"faults": dict(ledger.faults), "stuck_at": run.stuck},
    )


CRASH_POINTS = Part(
    name="crash-points",
    rows="D1",
    about="kill -9 at every line of ingest and fan-out: nothing is lost",
    run=_crash_points,
)
