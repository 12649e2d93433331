"""
Readers that stop reading: a tiny receive buffer, and a firehose on their files.

Others must not notice, memory must not grow with what nobody reads, and the
stalled must be gone in a minute.  The base line is the same crowd, reading.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.procfs import pss_kib
from bench.server import get
from bench.soak import hasty
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until

EACH_KIB = 64

_METADATA = {"pad": "x" * 4000}
_REPORTERS = 8
_PULSE_S = 0.1
_POLL_S = 0.5
_LIMIT_S = 120.0
_ARRIVAL_S = 10.0
_ARRIVED = 0.99
"""Of all pulses to all others, so many; what is missed is judged besides."""

_PAGE_KIB = 4


@dataclass(frozen=True)
class _Plan:
    """
    How many, for how long, and how much slower the others may become.

    Attributes:
        files: Of those who will stall.
        reports_per_s: About all of these files together.
        base_s: While everybody reads.
        patience_s: Of the gateway, in place of its own; 0: its own.
    """

    readers: int
    others: int
    files: int
    reports_per_s: int
    base_s: float
    patience_s: int
    closed_s: float
    slower: float


_PLANS = {
    Size.SHORT: _Plan(
        readers=60,
        others=20,
        files=4,
        reports_per_s=40,
        base_s=3,
        patience_s=4,
        closed_s=30,
        slower=25,
    ),
    Size.FULL: _Plan(
        readers=5000,
        others=200,
        files=50,
        reports_per_s=50,
        base_s=40,
        patience_s=0,
        closed_s=60,
        slower=1.1,
    ),
}


@dataclass
class _Phase:
    """
    What was seen for a while.

    Attributes:
        pulses: Reports about the file of the others.
        latencies_s: From a report's leaving to another reader's having it.
    """

    pulses: int = 0
    latencies_s: list[float] = field(default_factory=list)
    gateway_kib: int = 0
    sockets_kib: int = 0

    def look(self, pids: Sequence[int]) -> None:
        """Keep the most memory that was ever in use."""
        self.gateway_kib = max(self.gateway_kib, pss_kib(pids))
        self.sockets_kib = max(self.sockets_kib, _sockets_kib())


class _Run:
    """One crowd: first it reads, then most of it does not."""

    def __init__(self, stage: Stage, plan: _Plan, reporter: Reporter, ledger: Ledger):
        self.ledger = ledger
        self.before, self.reading, self.stalling = _Phase(), _Phase(), _Phase()
        self.closed_s = 0.0
        self.lost = self.behind = 0
        self._stage = stage
        self._plan = plan
        self._reporter = reporter
        self._tabs: list[Tab] = []
        self._phase = self.reading
        self._goes_on = True
        self._pulses: dict[int, tuple[_Phase, float]] = {}

    async def __call__(self) -> None:
        try:
            await self._go()
        finally:
            self._goes_on = False
            for tab in self._tabs:
                tab.leave()

    async def _go(self) -> None:
        plan, register = self._plan, self._reporter.register
        files = [await register(metadata=_METADATA) for _ in range(plan.files)]
        file_id, token = await register()
        for _ in range(plan.others):
            about = (self._stage.port, file_id, token, self.ledger, Counter[str]())
            self._tabs.append(Tab(*about))
            self._tabs[-1].on_event = self._heard
            self._tabs[-1].come()
        await self._until_waiting(plan.others)
        self.before.look(self._stage.pids())
        async with self._stage.children.child(
            "readers",
            [sys.executable, "-m", "bench.soak.stalling"],
            env=os.environ,
            is_talking=True,
        ) as readers:
            assert readers.stdin is not None
            assert readers.stdout is not None
            readers.stdin.write(self._asks(files))
            await self._until_waiting(plan.readers + plan.others)
            reports = [
                asyncio.create_task(
                    self._firehose([one for one, _ in files[nth::_REPORTERS]])
                )
                for nth in range(_REPORTERS)
            ]
            reports.append(asyncio.create_task(self._pulse(file_id)))
            await self._look_for(plan.base_s)
            readers.stdin.write(b"stall\n")
            self.lost = int(await readers.stdout.readline())
            self._phase = self.stalling
            stopped_s = time.monotonic()
            await self._until_waiting(plan.others)
            self.closed_s = time.monotonic() - stopped_s
            self._goes_on = False
            await asyncio.gather(*reports)
            await self._arrive(self.ledger.heads[file_id])

    async def _arrive(self, head: int) -> None:
        """Wait until the others have everything; count who never has."""
        await until(
            lambda: all(tab.last >= head for tab in self._tabs), limit_s=_ARRIVAL_S
        )
        self.behind = sum(tab.last < head for tab in self._tabs)

    def _asks(self, files: Sequence[tuple[str, str]]) -> bytes:
        """Say what the readers are to do."""
        requests = [
            get(
                f"/v1/files/{file_id}/events",
                f"Authorization: Bearer {token}",
                "Accept: text/event-stream",
            )
            + b"\r\n"
            for file_id, token in files
        ]
        asked = {
            "address": self._stage.address,
            "port": self._stage.port,
            "readers": self._plan.readers,
            "requests": [one.decode() for one in requests],
        }
        return json.dumps(asked).encode() + b"\n"

    async def _until_waiting(self, count: int) -> None:
        """Look until so many subscribers are there."""
        for _ in range(int(_LIMIT_S / _POLL_S)):
            if (await self._stage.metrics())["subscribers"] == count:
                return
            await self._look_for(_POLL_S)
        raise TimeoutError(f"never {count} subscribers")

    async def _look_for(self, seconds: float) -> None:
        pids = self._stage.pids()
        for _ in range(int(seconds / _POLL_S)):
            await asyncio.sleep(_POLL_S)
            self._phase.look(pids)

    async def _firehose(self, file_ids: Sequence[str]) -> None:
        """Report about these files, for as long as anybody is there."""
        pause_s = _REPORTERS / self._plan.reports_per_s
        while file_ids and self._goes_on:
            for file_id in file_ids:
                await self._reporter.report(file_id)
                await asyncio.sleep(pause_s)

    async def _pulse(self, file_id: str) -> None:
        """Report about the file of the others."""
        while self._goes_on:
            self._phase.pulses += 1
            seq = self.ledger.heads[file_id] + 1
            self._pulses[seq] = (self._phase, time.monotonic())
            await self._reporter.report(file_id)
            await asyncio.sleep(_PULSE_S)

    def _heard(self, tab: Tab) -> None:
        if pulse := self._pulses.get(tab.last):
            phase, reported_s = pulse
            phase.latencies_s.append(time.monotonic() - reported_s)


def _sockets_kib() -> int:
    """All TCP buffers of the machine."""
    lines = Path("/proc/net/sockstat").read_text(encoding="ascii").splitlines()
    words = next(line for line in lines if line.startswith("TCP:")).split()
    return int(words[words.index("mem") + 1]) * _PAGE_KIB


async def _stalled(size: Size) -> Outcome:
    plan = _PLANS[size]
    async with Stage() as stage:
        await hasty.start(stage, plan.patience_s)
        ledger = Ledger()
        async with Reporter(stage, ledger) as reporter:
            run = _Run(stage, plan, reporter, ledger)
            await run()
        left = (await stage.metrics())["connections"]
    phases = (run.before, run.reading, run.stalling)
    p99_before_s, p99_s = (percentile(one.latencies_s, 0.99) for one in phases[1:])
    each_kib = (run.stalling.gateway_kib - run.before.gateway_kib) / plan.readers
    sockets_kib = (run.stalling.sockets_kib - run.before.sockets_kib) / plan.readers
    return Outcome(
        figures=[
            *(
                at_least(
                    f"others' deliveries {when}",
                    len(one.latencies_s),
                    _ARRIVED * one.pulses * plan.others,
                )
                for when, one in (("before", run.reading), ("meanwhile", run.stalling))
            ),
            none("others that never had the newest event", run.behind),
            at_most("others' p99, of that before", p99_s / p99_before_s, plan.slower),
            at_most("the last one was cut off after, s", run.closed_s, plan.closed_s),
            at_most("memory of the gateway for each, KiB", each_kib, EACH_KIB),
            at_most(
                "with buffers of the kernel, both ends",
                each_kib + sockets_kib,
                EACH_KIB,
            ),
            none("events the others missed or got twice", run.ledger.faults.total()),
            none("readers cut off while they read", run.lost),
            told("connections left", left),
            told("others' p99 before, ms", p99_before_s * 1000),
            told("others' p99 meanwhile, ms", p99_s * 1000),
            told("readers that stalled", plan.readers),
        ],
        samples={
            "pulses": [one.pulses for one in phases],
            "deliveries": [len(one.latencies_s) for one in phases],
            "gateway_kib": [one.gateway_kib for one in phases],
            "sockets_kib": [one.sockets_kib for one in phases],
            "reports": dict(reporter.happened),
        },
    )


STALLED = Part(
    name="stalled",
    rows="N2",
    about="readers that stop reading cost little, are cut, and delay nobody",
    run=_stalled,
)
