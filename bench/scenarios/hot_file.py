"""A hot file: everybody waits for the same one."""

from bench.scenarios.scenario import (
    PUSHED,
    Figures,
    Scenario,
    Stage,
    of_kind,
    per_event_us,
)

_CALM_PER_SECOND = 4


async def _run(stage: Stage) -> Figures:
    sizes = stage.sizes
    held = stage.held(sizes.hot)
    async with stage.field([0] * held) as field:
        await field.open(0, held, name="connect")
        await field.publish([0], in_flight=1, name="warm-up event")
        await field.settle()
        calm = await field.publish(
            [0] * sizes.hot_events,
            in_flight=1,
            per_second=_CALM_PER_SECOND,
            name="calm",
        )
        await field.settle()
        before = await field.used()
        burst = await field.publish([0] * sizes.hot_events, in_flight=1, name="burst")
        used = await field.used(before)
    return {
        "per_second": burst.delivered / burst.seconds,
        "burst_p99_ms": burst.p99_ms,
        "calm_p50_ms": calm.p50_ms,
        "calm_p99_ms": calm.p99_ms,
        "server_cpu_us": per_event_us(used.server_cpu_s, burst.delivered),
        "wrong": calm.wrong + burst.wrong,
    }


HOT_FILE = Scenario(
    name="hot-file",
    about="one file with thousands of subscribers, deliveries/s",
    takes=of_kind(PUSHED),
    run=_run,
    timed=frozenset({"calm", "burst"}),
)
