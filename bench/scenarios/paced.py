"""Quiet traffic: from when a POST was due to its event read."""

from bench.scenarios.scenario import (
    PUSHED,
    Figures,
    Scenario,
    Stage,
    of_kind,
    per_event_us,
)

_IN_FLIGHT = 200


async def _run(stage: Stage) -> Figures:
    sizes = stage.sizes
    held = stage.held(sizes.usual)
    events = int(sizes.paced_per_second * sizes.paced_s)
    async with stage.field(range(held)) as field:
        await field.open(0, held, name="connect")
        await field.settle()
        before = await field.used()
        phase = await field.publish(
            [number % held for number in range(events)],
            in_flight=_IN_FLIGHT,
            per_second=sizes.paced_per_second,
            name="paced",
        )
        used = await field.used(before)
    return {
        "p50_ms": phase.p50_ms,
        "p90_ms": phase.p90_ms,
        "p99_ms": phase.p99_ms,
        "max_ms": phase.max_ms,
        "missing": phase.missing,
        "doubled": phase.doubled,
        "wrong": phase.wrong,
        "server_cpu_us": per_event_us(used.server_cpu_s, phase.delivered),
    }


PACED = Scenario(
    name="paced",
    about="latency at an even pace, ms from when the POST was due",
    takes=of_kind(PUSHED),
    run=_run,
    timed=frozenset({"paced"}),
)
