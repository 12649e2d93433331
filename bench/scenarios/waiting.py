"""
What clients cost that only wait: the question the project began with.

Streams get a heartbeat every 15 s; a long-poll of ours is held for the default
25 s and asked again; a polling client asks every 2 s.
"""

from bench import procfs
from bench.scenarios.scenario import Figures, Scenario, Stage
from bench.server import Contestant

_WAYS = frozenset(
    {"ours", "ours-lp", "nchan", "starlette-redis", "aiohttp-ws", "polling"}
)
_WAIT_S = 25
_MINUTE_S = 60.0


def _is_a_way(contestant: Contestant) -> bool:
    """One of each way to wait: a minute of watching each is long enough."""
    return contestant.name in _WAYS


async def _run(stage: Stage) -> Figures:
    figures: Figures = {}
    for name in ("few", "usual"):
        held = stage.held(getattr(stage.sizes, name))
        of_size = await _waited(stage, held)
        figures |= {f"{key}_{name}": value for key, value in of_size.items()}
    return figures


async def _waited(stage: Stage, held: int) -> Figures:
    """Figures are per minute, whatever the time they were watched."""
    async with stage.field(range(held), wait_s=_WAIT_S) as field:
        await field.warm_up()
        empty_kib = field.pss_kib()
        slab_kib = procfs.slab_kib()
        await field.open(0, held, name=f"connect {held}")
        await field.settle()
        before = await field.used()
        phase = await field.load.wait(stage.sizes.waiting_s)
        field.phases[f"wait {held}"] = phase
        used = await field.used(before)
        pss_kib, kernel_kib = field.pss_kib(), procfs.slab_kib() - slab_kib
    per_minute = _MINUTE_S / phase.seconds
    return {
        "held": phase.live,
        "cpu_s": used.server_cpu_s * per_minute,
        "other_cpu_s": used.other_cpu_s * per_minute,
        "requests": phase.requests * per_minute,
        "reads": used.reads * per_minute,
        "heartbeats": phase.heartbeats * per_minute,
        "overdue": phase.overdue * per_minute,
        "pss_mib": pss_kib / 1024,
        "kib_each": (pss_kib - empty_kib) / held,
        "kernel_kib_each": kernel_kib / held / 2,
        "closed": phase.closed,
    }


WAITING = Scenario(
    name="waiting",
    about="cost of clients that only wait, per minute",
    takes=_is_a_way,
    run=_run,
)
