"""Rows of files as the state machine sees them."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from gateway.model import FileRecord, FileState, Job

HEARD_AT = """
reelready_time(substring(state::text from '.*"updated_at": ?"([^"]+)"'))
"""
"""
When a file last changed, in SQL; null if that cannot be read.  As text: Postgres
reads no field at all of JSON with a U+0000 anywhere in it.  It is the last one of
that name, whatever is in `metadata`.
"""

_STATE = msgspec.json.Decoder(FileState)
_JOBS = msgspec.json.Decoder(dict[str, Job | int])


def file_record(
    state: bytes, jobs: bytes, progressed_at: datetime | None
) -> FileRecord:
    """Decode what `files` holds of one file."""
    decoded = _STATE.decode(state)
    return FileRecord(
        state=decoded, jobs=_jobs(jobs, decoded), progressed_at=progressed_at
    )


def _jobs(stored: bytes, state: FileState) -> Mapping[str, Job]:
    return {job_id: _job(job, state) for job_id, job in _JOBS.decode(stored).items()}


def _job(stored: Job | int, state: FileState) -> Job:
    """Rows of older releases hold the attempt alone; the file's time is near."""
    if isinstance(stored, int):
        return Job(attempt=stored, occurred_at=state.updated_at)
    return stored
