"""
Restarts behind stock nginx, before real browser tabs.

With a listening socket that outlives the gateway, tabs on the browser's own
EventSource and no code of ours must all come through: one 502 and a tab is dead
for good.  A crowd of others comes at the very moment that matters, since a tab
seldom does.  Without it nginx has 502 to show, and tabs on our client must come
through all the same.
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from playwright.async_api import Browser

from bench.server import get
from bench.soak.browser import BrowserTab, Told, chromium, open_tab
from bench.soak.ledger import Ledger
from bench.soak.part import Figure, Outcome, Part, Size, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.stock_proxy import ADDRESSES, NGINX

EXIT_S = 5.0

_FILES = 5
_TABS_OF_AN_ORIGIN = 4
_BACK_S = 90.0
_POLL_S = 0.1
_CROWD = 150
_LATE_S = 0.1
"""The gateway is told to stop while the crowd is coming in."""


@dataclass(frozen=True)
class _Plan:
    restarts: int
    tabs: int


_PLANS = {
    Size.SHORT: _Plan(restarts=2, tabs=6),
    Size.FULL: _Plan(restarts=20, tabs=100),
}


class _Run:
    """One gateway after the other behind one nginx."""

    def __init__(self, stage: Stage, plan: _Plan, *, is_native: bool) -> None:
        self.ledger = Ledger()
        self.exits_s: list[float] = []
        self.knocks: Counter[str] = Counter()
        self._stage = stage
        self._plan = plan
        self._is_native = is_native
        self._tabs: list[BrowserTab] = []
        self._file_ids: list[str] = []

    async def __call__(self, browser: Browser) -> tuple[list[Told], list[str]]:
        """Restart; returns what each tab knows at the end, and nginx's errors."""
        await self._stage.start_gateway()
        await self._stage.ready()
        async with (
            Reporter(self._stage, self.ledger) as reporter,
            NGINX.before(self._stage.port, self._stage.children) as proxy,
        ):
            await self._open(browser, proxy.port, reporter)
            await self._until(lambda one: one.open, of=1.0)
            await self._restart_all(reporter, proxy.port)
            async with asyncio.TaskGroup() as tasks:
                for file_id in self._file_ids:
                    tasks.create_task(reporter.complete(file_id))
            await self._until(
                lambda one: one.status == "playable" or one.closed, of=1.0
            )
            return await self._ask(), proxy.errors()

    async def _restart_all(self, reporter: Reporter, port: int) -> None:
        for number in range(self._plan.restarts):
            await self._report(reporter)
            meanwhile = asyncio.create_task(self._restart(port))
            await self._report(reporter)
            await meanwhile
            # Every other restart comes upon tabs that are on their way back.
            of = 1.0 if number % 2 else 0.5
            await self._until(lambda one: one.open or one.closed, of=of)

    async def _restart(self, port: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_CROWD):
                tasks.create_task(self._knock(port))
            await asyncio.sleep(random.uniform(0, _LATE_S))
            self.exits_s.append(await self._stage.end_gateway(signal.SIGTERM))
            await self._stage.start_gateway()

    async def _knock(self, port: int) -> None:
        """Ask for a stream, and go once it is there."""
        token = f"Authorization: Bearer {self._stage.known.api_key}"
        path = f"/v1/files/{self._file_ids[0]}/events"
        reader, writer = await asyncio.open_connection(ADDRESSES[-1], port)
        writer.write(get(path, token, "Accept: text/event-stream") + b"\r\n")
        status = (await reader.read(12))[9:].decode()
        self.knocks[status or "no answer"] += 1
        writer.close()

    def expected(self) -> list[list[int]]:
        """Every seq of the file that each tab follows."""
        heads = self.ledger.heads
        return [list(range(1, heads[one.file_id] + 1)) for one in self._tabs]

    async def _open(self, browser: Browser, port: int, reporter: Reporter) -> None:
        files = [await reporter.register() for _ in range(_FILES)]
        self._file_ids = [file_id for file_id, _ in files]
        context = await browser.new_context()
        for number in range(self._plan.tabs):
            file_id, token = files[number % _FILES]
            address = ADDRESSES[number // _TABS_OF_AN_ORIGIN % len(ADDRESSES)]
            page = await context.new_page()
            origin = f"http://{address}:{port}"
            self._tabs.append(
                await open_tab(page, origin, file_id, token, is_native=self._is_native)
            )

    async def _report(self, reporter: Reporter) -> None:
        async with asyncio.TaskGroup() as tasks:
            for file_id in self._file_ids:
                tasks.create_task(reporter.report(file_id))

    async def _ask(self) -> list[Told]:
        return await asyncio.gather(*(one.told() for one in self._tabs))

    async def _until(self, so: Callable[[Told], bool], *, of: float) -> None:
        """Wait for so much of all tabs; who never gets there shows at the end."""
        for _ in range(int(_BACK_S / _POLL_S)):
            if sum(map(so, await self._ask())) >= of * len(self._tabs):
                return
            await asyncio.sleep(_POLL_S)


async def _restarts(size: Size) -> Outcome:
    figures: list[Figure] = []
    samples: dict[str, object] = {}
    async with chromium() as browser:
        for name, is_native in (("EventSource", True), ("our client", False)):
            async with Stage(keeps_socket=is_native) as stage:
                run = _Run(stage, _PLANS[size], is_native=is_native)
                tabs, errors = await run(browser)
            missed = sum(
                seqs != one.seqs for seqs, one in zip(run.expected(), tabs, strict=True)
            )
            dead = sum(one.status != "playable" for one in tabs)
            figures += [
                none(f"{name}: dead tabs of {len(tabs)}", dead),
                none(f"{name}: tabs that missed or repeated an event", missed),
                at_most(f"{name}: slowest exit, s", max(run.exits_s), EXIT_S),
                told(f"{name}: restarts", len(run.exits_s)),
            ]
            refused = run.knocks.total() - run.knocks["200"]
            for what, count in (("errors of nginx", len(errors)), ("refused", refused)):
                judge = none if is_native else told
                figures.append(judge(f"{name}: {what}", count))
            figures.append(told(f"{name}: knocks", run.knocks.total()))
            samples[name] = {
                "tabs": tabs,
                "exits_s": [round(one, 3) for one in run.exits_s],
                "nginx": errors[:20],
                "knocks": dict(run.knocks),
            }
    return Outcome(figures=figures, samples=samples)


RESTARTS = Part(
    name="restarts",
    rows="D3",
    about="restarts behind stock nginx with real browser tabs: none dies",
    run=_restarts,
)
