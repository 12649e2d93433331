"""
The 22 invariants on the whole gateway, but for sockets, SQL and the clock.

`INVARIANTS` of `bench.invariants.rules` has their sentences.  The machine judges
all of them but one; those that other tests put to the proof more closely are
named in `CLOSER`.
"""

import ast
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)

from bench.invariants.machine import STEPS, Machine
from bench.invariants.rules import INVARIANTS, judged
from bench.invariants.seeded import episode
from bench.invariants.tables import PAGE_EVENTS, Hold

ROOT = Path(__file__).parents[3]

CLOSER = {
    3: "tests/integration/test_ingest.py::test_reports_on_one_file_make_a_gapless_log",
    4: "tests/unit/gateway/test_lifecycle.py::test_percent_and_phase_never_fall",
    7: "tests/integration/test_ingest.py::"
    "test_the_same_delivery_twice_changes_nothing_and_answers_the_same",
    8: "tests/unit/gateway/test_lifecycle_any_order.py::"
    "test_any_order_and_any_doubling_end_in_the_same_state",
    19: "tests/integration/test_reconciler.py::"
    "test_silence_ends_each_stage_in_its_own_way",
    21: "tests/unit/gateway/protocol/test_sse.py::"
    "test_any_file_name_comes_back_as_it_was_in_one_event",
}
"""The invariant by its number, and the test that looks at it by itself."""


class AnyOrder(RuleBasedStateMachine):
    """Hypothesis takes the steps, and finds the fewest that break something."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.broken = False

    def teardown(self) -> None:
        if self.broken:
            self.machine.abandon()
        else:
            self.machine.close()


def _rule(name):
    def take(self, **chosen):
        try:
            self.machine.take(name, **chosen)
        except BaseException:
            self.broken = True
            raise

    take.__name__ = name
    choices = STEPS[name].choices
    return rule(**{one: st.sampled_from(choices[one]) for one in choices})(take)


for _name, _step in STEPS.items():
    for _time in range(1 + _step.weight // 4):
        # As often as a seed would take it, more or less.
        setattr(AnyOrder, f"{_name}_{_time}", _rule(_name))


@pytest.fixture
def machine():
    one = Machine()
    yield one
    one.close()


@pytest.mark.timeout(300)
def test_whatever_happens_in_whatever_order_every_invariant_holds():
    judged.clear()

    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=150, stateful_step_count=60)
    )

    assert {19} == set(INVARIANTS) - set(judged)


@pytest.mark.parametrize("number", CLOSER, ids=str)
def test_what_other_tests_look_at_more_closely_is_there(number):
    path, _, name = CLOSER[number].partition("::")
    tree = ast.parse((ROOT / path).read_text())

    assert number in INVARIANTS
    assert name in {
        one.name
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    }


# What the machine has found, by the shortest way there.


def test_a_drain_without_a_database_leaves_no_poll_without_an_answer(machine):
    for wait_s in (1, 30):
        machine.take("poll", file=0, cursor=0, room=0, wait_s=wait_s)
        machine.take("get", file=0, cursor=0, room=0, wait_s=wait_s)
    machine.take("hang", what=Hold.READS, room=0)
    machine.take("poll", file=0, cursor=0, room=0, wait_s=30)
    machine.take("get", file=0, cursor=0, room=0, wait_s=30)

    machine.take("drain", room=0)


def test_what_follows_a_reset_is_the_current_state_however_long_the_history(machine):
    for late in [0] * (PAGE_EVENTS + 2):
        machine.take("post", file=0, late=late, room=0, altered=False)
        machine.take("pass_time", seconds=1.5)
    head = machine.files[0].head
    machine.take("prune", file=0, back=head - 2)

    for back in range(head + 1):
        machine.take("compare", file=0, cursor=back)


def test_a_reader_that_stalls_at_the_gateways_first_moment_is_let_alone(machine):
    machine.take("stream", file=0, cursor="", room=0, token="file")
    machine.take("pace", seconds=None)
    machine.take("kill", room=0, unread=0)
    machine.take("come_back", room=0)
    machine.take("stall", who=0)

    machine.take("pass_time", seconds=50.0)


def test_what_a_million_steps_found_holds():
    """A failover lost what had re-opened a file; who had stalled was not told goodbye."""
    episode(4047653643, 1361)
