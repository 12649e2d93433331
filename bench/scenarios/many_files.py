"""
Many files: one subscriber each, events as fast as they are taken.

Heartbeats are off: those of 10,000 streams cost some peers seconds of CPU, and
a burst of three seconds would meet them or not by chance.
"""

from bench.field import Field
from bench.load import Phase
from bench.scenarios.scenario import (
    PUSHED,
    Figures,
    Scenario,
    Stage,
    of_kind,
    per_event_us,
)

IN_FLIGHT = (32, 200)
_COOL_S = 1.0
_NO_HEARTBEAT_S = 300


async def _burst(stage: Stage, field: Field, held: int, in_flight: int) -> Phase:
    sizes = stage.sizes
    files = [number % held for number in range(sizes.burst_events)]
    return await field.publish(
        files,
        in_flight=in_flight,
        send_s=sizes.burst_s,
        name=f"{in_flight} in flight",
    )


async def _run(stage: Stage) -> Figures:
    held = stage.held(stage.sizes.usual)
    figures: Figures = {"wrong": 0}
    async with stage.field(range(held), heartbeat_s=_NO_HEARTBEAT_S) as field:
        await field.open(0, held, name="connect")
        for in_flight in IN_FLIGHT:
            await field.settle(_COOL_S)
            before = await field.used()
            phase = await _burst(stage, field, held, in_flight)
            used = await field.used(before)
            figures |= {
                f"per_second_{in_flight}": phase.delivered / phase.seconds,
                f"p50_ms_{in_flight}": phase.p50_ms,
                f"p99_ms_{in_flight}": phase.p99_ms,
                f"server_cpu_us_{in_flight}": per_event_us(
                    used.server_cpu_s, phase.delivered
                ),
            }
            figures["wrong"] += phase.wrong
    return figures


MANY_FILES = Scenario(
    name="many-files",
    about="events/s, POST to delivered, each to a file of its own",
    takes=of_kind(PUSHED),
    run=_run,
    timed=frozenset(f"{one} in flight" for one in IN_FLIGHT),
)
