"""Memory of one idle subscriber: marginal PSS, at three sizes and after traffic."""

from bench import procfs
from bench.field import Field
from bench.scenarios.scenario import Figures, Scenario, Stage, everybody
from bench.server import Kind


async def _run(stage: Stage) -> Figures:
    sizes = stage.sizes
    held = stage.held(sizes.many)
    steps = {
        "few": sizes.few,
        "usual": stage.held(sizes.usual),
        "many": held,
    }
    async with stage.field(range(held)) as field:
        await field.warm_up()
        empty_kib, slab_kib = field.pss_kib(), procfs.slab_kib()
        figures: Figures = {"empty_pss_mib": empty_kib / 1024}
        before = 0
        for name, size in steps.items():
            if size > before:
                await field.open(before, size, name=f"open to {size}")
                await field.settle()
                before = size
            figures[f"kib_{name}"] = (field.pss_kib() - empty_kib) / size
            if name == "usual":
                # A loopback connection has two ends, and this counts both.
                kernel_kib = procfs.slab_kib() - slab_kib
                figures["kernel_kib_per_end"] = kernel_kib / size / 2
        await _traffic(stage, field, held)
        figures["kib_after_traffic"] = (field.pss_kib() - empty_kib) / held
    return figures | _flatness(figures)


async def _traffic(stage: Stage, field: Field, held: int) -> None:
    if stage.contestant.kind is Kind.POLLING:
        return
    await field.publish(range(held), in_flight=32, name="traffic")
    await field.settle()


def _flatness(figures: Figures) -> Figures:
    """
    The largest of the sizes over the smallest: 1 is flat.

    A size too small to be told from the noise of the empty server has none.
    """
    sizes = [value for name, value in figures.items() if name.startswith("kib_")]
    return {"flatness": max(sizes) / min(sizes)} if min(sizes) > 0 else {}


MEMORY = Scenario(
    name="memory",
    about="memory per idle subscriber, KiB",
    takes=everybody,
    run=_run,
)
