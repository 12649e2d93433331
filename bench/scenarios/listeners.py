"""
Where NOTIFY becomes the limit: the same reports, and more and more sessions that
LISTEN, as each further gateway has one; and commits that notify, which come one
after the other in the whole server, beside those that do not.

Source: PostgreSQL, src/backend/commands/async.c, "PreCommit_Notify": the lock is
held until the commit is on disk.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from bench.scenarios.scenario import (
    Figures,
    Scenario,
    Stage,
    ours_only,
    per_event_us,
)

LISTENERS_MORE = (0, 16, 64)
"""Besides the gateway's own; Postgres has room for 100 sessions."""

PER_SECOND = 200
"""So few that each is a commit of its own, and that the sessions keep up here."""

IN_FLIGHT = 200
WRITERS = 8
"""Sessions that commit as fast as they can."""

_COMMIT = "insert into commits values (1)"
_NOTIFY = f"with done as ({_COMMIT}) select pg_notify('commits', '1')"
_NO_HEARTBEAT_S = 300
_CHANNEL = "reelready"


@asynccontextmanager
async def _listening(url: str, number: int) -> AsyncIterator[None]:
    """Be so many gateways' listeners, and do nothing with what is heard."""
    async with AsyncExitStack() as stack:
        for _ in range(number):
            one = await asyncpg.connect(url)
            stack.callback(one.terminate)
            await one.execute(f"listen {_CHANNEL}")
        yield


async def _commits_per_second(url: str, statement: str, for_s: float) -> float:
    until_s, made = time.monotonic() + for_s, 0

    async def write() -> None:
        nonlocal made
        one = await asyncpg.connect(url)
        try:
            while time.monotonic() < until_s:
                await one.fetch(statement)
                made += 1
        finally:
            one.terminate()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITERS):
            tasks.create_task(write())
    return made / for_s


async def _commits(stage: Stage) -> Figures:
    async with stage.databases.fresh() as database:
        one = await asyncpg.connect(database.url)
        await one.execute("create table commits (n integer)")
        one.terminate()
        for_s = stage.sizes.burst_s
        return {
            f"{name}_per_second": await _commits_per_second(database.url, how, for_s)
            for name, how in (("commits", _COMMIT), ("notifying", _NOTIFY))
        }


async def _run(stage: Stage) -> Figures:
    sizes, held = stage.sizes, stage.held(stage.sizes.few)
    number = int(PER_SECOND * sizes.paced_s)
    figures: Figures = {"wrong": 0, **await _commits(stage)}
    async with stage.field(range(held), heartbeat_s=_NO_HEARTBEAT_S) as field:
        await field.warm_up()
        await field.open(0, held, name="connect")
        for more in LISTENERS_MORE:
            async with _listening(field.running.database_url, more):
                await field.settle()
                before = await field.used()
                paced = await field.publish(
                    [one % held for one in range(number)],
                    in_flight=IN_FLIGHT,
                    per_second=PER_SECOND,
                    name=f"{more} more listen",
                )
                used = await field.used(before)
            figures |= {
                f"postgres_us_{more}": per_event_us(used.other_cpu_s, paced.delivered),
                f"gateway_us_{more}": per_event_us(used.server_cpu_s, paced.delivered),
                f"transactions_{more}": used.reads / paced.delivered,
                f"p50_ms_{more}": paced.p50_ms,
                f"p99_ms_{more}": paced.p99_ms,
            }
            figures["wrong"] += paced.wrong
    return figures


LISTENERS = Scenario(
    name="listeners",
    about="what each further session that LISTENs costs Postgres, 200 commits/s",
    takes=ours_only,
    run=_run,
)
