"""
Does a crowd that only waits make the others' events dearer?

The same events to the same few files, with few beside them and with many.
Heartbeats are off here: what they cost is measured by `waiting`.
"""

from bench.scenarios.scenario import (
    Figures,
    Scenario,
    Stage,
    ours_only,
    per_event_us,
)

_NO_HEARTBEAT_S = 300
_IN_FLIGHT = 32


async def _run(stage: Stage) -> Figures:
    few = await _per_event_us(stage, stage.sizes.few)
    many = await _per_event_us(stage, stage.held(stage.sizes.many))
    return {"cpu_us_few": few, "cpu_us_many": many, "ratio": many / few}


async def _per_event_us(stage: Stage, held: int) -> float:
    sizes = stage.sizes
    events = int(sizes.paced_per_second * sizes.paced_s)
    async with stage.field(range(held), heartbeat_s=_NO_HEARTBEAT_S) as field:
        await field.open(0, held, name=f"connect {held}")
        await field.publish(
            range(sizes.few), in_flight=_IN_FLIGHT, name=f"warm-up {held}"
        )
        await field.settle()
        before = await field.used()
        phase = await field.publish(
            [number % sizes.few for number in range(events)],
            in_flight=_IN_FLIGHT,
            per_second=sizes.paced_per_second,
            name=f"events beside {held}",
        )
        used = await field.used(before)
    return per_event_us(used.server_cpu_s, phase.delivered)


CROWD = Scenario(
    name="crowd",
    about="CPU per delivered event with many idle ones beside it",
    takes=ours_only,
    run=_run,
)
