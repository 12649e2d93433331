"""
Doorbells by way of Redis: it stops, it dies, it is failed over; and relays stop.

Another process commits all the time, two gateways hold the clients; every event must
come, and soon.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from bench.children import Children
from bench.peers.redis import Redis, redis
from bench.soak.elsewhere import Elsewhere
from bench.soak.part import Outcome, Part, Size, at_most, none, told
from bench.soak.stage import Stage
from bench.soak.tcp_proxy import TcpProxy

NOTICED_S = 10.0
DELIVERED_S = 5.0
RUNG_S = 1.0
HEALED_S = 10.0

_GATEWAYS = 2
_SERVE = ("-m", "gateway", "serve", "--processes", str(_GATEWAYS))
_RELAY = [sys.executable, "-m", "gateway", "relay"]
_FILES = 20
_EVERY_S = 0.05
_CALM_S = 1.0
_NEVER_S = 30.0
_POLL_S = 0.05
_PLANS = {Size.SHORT: (1, 1.0), Size.FULL: (5, 20.0)}
"""How often each fault, and for how long after it was noticed."""


@dataclass(frozen=True)
class _Time:
    """One time that something was wrong."""

    began_s: float
    noticed_s: float
    ended_s: float
    healed_s: float


class _Place:
    """
    A Redis that may be killed, two relays, two gateways.

    Attributes:
        server: The Redis that is the primary.
        proxy: Where all but us find it; a failover leads it to another one.
    """

    server: Redis

    def __init__(self, stage: Stage, children: Children, proxy: TcpProxy) -> None:
        self.stage = stage
        self.proxy = proxy
        self._children = children
        self._redis = AsyncExitStack()
        self._relays: list[asyncio.subprocess.Process] = []

    async def start_redis(self, port: int = 0) -> None:
        self.server = await self._redis.enter_async_context(redis(self._children, port))

    def lead(self) -> None:
        """Lead everybody to the primary."""
        self.proxy.target = self.server.port

    async def close(self) -> None:
        await self._redis.aclose()

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for number in range(2):
                await self.start_relay(stack, number)
            yield

    async def start_relay(self, stack: AsyncExitStack, number: int) -> None:
        env = self.stage.environment()
        child = self.stage.children.child(f"relay-{number}", _RELAY, env=env)
        self._relays.append(await stack.enter_async_context(child))

    async def hearing(self) -> int:
        """Count the gateways that hear a relay; -1 if not all of them tell."""
        said = (await self.stage.ask("/metrics")).decode()
        told = [
            line.endswith(" 1.0")
            for line in said.splitlines()
            if line.startswith("reelready_listener_up{")
        ]
        return sum(told) if len(told) == _GATEWAYS else -1

    @asynccontextmanager
    async def redis_stopped(self) -> AsyncIterator[None]:
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.server.pid, signal.SIGCONT)

    @asynccontextmanager
    async def redis_killed(self) -> AsyncIterator[None]:
        port = self.server.port
        os.kill(self.server.pid, signal.SIGKILL)
        await self._redis.aclose()
        yield
        await self.start_redis(port)

    @asynccontextmanager
    async def redis_failed_over(self) -> AsyncIterator[None]:
        """Promote a replica; for the length of the block all still find the other."""
        old, before = self.server, self._redis
        self._redis = AsyncExitStack()
        try:
            await self.start_redis()
            await self.server.follow(old)
            self.server.promote()
            await old.follow(self.server)
            yield
        finally:
            self.lead()
            await before.aclose()

    @asynccontextmanager
    async def relays_stopped(self) -> AsyncIterator[None]:
        for one in self._relays:
            one.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for one in self._relays:
                one.send_signal(signal.SIGCONT)


async def _until(place: _Place, hearing: int) -> float:
    """Wait until so many gateways hear; returns how long it took."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + _NEVER_S:
        if await place.hearing() == hearing:
            break
        await asyncio.sleep(_POLL_S)
    return time.monotonic() - began_s


async def _bring(
    place: _Place, fault: Callable[[], AbstractAsyncContextManager[None]], for_s: float
) -> _Time:
    async with fault():
        began_s = time.monotonic()
        noticed_s = await _until(place, 0)
        await asyncio.sleep(for_s)
        ended_s = time.monotonic()
    healed_s = await _until(place, _GATEWAYS)
    await asyncio.sleep(_CALM_S)
    return _Time(began_s, noticed_s, ended_s, healed_s)


async def _relayed(size: Size) -> Outcome:
    times, for_s = _PLANS[size]
    settings = {"SAFETY_READ_SECONDS": "3600"}
    async with (
        Children() as children,
        Stage(keeps_socket=False, settings=settings) as stage,
        TcpProxy(0) as proxy,
    ):
        place = _Place(stage, children, proxy)
        await place.start_redis()
        place.lead()
        settings["REDIS_URL"] = proxy.instead_of(place.server.url)
        try:
            async with place.relaying():
                await stage.start_gateway(_SERVE)
                await stage.alive()
                await _until(place, _GATEWAYS)
                before = set(stage.pids())
                other = Elsewhere(stage.url)
                async with other.writing(stage, files=_FILES, every_s=_EVERY_S):
                    began_s = time.monotonic()
                    await asyncio.sleep(_CALM_S)
                    calm = [(began_s, time.monotonic())]
                    faults = {
                        "Redis stopped": place.redis_stopped,
                        "Redis killed": place.redis_killed,
                        "Redis failed over": place.redis_failed_over,
                        "both relays stopped": place.relays_stopped,
                    }
                    wrong = {
                        name: [await _bring(place, fault, for_s) for _ in range(times)]
                        for name, fault in faults.items()
                    }
                ended = len(before - set(stage.pids()))
        finally:
            await place.close()
    figures = [*other.delivery("while all is well", calm, RUNG_S)]
    for name, spans in wrong.items():
        during = [(one.began_s, one.ended_s) for one in spans]
        after = [
            (one.ended_s + one.healed_s, one.ended_s + one.healed_s + _CALM_S)
            for one in spans
        ]
        noticed_s = max(one.noticed_s for one in spans)
        healed_s = max(one.healed_s for one in spans)
        figures += [
            at_most(f"{name}: noticed, slowest, s", noticed_s, NOTICED_S),
            at_most(f"{name}: over, all hear again, slowest, s", healed_s, HEALED_S),
            *other.delivery(f"during: {name}", during, DELIVERED_S),
            *other.delivery(f"after: {name}", after, RUNG_S),
        ]
    return Outcome(
        figures=[
            *figures,
            none("events lost, doubled or reordered", other.ledger.faults.total()),
            none("events that never came", other.missing),
            none("gateways that ended", ended),
            told("times of each fault", times),
            told("events received", other.ledger.received),
        ],
        samples={
            "noticed_s": {
                name: [round(one.noticed_s, 2) for one in spans]
                for name, spans in wrong.items()
            },
            "faults": dict(other.ledger.faults),
            "clients": dict(other.happened),
        },
    )


RELAYED = Part(
    name="relay",
    rows="P2 P3",
    about="Redis stops, dies, is failed over, relays stop: all is delivered",
    run=_relayed,
)
