"""A storm: everybody is dropped and back at once, each with its right state."""

from bench.scenarios.scenario import STREAMS, Figures, Scenario, Stage, of_kind


async def _run(stage: Stage) -> Figures:
    held = stage.held(stage.sizes.usual)
    async with stage.field(range(held)) as field:
        await field.open(0, held, name="connect")
        await field.publish(range(held), in_flight=32, name="events before")
        before = await field.used()
        phase = await field.load.storm()
        field.phases["storm"] = phase
        used = await field.used(before)
        after = await field.publish(range(held), in_flight=32, name="events after")
    return {
        "seconds": phase.seconds,
        "p99_ms": phase.p99_ms,
        "lost": held - phase.connected,
        "wrong": phase.wrong_state + after.wrong,
        "server_cpu_s": used.server_cpu_s,
        "reads": used.reads,
    }


STORM = Scenario(
    name="storm",
    about="all dropped and back at once, seconds until the last one is served",
    takes=of_kind(STREAMS),
    run=_run,
    timed=frozenset({"storm"}),
)
