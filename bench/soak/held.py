"""What a gateway holds at one moment, and what it complained about."""

import asyncio
import os
import re
import time

import msgspec

from bench.procfs import pss_kib
from bench.soak.part import Figure, at_most, none
from bench.soak.stage import Stage

MEMORY_LEFT = 1.1
_SETTLE_S = 120.0
_REST_S = 1.5
_METRIC = re.compile(r"^reelready_(\w+)(\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)
_SERVER_ERROR = re.compile(r'\{route="(?!/readyz").*",status="5\d\d"\}')
_SESSIONS = """
select count(*) from pg_stat_activity where application_name like 'reelready%'
"""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """
    One look at a gateway.

    Attributes:
        open_files: But for sessions of its pool, which grows as it is needed.
        server_errors: Answers of 500 or more since its start, but for those
            that say that it is not ready yet.
    """

    subscribers: int
    connections: int
    tasks: int
    open_files: int
    pss_kib: int
    server_errors: int


async def held(stage: Stage) -> Held:
    """Wait until everybody has left, and look."""
    deadline_s = time.monotonic() + _SETTLE_S
    look = await _look(stage)
    while time.monotonic() < deadline_s and (look.subscribers or look.connections > 1):
        await asyncio.sleep(0.5)
        look = await _look(stage)
    await asyncio.sleep(_REST_S)
    return await _look(stage)


async def _look(stage: Stage) -> Held:
    text = (await stage.ask("/metrics")).decode()
    counts: dict[str, int] = {}
    errors = 0
    for name, labels, value in _METRIC.findall(text):
        counts[name] = counts.get(name, 0) + int(float(value))
        if name == "http_requests_total" and _SERVER_ERROR.match(labels):
            errors += int(float(value))
    async with stage.database() as database:
        sessions = int(await database.fetchval(_SESSIONS))
    (pid,) = stage.pids()
    return Held(
        subscribers=counts["subscribers"],
        connections=counts["connections"],
        tasks=counts["tasks"],
        open_files=len(os.listdir(f"/proc/{pid}/fd")) - sessions,  # noqa: PTH208 - names are enough
        pss_kib=pss_kib([pid]),
        server_errors=errors,
    )


def left(base: Held, end: Held) -> list[Figure]:
    """Compare what is left with what there was."""
    return [
        none("subscribers left", end.subscribers),
        at_most("connections left", end.connections, base.connections),
        at_most("tasks left", end.tasks, base.tasks),
        at_most("open files left", end.open_files, base.open_files),
        at_most(
            "memory left, of the base line", end.pss_kib / base.pss_kib, MEMORY_LEFT
        ),
        none("answers of 500 or more", end.server_errors),
    ]


def complaints(stage: Stage) -> list[str]:
    """Lines of a gateway's log that are errors, or of a traceback."""
    text = stage.children.log("gateway").read_text(errors="replace")
    return [
        line
        for line in text.splitlines()
        if "Traceback" in line or '"ERROR"' in line or '"CRITICAL"' in line
    ]
