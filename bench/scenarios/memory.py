"""
Memory of one idle subscriber: PSS above the empty server, at three sizes and
after traffic.

The first thousand also fill what an allocator had free before anybody came, so
whether the cost is flat is judged by what each further subscriber adds.
"""

from bench import procfs
from bench.field import Field
from bench.scenarios.scenario import Figures, Scenario, Stage, everybody
from bench.server import Kind


async def _run(stage: Stage) -> Figures:
    sizes = stage.sizes
    held = stage.held(sizes.many)
    steps = {"few": sizes.few, "usual": stage.held(sizes.usual), "many": held}
    async with stage.field(range(held)) as field:
        await field.warm_up()
        empty_kib, slab_kib = field.pss_kib(), procfs.slab_kib()
        figures: Figures = {"empty_pss_mib": empty_kib / 1024}
        above_kib: dict[str, int] = {}
        before = 0
        for name, size in steps.items():
            if size > before:
                await field.open(before, size, name=f"open to {size}")
                await field.settle()
                before = size
            above_kib[name] = field.pss_kib() - empty_kib
            figures[f"kib_{name}"] = above_kib[name] / size
            if name == "usual":
                # A loopback connection has two ends, and this counts both.
                kernel_kib = procfs.slab_kib() - slab_kib
                figures["kernel_kib_per_end"] = kernel_kib / size / 2
        await _traffic(stage, field, held)
        above_kib["after_traffic"] = field.pss_kib() - empty_kib
        figures["kib_after_traffic"] = above_kib["after_traffic"] / held
    return figures | flatness(above_kib, steps)


async def _traffic(stage: Stage, field: Field, held: int) -> None:
    if stage.contestant.kind is Kind.POLLING:
        return
    await field.publish(range(held), in_flight=32, name="traffic")
    await field.settle()


def flatness(above_kib: dict[str, int], sizes: dict[str, int]) -> Figures:
    """
    What each further subscriber adds, at its dearest over its cheapest: 1 is flat.

    Nothing where the sizes do not grow: the contestant holds no more.
    """
    few, usual, many = (sizes[name] for name in ("few", "usual", "many"))
    if not few < usual < many:
        return {}
    each = [
        (above_kib["usual"] - above_kib["few"]) / (usual - few),
        (above_kib["many"] - above_kib["usual"]) / (many - usual),
        (above_kib["after_traffic"] - above_kib["few"]) / (many - few),
    ]
    return {"flatness": max(each) / min(each)} if min(each) > 0 else {}


MEMORY = Scenario(
    name="memory",
    about="memory per idle subscriber, KiB",
    takes=everybody,
    run=_run,
)
