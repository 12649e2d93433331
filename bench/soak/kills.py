"""
Kill -9 of Postgres and of the gateway, at random moments, under load.

Reports go on all the time, as many as there are kills to interrupt them; every
client reads its file from the first event to the last one.
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from bench.soak.ledger import CatchUp, Ledger, percentile
from bench.soak.part import Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until

CATCH_UP_S = 3.0

_REPORTERS = 16
_REPORTS_PER_S = 200
_LONGEST_CALM_S = 2.0
_END_S = 120.0
_CATCH_UP_LIMIT_S = 10.0
_EVENTS = """
select seq, (state ->> 'attempt')::integer as attempt, state::text as state
from events where file_id = $1 order by seq
"""


@dataclass(frozen=True)
class _Plan:
    """
    How much.

    Attributes:
        at_once: Both are killed in the same time; else one after the other, so
            that somebody surely waits for Postgres alone.
    """

    kills: int
    reports: int
    clients: int
    files: int
    at_once: bool


_PLANS = {
    Size.SHORT: _Plan(kills=2, reports=640, clients=64, files=16, at_once=False),
    Size.FULL: _Plan(kills=200, reports=100_000, clients=2000, files=200, at_once=True),
}


class _Run:
    """One run: who kills, who reports, who reads."""

    def __init__(self, stage: Stage, plan: _Plan, reporter: Reporter, ledger: Ledger):
        self.catch_up = CatchUp()
        self.never = self.postgres_kills = self.gateway_kills = 0
        self.tabs: list[Tab] = []
        self.happened: Counter[str] = Counter()
        self._stage = stage
        self._plan = plan
        self._reporter = reporter
        self._ledger = ledger
        self._random = random.Random()
        self._allowed = asyncio.Semaphore(0)
        self._targets: dict[Tab, tuple[int, int]] = {}

    async def __call__(self) -> None:
        files = [await self._reporter.register() for _ in range(self._plan.files)]
        for number in range(self._plan.clients):
            file_id, token = files[number % len(files)]
            tab = Tab(self._stage.port, file_id, token, self._ledger, self.happened)
            tab.on_event = self._heard
            self.tabs.append(tab)
            tab.come()
        await until(lambda: all(tab.is_open for tab in self.tabs), limit_s=_END_S)
        file_ids = [file_id for file_id, _ in files]
        async with asyncio.TaskGroup() as tasks:
            for number in range(_REPORTERS):
                tasks.create_task(self._report(file_ids[number::_REPORTERS]))
            tasks.create_task(self._pace())
            killing = tasks.create_task(self._kill_postgres())
            if not self._plan.at_once:
                await killing
            tasks.create_task(self._kill_gateways())
        async with asyncio.TaskGroup() as tasks:
            for file_id in file_ids:
                tasks.create_task(self._reporter.complete(file_id))
        await until(lambda: all(tab.is_done for tab in self.tabs), limit_s=_END_S)
        await audit(self._stage, self._ledger, file_ids)

    async def _report(self, file_ids: list[str]) -> None:
        """Report on each of these files in turn, as often as is allowed."""
        count = self._plan.reports // _REPORTERS
        for number in range(count if file_ids else 0):
            await self._allowed.acquire()
            await self._reporter.report(file_ids[number % len(file_ids)])

    async def _pace(self) -> None:
        """Let reports come one by one, whoever is dead."""
        for _ in range(self._plan.reports):
            self._allowed.release()
            await asyncio.sleep(1 / _REPORTS_PER_S)

    async def _calm(self) -> None:
        await asyncio.sleep(self._random.uniform(0, _LONGEST_CALM_S))

    async def _kill_postgres(self) -> None:
        for _ in range(self._plan.kills):
            await self._calm()
            self._stage.kill_postgres()
            await self._stage.start_postgres()
            self.postgres_kills += 1
            self._look()
            await until(lambda: not self._behind(), limit_s=_CATCH_UP_LIMIT_S)
            self.never += len(self._behind())

    async def _kill_gateways(self) -> None:
        for _ in range(self._plan.kills):
            await self._calm()
            await self._stage.end_gateway()
            self.gateway_kills += self._stage.gateway.returncode == -signal.SIGKILL
            await self._stage.start_gateway()
            await self._stage.alive()
        await self._stage.ready()

    def _behind(self) -> dict[Tab, tuple[int, int]]:
        """Who lacks something; whose gateway died, too, waits for that one."""
        self._targets = {
            tab: (target, connects)
            for tab, (target, connects) in self._targets.items()
            if tab.is_open and tab.connects == connects
        }
        return self._targets

    def _look(self) -> None:
        """Postgres is back: what was to be stored meanwhile should reach all."""
        self.catch_up.begin()
        heads, waiting = self._ledger.heads, self._reporter.under_way
        self._targets = {
            tab: (heads[tab.file_id] + (tab.file_id in waiting), tab.connects)
            for tab in self.tabs
            if tab.is_open and (tab.file_id in waiting or tab.last < heads[tab.file_id])
        }

    def _heard(self, tab: Tab) -> None:
        target, connects = self._targets.get(tab, (0, 0))
        if target and tab.last >= target:
            del self._targets[tab]
            if tab.connects == connects:
                self.catch_up.reached()


async def audit(stage: Stage, ledger: Ledger, file_ids: Iterable[str]) -> None:
    """Compare all that was said of these files with their tables."""
    async with stage.database() as database:
        for file_id in file_ids:
            rows = await database.fetch(_EVENTS, file_id)
            ledger.audit(
                file_id,
                ((one["seq"], one["attempt"], one["state"].encode()) for one in rows),
            )


async def _kills(size: Size) -> Outcome:
    plan = _PLANS[size]
    ledger = Ledger()
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        async with Reporter(stage, ledger) as reporter:
            run = _Run(stage, plan, reporter, ledger)
            try:
                await run()
            finally:
                for tab in run.tabs:
                    tab.leave()
            caught_up = run.catch_up.samples_s
            figures = [
                none("events lost, doubled, reordered or wrong", ledger.faults.total()),
                none(
                    "clients not at the end", sum(not one.is_done for one in run.tabs)
                ),
                at_least("reports acknowledged", ledger.acknowledged, plan.reports),
                at_most("catch-up p99, s", percentile(caught_up, 0.99), CATCH_UP_S),
                none("clients that did not catch up", run.never),
                at_least("kills of Postgres", run.postgres_kills, plan.kills),
                at_least("kills of the gateway", run.gateway_kills, plan.kills),
                at_least("catch-ups of a client", len(caught_up), plan.kills),
                told("events received", ledger.received),
            ]
            return Outcome(
                figures=figures,
                samples={
                    "faults": dict(ledger.faults),
                    "clients": dict(run.happened),
                    "reporters": dict(reporter.happened),
                    "catch_up_s": [round(one, 3) for one in sorted(caught_up)[-2000:]],
                },
            )


KILLS = Part(
    name="kills",
    rows="P1",
    about="kill -9 of Postgres and of the gateway under load: nothing is lost",
    run=_kills,
)
