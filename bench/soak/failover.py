"""
Failover to a standby that misses commits, under the eyes of those who saw them.

Every file loses some events, possibly its last one, and gets some others: fewer
than it lost, as many, or more.  Then each cursor of before is shown again, in all
three ways of waiting, beside the streams that were open all the time.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from bench.soak.ledger import Ledger
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.standby import REPLICATES, has_all, leave_behind, promote, standby_of
from bench.soak.tab import until
from bench.soak.tcp_proxy import TcpProxy
from local.environment import LOOPBACK

HEALED_S = 5.0

_ROUNDS = {Size.SHORT: (1, 24), Size.FULL: (5, 120)}
"""How many failovers, each of a new server, and of how many files."""

_MOST_KEPT, _MOST_LOST, _MOST_NEW = 4, 4, 6
_WAIT_S = 10.0


class _Seq(msgspec.Struct):
    seq: int


@dataclass
class _File:
    """
    One file of one failover.

    Attributes:
        head: Last seq that was acknowledged before it.
        lost: How many of its events are lost; `is_over`: the last one ended it.
        new: How many it gets afterwards.
        told: What the stream that is open all the time was told: seq and document,
            or None for a reset.
    """

    id: str
    token: str
    kept: int
    lost: int
    new: int
    is_over: bool
    head: int = 1
    told: list[tuple[int, bytes] | None] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Seq that its stream has."""
        return next((one[0] for one in reversed(self.told) if one), 0)


@dataclass
class _Counts:
    """
    What all rounds came to.

    Attributes:
        faults: What must not have happened, by name.
        healed_s: From the promotion to the first report that is stored, each.
        reset_s: From it until all open streams that had seen lost events were reset.
        not_reset: Such streams that were not, or not to the state.
        reset: Such streams.
    """

    stale: int = 0
    lost: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    healed_s: list[float] = field(default_factory=list)
    reset_s: list[float] = field(default_factory=list)
    not_reset: int = 0
    reset: int = 0


class _Round:
    """One failover."""

    def __init__(self, stage: Stage, counts: _Counts, files: int) -> None:
        self._stage = stage
        self._counts = counts
        self._count = files
        self._reporter = Reporter(stage, Ledger())
        self._random = random.Random(files + counts.stale)
        self._documents: dict[tuple[str, int], bytes] = {}

    async def __call__(self) -> None:
        primary_url = self._stage.url
        async with (
            standby_of(primary_url, self._stage.children) as standby,
            TcpProxy(_port(primary_url)) as proxy,
        ):
            self._stage.url = proxy.instead_of(primary_url)
            await self._stage.start_gateway()
            await self._stage.ready()
            async with (
                self._reporter,
                aiohttp.ClientSession(
                    f"http://{LOOPBACK}:{self._stage.port}",
                    connector=aiohttp.TCPConnector(limit=0),
                ) as self._http,
            ):
                files = [await self._register() for _ in range(self._count)]
                async with asyncio.TaskGroup() as tasks:
                    for file in files:
                        tasks.create_task(self._go_on(file, file.kept))
                await has_all(standby, primary_url)
                await leave_behind(standby)
                following = [asyncio.ensure_future(self._follow(one)) for one in files]
                try:
                    await self._lose(files)
                    self._stage.kill_postgres()
                    await promote(standby)
                    promoted_s = time.monotonic()
                    proxy.target = _port(standby.url)
                    await proxy.cut()
                    await self._judge_open(files, promoted_s)
                    await self._renew(files, promoted_s)
                    await self._judge(files)
                finally:
                    for one in following:
                        one.cancel()
                    await asyncio.gather(*following, return_exceptions=True)

    async def _register(self) -> _File:
        file_id, token = await self._reporter.register()
        lost = self._random.randrange(_MOST_LOST + 1)
        return _File(
            file_id,
            token,
            kept=self._random.randrange(_MOST_KEPT + 1),
            lost=lost,
            new=self._random.randrange(_MOST_NEW + 1),
            is_over=lost > 0 and self._random.random() < 0.25,
        )

    async def _go_on(self, file: _File, events: int) -> None:
        for _ in range(events):
            await self._reporter.report(file.id)
            file.head += 1

    async def _lose(self, files: list[_File]) -> None:
        """Let everybody see what only the primary has."""
        async with asyncio.TaskGroup() as tasks:
            for file in files:
                tasks.create_task(self._go_on(file, file.lost - file.is_over))
        async with asyncio.TaskGroup() as tasks:
            for file in files:
                if file.is_over:
                    tasks.create_task(self._reporter.complete(file.id))
                    file.head += 1
        if not await until(
            lambda: all(one.last == one.head for one in files), limit_s=_WAIT_S
        ):
            self._counts.faults["a stream did not get all before the failover"] += 1
        self._counts.lost += sum(one.lost for one in files)

    async def _judge_open(self, files: list[_File], promoted_s: float) -> None:
        """Whoever is connected and has seen what is lost is told, without a report."""
        open_ones = [one for one in files if one.lost and not one.is_over]
        await until(
            lambda: all(None in one.told[:-1] for one in open_ones), limit_s=_WAIT_S
        )
        self._counts.reset_s.append(time.monotonic() - promoted_s)
        for one in open_ones:
            state = await self._state(one)
            self._counts.not_reset += one.told[-2:] != [None, state]
        self._counts.reset += len(open_ones)

    async def _renew(self, files: list[_File], promoted_s: float) -> None:
        """Go on with what the new primary has."""
        first = files[0]
        first.new += 1
        await self._reporter.report(first.id)
        self._counts.healed_s.append(time.monotonic() - promoted_s)
        async with asyncio.TaskGroup() as tasks:
            for file in files:
                tasks.create_task(self._go_on(file, file.new - (file is first)))

    async def _judge(self, files: list[_File]) -> None:
        states = {one.id: await self._state(one) for one in files}
        open_ones = [one for one in files if one.new and not one.is_over]
        await until(
            lambda: all(one.told[-1] == states[one.id] for one in open_ones),
            limit_s=_WAIT_S,
        )
        for one in open_ones:
            self._check(None in one.told, "an open stream was not reset")
            self._check(
                one.told[-1] == states[one.id], "an open stream has not the state"
            )
        for file in files:
            file.head = 1 + file.kept + file.lost
            self._check(_is_whole(file), "a silent hole")
            if file.lost or file.new:
                await self._show(file, states[file.id])

    async def _show(self, file: _File, state: tuple[int, bytes]) -> None:
        """Come back with the cursor of before, in every way there is."""
        self._counts.stale += 1
        again = _File(file.id, file.token, 0, 0, 0, is_over=False, head=file.head)
        again.told.append((file.head, b""))
        asked = asyncio.ensure_future(self._follow(again))
        await until(lambda: len(again.told) > 2, limit_s=_WAIT_S)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        self._check(again.told[1:] == [None, state], "a stream did not begin anew")

        path = f"/v1/files/{file.id}"
        headers = {"Authorization": f"Bearer {file.token}"}
        async with self._http.get(
            f"{path}/events?after={file.head}&wait=5", headers=headers
        ) as answer:
            said = await answer.json()
            self._check("reset" in said, "a long-poll was not reset")
            seqs = [one["seq"] for one in said["events"]]
            self._check([state[0]] == seqs, "a long-poll did not get the state")
        headers["If-None-Match"] = f'"{file.head}"'
        async with self._http.get(f"{path}?wait=5", headers=headers) as answer:
            self._check(
                (answer.status, await answer.read()) == (200, state[1]),
                "a blocking GET did not get the state",
            )

    async def _state(self, file: _File) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {file.token}"}
        async with self._http.get(f"/v1/files/{file.id}", headers=headers) as answer:
            data = await answer.read()
        return msgspec.json.decode(data, type=_Seq).seq, data

    async def _follow(self, file: _File) -> None:
        headers = {
            "Authorization": f"Bearer {file.token}",
            "Accept": "text/event-stream",
            "Last-Event-ID": str(file.last),
        }
        async with self._http.get(
            f"/v1/files/{file.id}/events",
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            async for event, data in _frames(answer):
                if event == "reset":
                    file.told.append(None)
                elif not event:
                    seq = msgspec.json.decode(data, type=_Seq).seq
                    file.told.append((seq, data))
                    known = self._documents.setdefault((file.id, seq), data)
                    self._check(known == data, "one seq told two things")

    def _check(self, so: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as an assertion
        if not so:
            self._counts.faults[otherwise] += 1


def _is_whole(file: _File) -> bool:
    """Whether its stream went one by one, but for where it was reset."""
    before: int | None = 0
    for one in file.told:
        if one is None:
            before = None
        elif before not in {None, one[0] - 1}:
            return False
        else:
            before = one[0]
    return True


async def _frames(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, bytes]]:
    """Give event and data of each frame that has data."""
    event, data = "", b""
    async for line in answer.content:
        name, _, value = line.rstrip(b"\n").partition(b": ")
        if name == b"event":
            event = value.decode()
        elif name == b"data":
            data = value
        elif not name:
            if data:
                yield event, data
            event, data = "", b""


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def _figures(counts: _Counts) -> list[Figure]:
    reset_s = max(counts.reset_s)
    return [
        none("faults", counts.faults.total()),
        none("connected streams not reset", counts.not_reset),
        at_least("connected streams that had seen what was lost", counts.reset, 1),
        at_most("all of them reset after the promotion, s", reset_s, HEALED_S),
        at_least("stale cursors shown again, in three ways", counts.stale, 1),
        at_least("events lost by the failovers", counts.lost, 1),
        at_most("first report after the promotion, s", max(counts.healed_s), HEALED_S),
        told("failovers", len(counts.healed_s)),
    ]


async def _failover(size: Size) -> Outcome:
    rounds, files = _ROUNDS[size]
    counts = _Counts()
    for _ in range(rounds):
        async with Stage(postgres=REPLICATES) as stage:
            await _Round(stage, counts, files)()
    samples: dict[str, Any] = {
        "faults": dict(counts.faults),
        "healed_s": [round(one, 3) for one in counts.healed_s],
    }
    return Outcome(figures=_figures(counts), samples=samples)


FAILOVER = Part(
    name="failover",
    rows="P5",
    about="a standby that misses commits is promoted: every old cursor is reset",
    run=_failover,
)
