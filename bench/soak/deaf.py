"""
A listener that dies, hears nothing, or hears only itself.

Another process commits all the time; every event must come, and soon.
"""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.children import Children, free_port, listening
from bench.errors import MissingError
from bench.soak.elsewhere import Elsewhere
from bench.soak.ledger import percentile
from bench.soak.part import Outcome, Part, Size, at_least, at_most, none, told
from bench.soak.stage import Stage
from bench.soak.tcp_proxy import TcpProxy
from local.environment import LOOPBACK

LOST_SESSION_S = 0.1
BACK_S = 1.0
NOTICED_S = 10.0
NAMED_S = 5.0
DELIVERED_S = 5.0
HEALED_S = 5.0

_FILES = 20
_EVERY_S = 0.05
_KILLS = {Size.SHORT: 5, Size.FULL: 500}
_DEAF_S = {Size.SHORT: [1.5], Size.FULL: [60.0, *[5.0] * 9]}
"""For so long after it was noticed, each time."""

_LONGEST_CALM_S = 0.3
_NEVER_S = 30.0
_POLL_S = 0.02
_NO_SAFETY_NET = {"SAFETY_READ_SECONDS": "3600"}
_LISTENER = """
select pid from pg_stat_activity where application_name = 'reelready-listener'
order by backend_start desc limit 1
"""
_PGBOUNCER = """
[databases]
{name} = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = {host}
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
"""


async def _says_deaf(stage: Stage) -> bool:
    answer = await stage.ask("/readyz")
    return answer.startswith(b"HTTP/1.1 503") and b'"listener":false' in answer


async def _says_ready(stage: Stage) -> bool:
    return (await stage.ask("/readyz")).startswith(b"HTTP/1.1 200")


async def _until(so: Callable[[], Awaitable[bool]]) -> float:
    """Ask without a pause; returns how long it took to become so."""
    began_s = time.monotonic()
    with suppress(TimeoutError):
        async with asyncio.timeout(_NEVER_S):
            while not await so():
                pass
            return time.monotonic() - began_s
    return _NEVER_S


async def _kill(stage: Stage, times: int) -> tuple[list[float], list[float]]:
    """End the listener's session; returns times of detection and of recovery."""
    detected_s, back_s = [], []

    async def is_lost() -> bool:
        # It may be back since we last asked: then it has a new session.
        is_deaf = await _says_deaf(stage)
        return is_deaf or await database.fetchval(_LISTENER) not in {None, pid}

    async with stage.database() as database:
        for _ in range(times):
            await asyncio.sleep(random.uniform(0, _LONGEST_CALM_S))
            pid = await database.fetchval(_LISTENER)
            await database.execute("select pg_terminate_backend($1)", pid)
            began_s = time.monotonic()
            detected_s.append(await _until(is_lost))
            await _until(lambda: _says_ready(stage))
            back_s.append(time.monotonic() - began_s)
    return detected_s, back_s


@dataclass(frozen=True)
class _Deaf:
    """One time that the listener could hear nothing."""

    began_s: float
    noticed_s: float
    ended_s: float
    heard_s: float


async def _go_deaf(
    stage: Stage, fault: Callable[[], AbstractAsyncContextManager[None]], for_s: float
) -> _Deaf:
    """Bring a fault about until so long after it was noticed."""
    await asyncio.sleep(random.uniform(0, _LONGEST_CALM_S))
    async with fault():
        began_s = time.monotonic()
        noticed_s = await _until(lambda: _says_deaf(stage))
        await asyncio.sleep(for_s)
        ended_s = time.monotonic()
    return _Deaf(began_s, noticed_s, ended_s, await _until(lambda: _says_ready(stage)))


@asynccontextmanager
async def _stopped(stage: Stage) -> AsyncIterator[None]:
    """Stop the listener's session: the kernel goes on to answer for it."""
    async with stage.database() as database:
        pid = await database.fetchval(_LISTENER)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _listener(size: Size) -> Outcome:
    settings = dict(_NO_SAFETY_NET)
    async with Stage(settings=settings) as stage, TcpProxy(_port(stage.url)) as proxy:
        settings["LISTEN_DATABASE_URL"] = proxy.instead_of(stage.url)
        await stage.start_gateway()
        await stage.ready()
        other = Elsewhere(stage.url)
        async with other.writing(stage, files=_FILES, every_s=_EVERY_S):
            began_s = time.monotonic()
            detected_s, back_s = await _kill(stage, _KILLS[size])
            during_kills_s = (began_s, time.monotonic())
            faults = {
                "a stopped session": lambda: _stopped(stage),
                "a black hole": proxy.black_hole,
            }
            deaf = {
                name: [await _go_deaf(stage, fault, one_s) for one_s in _DEAF_S[size]]
                for name, fault in faults.items()
            }
    figures = [
        none("kills never detected", sum(one >= _NEVER_S for one in detected_s)),
        none("kills never recovered from", sum(one >= _NEVER_S for one in back_s)),
        at_most("kill detected p99, s", percentile(detected_s, 0.99), LOST_SESSION_S),
        at_most("doorbell back after a kill p99, s", percentile(back_s, 0.99), BACK_S),
        *other.delivery("during kills", [during_kills_s], BACK_S),
    ]
    for name, times in deaf.items():
        before = [(one.began_s, one.began_s + one.noticed_s) for one in times]
        after = [(one.began_s + one.noticed_s, one.ended_s) for one in times]
        noticed_s = max(one.noticed_s for one in times)
        heard_s = max(one.heard_s for one in times)
        figures += [
            at_most(f"{name} noticed, slowest, s", noticed_s, NOTICED_S),
            at_most(f"{name} over, hears again, slowest, s", heard_s, HEALED_S),
            *other.delivery(f"before {name} was noticed", before, DELIVERED_S),
            *other.delivery(f"then, during {name}", after, DELIVERED_S),
        ]
    return Outcome(
        figures=[
            *figures,
            none("events lost, doubled or reordered", other.ledger.faults.total()),
            none("events that never came", other.missing),
            told("sessions killed", len(detected_s)),
            told("times of each half-open fault", len(_DEAF_S[size])),
            told("events received", other.ledger.received),
        ],
        samples={
            "detected_s": [round(one, 4) for one in detected_s],
            "back_s": [round(one, 4) for one in back_s],
            "noticed_s": {
                name: [round(one.noticed_s, 2) for one in times]
                for name, times in deaf.items()
            },
            "faults": dict(other.ledger.faults),
            "clients": dict(other.happened),
        },
    )


@asynccontextmanager
async def pgbouncer(
    url: str, children: Children, *, mode: str = "transaction"
) -> AsyncIterator[str]:
    """
    Pool the sessions of a database; gives the URL by way of it.

    Args:
        mode: For how long a client keeps a session: PgBouncer's ``pool_mode``.

    Raises:
        MissingError: There is no pgbouncer here.
    """
    program = shutil.which("pgbouncer") or shutil.which(
        "pgbouncer", path="/usr/sbin:/usr/local/sbin"
    )
    if program is None:
        raise MissingError("pgbouncer: apt-get install pgbouncer")
    parts, port = urlsplit(url), free_port()
    folder = children.temporary("pgbouncer-")
    folder.chmod(0o711)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        _PGBOUNCER.format(
            name=parts.path.lstrip("/"),
            host=LOOPBACK,
            port=parts.port,
            user=parts.username,
            password=parts.password,
            own_port=port,
            mode=mode,
        ),
        encoding="utf-8",
    )
    # It refuses to run as root.
    account = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [program, *account, str(settings)]
    async with children.child("pgbouncer", command, env={}) as process:
        await listening(port, process, children, "pgbouncer")
        netloc = f"{parts.username}:{parts.password}@{LOOPBACK}:{port}"
        yield parts._replace(netloc=netloc).geturl()


async def _pooler(size: Size) -> Outcome:
    settings = dict(_NO_SAFETY_NET)
    async with (
        Stage(settings=settings) as stage,
        pgbouncer(stage.url, stage.children) as pooled_url,
    ):
        settings["LISTEN_DATABASE_URL"] = pooled_url
        await stage.start_gateway()
        async with asyncio.timeout(_NEVER_S):
            while not await stage.ask("/healthz"):  # noqa: ASYNC110 - only it knows
                await asyncio.sleep(_POLL_S)
        began_s = time.monotonic()
        log, named_s = stage.children.log("gateway"), _NEVER_S
        other = Elsewhere(stage.url)
        async with other.writing(stage, files=_FILES, every_s=_EVERY_S):
            while time.monotonic() < began_s + _NEVER_S:
                if "a transaction pooler, another" in log.read_text(errors="replace"):
                    named_s = time.monotonic() - began_s
                    break
                await asyncio.sleep(_POLL_S)
            is_red = await _says_deaf(stage)
            since_s = time.monotonic()
            await asyncio.sleep(_DEAF_S[size][0])
            still_red = await _says_deaf(stage)
            during_s = (since_s, time.monotonic())
        took_s = other.took_s(*during_s)
    return Outcome(
        figures=[
            at_most("named in the log, s", named_s, NAMED_S),
            at_least("times of 2 that readiness was red", is_red + still_red, 2),
            *other.delivery("meanwhile", [during_s], DELIVERED_S),
            none("events lost, doubled or reordered", other.ledger.faults.total()),
            none("events that never came", other.missing),
            told("events received", other.ledger.received),
        ],
        samples={"took_s": [round(one, 3) for one in took_s[-2000:]]},
    )


def _port(url: str) -> int:
    return int(urlsplit(url).port or 0)


LISTENER = Part(
    name="listener",
    rows="P2 P3",
    about="a listener that is killed, stopped or cut off: noticed, and all is delivered",
    run=_listener,
)
POOLER = Part(
    name="pooler",
    rows="P4",
    about="LISTEN through PgBouncer: named, not ready, and all is delivered",
    run=_pooler,
)
