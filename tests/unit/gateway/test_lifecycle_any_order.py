"""Reports in any order, doubled and strange: how a file ends, and the rules of each step."""

from datetime import timedelta
from itertools import cycle, pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from gateway import lifecycle
from gateway.model import FileRecord, FileState, Phase, Report, ReportType, Status
from tests.unit.gateway.fakes import NOW, record
from tests.unit.gateway.reports import (
    CANCELED,
    COMPLETED,
    CONVERTING,
    ERROR,
    FAILED,
    PROGRESS,
    SECOND,
    UPLOADED,
    report,
    told,
)


def essence(state: FileState) -> FileState:
    """Without what depends on how many changes it took, and when."""
    return msgspec.structs.replace(state, seq=0, updated_at=NOW)


def outcome(state: FileState) -> FileState:
    """Without how many attempts it was seen to take, either."""
    return msgspec.structs.replace(essence(state), attempt=1)


@st.composite
def attempts(
    draw, job_id: str, attempt: int | None, *, last: bool, ends: bool = True
) -> list[Report]:
    """What is said of one attempt: all of it optional, but its one end."""
    told_of = {"job_id": job_id, "attempt": attempt}
    reports = []
    if draw(st.booleans()):
        said = draw(st.sampled_from([None, attempt]))
        reports.append(report(UPLOADED, attempt=said))
    if draw(st.booleans()):
        reports.append(report(CONVERTING, **told_of))
    percents = sorted(draw(st.lists(st.integers(0, 100), max_size=4)))
    phases = draw(
        st.lists(st.sampled_from(Phase), min_size=len(percents), max_size=len(percents))
    )
    for percent, phase in zip(percents, phases, strict=True):
        said = draw(st.sampled_from([None, percent]))
        reports.append(report(PROGRESS, **told_of, percent=said, phase=phase))
    if not ends:
        return [*reports, report(CONVERTING, **told_of)]
    end = draw(st.sampled_from([FAILED, CANCELED, *([COMPLETED] if last else [])]))
    error = None if end is COMPLETED else draw(st.sampled_from([None, ERROR]))
    return [*reports, report(end, **told_of, error=error)]


@st.composite
def histories(draw) -> tuple[list[Report], list[Report]]:
    """What happened, in order; and what arrived."""
    count = draw(st.integers(1, 3))
    numbered = count > 1 or draw(st.booleans())
    happened: list[Report] = []
    for number in range(1, count + 1):
        attempt = number if numbered else None
        happened += draw(attempts(f"job-{number}", attempt, last=number == count))
    return happened, draw(arrivals(happened))


@st.composite
def arrivals(draw, happened: list[Report]) -> list[Report]:
    """The same, doubled and in any order."""
    doubles = draw(st.lists(st.sampled_from(happened), max_size=6))
    return draw(st.permutations(happened + doubles))


@st.composite
def unnumbered_histories(
    draw, *, ended: bool = False
) -> tuple[list[Report], list[Report]]:
    """
    Jobs one after the other, none of which says its attempt.

    Each report occurs after all of the former job, whatever the ids are; or
    all at once, and the ids rise.  Only the last job may still be at work.
    """
    job_ids = [f"job-{number}" for number in range(1, draw(st.integers(1, 4)) + 1)]
    ticking = draw(st.booleans())
    if ticking:
        job_ids = draw(st.permutations(job_ids))
    happened: list[Report] = []
    now = NOW
    for job_id in job_ids:
        last = job_id == job_ids[-1]
        ends = ended or not last or draw(st.booleans())
        now += SECOND * ticking
        for one in draw(attempts(job_id, None, last=last, ends=ends)):
            now += SECOND * (ticking and draw(st.booleans()))
            happened.append(msgspec.structs.replace(one, occurred_at=now))
    return happened, draw(arrivals(happened))


@settings(max_examples=200)
@given(histories())
def test_any_order_and_any_doubling_end_in_the_same_state(history):
    happened, arrived = history

    assert essence(told(*happened).state) == essence(told(*arrived).state)


@settings(max_examples=300)
@given(unnumbered_histories())
def test_without_attempts_the_times_of_the_jobs_make_any_order_end_alike(history):
    happened, arrived = history

    assert outcome(told(*happened).state) == outcome(told(*arrived).state)


@settings(max_examples=200)
@given(unnumbered_histories())
def test_without_attempts_a_file_ends_as_its_last_job_alone_would_have_it(history):
    happened, arrived = history
    of_last_job = [one for one in happened if one.job_id == happened[-1].job_id]

    assert outcome(told(*of_last_job).state) == outcome(told(*arrived).state)


@settings(max_examples=200)
@given(histories() | unnumbered_histories())
def test_whatever_the_order_the_rules_hold_at_every_step(history):
    happened, arrived = history
    story = told(*arrived)

    for before, after in pairwise(story.records):
        assert before.state.seq + 1 == after.state.seq
        assert before.state.attempt <= after.state.attempt
        if before.state.status.terminal:
            assert before.state.attempt < after.state.attempt
            assert Status.PLAYABLE is not before.state.status
        elif before.state.attempt == after.state.attempt:
            assert after.state.status.terminal or (before.state.percent or 0) <= (
                after.state.percent or 0
            )
    ended = [one.attempt for one in map(_state, story.records) if one.status.terminal]
    assert sorted(set(ended)) == ended, "an attempt ends once"
    assert (happened[-1].attempt or story.state.attempt) == story.state.attempt


@settings(max_examples=100)
@given(
    histories() | unnumbered_histories(ended=True),
    st.lists(st.integers(-3000, 3000), min_size=40, max_size=40),
)
def test_coalescing_never_changes_how_a_file_ends_whatever_the_clock_does(
    history, steps_ms
):
    happened, arrived = history
    now, current = NOW, record()
    for one, step_ms in zip(arrived, cycle(steps_ms)):
        now += timedelta(milliseconds=step_ms)
        after = lifecycle.apply(current, one, now)
        if after and not lifecycle.coalesces(current, one, after, now):
            current = after

    assert outcome(told(*happened).state) == outcome(current.state)


def _state(one: FileRecord) -> FileState:
    return one.state


class LifecycleMachine(RuleBasedStateMachine):
    """Any reports at all: from strays, twins, the future and the past."""

    jobs = st.sampled_from([None, "job-1", "job-2", "job-3"])

    def __init__(self) -> None:
        super().__init__()
        self.record = record()
        self.now = NOW

    @rule(
        kind=st.sampled_from(ReportType),
        job_id=jobs,
        attempt=st.none() | st.integers(1, 4),
        phase=st.none() | st.sampled_from(Phase),
        percent=st.none() | st.integers(0, 100),
        error=st.sampled_from([None, ERROR]),
        occurred_s=st.integers(0, 3),
    )
    def tell(self, occurred_s, **said_of):
        occurred_at = NOW + occurred_s * SECOND
        said = report(**said_of, occurred_at=occurred_at)
        before = self.record
        after = lifecycle.apply(before, said, self.now)
        if after is None:
            return
        self.record = after
        self.check_change(before.state, after.state)
        assert before.jobs.items() <= after.jobs.items()
        assert said.job_id is None or said.job_id in after.jobs
        assert lifecycle.apply(after, said, self.now + SECOND) is None

    def check_change(self, old: FileState, new: FileState) -> None:
        assert old.seq + 1 == new.seq
        assert self.now == new.updated_at
        assert old.attempt <= new.attempt
        if old.attempt == new.attempt:
            assert not old.status.terminal
            assert list(Status).index(old.status) <= list(Status).index(new.status)
            if not new.status.terminal:
                assert (old.percent or 0) <= (new.percent or 0)
        else:
            assert Status.PLAYABLE is not old.status
        assert (new.playback is not None) == (new.status is Status.PLAYABLE)
        assert (new.error is not None) == (
            new.status.terminal and new.status is not Status.PLAYABLE
        )
        assert new.phase is None or new.status is Status.CONVERTING
        assert (old.id, old.name, old.size) == (new.id, new.name, new.size)

    @rule(step_ms=st.integers(-5000, 5000))
    def let_the_clock_move(self, step_ms):
        self.now += timedelta(milliseconds=step_ms)


def test_no_reports_whatever_break_the_rules():
    run_state_machine_as_test(
        LifecycleMachine,
        settings=settings(max_examples=100, stateful_step_count=30),
    )
