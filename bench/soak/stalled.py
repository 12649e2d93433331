"""
Readers that stop reading: a tiny receive buffer, and a firehose on their files.

Others must not notice, memory must not grow with what nobody reads, and the
stalled must be gone in a minute.  The base line is the same crowd, reading.
"""

import asyncio
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.procfs import pss_kib
from bench.server import get
from bench.soak import hasty
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Outcome, Part, Size, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab

EACH_KIB = 64

_RECEIVE_BYTES = 4096
_OPEN_AT_ONCE = 250
_METADATA = {"pad": "x" * 4000}
_REPORTERS = 8
_PULSE_S = 0.1
_POLL_S = 0.5
_LIMIT_S = 120.0
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


class _Readers:
    """
    Connections that are read by a thread of their own, until they are not.

    Attributes:
        lost: Cut off although they were read.
    """

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []
        self._epoll = select.epoll()
        self._reads = True
        self.lost = 0
        self._thread = threading.Thread(target=self._read)

    def begin(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Read no more; nobody is told."""
        self._reads = False
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        self.stop()
        for sock in self.socks:
            sock.close()

    def come(self, address: tuple[str, int], request: bytes) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        sock.connect(address)
        sock.sendall(request)
        self.socks.append(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _read(self) -> None:
        by_number: dict[int, socket.socket] = {}
        while self._reads:
            for number, _ in self._epoll.poll(0.1):
                if number not in by_number:
                    by_number = {sock.fileno(): sock for sock in self.socks}
                self._take(by_number[number])

    def _take(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._epoll.unregister(sock.fileno())
            self.lost += 1


@dataclass
class _Phase:
    """
    What was seen for a while.

    Attributes:
        latencies_s: From a report's leaving to another reader's having it.
    """

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
        self._stage = stage
        self._plan = plan
        self._reporter = reporter
        self.readers = _Readers()
        self._tabs: list[Tab] = []
        self._phase = self.reading
        self._reported_s: dict[int, float] = {}

    async def __call__(self) -> None:
        try:
            await self._go()
        finally:
            self.readers.close()
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
        self.readers.begin()
        await self._come(files)
        await self._until_waiting(plan.readers + plan.others)
        reports = [
            asyncio.create_task(
                self._firehose([one for one, _ in files[nth::_REPORTERS]])
            )
            for nth in range(_REPORTERS)
        ]
        reports.append(asyncio.create_task(self._pulse(file_id)))
        await self._look_for(plan.base_s)
        self.readers.stop()
        self._phase = self.stalling
        stopped_s = time.monotonic()
        await self._until_waiting(plan.others)
        self.closed_s = time.monotonic() - stopped_s
        for one in reports:
            one.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*reports)

    async def _come(self, files: Sequence[tuple[str, str]]) -> None:
        for number in range(self._plan.readers):
            file_id, token = files[number % len(files)]
            asks = get(
                f"/v1/files/{file_id}/events",
                f"Authorization: Bearer {token}",
                "Accept: text/event-stream",
            )
            self.readers.come((self._stage.address, self._stage.port), asks + b"\r\n")
            if number % _OPEN_AT_ONCE == 0:
                await asyncio.sleep(_PULSE_S)

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
        while file_ids:
            for file_id in file_ids:
                await self._reporter.report(file_id)
                await asyncio.sleep(pause_s)

    async def _pulse(self, file_id: str) -> None:
        """Report about the file of the others."""
        while True:
            self._reported_s[self.ledger.heads[file_id] + 1] = time.monotonic()
            await self._reporter.report(file_id)
            await asyncio.sleep(_PULSE_S)

    def _heard(self, tab: Tab) -> None:
        if reported_s := self._reported_s.get(tab.last):
            self._phase.latencies_s.append(time.monotonic() - reported_s)


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
            at_most("others' p99, of that before", p99_s / p99_before_s, plan.slower),
            at_most("the last one was cut off after, s", run.closed_s, plan.closed_s),
            at_most("memory of the gateway for each, KiB", each_kib, EACH_KIB),
            none("events the others missed or got twice", run.ledger.faults.total()),
            none("readers cut off while they read", run.readers.lost),
            told("connections left", left),
            told("others' p99 before, ms", p99_before_s * 1000),
            told("others' p99 meanwhile, ms", p99_s * 1000),
            told("buffers of the kernel for each, both ends, KiB", sockets_kib),
            told("readers that stalled", plan.readers),
        ],
        samples={
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
