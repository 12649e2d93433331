from datetime import timedelta

import pytest

from gateway import lifecycle
from gateway.model import FileError, Phase, Report, Status
from tests.unit.gateway.fakes import NOW, file_state, record
from tests.unit.gateway.reports import (
    CANCELED,
    COMPLETED,
    CONVERTING,
    ERROR,
    EXPIRED,
    FAILED,
    PLAYBACK,
    PROGRESS,
    SECOND,
    UPLOADED,
    report,
    told,
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
