"""
The order of a run: round by round, scenario by scenario, everybody in turn.

So a noisy minute hits everybody, and never one contestant's whole row.
"""

import os
from collections.abc import Iterator, Sequence

from bench.children import Children
from bench.database import Databases
from bench.errors import RunError
from bench.load import Phase
from bench.sample import Sample
from bench.scenarios.scenario import Scenario, Stage
from bench.server import Contestant
from bench.sizes import Sizes


def order(
    scenarios: Sequence[Scenario], contestants: Sequence[Contestant], rounds: int
) -> Iterator[tuple[int, Scenario, Contestant]]:
    """Every run there is to make, in order; each round begins with another one."""
    for number in range(rounds):
        for scenario in scenarios:
            takers = [
                one
                for one in contestants
                if scenario.takes(one) and (not one.only or scenario.name in one.only)
            ]
            for place in range(len(takers)):
                yield number + 1, scenario, takers[(place + number) % len(takers)]


async def measure(
    scenario: Scenario,
    contestant: Contestant,
    *,
    number: int,
    children: Children,
    databases: Databases,
    sizes: Sizes,
) -> Sample:
    """Make one run; what goes wrong in it is said in the sample."""
    phases: dict[str, Phase] = {}
    load_before = os.getloadavg()[0]
    stage = Stage(
        contestant=contestant,
        children=children,
        databases=databases,
        sizes=sizes,
        phases=phases,
    )
    figures: dict[str, float] = {}
    failure = ""
    try:
        figures = await scenario.run(stage)
    except (RunError, OSError) as error:
        failure = str(error) or type(error).__name__
    return Sample(
        scenario=scenario.name,
        contestant=contestant.name,
        round=number,
        load_before=round(load_before, 2),
        figures=figures,
        client_limits=scenario.client_limits(phases),
        failure=failure,
        phases=phases,
    )
