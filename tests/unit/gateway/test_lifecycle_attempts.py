"""Jobs and attempts: which report is of which, and which one takes a file over."""

import pytest

from gateway import lifecycle
from gateway.model import Job, Report, ReportType, Status
from tests.unit.gateway.fakes import NOW
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
