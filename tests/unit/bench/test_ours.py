"""The gateway takes what the bench sends: tokens, signed reports, files by SQL."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.apart import APART, RELAYED
from bench.children import Children
from bench.database import Databases
from bench.field import fielded
from bench.load import Phase
from bench.ours import OURS, OURS_LONG_POLL, OURS_PROCESSES
from bench.procfs import cpu_s
from bench.server import Contestant, Terms


@pytest_asyncio.fixture
async def databases(children: Children) -> AsyncIterator[Databases]:
    async with Databases(children) as server:
        yield server


@pytest.mark.parametrize(
    "contestant",
    [OURS, OURS_LONG_POLL, OURS_PROCESSES[0], APART, RELAYED],
    ids=lambda one: one.name,
)
async def test_every_event_reaches_its_subscriber_once(
    children: Children, databases: Databases, contestant: Contestant
):
    phases: dict[str, Phase] = {}
    async with fielded(
        contestant,
        children,
        databases,
        Terms(files=3),
        subscribers=range(3),
        phases=phases,
    ) as field:
        before = await field.used()
        await field.open(0, 3, name="open")
        await field.publish([0, 1, 2, 0, 1, 2], in_flight=2, name="first")
        await field.publish([0, 1, 2], in_flight=3, name="second")
        used = await field.used(before)
        assert field.pss_kib() > 0
        spent = {name: cpu_s(pids()) for name, pids in field.running.parts.items()}

    assert [0, 0, 0] == [phase.wrong for phase in phases.values()]
    assert (6, 3) == (phases["first"].delivered, phases["second"].delivered)
    assert used.reads > 0
    assert {"postgres"} < set(spent)
    assert min(spent.values()) > 0
