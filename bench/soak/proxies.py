"""
Behind proxies as they are delivered, and as we tell people to run them: nothing is
held back, nothing is cut.

nginx buffers and compresses, HAProxy and nginx cut what is silent, and the stock ones
were not told of Server-Sent Events; the gateway's headers and heartbeats must do.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from bench.soak.deployed_proxy import DEPLOYED_PROXIES
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Figure, Outcome, Part, Size, at_most, none
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.stock_proxy import STOCK_PROXIES, Proxy
from bench.soak.tab import until
from gateway.protocol.sse_parser import SseParser

_PROXIES = (*STOCK_PROXIES, *DEPLOYED_PROXIES)
_EVENTS = 20
_PAUSE_S = 0.1
_LIMIT_S = 10.0
_MEDIAN_S = 0.2
"""A machine that is busy delays one event, not most of them."""


@dataclass(frozen=True)
class _Plan:
    """
    How long, and how fast it must be.

    Attributes:
        idle_s: In place of what the proxies come with; 0: as they come.
        quiet_s: Nothing happens to the file for so long.
        late_s: The slowest that anything may be.
    """

    heartbeat_s: int
    idle_s: int
    quiet_s: int
    poll_s: int
    late_s: float


_PLANS = {
    Size.SHORT: _Plan(heartbeat_s=1, idle_s=3, quiet_s=7, poll_s=2, late_s=2.0),
    Size.FULL: _Plan(heartbeat_s=15, idle_s=0, quiet_s=1800, poll_s=25, late_s=0.2),
}


class _CutError(Exception):
    """There is no point in going on."""


class _Story:
    """One file that is followed through one proxy."""

    def __init__(self, proxy: Proxy, plan: _Plan, reporter: Reporter) -> None:
        self.streamed_s: list[float] = []
        self.polled_s: list[float] = []
        self.cuts: list[str] = []
        self._proxy = proxy
        self._plan = plan
        self._reporter = reporter
        self._path = ""
        self._came_s: dict[int, float] = {}

    async def __call__(self, stage: Stage) -> None:
        file_id, token = await self._reporter.register()
        self._path = f"/v1/files/{file_id}/events"
        idle_s = self._plan.idle_s
        async with (
            self._proxy.before(stage.port, stage.children, idle_s=idle_s) as standing,
            aiohttp.ClientSession(
                standing.url,
                connector=aiohttp.TCPConnector(ssl=False),
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=None),
            ) as http,
        ):
            asked_s = time.monotonic()
            stream = asyncio.create_task(self._stream(http))
            with suppress(_CutError):
                await self._arrival(1, asked_s)
                for seq in range(2, _EVENTS + 2):
                    await self._report(http, file_id, seq)
                quiet_until_s = time.monotonic() + self._plan.quiet_s
                while time.monotonic() < quiet_until_s:
                    await self._poll(http, _EVENTS + 1)
                await self._report(http, file_id, _EVENTS + 2)
            stream.cancel()
            with suppress(asyncio.CancelledError):
                await stream

    def figures(self) -> list[Figure]:
        """Judge it."""
        name, late_s = self._proxy.name, self._plan.late_s
        first_s, *events_s = self.streamed_s
        return [
            at_most(f"{name}: first byte, s", first_s, late_s),
            at_most(f"{name}: median event, s", percentile(events_s, 0.5), _MEDIAN_S),
            at_most(f"{name}: slowest event, s", max(events_s), late_s),
            at_most(f"{name}: slowest answer to a poll, s", max(self.polled_s), late_s),
            none(f"{name}: cuts", len(self.cuts)),
        ]

    async def _stream(self, http: aiohttp.ClientSession) -> None:
        """Note when each event came; it must not end."""
        parser = SseParser()
        asks = {"Accept": "text/event-stream"}
        with suppress(aiohttp.ClientError):
            async with http.get(
                self._path, params={"after": 0}, headers=asks
            ) as answer:
                async for chunk in answer.content.iter_any():
                    for event in parser.feed(chunk):
                        if event.type == "message":
                            self._came_s[int(event.last_event_id)] = time.monotonic()
        self.cuts.append("the stream ended")

    async def _report(
        self, http: aiohttp.ClientSession, file_id: str, seq: int
    ) -> None:
        """Let one event happen; a stream and a poll wait for it."""
        poll = asyncio.create_task(self._poll(http, seq - 1))
        await asyncio.sleep(_PAUSE_S)
        reported_s = time.monotonic()
        await self._reporter.report(file_id)
        self.polled_s.append(await poll - reported_s)
        await self._arrival(seq, reported_s)

    async def _arrival(self, seq: int, since_s: float) -> None:
        await until(lambda: seq in self._came_s or bool(self.cuts), limit_s=_LIMIT_S)
        came_s = self._came_s.get(seq)
        self.streamed_s.append((came_s or time.monotonic()) - since_s)
        if came_s is None:
            self.cuts.append(f"event {seq} did not come")
            raise _CutError

    async def _poll(self, http: aiohttp.ClientSession, after: int) -> float:
        """Wait for an event; returns when the answer was there."""
        asks = {"after": after, "wait": self._plan.poll_s}
        async with http.get(self._path, params=asks) as answer:
            await answer.read()
        if answer.status != 200:
            self.cuts.append(f"a poll was answered {answer.status}")
        return time.monotonic()


async def _proxies(size: Size) -> Outcome:
    plan = _PLANS[size]
    settings = {"HEARTBEAT_SECONDS": str(plan.heartbeat_s)}
    async with Stage(settings=settings) as stage:
        await stage.start_gateway()
        await stage.ready()
        async with Reporter(stage, Ledger()) as reporter:
            stories = [_Story(proxy, plan, reporter) for proxy in _PROXIES]
            async with asyncio.TaskGroup() as tasks:
                for story in stories:
                    tasks.create_task(story(stage))
    return Outcome(
        figures=[figure for story in stories for figure in story.figures()],
        samples={
            proxy.name: {
                "streamed_s": [round(one, 4) for one in story.streamed_s],
                "polled_s": [round(one, 4) for one in story.polled_s],
                "cuts": story.cuts,
            }
            for proxy, story in zip(_PROXIES, stories, strict=True)
        },
    )


PROXIES = Part(
    name="proxies",
    rows="N3 N4",
    about="nginx, HAProxy and Caddy, stock and as deployed, neither hold back nor cut",
    run=_proxies,
)
