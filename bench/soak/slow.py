"""
A Postgres that is there and does not answer: rows that are locked, sessions that stop.

Whoever asks is told in time, heartbeats go on as if nothing were, and when it
answers again all is as before.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle

import aiohttp
import msgspec

from bench.soak.kills import audit
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until
from local.environment import LOOPBACK

JITTER_S = 1.0
ANSWERED_S = {"report": 3.0, "read": 5.5}
"""Two seconds, and what a busy machine needs; a reading is tried twice."""

HEALED_S = 5.0

_FILES = 20
_LOCKED = 5
_BEAT_S = 1.0
_SLOW_S = {Size.SHORT: 4.0, Size.FULL: 30.0}
_CALM_S = 1.0
_END_S = 30.0
_NEVER_S = 3600.0
_SETTINGS = {"HEARTBEAT_SECONDS": "1"}


class _Beating(Tab):
    """A stream whose heartbeats are timed."""

    beats: list[float]

    def _take(self, frame: bytes) -> None:
        if frame.startswith(b"event: hb"):
            self.beats.append(time.monotonic())
        super()._take(frame)


@dataclass
class _Asked:
    """
    What those who ask all the time were told.

    Attributes:
        took_s: By kind of request, when each was asked and how long it took.
        answers: By kind and status, or error; `503 untold` without a `Retry-After`.
    """

    took_s: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)

    async def note(
        self, kind: str, request: "aiohttp.client._RequestContextManager"
    ) -> None:
        began_s = time.monotonic()
        try:
            async with request as answer:
                untold = answer.status == 503 and "Retry-After" not in answer.headers
                await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers[f"{kind} {type(error).__name__}"] += 1
            return
        self.answers[f"{kind} {answer.status}{' untold' * untold}"] += 1
        took_s = time.monotonic() - began_s
        self.took_s.setdefault(kind, []).append((began_s, took_s))

    def slowest_s(self, kind: str, since_s: float, until_s: float) -> float:
        """Of the answers to what was open in that time; endless if there is none."""
        during = [
            took_s
            for began_s, took_s in self.took_s.get(kind, ())
            if began_s < until_s and since_s < began_s + took_s
        ]
        return max(during, default=_NEVER_S)

    def neither(self, kind: str) -> int:
        """Count what was answered neither 200 nor 503, or not at all."""
        fine = {f"{kind} {status}" for status in ("200", "503", "503 untold")}
        return sum(
            count
            for one, count in self.answers.items()
            if one.startswith(kind) and one not in fine
        )


@asynccontextmanager
async def _asking(stage: Stage, file_ids: list[str]) -> AsyncIterator[_Asked]:
    """Report on each file and read it, over and over, for the length of a block."""
    asked, over = _Asked(), asyncio.Event()
    reader = {"Authorization": f"Bearer {stage.known.api_key}"}

    async def report(file_id: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            said = {
                "type": "progress",
                "job_id": "j-1",
                "percent": number % 100,
                "occurred_at": datetime.now(UTC).isoformat(),
            }
            raw = msgspec.json.encode(said)
            lines = stage.known.signed(f"{file_id}-{time.monotonic()}", raw)
            headers = dict(line.split(": ", 1) for line in lines)
            path = f"/v1/files/{file_id}/reports"
            await asked.note("report", http.post(path, data=raw, headers=headers))
            await asyncio.sleep(0.05)

    async def read(file_id: str) -> None:
        path = f"/v1/files/{file_id}"
        for way in cycle((path, f"{path}/events?after=1&wait=0")):
            if over.is_set():
                break
            await asked.note("read", http.get(way, headers=reader))
            await asyncio.sleep(0.05)

    async with (
        aiohttp.ClientSession(f"http://{LOOPBACK}:{stage.port}") as http,
        asyncio.TaskGroup() as tasks,
    ):
        for file_id in file_ids:
            tasks.create_task(report(file_id))
            tasks.create_task(read(file_id))
        try:
            yield asked
        finally:
            over.set()


@asynccontextmanager
async def _locked(stage: Stage, file_ids: list[str]) -> AsyncIterator[None]:
    """Hold the rows of these files for the length of a block."""
    async with stage.database() as database, database.transaction():
        await database.fetch(
            "select 1 from files where id = any($1) for update", file_ids
        )
        yield


@asynccontextmanager
async def _stopped(stage: Stage) -> AsyncIterator[None]:
    """Stop Postgres and all its sessions, for the length of a block."""
    pids = stage.postgres_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _jitter_s(tabs: list[_Beating], since_s: float, until_s: float) -> float:
    """By how much heartbeats were off in that time, or over it; p99."""
    off_s = [
        abs(after - before - _BEAT_S)
        for tab in tabs
        for before, after in zip(tab.beats, tab.beats[1:], strict=False)
        if since_s <= after and before < until_s
    ]
    return percentile(off_s, 0.99)


async def _slow(size: Size) -> Outcome:
    ledger, happened = Ledger(), Counter[str]()
    figures: list[Figure] = []
    samples: dict[str, object] = {}
    async with Stage(settings=_SETTINGS) as stage, Reporter(stage, ledger) as reporter:
        await stage.start_gateway()
        await stage.ready()
        files = [await reporter.register() for _ in range(_FILES)]
        file_ids = [file_id for file_id, _ in files]
        tabs = [
            _Beating(stage.port, file_id, token, ledger, happened)
            for file_id, token in files
        ]
        for tab in tabs:
            tab.beats = []
            tab.come()
        try:
            for name, fault in {
                "rows locked": _locked(stage, file_ids[:_LOCKED]),
                "Postgres stopped": _stopped(stage),
            }.items():
                async with _asking(stage, file_ids) as asked:
                    await asyncio.sleep(_CALM_S)
                    began_s = time.monotonic()
                    async with fault:
                        await asyncio.sleep(_SLOW_S[size])
                        ended_s = time.monotonic()
                    healed_s = await _healed(reporter, file_ids, ended_s)
                jitter_s = _jitter_s(tabs, began_s, ended_s)
                figures += [
                    at_most(f"{name}: heartbeats off p99, s", jitter_s, JITTER_S),
                    *(
                        at_most(
                            f"{name}: slowest answer to a {kind}, s",
                            asked.slowest_s(kind, began_s, ended_s),
                            limit_s,
                        )
                        for kind, limit_s in ANSWERED_S.items()
                    ),
                    *(
                        none(
                            f"{name}: {kind}s answered but 200 and 503",
                            asked.neither(kind),
                        )
                        for kind in ANSWERED_S
                    ),
                    at_least(
                        f"{name}: reports refused", asked.answers["report 503"], 1
                    ),
                    none(
                        f"{name}: answered without a word when to come back",
                        sum(n for one, n in asked.answers.items() if "untold" in one),
                    ),
                    at_most(f"{name}: all stored again, s", healed_s, HEALED_S),
                ]
                samples[name] = dict(asked.answers)
            dropped = sum(tab.connects != 1 for tab in tabs)
            for file_id in file_ids:
                await reporter.complete(file_id)
            await until(lambda: all(tab.is_done for tab in tabs), limit_s=_END_S)
            await audit(stage, ledger, file_ids)
        finally:
            for tab in tabs:
                tab.leave()
    return Outcome(
        figures=[
            *figures,
            none("reports after it answered but 200 and 503", reporter.neither),
            none("streams that were dropped", dropped),
            none("events lost, doubled or wrong", ledger.faults.total()),
            none("clients not at the end", sum(not tab.is_done for tab in tabs)),
            told("events received", ledger.received),
        ],
        samples=samples | {"clients": dict(happened), "faults": dict(ledger.faults)},
    )


async def _healed(reporter: Reporter, file_ids: list[str], since_s: float) -> float:
    """Seconds from then until a report on each file is stored."""
    await asyncio.gather(*map(reporter.report, file_ids))
    return time.monotonic() - since_s


SLOW = Part(
    name="slow",
    rows="P10",
    about="Postgres is there and does not answer: all are told, heartbeats go on",
    run=_slow,
)
