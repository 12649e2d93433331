"""
What a machine of 1 GiB holds, the gateway alone on it.

A process here may open 20,000 files, so 18,000 subscribers are held, in a
memory cgroup of their share: what the empty gateway needs, and 18 % of what is
then left of 1 GiB.  A fan-out to all and a storm must go through in it.

How many 1 GiB holds is reckoned from the dearer of two counts: what the cgroup
was charged, and PSS with the server's half of the kernel's objects.
"""

from bench import procfs
from bench.cgroup import Cgroup, memory_cgroup
from bench.errors import RunError
from bench.field import Field
from bench.scenarios.scenario import Figures, Scenario, Stage, ours_only

MACHINE_BYTES = 1 << 30
GOAL = 100_000


async def _run(stage: Stage) -> Figures:
    held = stage.held(stage.sizes.many)
    async with memory_cgroup() as group:
        cgroup_procs = group.procs
        async with stage.field(range(held), cgroup_procs=cgroup_procs) as field:
            await field.warm_up()
            return await _measured(group, field, held)


async def _measured(group: Cgroup, field: Field, held: int) -> Figures:
    empty_bytes, empty_kib = group.used_bytes(), field.pss_kib()
    slab_kib = procfs.slab_kib()
    limit_bytes = empty_bytes + (MACHINE_BYTES - empty_bytes) * held // GOAL
    group.limit(limit_bytes)
    try:
        await field.open(0, held, name="connect")
    except RunError:
        return _too_small(group, field, held, limit_bytes, empty_bytes)
    await field.settle()
    idle_bytes = group.used_bytes()
    pss_kib = field.pss_kib() - empty_kib
    kernel_kib = (procfs.slab_kib() - slab_kib) / 2
    fan_out = await field.publish(range(held), in_flight=32, name="fan-out")
    storm = await field.load.storm()
    field.phases["storm"] = storm
    after = await field.publish(range(held), in_flight=32, name="fan-out after")
    busy_bytes = group.used_bytes()
    charged = (max(idle_bytes, busy_bytes) - empty_bytes) / held
    counted = (pss_kib + kernel_kib) * 1024 / held
    dearer = max(charged, counted)
    return {
        "held": storm.live,
        "limit_mib": limit_bytes / 2**20,
        "empty_mib": empty_bytes / 2**20,
        "used_mib": busy_bytes / 2**20,
        "charged_kib_each": charged / 1024,
        "counted_kib_each": counted / 1024,
        "kernel_kib_each": kernel_kib / held,
        "kills": group.kills(),
        "lost": held - storm.live,
        "wrong": fan_out.wrong + storm.wrong_state + after.wrong,
        "storm_s": storm.seconds,
        "holds": (MACHINE_BYTES - empty_bytes) / dearer,
    }


def _too_small(
    group: Cgroup, field: Field, held: int, limit_bytes: int, empty_bytes: int
) -> Figures:
    """Those who got in before it broke used up the whole share."""
    got_in = field.phases["connect"].connected
    each = (limit_bytes - empty_bytes) / max(1, got_in)
    return {
        "held": got_in,
        "limit_mib": limit_bytes / 2**20,
        "empty_mib": empty_bytes / 2**20,
        "charged_kib_each": each / 1024,
        "kills": group.kills(),
        "lost": held - got_in,
        "holds": (MACHINE_BYTES - empty_bytes) / each,
    }


SMALL_MACHINE = Scenario(
    name="small-machine",
    about="subscribers of a 1 GiB machine, reckoned from 18,000 held",
    takes=ours_only,
    run=_run,
)
