"""
Several gateways on one address, replaced one after the other, and killed.

Clients come back to whichever accepts them, with the cursor that another gave
them: their streams must go on as if there were one gateway only.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.soak.kills import audit
from bench.soak.ledger import Ledger
from bench.soak.part import Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.poller import Poller
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until

PROCESSES = 2
END_S = 5.0

_FILES = 16
_OPEN_S = 30.0
_TURN_S = 60.0
_SERVE = ("-m", "gateway", "serve", "--processes", str(PROCESSES))


@dataclass(frozen=True)
class _Plan:
    turns: int
    clients: int


_PLANS = {
    Size.SHORT: _Plan(turns=1, clients=48),
    Size.FULL: _Plan(turns=20, clients=2_000),
}


class _Run:
    """One run: the same clients through every turn."""

    def __init__(self, stage: Stage, plan: _Plan, ledger: Ledger) -> None:
        self.happened: Counter[str] = Counter()
        self.clients: list[Tab | Poller] = []
        self.replaced = self.killed = self.spread = 0
        self._stage = stage
        self._plan = plan
        self._ledger = ledger

    async def __call__(self, reporter: Reporter) -> None:
        files = [await reporter.register() for _ in range(_FILES)]
        for number in range(self._plan.clients):
            kind = Poller if number % 3 == 0 else Tab
            file_id, token = files[number % _FILES]
            args = self._stage.port, file_id, token, self._ledger, self.happened
            self.clients.append(kind(*args))
            self.clients[-1].come()
        await until(lambda: all(one.is_open for one in self.clients), limit_s=_OPEN_S)
        file_ids = [file_id for file_id, _ in files]
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for file_id in file_ids:
                tasks.create_task(_report(reporter, file_id, over))
            for _ in range(self._plan.turns):
                self.spread += len(await self._serving()) == PROCESSES
                self.replaced += await self._turn(self._replace)
                self.killed += await self._turn(self._kill)
            over.set()
        for file_id in file_ids:
            await reporter.complete(file_id)
        await until(lambda: all(one.is_done for one in self.clients), limit_s=_OPEN_S)
        await audit(self._stage, self._ledger, file_ids)

    async def _turn(self, act: Callable[[list[int]], int]) -> bool:
        """Do something to the processes; returns whether there are others then."""
        before = self._children()
        gone = set(before[: act(before)])

        def there_are_others() -> bool:
            now = self._children()
            return len(now) == PROCESSES and not gone & set(now)

        await until(there_are_others, limit_s=_TURN_S)
        await _until_all(self._serving, PROCESSES)
        return there_are_others()

    def _replace(self, children: list[int]) -> int:
        os.kill(self._stage.gateway.pid, signal.SIGHUP)
        return len(children)

    def _kill(self, children: list[int]) -> int:
        os.kill(children[0], signal.SIGKILL)
        return 1

    def _children(self) -> list[int]:
        return [one for one in self._stage.pids() if one != self._stage.gateway.pid]

    async def _serving(self) -> set[str]:
        """Name the processes that tell their metrics, whoever is asked for them."""
        said = (await self._stage.ask("/metrics")).decode()
        return {
            line.partition('process="')[2].partition('"')[0]
            for line in said.splitlines()
            if line.startswith("reelready_tasks{")
        }


async def _until_all(serving: Callable[[], Awaitable[set[str]]], number: int) -> None:
    async with asyncio.timeout(_TURN_S):
        while True:
            if len(await serving()) == number:
                return
            await asyncio.sleep(0.1)


async def _report(reporter: Reporter, file_id: str, over: asyncio.Event) -> None:
    while not over.is_set():
        await reporter.report(file_id)
        await asyncio.sleep(0.2)


async def _processes(size: Size) -> Outcome:
    plan, ledger = _PLANS[size], Ledger()
    # They open the socket: that nobody is refused must be their doing.
    async with Stage(keeps_socket=False) as stage, Reporter(stage, ledger) as reporter:
        await stage.start_gateway(_SERVE)
        await stage.ready()
        run = _Run(stage, plan, ledger)
        try:
            await run(reporter)
        finally:
            for one in run.clients:
                one.leave()
        end_s = await stage.end_gateway(signal.SIGTERM)
    return Outcome(
        figures=[
            none("events lost, doubled, reordered or wrong", ledger.faults.total()),
            none("connections refused", run.happened["refused connection"]),
            none("clients not at the end", sum(not one.is_done for one in run.clients)),
            at_least("times all were replaced", run.replaced, plan.turns),
            at_least("times one was killed", run.killed, plan.turns),
            at_least("times all told their metrics", run.spread, plan.turns),
            at_most("all end after SIGTERM, s", end_s, END_S),
            at_least("reports acknowledged", ledger.acknowledged, _FILES * plan.turns),
            told("events received", ledger.received),
        ],
        samples={
            "clients": dict(run.happened),
            "reporters": dict(reporter.happened),
            "faults": dict(ledger.faults),
        },
    )


PROCESSES_PART = Part(
    name="processes",
    rows="D3",
    about="several on one address, replaced and killed in turn: one uninterrupted story",
    run=_processes,
)
