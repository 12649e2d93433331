"""Connecting: 256 in flight, each to a file of its own."""

from bench.scenarios.scenario import (
    STREAMS,
    Figures,
    Scenario,
    Stage,
    of_kind,
    per_event_us,
)


async def _run(stage: Stage) -> Figures:
    held = stage.held(stage.sizes.usual)
    async with stage.field(range(held)) as field:
        await field.warm_up()
        before = await field.used()
        phase = await field.open(0, held, name="connect")
        used = await field.used(before)
    return {
        "per_second": phase.connected / phase.seconds,
        "p50_ms": phase.p50_ms,
        "p99_ms": phase.p99_ms,
        "server_cpu_us": per_event_us(used.server_cpu_s, phase.connected),
        "wrong": phase.wrong,
    }


CONNECT = Scenario(
    name="connect",
    about="connects/s: ours to the first event read, peers to the head read",
    takes=of_kind(STREAMS),
    run=_run,
    timed=frozenset({"connect"}),
)
