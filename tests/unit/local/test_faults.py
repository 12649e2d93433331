"""The fate of events: a matter of seed, stream and number only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.faults import Faults

EVENTS = [f"event {number}" for number in range(200)]


def _order(faults: Faults) -> list[str]:
    return [event for _, event in faults.plan(EVENTS)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Faults()),
        (" , ", Faults()),
        ("duplicate", Faults(duplicate=True)),
        ("reorder", Faults(reorder=True)),
        ("delay=500", Faults(delay_ms=500)),
        ("lose=1", Faults(lose=1)),
        ("lose=0.1", Faults(lose=0.1)),
        ("seed=7", Faults(seed=7)),
        (
            " duplicate, reorder,delay=500 ,lose=0.1,seed=7,",
            Faults(duplicate=True, reorder=True, delay_ms=500, lose=0.1, seed=7),
        ),
    ],
)
def test_words_become_faults(text: str, expected: Faults):
    assert expected == Faults.parse(text)


@pytest.mark.parametrize(
    "word",
    [
        "duplicat",
        "Duplicate",
        "duplicate=1",
        "duplicate=",
        "reorder=yes",
        "delay",
        "delay=",
        "delay=-1",
        "delay=0.5",
        "delay=soon",
        "delay=\u0665",
        "delay=3600001",
        "lose",
        "lose=1.1",
        "lose=-0.1",
        "lose=nan",
        "lose=half",
        "seed",
        "seed=x",
        "=",
    ],
)
def test_a_wrong_word_is_named_with_its_variable(word: str):
    with pytest.raises(ValueError, match="REELREADY_LOCAL_FAULTS") as caught:
        Faults.parse(f"reorder,{word}" if "reorder" not in word else word)

    assert repr(word) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_word_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"'delay=2' is named twice"):
        Faults.parse("delay=1,delay=2")


def test_without_faults_everything_comes_at_once_and_in_order():
    assert [(0, event) for event in EVENTS] == Faults().plan(EVENTS)


def test_duplicate_brings_every_event_again_and_later():
    dues = [Faults(duplicate=True).due_s(number) for number in range(200)]

    assert {2} == {len(due) for due in dues}
    assert {0} == {first for first, _ in dues}
    assert all(0.2 <= second <= 1.2 for _, second in dues)


def test_reorder_changes_the_order_and_loses_nothing():
    order = _order(Faults(reorder=True))

    assert order != EVENTS
    assert sorted(EVENTS) == sorted(order)


def test_delay_holds_every_copy_back_and_keeps_the_order():
    plan = Faults(delay_ms=500).plan(EVENTS)

    assert [(0.5, event) for event in EVENTS] == plan


def test_lose_takes_about_its_share_with_all_copies():
    dues = [Faults(lose=0.1, duplicate=True).due_s(n) for n in range(10_000)]

    assert {0, 2} == {len(due) for due in dues}
    assert 900 < sum(not due for due in dues) < 1100


@pytest.mark.parametrize(("share", "arriving"), [(0.0, 200), (1.0, 0)])
def test_none_and_all_are_shares_too(share: float, arriving: int):
    assert arriving == len(Faults(lose=share).plan(EVENTS))


def test_the_same_seed_is_the_same_run_and_another_is_not():
    faults = Faults.parse("duplicate,reorder,lose=0.2,seed=7")
    other = Faults.parse("duplicate,reorder,lose=0.2,seed=8")

    assert faults.plan(EVENTS) == faults.plan(EVENTS)
    assert faults.plan(EVENTS) != other.plan(EVENTS)
    assert faults.plan(EVENTS, "one target") != faults.plan(EVENTS, "another")


def test_the_first_run_of_a_seed_is_the_run_of_every_machine():
    faults = Faults(reorder=True, seed=7)

    assert [198, 577, 197, 714] == [
        round(due * 1000) for n in range(4) for due in faults.due_s(n, "target")
    ]


def test_switching_one_fault_on_does_not_change_the_others():
    few, more = Faults(lose=0.3, seed=1), Faults(lose=0.3, duplicate=True, seed=1)

    assert [not few.due_s(n) for n in range(200)] == [
        not more.due_s(n) for n in range(200)
    ]


@given(
    st.builds(
        Faults,
        duplicate=st.booleans(),
        reorder=st.booleans(),
        delay_ms=st.integers(0, 10_000),
        lose=st.floats(0, 1),
        seed=st.integers(0, 2**63),
    ),
    st.lists(st.integers(), max_size=30),
)
def test_a_plan_is_in_order_of_time_and_holds_only_what_came(
    faults: Faults, events: list[int]
):
    plan = faults.plan(events)
    delays = [delay_s for delay_s, _ in plan]

    assert sorted(delays) == delays
    assert all(delay_s >= faults.delay_ms / 1000 for delay_s in delays)
    assert {event for _, event in plan} <= set(events)
    assert len(plan) <= len(events) * (2 if faults.duplicate else 1)
