"""
A restart, and a storm: everybody is told to come back, or everybody just does.

Reports go on all the time; nobody may miss one, and nobody may be refused.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RunError
from bench.soak.kills import audit
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.poller import Poller
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until
from local.environment import CODE

EXIT_S = 5.0
BACK_S = 30.0
LAG_S = 0.25

_REPORTS_PER_S = 50
_OPEN_AT_ONCE = 500
_CALM_S = 2.0
_LIMIT_S = 120.0
_READ_S = 2.0
_POLL_S = 0.1


@dataclass(frozen=True)
class _Plan:
    tabs: int
    pollers: int
    files: int


_PLANS = {
    Size.SHORT: _Plan(tabs=400, pollers=40, files=200),
    Size.FULL: _Plan(tabs=10_000, pollers=1000, files=1000),
}


class _Crowd:
    """Tabs and pollers on one stage, and reports about their files."""

    def __init__(self, stage: Stage, plan: _Plan, reporter: Reporter, ledger: Ledger):
        self.tabs: list[Tab] = []
        self.pollers: list[Poller] = []
        self.happened: Counter[str] = Counter()
        self.file_ids: list[str] = []
        self._stage = stage
        self._plan = plan
        self._reporter = reporter
        self._ledger = ledger

    async def come(self) -> None:
        """Register the files and bring everybody in."""
        files = [await self._reporter.register() for _ in range(self._plan.files)]
        self.file_ids = [file_id for file_id, _ in files]
        clients: list[Tab | Poller] = []
        for number in range(self._plan.tabs + self._plan.pollers):
            file_id, token = files[number % len(files)]
            about = (self._stage.port, file_id, token, self._ledger, self.happened)
            if number < self._plan.tabs:
                self.tabs.append(Tab(*about))
                clients.append(self.tabs[-1])
            else:
                self.pollers.append(Poller(*about))
                clients.append(self.pollers[-1])
        for first in range(0, len(clients), _OPEN_AT_ONCE):
            batch = clients[first : first + _OPEN_AT_ONCE]
            for one in batch:
                one.come()
            await _in(batch)

    async def all_wait(self) -> None:
        """
        Wait until the gateway itself says that everybody waits there.

        Raises:
            RunError: Not in time.
        """
        deadline_s = time.monotonic() + _LIMIT_S
        while (await self._stage.metrics())["subscribers"] != len(self.clients):
            if time.monotonic() > deadline_s:
                raise RunError("not everybody waits")
            await asyncio.sleep(_POLL_S)

    async def report(self) -> None:
        """Say something about one file after the other until cancelled."""
        number = 0
        while True:
            await self._reporter.report(self.file_ids[number % len(self.file_ids)])
            number += 1
            await asyncio.sleep(1 / _REPORTS_PER_S)

    async def end(self) -> None:
        """Complete every file, and wait until all have heard of it."""
        for file_id in self.file_ids:
            await self._reporter.complete(file_id)
        await until(
            lambda: all(one.is_done for one in self.clients),
            limit_s=_LIMIT_S,
        )
        await audit(self._stage, self._ledger, self.file_ids)

    @property
    def clients(self) -> list[Tab | Poller]:
        """Everybody."""
        return [*self.tabs, *self.pollers]

    def leave(self) -> None:
        """Close every connection for good."""
        for one in self.clients:
            one.leave()

    def judged(self) -> list[Figure]:
        """What must be so at the end, whatever happened."""
        return [
            none(
                "events lost, doubled, reordered or wrong", self._ledger.faults.total()
            ),
            none(
                "clients not at the end", sum(not one.is_done for one in self.clients)
            ),
            none("tabs dead", sum(one.is_dead for one in self.tabs)),
            none("connections refused", self.happened["refused connection"]),
            told("events received", self._ledger.received),
        ]


@asynccontextmanager
async def _crowded(stage: Stage, size: Size, ledger: Ledger) -> AsyncIterator[_Crowd]:
    """A gateway with everybody in it, and reports all the time."""
    await stage.start_gateway()
    await stage.ready()
    async with Reporter(stage, ledger) as reporter:
        crowd = _Crowd(stage, _PLANS[size], reporter, ledger)
        try:
            await crowd.come()
            await crowd.all_wait()
            reporting = asyncio.ensure_future(crowd.report())
            yield crowd
            # A report is told to the end, so that the ledger knows of it.
            await until(lambda: not reporter.under_way, limit_s=_LIMIT_S)
            reporting.cancel()
            await asyncio.wait([reporting])
            if not reporting.cancelled():
                reporting.result()
            await crowd.end()
        finally:
            crowd.leave()


async def _drain(size: Size) -> Outcome:
    ledger = Ledger()
    async with Stage() as stage, _crowded(stage, size, ledger) as crowd:
        await asyncio.sleep(_CALM_S)
        connects = {tab: tab.connects for tab in crowd.tabs}
        answers = {one: one.answers for one in crowd.pollers}
        asked_s = time.monotonic()
        exit_s = await stage.end_gateway(signal.SIGTERM)
        exit_status = stage.gateway.returncode
        told_before = ledger.acknowledged
        await until(
            lambda: all(one.answers > answers[one] for one in crowd.pollers),
            limit_s=_READ_S,
        )
        answered = sum(one.answers > answers[one] for one in crowd.pollers)
        await stage.start_gateway()
        await stage.alive()
        await until(lambda: _all_back(crowd, connects), limit_s=_LIMIT_S)
        await crowd.all_wait()
        back_s = time.monotonic() - asked_s
        meanwhile = ledger.acknowledged - told_before
        byes = sum(
            count
            for said, count in crowd.happened.items()
            if said.startswith("bye") and "drain" in said
        )
        await asyncio.sleep(_CALM_S)
    return Outcome(
        figures=[
            at_most("exit after SIGTERM, s", exit_s, EXIT_S),
            none("exit status", exit_status or 0),
            at_most("everybody back after, s", back_s, BACK_S),
            at_least("tabs told goodbye", byes, len(crowd.tabs)),
            at_least(
                "long-polls answered before the exit", answered, len(crowd.pollers)
            ),
            at_least("reports meanwhile", meanwhile, 1),
            *crowd.judged(),
        ],
        samples={"faults": dict(ledger.faults), "clients": dict(crowd.happened)},
    )


async def _storm(size: Size) -> Outcome:
    ledger = Ledger()
    async with Stage() as stage, _crowded(stage, size, ledger) as crowd:
        await asyncio.sleep(_CALM_S)
        connects = {tab: tab.connects for tab in crowd.tabs}
        drops = _dropped()
        before = await _reads(stage)
        async with _knocking(stage) as answers_s:
            cut_s = time.monotonic()
            for tab in crowd.tabs:
                tab.cut()
            await until(lambda: _all_back(crowd, connects), limit_s=_LIMIT_S)
            back_s = time.monotonic() - cut_s
        reads = await _reads(stage) - before
        dropped = _dropped() - drops
    return Outcome(
        figures=[
            at_most("everybody back after, s", back_s, BACK_S),
            at_most("database reads", reads, len(crowd.file_ids)),
            at_least("database reads, so that they are counted", reads, 1),
            at_most("an answer meanwhile, p99, s", percentile(answers_s, 0.99), LAG_S),
            none("connections dropped from the accept queue", dropped),
            *crowd.judged(),
        ],
        samples={"answers_s": answers_s},
    )


async def _in(clients: list[Tab | Poller]) -> None:
    await until(lambda: all(one.is_open for one in clients), limit_s=_LIMIT_S)


async def _reads(stage: Stage) -> int:
    """How often the table was read for clients, so far."""
    return (await stage.metrics())["feed_read_seconds_count"]


def _all_back(crowd: _Crowd, connects: dict[Tab, int]) -> bool:
    return all(tab.is_open and tab.connects > connects[tab] for tab in crowd.tabs)


@asynccontextmanager
async def _knocking(stage: Stage) -> AsyncIterator[list[float]]:
    """Ask from another process meanwhile; the seconds of all answers, afterwards."""
    command = [sys.executable, "-m", "bench.soak.knocking", str(stage.port)]
    env = os.environ | {"PYTHONPATH": str(CODE)}
    answers_s: list[float] = []
    async with stage.children.child(
        "knocking", command, env=env, is_talking=True
    ) as one:
        yield answers_s
        said, _ = await one.communicate(b"")
        answers_s += json.loads(said)


def _dropped() -> int:
    """Connections this machine's kernel had no room for, so far."""
    lines = Path("/proc/net/netstat").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["ListenDrops"])


DRAIN = Part(
    name="drain",
    rows="D2",
    about="SIGTERM with everybody waiting: out at once, and all back with every event",
    run=_drain,
)
STORM = Part(
    name="storm",
    rows="D4",
    about="every connection is cut at once: all come back, others notice little",
    run=_storm,
)
