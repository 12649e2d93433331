"""Medians and their spread."""

import pytest

from bench.sample import Sample, Spread, find, spread


def sample(contestant: str, round_: int, **figures: float) -> Sample:
    return Sample(
        scenario="storm",
        contestant=contestant,
        round=round_,
        load_before=0.1,
        figures=figures,
    )


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0], 3.0), ([5.0, 1.0, 2.0], 2.0), ([1.0, 2.0], 1.5)]
)
def test_the_middle_of_the_runs_counts(values: list[float], middle: float):
    expected = Spread(middle, min(values), max(values), len(values))

    assert expected == spread(values)


def test_no_runs_have_no_middle():
    assert spread([]) is None


def test_runs_are_found_by_scenario_contestant_and_figure():
    samples = [
        sample("ours", 1, seconds=1.0),
        sample("nchan", 1, seconds=9.0),
        sample("ours", 2, seconds=3.0),
        sample("ours", 3),
    ]

    assert Spread(2.0, 1.0, 3.0, 2) == find(samples, "storm", "ours", "seconds")
    assert find(samples, "connect", "ours", "seconds") is None
