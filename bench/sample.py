"""One run's figures, and what several runs of the same say together."""

from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from bench.load import Phase


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """
    One scenario, one contestant, one round.

    Attributes:
        load_before: Load average of the last minute before it began.
        figures: What the scenario says, by name.
        client_limits: Phases in which the load client was what limits.
        failure: Why there are no figures, or nothing.
        phases: Every answer of the load client: the raw samples.
    """

    scenario: str
    contestant: str
    round: int
    load_before: float
    figures: dict[str, float] = {}
    client_limits: list[str] = []
    failure: str = ""
    phases: dict[str, Phase] = {}


class Spread(msgspec.Struct, frozen=True):
    """The middle of some values, and how far they lie apart."""

    median: float
    lowest: float
    highest: float
    runs: int


def spread(values: Sequence[float]) -> Spread | None:
    """Sum up values of the same thing; None if there are none."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def find(
    samples: Iterable[Sample], scenario: str, contestant: str, figure: str
) -> Spread | None:
    """The runs of one contestant, for one figure."""
    return spread(
        [
            sample.figures[figure]
            for sample in samples
            if (sample.scenario, sample.contestant) == (scenario, contestant)
            and figure in sample.figures
        ]
    )
