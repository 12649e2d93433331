"""
Too many of everything: descriptors and memory run out, heads and bodies come
slowly.

Whoever is in stays in, whoever is refused is told when to come back, and what
must always be answered is.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import cast

from bench.cgroup import Cgroup, memory_cgroup
from bench.machine import raise_open_files
from bench.procfs import cpu_s, rss_kib
from bench.server import get, post
from bench.soak import unread
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.probe import Probe
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until
from local.environment import LOOPBACK

ANSWER_S = 1.0
RECOVERY_S = 5.0
HEAD_S = 16.0
PATIENCE_S = 10.0
BODY_S = 13.0
GROWTH_MIB = 32.0
HELD = 1000

_MIB = 1 << 20
_LATE = 100
_LONG = 30
_PAGE = get("/openapi.yaml") + b"\r\n"
_SCRIPT = get("/static/hls.js") + b"\r\n"
_SCRIPT_BYTES = 512 * 1024
"""More than hls.js has."""
_LIMIT_S = 60.0
_OPEN_AT_ONCE = 250
_DRIP_S = 1.0
_BODY_BYTES = 256 * 1024
_LIMITED = """
import os, resource, runpy, sys
files, group = sys.argv[1:]
if int(files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), int(files)))
if group:
    with open(group, "w") as procs:
        procs.write(str(os.getpid()))
sys.argv = ["reelready", "serve"]
runpy.run_module("gateway", run_name="__main__")
"""
_BALLAST = """
import os, sys
with open(sys.argv[1], "w") as procs:
    procs.write(str(os.getpid()))
held = bytearray(int(sys.argv[2]))
held[::4096] = b"x" * len(held[::4096])
print("held", flush=True)
sys.stdin.read()
"""


class Crowd:
    """
    Tabs of one file.

    Attributes:
        tabs: All of them.
        happened: What they were told, by name.
    """

    def __init__(self, stage: Stage, file_id: str, token: str, ledger: Ledger) -> None:
        self.tabs: list[Tab] = []
        self.happened: Counter[str] = Counter()
        self._about = (stage.port, file_id, token, ledger, self.happened)

    async def come(self, count: int) -> None:
        """Let some more come, fast."""
        for number in range(count):
            self.tabs.append(Tab(*self._about))
            self.tabs[-1].come()
            if number % _OPEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def leave(self) -> None:
        """Let all go for good."""
        for tab in self.tabs:
            tab.leave()

    def judged(self) -> list[Figure]:
        """Who was let in, and who was refused in the way a browser understands."""
        refused = sum(n for said, n in self.happened.items() if "refused" in said)
        return [
            at_least("refused softly", refused, 1),
            none("tabs dead", sum(tab.is_dead for tab in self.tabs)),
        ]


@dataclass
class _Scene:
    """A gateway, one file, a probe and a crowd."""

    stage: Stage
    reporter: Reporter
    ledger: Ledger
    probe: Probe
    crowd: Crowd
    file_id: str
    token: str
    long: bytes

    async def missed(self) -> int:
        """Let something happen; returns how many tabs do not hear of it."""
        await self.reporter.report(self.file_id)
        newest = self.ledger.heads[self.file_id]
        tabs = self.crowd.tabs
        await until(lambda: all(one.last == newest for one in tabs), limit_s=ANSWER_S)
        return sum(one.last != newest for one in tabs)

    async def ask_unread(self, asks: Sequence[bytes], count: int, for_s: float) -> None:
        """Let so many ask for what no buffer takes, and read nothing of it."""
        with ExitStack() as crowd:
            await unread.come(self.stage, asks, count, crowd, at_once=_OPEN_AT_ONCE)
            await asyncio.sleep(for_s)

    def judged(self) -> list[Figure]:
        """What must be so whatever is short."""
        return [
            none("health, database, metrics, ingest not answered", self.probe.failed),
            at_most("answers, p99, s", percentile(self.probe.lags_s, 0.99), ANSWER_S),
            none("events lost, doubled or reordered", self.ledger.faults.total()),
        ]

    def samples(self) -> dict[str, dict[str, int]]:
        """What else there is to tell."""
        return {
            "probe": dict(self.probe.happened),
            "crowd": dict(self.crowd.happened),
            "faults": dict(self.ledger.faults),
        }


@asynccontextmanager
async def _limited(files: int, group: str) -> AsyncIterator[Stage]:
    """Start a gateway that may open so many files, in a cgroup."""
    raise_open_files()
    with NamedTemporaryFile(suffix=".js") as script:
        script.write(b" " * _SCRIPT_BYTES)
        script.flush()
        async with Stage(settings={"HLS_JS": script.name}) as stage:
            await stage.start_gateway(("-c", _LIMITED, str(files), group))
            await stage.ready()
            yield stage


@asynccontextmanager
async def _scene(*, files: int = 0, group: str = "") -> AsyncIterator[_Scene]:
    """Set the scene before such a gateway."""
    ledger = Ledger()
    async with _limited(files, group) as stage, Reporter(stage, ledger) as reporter:
        file_id, token = await reporter.register()
        crowd = Crowd(stage, file_id, token, ledger)
        long = await _long(reporter)
        probe = Probe(stage, file_id)
        # What is made only once is made before anything is measured.
        for _ in range(3):
            await probe.ask("ingest", probe.report())
            await probe.look()
        probe.lags_s.clear()
        try:
            yield _Scene(stage, reporter, ledger, probe, crowd, file_id, token, long)
        finally:
            crowd.leave()


async def _long(reporter: Reporter) -> bytes:
    """Ask for a history that no buffer on the way takes."""
    file_id, token = await reporter.register(metadata=unread.METADATA)
    for _ in range(_LONG):
        await reporter.report(file_id)
    shown = f"Authorization: Bearer {token}"
    return get(f"/v1/files/{file_id}/events?after=0&wait=0", shown) + b"\r\n"


async def _let_in_again(scene: _Scene) -> float:
    """Send everybody away; returns after how many seconds the next one is let in."""
    scene.crowd.leave()
    left_s = time.monotonic()
    tab = Tab(
        scene.stage.port,
        scene.file_id,
        scene.token,
        scene.ledger,
        Counter(),
        retry_s=0.1,
    )
    tab.come()
    await until(lambda: bool(tab.last), limit_s=_LIMIT_S)
    tab.leave()
    return time.monotonic() - left_s


async def _files(size: Size) -> Outcome:
    """Three times as many clients as files that may be open."""
    async with _scene(files=1024) as scene:
        async with scene.probe.asking():
            await scene.crowd.come(3000)
            await scene.ask_unread([scene.long], 300, 2 if size is Size.SHORT else 30)
            await asyncio.sleep(1 if size is Size.SHORT else 30)
            await scene.reporter.report(scene.file_id)
            poll = await scene.probe.ask("poll", _poll(scene))
        held = await scene.probe.look()
        for tab in scene.crowd.tabs:
            if not tab.is_open:
                tab.leave()
        await asyncio.sleep(1)
        before_s = cpu_s(scene.stage.pids())
        await asyncio.sleep(2)
        busy = (cpu_s(scene.stage.pids()) - before_s) / 2
        again_s = await _let_in_again(scene)
        scene.probe.happened.pop("poll 503", None)
    return Outcome(
        figures=[
            *scene.judged(),
            *scene.crowd.judged(),
            at_least("held of 3,000 with 1,024 files", held, 800),
            none("polls not refused by 503 and Retry-After", _not_refused(poll)),
            at_most("cores busy once nobody comes", busy, 0.3),
            at_most("let in again after all left, s", again_s, RECOVERY_S),
        ],
        samples=scene.samples(),
    )


async def _memory(size: Size) -> Outcome:
    """
    A flood into a cgroup that is too small for it.

    A process here may open 20,000 files, so ballast fills what so few clients
    cannot.
    """
    clients, lazy, room, limit = (
        (4000, 1500, 10 * _MIB, 256 * _MIB)
        if size is Size.SHORT
        else (12_000, 4000, 60 * _MIB, 512 * _MIB)
    )
    async with memory_cgroup() as group, _scene(group=group.procs) as scene:
        before = group.used_bytes()
        ballast = max(0, int(limit * 0.8) - before - room)
        group.limit(limit)
        async with _ballast(scene.stage, group, ballast):
            peak = [0]
            watching = asyncio.ensure_future(_watch(group, peak))
            async with scene.probe.asking():
                await scene.crowd.come(clients)
                await asyncio.sleep(3 if size is Size.SHORT else 60)
                # The first may all have come between two looks at the memory.
                await scene.crowd.come(_LATE)
                await asyncio.sleep(3)
                held = await scene.probe.look()
                await asyncio.sleep(3)
                await scene.reporter.report(scene.file_id)
                poll = await scene.probe.ask("poll", _poll(scene))
                # None of them has to wait, and most have no credential.
                await scene.ask_unread(
                    [scene.long, _PAGE, _SCRIPT], lazy, 2 if size is Size.SHORT else 30
                )
            later = await scene.probe.look()
            if watching.done():
                watching.result()
            watching.cancel()
            kills = group.kills()
            again_s = await _let_in_again(scene)
        scene.probe.happened.pop("poll 503", None)
    return Outcome(
        figures=[
            none("kills by the kernel", kills),
            *scene.judged(),
            *scene.crowd.judged(),
            told("limit, MiB", limit / _MIB),
            told("ballast, MiB", ballast / _MIB),
            at_least("held", held, 1 if size is Size.SHORT else HELD),
            at_least("of them still there later", later, held * 0.99),
            none("polls not refused by 503 and Retry-After", _not_refused(poll)),
            at_least("most memory in use, MiB", peak[0] / _MIB, before / _MIB),
            at_most("most memory in use, of the limit", peak[0] / limit, 0.95),
            at_most("let in again after all left, s", again_s, RECOVERY_S),
        ],
        samples=scene.samples(),
    )


def _poll(scene: _Scene) -> bytes:
    path = f"/v1/files/{scene.file_id}/events?after=99&wait=9"
    key = f"Authorization: Bearer {scene.token}"
    return get(path, key, "Connection: close") + b"\r\n"


def _not_refused(answer: bytes) -> int:
    return int(not (answer.startswith(b"HTTP/1.1 503") and b"Retry-After: " in answer))


async def _watch(group: Cgroup, peak: list[int]) -> None:
    """Keep the most that was in use."""
    while True:
        peak[0] = max(peak[0], group.used_bytes())
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _ballast(stage: Stage, group: Cgroup, size: int) -> AsyncIterator[None]:
    """Hold so many bytes in the same cgroup."""
    command = [sys.executable, "-c", _BALLAST, group.procs, str(size)]
    async with stage.children.child(
        "ballast", command, env={}, is_talking=True
    ) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        yield


class _Slow(asyncio.Protocol):
    """
    A client that takes its time.

    Attributes:
        lived_s: Until the server closed, or None.
        received: The answer.
    """

    def __init__(self, first: bytes) -> None:
        self.lived_s: float | None = None
        self.received = b""
        self._first = first
        self._came_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._came_s = time.monotonic()
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._first)

    def data_received(self, data: bytes) -> None:
        """Keep the answer."""
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Know when."""
        self._transport = None
        self.lived_s = time.monotonic() - self._came_s

    def drip(self) -> None:
        """Send one byte more."""
        if self._transport is not None:
            self._transport.write(b"x")

    def leave(self) -> None:
        """Go."""
        if self._transport is not None:
            self._transport.abort()


async def _slowly(port: int, firsts: list[bytes], *, for_s: float) -> list[_Slow]:
    """Let slow clients come and drip until all are closed, or for so long."""
    loop = asyncio.get_running_loop()
    clients = [_Slow(first) for first in firsts]
    for at in range(0, len(clients), _OPEN_AT_ONCE):
        await asyncio.gather(
            *(
                loop.create_connection(lambda one=one: one, LOOPBACK, port)  # type: ignore[misc]
                for one in clients[at : at + _OPEN_AT_ONCE]
            )
        )
    until_s = time.monotonic() + for_s
    while time.monotonic() < until_s and any(one.lived_s is None for one in clients):
        await asyncio.sleep(_DRIP_S)
        for one in clients:
            one.drip()
    for one in clients:
        one.leave()
    return clients


async def _heads(size: Size) -> Outcome:
    """Heads that come a byte a second."""
    count = 500 if size is Size.SHORT else 5000
    async with _scene() as scene:
        await scene.crowd.come(50)
        await until(lambda: all(one.last for one in scene.crowd.tabs), limit_s=_LIMIT_S)
        async with scene.probe.asking():
            await asyncio.sleep(2 if size is Size.SHORT else 15)
        calm_s = percentile(scene.probe.lags_s, 0.99)
        scene.probe.lags_s.clear()
        async with scene.probe.asking():
            clients = await _slowly(
                scene.stage.port, [b"GET / HTTP/1.1\r\nX: "] * count, for_s=20
            )
        missed = await scene.missed()
    lived_s = [one.lived_s or 99.0 for one in clients]
    return Outcome(
        figures=[
            at_most("slow heads closed after, s", max(lived_s), HEAD_S),
            at_least("and not before, s", min(lived_s), PATIENCE_S),
            *scene.judged(),
            none("tabs that missed an event", missed),
            told("answers before, p99, s", calm_s),
        ],
        samples=scene.samples() | {"lived_s": [round(one, 2) for one in lived_s]},
    )


async def _bodies(size: Size) -> Outcome:
    """Bodies that are large and slow, too large, or deep."""
    rounds, odd = (1, 30) if size is Size.SHORT else (5, 200)
    async with _scene() as scene:
        stage = scene.stage
        path = f"/v1/files/{scene.file_id}/reports"
        await scene.crowd.come(50)
        await until(lambda: all(one.last for one in scene.crowd.tabs), limit_s=_LIMIT_S)
        before_kib = peak_kib = rss_kib(stage.pids())
        slow: list[_Slow] = []
        answers: Counter[str] = Counter()
        async with scene.probe.asking():
            for _ in range(rounds):
                for raw in _odd_bodies(stage, path, odd):
                    answer = await Probe(stage, scene.file_id).ask("odd", raw)
                    answers[answer[9:12].decode()] += 1
                    peak_kib = max(peak_kib, rss_kib(stage.pids()))
                sending = asyncio.ensure_future(
                    _slowly(stage.port, _slow_bodies(path), for_s=20)
                )
                while not sending.done():
                    peak_kib = max(peak_kib, rss_kib(stage.pids()))
                    await asyncio.sleep(0.1)
                slow += sending.result()
        missed = await scene.missed()
    answers.update(one.received[9:12].decode() for one in slow)
    return Outcome(
        figures=[
            at_most("memory more, MiB", (peak_kib - before_kib) / 1024, GROWTH_MIB),
            at_most(
                "slow bodies closed after, s",
                max(one.lived_s or 99.0 for one in slow),
                BODY_S,
            ),
            none(
                "answers but 413, 422 and 503",
                sum(n for status, n in answers.items() if status not in _REFUSALS),
            ),
            *scene.judged(),
            none("tabs that missed an event", missed),
        ],
        samples=scene.samples() | {"answers": dict(answers)},
    )


_REFUSALS = {"413", "422", "503"}


def _slow_bodies(path: str) -> list[bytes]:
    """Two hundred bodies that are almost there."""
    almost = post(path, b"x" * _BODY_BYTES)[: -_BODY_BYTES // 32]
    return [almost] * 200


def _odd_bodies(stage: Stage, path: str, count: int) -> list[bytes]:
    """Signed bodies that are deep, and some that are too large."""
    deep = b"[" * (_BODY_BYTES - 1)
    nested = b'{"error":' * 20_000
    wide = b'{"type":"uploaded","x":[' + b"0," * 100_000
    raw = []
    for number in range(count):
        body = (deep, nested, wide)[number % 3]
        raw.append(
            post(path, body, "Connection: close", *stage.known.signed("odd", body))
        )
    return [*raw, *[post(path, b"x" * 2 * _BODY_BYTES)] * (count // 10)]


FILES = Part(
    name="files",
    rows="D6",
    about="3,000 clients of a gateway that may open 1,024 files",
    run=_files,
)
MEMORY = Part(
    name="memory",
    rows="D5",
    about="a flood into a memory cgroup that is too small for it",
    run=_memory,
)
HEADS = Part(
    name="heads",
    rows="H2",
    about="heads that come a byte a second",
    run=_heads,
)
BODIES = Part(
    name="bodies",
    rows="I6",
    about="bodies that are slow, huge or deep",
    run=_bodies,
)
