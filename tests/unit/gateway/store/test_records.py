from datetime import timedelta

import msgspec

from gateway.model import Job
from gateway.store.records import file_record
from tests.unit.gateway.fakes import NOW, file_state


def test_the_jobs_of_a_row_are_read_as_they_are_written_and_as_they_once_were():
    updated_at = NOW + timedelta(seconds=5)
    job = Job(attempt=2, occurred_at=NOW)
    jobs = msgspec.json.encode({"j-1": 1, "j-2": job})

    state = msgspec.json.encode(file_state(attempt=2, updated_at=updated_at))
    read = file_record(state, jobs, None)

    assert {"j-1": Job(attempt=1, occurred_at=updated_at), "j-2": job} == read.jobs
