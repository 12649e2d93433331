"""Whether memory per subscriber is flat."""

import pytest

from bench.scenarios.memory import flatness

SIZES = {"few": 1_000, "usual": 10_000, "many": 18_000}


@pytest.mark.parametrize(
    ("few", "usual", "many", "after", "expected"),
    [
        (2_000, 20_000, 36_000, 36_000, 1.0),
        (1_000, 19_000, 35_000, 35_000, 1.0),
        (2_000, 20_000, 36_000, 53_000, 1.5),
        (2_000, 20_000, 44_000, 44_000, 1.5),
    ],
    ids=["flat", "the first fill what was free", "dearer after traffic", "dearer"],
)
def test_what_each_further_subscriber_adds_is_compared(
    few: int, usual: int, many: int, after: int, expected: float
):
    above = {"few": few, "usual": usual, "many": many, "after_traffic": after}

    assert {"flatness": pytest.approx(expected)} == flatness(above, SIZES)


def test_one_that_holds_no_more_is_not_judged():
    sizes = SIZES | {"usual": 9_000, "many": 9_000}
    above = dict.fromkeys(("few", "usual", "many", "after_traffic"), 1)

    assert {} == flatness(above, sizes)
