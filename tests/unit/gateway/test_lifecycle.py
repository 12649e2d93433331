from dataclasses import dataclass, field
from datetime import timedelta
from itertools import cycle, pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)

from gateway import lifecycle
from gateway.model import (
    FileError,
    FileRecord,
    FileState,
    Job,
    Phase,
    Playback,
    Report,
    ReportType,
    Status,
)
from tests.unit.gateway.fakes import NOW, file_state, record

PLAYBACK = Playback(hls_url="https://cdn.test/video/hls/f-1/master.m3u8")
ERROR = FileError(code="no_video", message="There is no video in this file.")
SECOND = timedelta(seconds=1)

UPLOADED = ReportType.UPLOADED
CONVERTING = ReportType.CONVERTING
PROGRESS = ReportType.PROGRESS
COMPLETED = ReportType.COMPLETED
FAILED = ReportType.FAILED
CANCELED = ReportType.CANCELED
EXPIRED = ReportType.EXPIRED


def report(kind: ReportType, job_id: str | None = None, **details) -> Report:
    if kind is COMPLETED:
        details.setdefault("playback", PLAYBACK)
    details.setdefault("occurred_at", NOW)
    return Report(type=kind, job_id=job_id, **details)


@dataclass
class Story:
    """One file, what was told of it, and every record it went through."""

    records: list[FileRecord] = field(default_factory=lambda: [record()])

    def tell(self, *reports: Report) -> "Story":
        for one in reports:
            now = self.state.updated_at + SECOND
            after = lifecycle.apply(self.records[-1], one, now)
            if after is not None:
                self.records.append(after)
        return self

    @property
    def state(self) -> FileState:
        return self.records[-1].state

    @property
    def statuses(self) -> list[Status]:
        return [one.state.status for one in self.records]


def told(*reports: Report) -> Story:
    return Story().tell(*reports)


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


def test_a_file_goes_through_its_stages_one_event_each():
    story = told(
        report(UPLOADED),
        report(CONVERTING, "job-1", attempt=1, phase=Phase.PROBING),
        report(PROGRESS, "job-1", attempt=1, phase=Phase.TRANSCODING, percent=42),
        report(COMPLETED, "job-1", attempt=1),
    )

    assert [
        Status.AWAITING_UPLOAD,
        Status.UPLOADED,
        Status.CONVERTING,
        Status.CONVERTING,
        Status.PLAYABLE,
    ] == story.statuses
    assert file_state(
        seq=5,
        status=Status.PLAYABLE,
        percent=100,
        playback=PLAYBACK,
        updated_at=story.state.updated_at,
    ) == (story.state)


def test_a_short_job_may_say_nothing_but_that_it_is_done():
    assert [Status.AWAITING_UPLOAD, Status.PLAYABLE] == told(
        report(COMPLETED, "job-1")
    ).statuses


def test_reports_change_the_time_and_never_the_creation():
    state = told(report(UPLOADED)).state

    assert (NOW, NOW + SECOND) == (state.created_at, state.updated_at)


def test_percent_and_phase_never_fall():
    story = told(
        report(PROGRESS, "job-1", phase=Phase.UPLOADING, percent=80),
        report(PROGRESS, "job-1", phase=Phase.TRANSCODING, percent=90),
        report(PROGRESS, "job-1", phase=Phase.PROBING, percent=10),
        report(PROGRESS, "job-1"),
    )

    assert [(None, None), (Phase.UPLOADING, 80), (Phase.UPLOADING, 90)] == [
        (one.state.phase, one.state.percent) for one in story.records
    ]


def test_percent_may_be_absent_throughout():
    story = told(report(CONVERTING, "job-1"), report(COMPLETED, "job-1"))

    assert [None, None, 100] == [one.state.percent for one in story.records]


@pytest.mark.parametrize("late", [UPLOADED, CONVERTING, PROGRESS, FAILED, EXPIRED])
@pytest.mark.parametrize("end", [COMPLETED, FAILED, CANCELED])
def test_nothing_late_changes_what_has_ended(end, late):
    story = told(report(end, "job-1"))
    ended = story.records[-1]

    story.tell(report(late, "job-1", percent=99), report(late))

    assert ended is story.records[-1]


def test_a_new_job_without_attempt_reopens_a_failed_file():
    story = told(
        report(PROGRESS, "job-1", percent=70),
        report(FAILED, "job-1", error=ERROR),
        report(CONVERTING, "job-2"),
    )

    assert (Status.CONVERTING, 2) == (story.state.status, story.state.attempt)
    assert (None, None) == (story.state.percent, story.state.error)
    assert {
        "job-1": Job(attempt=1, occurred_at=NOW),
        "job-2": Job(attempt=2, occurred_at=NOW),
    } == story.records[-1].jobs


def test_a_report_with_a_higher_attempt_reopens_a_failed_file():
    story = told(report(FAILED, "job-1", attempt=1), report(UPLOADED, attempt=2))

    assert (Status.UPLOADED, 2) == (story.state.status, story.state.attempt)


def test_a_higher_attempt_takes_over_before_the_lower_one_has_ended():
    story = told(
        report(PROGRESS, "job-1", attempt=1, percent=70),
        report(PROGRESS, "job-2", attempt=2, percent=5),
        report(FAILED, "job-1", attempt=1),
    )

    assert (Status.CONVERTING, 2, 5) == (
        story.state.status,
        story.state.attempt,
        story.state.percent,
    )


@pytest.mark.parametrize("kind", [CONVERTING, PROGRESS, FAILED, COMPLETED])
@pytest.mark.parametrize("attempt", [None, 2])
def test_a_playable_file_is_never_reopened(kind, attempt):
    story = told(report(COMPLETED, "job-1", attempt=1))
    ended = story.records[-1]

    story.tell(report(kind, "job-2", attempt=attempt))

    assert ended is story.records[-1]


def at(seconds: int, kind: ReportType, job_id: str, **details) -> Report:
    return report(kind, job_id, occurred_at=NOW + seconds * SECOND, **details)


@pytest.mark.parametrize(("job_id", "occurred_s"), [("job-3", 1), ("job-1", 2)])
@pytest.mark.parametrize("kind", [CONVERTING, PROGRESS, FAILED, CANCELED])
def test_an_earlier_jobs_reports_are_stale_while_another_converts(
    kind, job_id, occurred_s
):
    story = told(at(2, CONVERTING, "job-2"))
    stray = at(occurred_s, kind, job_id, percent=99)

    assert lifecycle.apply(story.records[-1], stray, NOW) is None
    assert not lifecycle.repeats(story.records[-1], stray)


@pytest.mark.parametrize(("job_id", "occurred_s"), [("job-1", 3), ("job-3", 2)])
def test_a_later_job_takes_over_from_one_that_converts(job_id, occurred_s):
    story = told(
        at(2, PROGRESS, "job-2", percent=70), at(occurred_s, CONVERTING, job_id)
    )

    assert (Status.CONVERTING, 2, None) == (
        story.state.status,
        story.state.attempt,
        story.state.percent,
    )


@pytest.mark.parametrize("constant", [False, True], ids=["rising", "all at once"])
@pytest.mark.parametrize(
    ("order", "attempt"),
    [("C1 F1 C2", 2), ("C1 C2 F1", 2), ("C2 C1 F1", 1), ("F1 C2 C1", 2)],
)
def test_a_second_job_converts_whenever_the_end_of_the_first_arrives(
    order, attempt, constant
):
    happened = {
        name: at(0 if constant else second, kind, job_id)
        for second, (name, kind, job_id) in enumerate(
            [
                ("C1", CONVERTING, "j-1"),
                ("F1", FAILED, "j-1"),
                ("C2", CONVERTING, "j-2"),
            ]
        )
    }

    state = told(*[happened[name] for name in order.split()]).state

    assert (Status.CONVERTING, None) == (state.status, state.error)
    assert attempt == state.attempt


def test_what_an_earlier_job_says_never_changes_a_file_that_has_ended():
    story = told(at(2, FAILED, "job-2"))
    ended = story.records[-1]

    for kind in (CONVERTING, PROGRESS, COMPLETED, FAILED):
        story.tell(at(1, kind, "job-1"))

    assert ended is story.records[-1]


@pytest.mark.parametrize("occurred_s", [1, 2, 3])
def test_the_manifest_of_a_doubled_job_is_accepted(occurred_s):
    story = told(at(2, CONVERTING, "job-1"), at(occurred_s, COMPLETED, "job-2"))

    assert (Status.PLAYABLE, 1) == (story.state.status, story.state.attempt)


def test_the_reports_of_an_older_job_stay_with_their_attempt():
    story = told(
        report(FAILED, "job-1"),
        report(PROGRESS, "job-2", percent=5),
        report(PROGRESS, "job-1", percent=50),
        report(CANCELED, "job-1"),
        report(COMPLETED, "job-1", attempt=1),
    )

    assert (Status.CONVERTING, 2, 5) == (
        story.state.status,
        story.state.attempt,
        story.state.percent,
    )


def test_the_manifest_of_an_older_job_completes_what_has_not_ended():
    story = told(
        report(CONVERTING, "job-1"),
        report(CONVERTING, "job-2"),
        report(COMPLETED, "job-1"),
    )

    assert (Status.PLAYABLE, 2) == (story.state.status, story.state.attempt)


def test_the_first_job_of_a_file_that_was_given_up_is_not_a_new_attempt():
    story = told(report(UPLOADED), report(FAILED, error=ERROR))
    given_up = story.records[-1]

    story.tell(report(CONVERTING, "job-1"), report(COMPLETED, "job-1"))

    assert given_up is story.records[-1]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (
            FAILED,
            FileError(
                code="conversion_failed", message="The video could not be converted."
            ),
        ),
        (
            CANCELED,
            FileError(
                code="canceled", message="The conversion was canceled.", retryable=True
            ),
        ),
        (
            EXPIRED,
            FileError(
                code="upload_never_came",
                message="The upload never arrived.",
                retryable=True,
            ),
        ),
    ],
)
def test_an_end_without_a_reason_gets_one(kind, error):
    ended = told(report(kind, "job-1")).state

    assert (Status(kind.value), error) == (ended.status, ended.error)
    assert ERROR == told(report(kind, "job-1", error=ERROR)).state.error


@pytest.mark.parametrize(
    ("first", "second", "repeats"),
    [
        (report(UPLOADED), report(UPLOADED), True),
        (report(CONVERTING, "job-1"), report(UPLOADED), False),
        (report(PROGRESS, "job-1", percent=9), report(PROGRESS, "job-1"), True),
        (
            report(PROGRESS, "job-1", percent=9),
            report(PROGRESS, "job-1", percent=9),
            True,
        ),
        (
            report(PROGRESS, "job-1", percent=9),
            report(PROGRESS, "job-1", percent=8),
            False,
        ),
        (report(COMPLETED, "job-1"), report(COMPLETED, "job-1"), True),
        (report(COMPLETED, "job-1"), report(FAILED, "job-1"), False),
        (report(FAILED, "job-1"), report(FAILED, "job-1"), True),
        (
            report(FAILED, "job-2", attempt=2),
            report(FAILED, "job-1", attempt=1),
            False,
        ),
    ],
)
def test_a_duplicate_says_what_is_so_and_a_stale_report_what_was(
    first, second, repeats
):
    story = told(first)

    assert lifecycle.apply(story.records[-1], second, NOW) is None
    assert repeats == lifecycle.repeats(story.records[-1], second)


def coalesced(first: Report, second: Report, after: timedelta) -> bool:
    """Whether the second is not stored, so long after the first."""
    before = lifecycle.apply(record(), first, NOW)
    later = lifecycle.apply(before, second, NOW + after)
    return lifecycle.coalesces(before, second, later, NOW + after)


@pytest.mark.parametrize(
    ("after_s", "expected"), [(0, True), (0.999, True), (1, False), (9, False)]
)
def test_progress_within_a_second_of_the_last_is_not_stored(after_s, expected):
    first, second = (report(PROGRESS, "job-1", percent=percent) for percent in (1, 2))

    assert expected == coalesced(first, second, timedelta(seconds=after_s))


@pytest.mark.parametrize(
    "second",
    [
        report(COMPLETED, "job-1"),
        report(FAILED, "job-1"),
        report(CONVERTING, "job-1", phase=Phase.UPLOADING),
        report(PROGRESS, "job-2", attempt=2, percent=1),
    ],
    ids=["completed", "failed", "another phase, as a stage", "a new attempt"],
)
def test_whatever_is_more_than_progress_is_stored_at_once(second):
    first = report(PROGRESS, "job-1", percent=1)

    assert not coalesced(first, second, timedelta(0))


def test_the_first_progress_is_stored_at_once():
    assert not coalesced(
        report(CONVERTING, "job-1"),
        report(PROGRESS, "job-1", percent=1),
        timedelta(0),
    )


def test_a_clock_that_was_set_back_does_not_mute_progress():
    first, second = (report(PROGRESS, "job-1", percent=percent) for percent in (1, 2))

    assert not coalesced(first, second, timedelta(hours=-1))


def test_each_stage_that_can_fall_silent_is_looked_into_and_no_end_is():
    silences = {
        Status.AWAITING_UPLOAD: timedelta(days=1),
        Status.UPLOADED: timedelta(hours=1),
        Status.CONVERTING: timedelta(hours=6),
    }

    looks = {
        status: lifecycle.look_at(file_state(status=status), silences)
        for status in Status
    }

    assert {
        Status.AWAITING_UPLOAD: NOW + timedelta(days=1),
        Status.UPLOADED: NOW + timedelta(hours=1),
        Status.CONVERTING: NOW + timedelta(hours=6),
        Status.PLAYABLE: None,
        Status.FAILED: None,
        Status.CANCELED: None,
        Status.EXPIRED: None,
    } == looks


def test_every_accepted_change_ends_a_silence():
    silences = {Status.CONVERTING: timedelta(hours=6)}
    story = told(report(CONVERTING, "job-1"))
    first = lifecycle.look_at(story.state, silences)

    story.tell(report(PROGRESS, "job-1", percent=1))

    assert first + SECOND == lifecycle.look_at(story.state, silences)
