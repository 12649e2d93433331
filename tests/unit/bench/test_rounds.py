"""The order of runs, and what becomes of one that fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.catalogue import CONTESTANTS, SCENARIOS
from bench.children import Children
from bench.database import Databases
from bench.errors import RunError
from bench.ours import OURS
from bench.peers.nchan import NCHAN
from bench.rounds import measure, order
from bench.scenarios.apart import GATEWAYS_APART
from bench.scenarios.connect import CONNECT
from bench.scenarios.crowd import CROWD
from bench.scenarios.processes import PROCESSES
from bench.server import Contestant, Kind, Running, Terms
from bench.sizes import QUICK


@asynccontextmanager
async def broken(_: Children, __: Databases, ___: Terms) -> AsyncIterator[Running]:
    raise RunError("it does not come up")
    yield


BROKEN = Contestant(name="broken", kind=Kind.SSE, about="", start=broken)


def test_rounds_are_interleaved_and_each_begins_with_another():
    runs = [
        (number, contestant.name)
        for number, _, contestant in order([CONNECT], [OURS, NCHAN], 2)
    ]

    assert [(1, "ours"), (1, "nchan"), (2, "nchan"), (2, "ours")] == runs


def test_a_scenario_runs_only_who_takes_part():
    runs = [
        [contestant.name for _, _, contestant in order([one], CONTESTANTS, 1)]
        for one in (CROWD, PROCESSES, GATEWAYS_APART)
    ]

    assert [["ours"], ["ours", "ours-x2", "ours-x4"], ["ours-apart", "ours-relay"]] == (
        runs
    )


def test_every_scenario_has_ours():
    takers = {
        scenario.name: {one.name for one in CONTESTANTS if scenario.takes(one)}
        for scenario in SCENARIOS
    }

    del takers["apart"]
    assert all("ours" in names for names in takers.values())


async def test_a_run_that_fails_is_a_sample_that_says_why(children: Children):
    sample = await measure(
        CONNECT,
        BROKEN,
        number=2,
        children=children,
        databases=Databases(children),
        sizes=QUICK,
    )

    assert "it does not come up" == sample.failure
    assert ("connect", "broken", 2, {}) == (
        sample.scenario,
        sample.contestant,
        sample.round,
        sample.figures,
    )
