"""
One, two and four machines, each with one gateway, on one Postgres; and behind Redis.

Each gateway is in a network namespace of its own, with a cable to the clients, one to
Postgres and one to Redis.  Nobody is sticky: at each connect a client goes to the next
machine, with the cursor that another one gave it, and so does each report.  Machines
are killed, and the cables to Postgres or Redis pulled: what is sent then vanishes.
Every story must be uninterrupted.
"""

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.peers.redis import redis
from bench.server import get
from bench.soak.cable import Network, network
from bench.soak.kills import audit
from bench.soak.ledger import Ledger
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.poller import Poller
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until
from bench.soak.tcp_proxy import TcpProxy

RED_S = 10.0
BEHIND_S = 5.0
HEALED_S = 10.0

_FILES = 8
_OPEN_S = 30.0
_END_S = 30.0
_REPORT_S = 0.1
_CUT_S = 0.25
_ASK_S = 5.0
_POLL_S = 0.05
_SERVE = [sys.executable, "-m", "gateway", "serve"]
_RELAY = [sys.executable, "-m", "gateway", "relay"]


@dataclass(frozen=True)
class _Plan:
    """
    How much.

    Attributes:
        numbers: Of machines, one run after the other.
        times: That one is killed, that one is cut off.
        calm_s: Before and after each.
    """

    numbers: tuple[int, ...]
    clients: int
    times: int
    calm_s: float


_PLANS = {
    Size.SHORT: _Plan(numbers=(2,), clients=48, times=1, calm_s=0.5),
    Size.FULL: _Plan(numbers=(1, 2, 4), clients=1_000, times=5, calm_s=5.0),
}


class _Machine:
    """
    A network namespace with one gateway in it, and its lines to the rest.

    Attributes:
        host: Where clients find it.
        database: Its cable to Postgres; `doorbells`: to Redis.
        redis: Where that cable leads.
    """

    def __init__(self, stage: Stage, there: Network) -> None:
        self.host = there.cable().theirs
        self.database, self.doorbells = there.cable(), there.cable()
        self.postgres = TcpProxy(_port(stage.url), host=self.database.address)
        self.redis = TcpProxy(0, host=self.doorbells.address)
        self._stage = stage
        self._there = there
        self._running = AsyncExitStack()
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start its gateway and wait until it is ready."""
        env = self._stage.environment() | {
            "REELREADY_HOST": self.host,
            "REELREADY_DATABASE_URL": self.postgres.instead_of(self._stage.url),
        }
        if self.redis.target:
            url = self.redis.instead_of("redis://127.0.0.1/0")
            env["REELREADY_REDIS_URL"] = url
        name = f"machine-{self.host}"
        child = self._stage.children.child(
            name, self._there.over_there(_SERVE), env=env
        )
        self._process = await self._running.enter_async_context(child)
        await self.becomes(self.hears, _OPEN_S)

    async def kill(self) -> None:
        """Kill -9 its gateway."""
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._running.aclose()

    async def end(self) -> None:
        """End it, whatever state it is in."""
        await self._running.aclose()

    async def hears(self) -> bool:
        """Whether it is ready, and its doorbells come."""
        return b'"listener":true' in await self._ready() and await self.is_green()

    async def is_green(self) -> bool:
        """Whether a load balancer would send it somebody."""
        return (await self._ready()).startswith(b"HTTP/1.1 200")

    async def is_red(self) -> bool:
        """Whether it would not."""
        return (await self._ready()).startswith(b"HTTP/1.1 503")

    async def becomes(self, so: Callable[[], Awaitable[bool]], limit_s: float) -> float:
        """Wait for something to be so; returns how long it took, at least the limit."""
        began_s = time.monotonic()
        while not await so():
            if time.monotonic() > began_s + limit_s:
                break
            await asyncio.sleep(_POLL_S)
        return time.monotonic() - began_s

    async def _ready(self) -> bytes:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ASK_S):
                reader, writer = await asyncio.open_connection(
                    self.host, self._stage.port
                )
                writer.write(get("/readyz", "Connection: close") + b"\r\n")
                answer = await reader.read()
                writer.close()
                return answer
        return b""


@asynccontextmanager
async def _machines(
    stage: Stage, number: int, redis_port: int
) -> AsyncIterator[list[_Machine]]:
    """Lay the cables and start the gateways for the length of the block."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(number):
            machine = _Machine(stage, stack.enter_context(network()))
            machine.redis.target = redis_port
            await stack.enter_async_context(machine.postgres)
            await stack.enter_async_context(machine.redis)
            stack.push_async_callback(machine.end)
            made.append(machine)
        await asyncio.gather(*(one.start() for one in made))
        yield made


@dataclass
class _Run:
    """One number of machines: who reads, who reports, what went wrong."""

    plan: _Plan
    stage: Stage
    machines: list[_Machine]
    ledger: Ledger = field(default_factory=Ledger)
    happened: Counter[str] = field(default_factory=Counter)
    clients: list[Tab | Poller] = field(default_factory=list)
    hops: int = 0
    red_s: list[float] = field(default_factory=list)
    healed_s: list[float] = field(default_factory=list)
    behind_s: list[float] = field(default_factory=list)

    async def __call__(self, *faults: Callable[[], Awaitable[None]]) -> None:
        """Bring each fault about, as often as planned, while all go on."""
        hosts = [one.host for one in self.machines]
        async with Reporter(self.stage, self.ledger, hosts) as reporter:
            files = [await reporter.register() for _ in range(_FILES)]
            for number in range(self.plan.clients):
                kind = Poller if number % 3 == 0 else Tab
                file_id, token = files[number % _FILES]
                turned = hosts[number % len(hosts) :] + hosts[: number % len(hosts)]
                args = self.stage.port, file_id, token, self.ledger, self.happened
                self.clients.append(kind(*args, retry_s=0.1, hosts=turned))
                self.clients[-1].come()
            try:
                await until(lambda: all(one.is_open for one in self.clients),
                            limit_s=_OPEN_S)  # fmt: skip
                await self._through(reporter, [one for one, _ in files], *faults)
            finally:
                for one in self.clients:
                    one.leave()
        await audit(self.stage, self.ledger, [one for one, _ in files])

    async def _through(
        self,
        reporter: Reporter,
        file_ids: list[str],
        *faults: Callable[[], Awaitable[None]],
    ) -> None:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for file_id in file_ids:
                tasks.create_task(_report(reporter, file_id, over))
            hopping = tasks.create_task(self._hop())
            for _ in range(self.plan.times):
                for fault in faults:
                    await asyncio.sleep(self.plan.calm_s)
                    await fault()
            await asyncio.sleep(self.plan.calm_s)
            over.set()
            hopping.cancel()
        for file_id in file_ids:
            await reporter.complete(file_id)
        await until(lambda: all(one.is_done for one in self.clients), limit_s=_END_S)

    async def _hop(self) -> None:
        while True:
            await asyncio.sleep(_CUT_S)
            for one in random.sample(self.clients, max(1, len(self.clients) // 10)):
                self.hops += one.is_open
                one.cut()

    async def killed(self) -> None:
        """Kill a machine's gateway; another one is started there."""
        machine = random.choice(self.machines)
        await machine.kill()
        await asyncio.sleep(self.plan.calm_s)
        await machine.start()

    async def cut_off(self) -> None:
        """Cut a machine off from Postgres."""
        machine = random.choice(self.machines)
        with machine.database.pulled_here():
            self.red_s.append(await machine.becomes(machine.is_red, 3 * RED_S))
            await asyncio.sleep(self.plan.calm_s)
        self.healed_s.append(await machine.becomes(machine.hears, 3 * HEALED_S))

    async def deaf(self) -> None:
        """Cut a machine off from Redis: its clients are a little late, and no more."""
        machine = random.choice(self.machines)
        with machine.doorbells.pulled_here():
            began_s = time.monotonic()
            while time.monotonic() < began_s + BEHIND_S + self.plan.calm_s:
                self.behind_s.append(await self._catch_up())
        self.healed_s.append(await machine.becomes(machine.hears, 3 * HEALED_S))

    async def _catch_up(self) -> float:
        """Measure until everybody has what is acknowledged now."""
        heads, began_s = dict(self.ledger.heads), time.monotonic()
        await until(
            lambda: all(one.last >= heads[one.file_id] for one in self.clients),
            limit_s=_END_S,
        )
        await asyncio.sleep(_POLL_S)
        return time.monotonic() - began_s

    def figures(self, what: str) -> list[Figure]:
        """Judge it."""
        not_done = sum(not one.is_done for one in self.clients)
        figures = [
            none(
                f"{what}: lost, doubled, reordered or wrong", self.ledger.faults.total()
            ),
            none(f"{what}: clients not at the end", not_done),
            at_least(f"{what}: hops", self.hops, len(self.clients) // 10),
            told(f"{what}: events received", self.ledger.received),
        ]
        for name, took_s, limit_s in (
            ("red after it was cut off from Postgres, slowest, s", self.red_s, RED_S),
            ("ready after it was joined again, slowest, s", self.healed_s, HEALED_S),
            ("behind while cut off from Redis, most, s", self.behind_s, BEHIND_S),
        ):
            if took_s:
                figures.append(at_most(f"{what}: {name}", max(took_s), limit_s))
        return figures


def _port(url: str) -> int:
    return int(urlsplit(url).port or 0)


async def _report(reporter: Reporter, file_id: str, over: asyncio.Event) -> None:
    while not over.is_set():
        await reporter.report(file_id)
        await asyncio.sleep(_REPORT_S)


async def _by_postgres(plan: _Plan, number: int) -> _Run:
    async with (
        Stage(keeps_socket=False) as stage,
        _machines(stage, number, 0) as machines,
    ):
        run = _Run(plan, stage, machines)
        await run(run.killed, run.cut_off)
    return run


async def _by_relay(plan: _Plan) -> _Run:
    """With two machines; Redis fails over, too: the address leads to an empty one."""
    async with Stage(keeps_socket=False) as stage, AsyncExitStack() as stack:
        first = await stack.enter_async_context(redis(stage.children))
        second = await stack.enter_async_context(redis(stage.children))
        front = await stack.enter_async_context(TcpProxy(first.port))
        relay_url = front.instead_of(first.url)
        env = stage.environment() | {"REELREADY_REDIS_URL": relay_url}
        await stack.enter_async_context(stage.children.child("relay", _RELAY, env=env))
        machines = await stack.enter_async_context(_machines(stage, 2, first.port))
        run = _Run(plan, stage, machines)

        async def failed_over() -> None:
            lines = [front, *(one.redis for one in machines)]
            target = second.port if front.target == first.port else first.port
            for line in lines:
                line.target = target
                await line.cut()
            for one in machines:
                run.healed_s.append(await one.becomes(one.hears, 3 * HEALED_S))

        await run(run.deaf, failed_over)
    return run


async def _run(size: Size) -> Outcome:
    plan, runs = _PLANS[size], {}
    for number in plan.numbers:
        runs[f"{number} by Postgres"] = await _by_postgres(plan, number)
    runs["2 by a relay"] = await _by_relay(plan)
    return Outcome(
        figures=[one for what, run in runs.items() for one in run.figures(what)],
        samples={
            what: {
                "faults": dict(run.ledger.faults),
                "clients": dict(run.happened),
                "red_s": run.red_s,
                "healed_s": run.healed_s,
                "behind_s": [round(one, 3) for one in run.behind_s],
            }
            for what, run in runs.items()
        },
    )


MACHINES = Part(
    name="machines",
    rows="D3a, P3, P4a",
    about="1, 2 and 4 in namespaces, clients that hop, cut off from Postgres or Redis",
    run=_run,
)
