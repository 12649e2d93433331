"""
Clients that come, wait, leave and misbehave; then look what is left.

The base line is what a server is like after a first, short crowd has left it:
code is loaded, pools are open, allocators have grown.  After the long crowd has
left it must be like that again.
"""

import asyncio
import os
import time
import urllib.request

import msgspec

from bench.children import Children
from bench.database import Databases
from bench.ours import OURS
from bench.procfs import pss_kib
from bench.server import Running, Terms
from bench.soak.crowd import MAX_EVENTS_OF_A_FILE, POSTS_PER_S, ROLES, Crowd
from bench.soak.metrics import totals
from bench.soak.part import Figure, Outcome, Part, Size, at_least, at_most, none, told
from local.environment import LOOPBACK

_FILES = 500
_WARM_S = 60.0
_SAMPLE_S = 15.0
_SETTLE_S = 90.0
_REST_S = {Size.SHORT: 2.0, Size.FULL: 5.0}
_HANG_UP_S = 0.5
"""After its metrics are read, for the server to close that connection."""

_SIZES = {Size.SHORT: (5.0, 300), Size.FULL: (600.0, 10_000)}
"""Seconds of churn, and clients at a time."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a server holds at one moment.

    Attributes:
        at_s: Since the crowd came.
        subscribers, connections, tasks: As the server counts them itself.
        open_files: File descriptors of its process, but for sessions of its
            pool, which grows as far as it is allowed to when it is needed.
    """

    at_s: float
    clients: int
    subscribers: int
    connections: int
    tasks: int
    open_files: int
    pss_kib: int


async def _churn(size: Size) -> Outcome:
    seconds, held = _SIZES[size]
    posts = (_WARM_S + seconds) * POSTS_PER_S
    hot_files = int(posts / 2 / MAX_EVENTS_OF_A_FILE) + 2
    terms = Terms(files=_FILES + hot_files, heartbeat_s=15, wait_s=60)
    async with (
        Children() as children,
        Databases(children) as databases,
        OURS.start(children, databases, terms) as running,
    ):
        crowd = Crowd(running, held=held, files=_FILES)
        began_s = time.monotonic()
        crowd.churn(min(_WARM_S, seconds))
        crowd.leave()
        base = await _settled(running, databases, crowd, began_s, rest_s=_REST_S[size])
        _say("base line", base)
        during: list[State] = []
        began_s = time.monotonic()
        while (left_s := began_s + seconds - time.monotonic()) > 0:
            crowd.churn(min(_SAMPLE_S, left_s))
            during.append(await _state(running, databases, crowd, began_s))
            _say("churning", during[-1])
        crowd.leave()
        end = await _settled(running, databases, crowd, began_s, rest_s=_REST_S[size])
        _say("end", end)
    return Outcome(
        figures=judged(base, end, crowd, least_followed=_sent(seconds, held) / 2),
        samples={
            "roles": ROLES,
            "base": base,
            "during": during,
            "end": end,
            "counts": dict(sorted(crowd.counts.items())),
        },
    )


def _sent(seconds: float, held: int) -> float:
    """How many events a crowd's readers are sent, about, of files that are not hot."""
    readers = held * ROLES["reader"] / sum(ROLES.values())
    return seconds * POSTS_PER_S / 2 * readers / _FILES


def judged(
    base: State, end: State, crowd: Crowd, *, least_followed: float
) -> list[Figure]:
    """
    Compare what is left with what there was.

    Args:
        least_followed: Events that readers must have read, besides the first of
            each connection.
    """
    never_came = [n for why, n in crowd.counts.items() if why.startswith("connect: ")]
    return [
        *(
            at_most(f"{name} left", getattr(end, name), getattr(base, name))
            for name in ("tasks", "open_files")
        ),
        none("subscribers left", end.subscribers),
        none("connections left", end.connections),
        at_most("memory left, of the base line", end.pss_kib / base.pss_kib, 1.1),
        none("events lost or doubled", crowd.gaps),
        none("reports refused", crowd.counts["reports refused"]),
        none("clients that never connected", sum(never_came)),
        told("events read", crowd.counts["events read"]),
        at_least(
            "events read that followed the first of a connection",
            crowd.counts["events that followed"],
            least_followed,
        ),
    ]


async def _settled(
    running: Running,
    databases: Databases,
    crowd: Crowd,
    began_s: float,
    *,
    rest_s: float,
) -> State:
    """Wait until the server has noticed that everybody left."""
    deadline_s = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline_s:
        state = await _state(running, databases, crowd, began_s)
        if not (state.subscribers or state.connections):
            break
        await asyncio.sleep(1)
    await asyncio.sleep(rest_s)
    return await _state(running, databases, crowd, began_s)


async def _state(
    running: Running, databases: Databases, crowd: Crowd, began_s: float
) -> State:
    (pid,) = running.pids()
    metrics = _metrics(running.port)
    await asyncio.sleep(_HANG_UP_S)
    return State(
        at_s=round(time.monotonic() - began_s, 1),
        clients=len(crowd),
        subscribers=metrics["subscribers"],
        connections=metrics["connections"],
        tasks=metrics["tasks"],
        open_files=_open_files(pid) - await databases.sessions(),
        pss_kib=pss_kib([pid]),
    )


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are enough


def _metrics(port: int) -> dict[str, int]:
    url = f"http://{LOOPBACK}:{port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return totals(answer.read().decode())


def _say(what: str, state: State) -> None:
    figures = ", ".join(
        f"{name} {value}" for name, value in msgspec.structs.asdict(state).items()
    )
    print(f"{what}: {figures}", flush=True)


CHURN = Part(
    name="churn",
    rows="N1 N2 D2 H5",
    about="clients that come, wait, leave and misbehave leave nothing behind",
    run=_churn,
)
