"""
Several processes on one address, each with its share of a core.

Two cores are too few for four processes to have one each beside a load client, so
each is given a fifth of the server's: what one more of them adds can be seen then.
"""

from bench.cgroup import Cgroup, cpu_cgroup
from bench.field import Field
from bench.scenarios.scenario import (
    Figures,
    Scenario,
    Stage,
    meant_for,
    ours_only,
    per_event_us,
)

NAME = "processes"
SHARE = 0.2
"""Of a core, for each process."""

IN_FLIGHT = 200
"""Reports, over all processes: one of four has 50 at a time."""

_NO_HEARTBEAT_S = 300


async def _run(stage: Stage) -> Figures:
    async with cpu_cgroup() as group:
        many = await _many(stage, group)
    async with cpu_cgroup() as group:
        hot = await _hot(stage, group)
    return many | hot | {"wrong": many["wrong"] + hot["wrong"]}


async def _many(stage: Stage, group: Cgroup) -> Figures:
    """Connect everybody, each to a file of its own; then events to all."""
    held = stage.held(stage.sizes.usual)
    async with stage.field(
        range(held), heartbeat_s=_NO_HEARTBEAT_S, cgroup_procs=group.procs
    ) as field:
        await field.warm_up()
        group.limit_cpu(SHARE * stage.contestant.processes)
        before = await field.used()
        connect = await field.open(0, held, name="connect")
        used = await field.used(before)
        await field.settle()
        events: Figures = {"wrong": connect.wrong}
        # What fewer at a time cost one process says what several will need.
        for parts in (1, 2, 4) if stage.contestant.processes == 1 else (1,):
            events |= await _burst(stage, field, held, IN_FLIGHT // parts, events)
    return {
        "connects_per_second": connect.connected / connect.seconds,
        "connect_cpu_us": per_event_us(used.server_cpu_s, connect.connected),
    } | events


async def _burst(
    stage: Stage, field: Field, held: int, in_flight: int, so_far: Figures
) -> Figures:
    before = await field.used()
    burst = await field.publish(
        [number % held for number in range(stage.sizes.burst_events)],
        in_flight=in_flight,
        send_s=stage.sizes.burst_s,
        name=f"{in_flight} in flight",
    )
    used = await field.used(before)
    await field.settle()
    return {
        f"events_per_second_{in_flight}": burst.delivered / burst.seconds,
        f"event_cpu_us_{in_flight}": per_event_us(used.server_cpu_s, burst.delivered),
        f"postgres_cpu_us_{in_flight}": per_event_us(used.other_cpu_s, burst.delivered),
        f"transactions_{in_flight}": used.reads / burst.delivered,
        "wrong": so_far["wrong"] + burst.wrong,
    }


async def _hot(stage: Stage, group: Cgroup) -> Figures:
    """Everybody waits for the same file."""
    sizes, held = stage.sizes, stage.held(stage.sizes.hot)
    async with stage.field([0] * held, cgroup_procs=group.procs) as field:
        await field.open(0, held, name="connect to one")
        await field.publish([0], in_flight=1, name="warm-up event")
        await field.settle()
        group.limit_cpu(SHARE * stage.contestant.processes)
        before = await field.used()
        hot = await field.publish([0] * sizes.hot_events, in_flight=1, name="hot file")
        used = await field.used(before)
    return {
        "deliveries_per_second": hot.delivered / hot.seconds,
        "delivery_cpu_us": per_event_us(used.server_cpu_s, hot.delivered),
        "wrong": hot.wrong,
    }


PROCESSES = Scenario(
    name=NAME,
    about="one, two and four processes on one address, each with a fifth of a core",
    takes=lambda one: ours_only(one) or meant_for(NAME)(one),
    run=_run,
    timed=frozenset({"connect", f"{IN_FLIGHT} in flight", "hot file"}),
)
