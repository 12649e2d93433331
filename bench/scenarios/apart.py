"""
What gateways on one database cost each other: `bench.apart` says who does what.
"""

from bench import procfs
from bench.apart import SCENARIO
from bench.field import Field
from bench.scenarios.scenario import (
    Figures,
    Scenario,
    Stage,
    meant_for,
    per_event_us,
)

IN_FLIGHT = (200, 100, 50)
_NO_HEARTBEAT_S = 300


def _spent(field: Field) -> Figures:
    return {name: procfs.cpu_s(pids()) for name, pids in field.running.parts.items()}


def _each(field: Field, before: Figures, what: str, events: int) -> Figures:
    """CPU of each part for one event, in microseconds."""
    return {
        f"{name}_us_{what}": per_event_us(cpu_s - before[name], events)
        for name, cpu_s in _spent(field).items()
    }


async def _run(stage: Stage) -> Figures:
    sizes, held = stage.sizes, stage.held(stage.sizes.usual)
    async with stage.field(range(held), heartbeat_s=_NO_HEARTBEAT_S) as field:
        await field.warm_up()
        before = _spent(field)
        connect = await field.open(0, held, name="connect")
        await field.settle()
        figures = _each(field, before, "connect", connect.connected)

        before = _spent(field)
        number = int(sizes.paced_per_second * sizes.paced_s)
        paced = await field.publish(
            [one % held for one in range(number)],
            in_flight=IN_FLIGHT[0],
            per_second=sizes.paced_per_second,
            name="paced",
        )
        figures |= _each(field, before, "paced", paced.delivered)

        figures["wrong"] = connect.wrong + paced.wrong
        for in_flight in IN_FLIGHT:
            await field.settle()
            before = _spent(field)
            burst = await field.publish(
                [one % held for one in range(sizes.burst_events)],
                in_flight=in_flight,
                send_s=sizes.burst_s,
                name=f"{in_flight} in flight",
            )
            figures |= _each(field, before, str(in_flight), burst.delivered)
            figures[f"per_second_{in_flight}"] = burst.delivered / burst.seconds
            figures["wrong"] += burst.wrong
    return figures | {"p50_ms": paced.p50_ms, "p99_ms": paced.p99_ms}


GATEWAYS_APART = Scenario(
    name=SCENARIO,
    about="three gateways, one writes, one has all clients, one has nobody",
    takes=meant_for(SCENARIO),
    run=_run,
    timed=frozenset({"connect", *(f"{one} in flight" for one in IN_FLIGHT)}),
)
