import pytest

from lambdas.errors import UnknownEventError
from lambdas.job_events import job_event
from tests.unit.lambdas.standins import FILE_ID, JOB_ID, vector


def event(**detail):
    event = vector("mediaconvert-01-progressing")
    event["detail"].update(detail)
    return event


def test_the_envelope_is_read_from_the_detail():
    job = job_event(vector("mediaconvert-03-status-update-transcoding"))

    assert FILE_ID == job.file_id
    assert JOB_ID == job.job_id
    assert 1 == job.attempt
    assert "STATUS_UPDATE" == job.status
    assert "2025-11-22T00:00:20.310Z" == job.occurred_at
    assert "eb-6f1d2c30-0000-4000-8000-000000000003" == job.cause


@pytest.mark.parametrize("resources", [None, [], ["arn:aws:mediaconvert::jobs/x"]])
def test_the_resources_are_never_read(resources):
    odd = {**event(), "resources": resources}

    assert JOB_ID == job_event(odd).job_id


def test_unknown_fields_do_not_matter():
    odd = {**event(novelty=1), "novelty": [], "version": "1"}

    assert job_event(odd) is not None


@pytest.mark.parametrize(
    "metadata",
    [None, {}, [], {"file_id": 7}, {"file_id": ""}, {"file_id": "../x"}],
)
def test_a_job_of_another_application_is_not_ours(metadata):
    assert job_event(event(userMetadata=metadata)) is None


@pytest.mark.parametrize("timestamp", [None, "soon", True])
def test_without_a_timestamp_the_time_of_the_envelope_counts(timestamp):
    assert (
        "2025-11-22T00:00:04.000Z" == job_event(event(timestamp=timestamp)).occurred_at
    )


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {},
        {**event(), "source": "aws.s3"},
        {**event(), "detail": None},
        {**event(), "id": None},
        {**event(), "id": "a b"},
        {**event(), "id": "\ud800"},
        {**event(), "id": "a\r\nX: y"},
        {**event(), "id": "a" * 101},
        event(jobId=""),
        event(status=7),
        event(timestamp=10**30),
        {**event(timestamp=None), "time": None},
        {**event(timestamp=None), "time": "soon"},
        {**event(timestamp=None), "time": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_what_is_no_such_event_is_a_clear_error(odd):
    with pytest.raises(UnknownEventError):
        job_event(odd)
