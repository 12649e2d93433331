"""Bars: a missed one is marked, and nothing passes without having run."""

import pytest

from bench.bars import BARS, Bar, Verdict, judge
from bench.catalogue import CONTESTANTS, SCENARIOS
from bench.sample import Sample
from bench.table import bars_table, judged, missed, number, scenario_table, shown

AT_MOST = Bar(
    about="storm", scenario="storm", figure="seconds", peer="nchan", at_most=2.0
)
AT_LEAST = Bar(about="plain", scenario="storm", figure="seconds", at_least=10.0)


def samples(**seconds: float) -> list[Sample]:
    return [
        Sample(
            scenario="storm",
            contestant=contestant,
            round=1,
            load_before=0.0,
            figures={"seconds": value},
        )
        for contestant, value in seconds.items()
    ]


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(1.0, Verdict.OK), (2.0, Verdict.OK), (2.1, Verdict.MISSED)],
)
def test_a_ratio_is_held_against_its_bar(ours: float, verdict: Verdict):
    result = judge(AT_MOST, samples(ours=ours, nchan=1.0))

    assert (verdict, ours) == (result.verdict, result.value)


@pytest.mark.parametrize(
    ("ours", "verdict"), [(10.0, Verdict.OK), (9.9, Verdict.MISSED)]
)
def test_a_plain_limit_needs_no_peer(ours: float, verdict: Verdict):
    assert verdict is judge(AT_LEAST, samples(ours=ours)).verdict


@pytest.mark.parametrize(
    "present", [{}, {"ours": 1.0}, {"nchan": 1.0}, {"ours": 1.0, "nchan": 0.0}]
)
def test_what_did_not_run_is_not_passed(present: dict[str, float]):
    assert Verdict.NOT_RUN is judge(AT_MOST, samples(**present)).verdict


def test_the_table_marks_a_missed_bar():
    results = [judge(AT_MOST, samples(ours=3.0, nchan=1.0))]

    assert "| storm | 3 | 1 | 3 | <= 2 x nchan | MISSED |" in bars_table(results)
    assert [AT_MOST] == missed(results)


def test_only_the_bars_of_what_was_run_are_shown():
    results = judged(samples(ours=1.0, nchan=1.0), ["storm"])

    assert {"storm"} == {one.bar.scenario for one in results}


def test_every_bar_names_what_there_is():
    scenarios = {one.name for one in SCENARIOS}
    contestants = {one.name for one in CONTESTANTS}

    assert {bar.scenario for bar in BARS} == scenarios
    assert {bar.ours for bar in BARS} | {bar.peer for bar in BARS} - {""} <= contestants


def test_a_table_shows_only_who_ran():
    table = scenario_table(samples(ours=1.5), "storm", ["ours", "nchan"])

    assert "| ours | 1.5 | - | - | - |" == table.splitlines()[-1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (12.34, "12.3"),
        (999.6, "1,000"),
        (65432, "65,432"),
    ],
)
def test_a_number_has_three_digits_that_matter(value: float, text: str):
    assert text == number(value)


def test_nothing_is_shown_as_a_dash():
    assert "-" == shown(None)
