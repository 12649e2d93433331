"""
The state machine of a file: `(record, report) -> record | None`, pure.

All rules about what may follow what are here, and nowhere else.

Reports come late, doubled and in any order (S3, EventBridge and Lambda deliver
at least once and promise no order), so the state is a maximum, not a walk: the
higher attempt wins; within an attempt a terminal status wins, then the later
status, the later phase, the higher percent.  A maximum does not care about
order, and nothing that is not higher changes anything.

    awaiting_upload -> uploaded -> converting -> playable
                                              -> failed | canceled | expired

Only a new attempt re-opens a file that ended without being playable.  A report
that names its job but no attempt is placed by when it occurred (`_attempt_of`).
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_never

from msgspec.structs import replace

from gateway.model import (
    FileError,
    FileRecord,
    FileState,
    Job,
    Phase,
    Report,
    ReportType,
    Seq,
    Status,
)

MIN_PROGRESS_INTERVAL = timedelta(seconds=1)
"""At most one stored progress event in this time per file."""

_PHASES = {None: 0, Phase.PROBING: 1, Phase.TRANSCODING: 2, Phase.UPLOADING: 3}

_STATUSES = {
    ReportType.UPLOADED: Status.UPLOADED,
    ReportType.CONVERTING: Status.CONVERTING,
    ReportType.PROGRESS: Status.CONVERTING,
    ReportType.COMPLETED: Status.PLAYABLE,
    ReportType.FAILED: Status.FAILED,
    ReportType.CANCELED: Status.CANCELED,
    ReportType.EXPIRED: Status.EXPIRED,
}

_DEFAULT_ERRORS = {
    ReportType.FAILED: FileError(
        code="conversion_failed", message="The video could not be converted."
    ),
    ReportType.CANCELED: FileError(
        code="canceled", message="The conversion was canceled.", retryable=True
    ),
    ReportType.EXPIRED: FileError(
        code="upload_never_came",
        message="The upload never arrived.",
        retryable=True,
    ),
}


def apply(record: FileRecord, report: Report, now: datetime) -> FileRecord | None:
    """
    Let one report act on a file.

    Args:
        now: When the change is accepted; becomes `FileState.updated_at`.

    Returns:
        The record with the next seq, or None when the report is stale: it
        says nothing that is not known already, or speaks of an attempt that
        is over.
    """
    state = record.state
    attempt = _attempt_of(record, report)
    if attempt < state.attempt:
        return None
    base = state
    if attempt > state.attempt:
        if state.status is Status.PLAYABLE:
            return None
        base = _reopened(state, attempt)
    elif state.status.terminal:
        return None

    advanced = _advance(base, report)
    if advanced == state:
        return None

    jobs = record.jobs
    if report.job_id is not None and report.job_id not in jobs:
        job = Job(attempt=attempt, occurred_at=report.occurred_at)
        jobs = {**jobs, report.job_id: job}
    return FileRecord(
        state=replace(advanced, seq=Seq(state.seq + 1), updated_at=now),
        jobs=jobs,
        progressed_at=(
            now if report.type is ReportType.PROGRESS else record.progressed_at
        ),
    )


def coalesces(
    before: FileRecord, report: Report, after: FileRecord, now: datetime
) -> bool:
    """Whether a change is mere progress too soon after the last stored one."""
    old, new = before.state, after.state
    return (
        report.type is ReportType.PROGRESS
        and before.progressed_at is not None
        # A clock that was set back must not mute progress until it is there again.
        and timedelta(0) <= now - before.progressed_at < MIN_PROGRESS_INTERVAL
        and (old.status, old.attempt) == (new.status, new.attempt)
    )


def repeats(record: FileRecord, report: Report) -> bool:
    """Whether a report that changes nothing says just what is so already."""
    state = record.state
    return (
        _attempt_of(record, report) == state.attempt
        and _STATUSES[report.type] is state.status
        and report.phase in {None, state.phase}
        and report.percent in {None, state.percent}
    )


def look_at(state: FileState, silences: Mapping[Status, timedelta]) -> datetime | None:
    """When silence about a file in this state is looked into; None: never."""
    silence = silences.get(state.status)
    return None if silence is None else state.updated_at + silence


def _attempt_of(record: FileRecord, report: Report) -> int:
    """
    Which attempt a report speaks of; 0 for a job that is over.

    Our own Lambdas always say.  Without a word, a known job tells, and a job
    never heard of is placed by its time: all reports of a later job occurred
    after all those of an earlier one.  What completes a file that has not ended
    is welcome from any job: all write to the same place.
    """
    if report.attempt is not None:
        return report.attempt
    state = record.state
    completes = report.type is ReportType.COMPLETED and not state.status.terminal
    if report.job_id is None or completes:
        return state.attempt
    if report.job_id in record.jobs:
        return record.jobs[report.job_id].attempt
    current = [
        (job.occurred_at, job_id)
        for job_id, job in record.jobs.items()
        if job.attempt == state.attempt
    ]
    if not current:
        return state.attempt
    later = (report.occurred_at, report.job_id) > max(current)
    return state.attempt + 1 if later else 0


def _reopened(state: FileState, attempt: int) -> FileState:
    return replace(
        state,
        status=Status.UPLOADED,
        attempt=attempt,
        phase=None,
        percent=None,
        error=None,
    )


def _advance(state: FileState, report: Report) -> FileState:
    """Raise a file that has not ended to at least what the report says."""
    match report.type:
        case ReportType.UPLOADED:
            if state.status is Status.AWAITING_UPLOAD:
                return replace(state, status=Status.UPLOADED)
            return state
        case ReportType.CONVERTING | ReportType.PROGRESS:
            return replace(
                state,
                status=Status.CONVERTING,
                phase=max(state.phase, report.phase, key=_PHASES.__getitem__),
                percent=_higher(state.percent, report.percent),
            )
        case ReportType.COMPLETED:
            return replace(
                state,
                status=Status.PLAYABLE,
                phase=None,
                percent=100,
                playback=report.playback,
            )
        case ReportType.FAILED | ReportType.CANCELED | ReportType.EXPIRED:
            return replace(
                state,
                status=_STATUSES[report.type],
                phase=None,
                percent=None,
                error=report.error or _DEFAULT_ERRORS[report.type],
            )
    assert_never(report.type)


def _higher(old: int | None, new: int | None) -> int | None:
    if old is None or new is None:
        return new if old is None else old
    return max(old, new)
