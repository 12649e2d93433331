"""
A long history that is asked for from its beginning and never read.

What a client asks for costs the gateway one page of it at most, however much there
is; whoever does not take it is gone in a minute, and others are answered meanwhile.
"""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from bench.machine import raise_open_files
from bench.procfs import pss_kib
from bench.server import get
from bench.soak import hasty
from bench.soak.ledger import Ledger, percentile
from bench.soak.part import Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.probe import Probe
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tab import Tab, until

EACH_KIB = 64
ANSWER_S = 1.0

METADATA = {"pad": "x" * 4000}
"""Of a file whose history is more than the buffers on the way take."""

_RECEIVE_BYTES = 1024
_OPEN_AT_ONCE = 25
_PAUSE_S = 0.1
_LIMIT_S = 120.0


@dataclass(frozen=True)
class _Plan:
    """
    How many, of how long a history.

    Attributes:
        patience_s: Of the gateway, in place of its own; 0: its own.
        closed_s: The last one must be gone by then.
    """

    clients: int
    events: int
    patience_s: int
    closed_s: float


_PLANS = {
    Size.SHORT: _Plan(clients=100, events=60, patience_s=3, closed_s=30.0),
    Size.FULL: _Plan(clients=2000, events=500, patience_s=0, closed_s=60.0),
}


def _asks(file_id: str, token: str) -> list[bytes]:
    path, shown = f"/v1/files/{file_id}/events", f"Authorization: Bearer {token}"
    stream = get(f"{path}?after=0", shown, "Accept: text/event-stream") + b"\r\n"
    poll = get(f"{path}?after=0&wait=0", shown) + b"\r\n"
    # Whoever asks for more on the same connection reads none of it either.
    return [stream, poll, poll * 8]


async def come(
    stage: Stage,
    asks: Sequence[bytes],
    count: int,
    crowd: ExitStack,
    *,
    at_once: int = _OPEN_AT_ONCE,
) -> None:
    """
    Ask and read nothing, so many times; whoever is cut off, is.

    Args:
        crowd: Holds the connections, and closes them.
        at_once: So many in each tenth of a second.
    """
    loop = asyncio.get_running_loop()
    for number in range(count):
        sock = crowd.enter_context(socket.socket())
        sock.settimeout(0)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
        with suppress(ConnectionError):
            await loop.sock_connect(sock, (stage.address, stage.port))
            await loop.sock_sendall(sock, asks[number % len(asks)])
        if number % at_once == 0:
            await asyncio.sleep(_PAUSE_S)


async def _unread(size: Size) -> Outcome:
    plan = _PLANS[size]
    raise_open_files()
    ledger = Ledger()
    async with Stage() as stage:
        await hasty.start(stage, plan.patience_s)
        async with Reporter(stage, ledger) as reporter:
            file_id, token = await reporter.register(metadata=METADATA)
            other, _ = await reporter.register()
            for _ in range(plan.events):
                await reporter.report(file_id)
        probe = Probe(stage, other)
        for _ in range(3):
            await probe.ask("ingest", probe.report())
            await probe.look()
        probe.lags_s.clear()
        peak_kib = before_kib = pss_kib(stage.pids())
        with ExitStack() as crowd:
            async with probe.asking():
                asks = _asks(file_id, token)
                coming = asyncio.create_task(come(stage, asks, plan.clients, crowd))
                most = 0
                while not coming.done():
                    peak_kib = max(peak_kib, pss_kib(stage.pids()))
                    most = max(most, (await stage.metrics())["connections"])
                    await asyncio.sleep(_PAUSE_S)
                coming.result()
                came_s = time.monotonic()
                left = most
                while left > 1 and time.monotonic() - came_s < _LIMIT_S:
                    peak_kib = max(peak_kib, pss_kib(stage.pids()))
                    left = (await stage.metrics())["connections"]
                    await asyncio.sleep(_PAUSE_S)
                closed_s = time.monotonic() - came_s
        reader = Tab(stage.port, file_id, token, ledger, Counter())
        reader.come()
        await until(lambda: reader.last == ledger.heads[file_id], limit_s=_LIMIT_S)
        reader.leave()
    return Outcome(
        figures=[
            at_least("connections at a time", most, plan.clients / 2),
            at_most(
                "memory of the gateway for each, KiB",
                (peak_kib - before_kib) / plan.clients,
                EACH_KIB,
            ),
            at_most("the last one was cut off after, s", closed_s, plan.closed_s),
            none("health, database, metrics, ingest not answered", probe.failed),
            at_most("answers, p99, s", percentile(probe.lags_s, 0.99), ANSWER_S),
            none("events lost, doubled or reordered", ledger.faults.total()),
            none(
                "events that a reader did not get",
                ledger.heads[file_id] - reader.last,
            ),
            told("clients that read nothing", plan.clients),
            told("events of the history", plan.events + 1),
            told("memory more, MiB", (peak_kib - before_kib) / 1024),
        ],
        samples={"probe": dict(probe.happened), "kib": [before_kib, peak_kib]},
    )


UNREAD = Part(
    name="unread",
    rows="N2",
    about="a long history, asked for from its beginning and never read",
    run=_unread,
)
