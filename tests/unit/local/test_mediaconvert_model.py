"""JSON compared with botocore's description of the API."""

from typing import Any

import pytest

from local.mediaconvert_model import answer_problems, request_problems
from tests.jobs import request


def test_a_good_request_has_no_problems() -> None:
    """The job the other tests use."""
    assert [] == request_problems("CreateJob", request())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"role": None}, "/role: must be of type string"),
        ({"rolle": "x"}, "/rolle: is not a member of CreateJobRequest"),
        ({"settings": []}, "/settings: must be an object"),
        ({"priority": 51}, "/priority: is outside its limits"),
        ({"priority": True}, "/priority: must be of type integer"),
        ({"userMetadata": {"file_id": 7}}, "/userMetadata/file_id: must be of type"),
        ({"userMetadata": "x"}, "/userMetadata: must be an object"),
        ({"hopDestinations": {}}, "/hopDestinations: must be an array"),
        ({"hopDestinations": [{"x": 1}]}, "/hopDestinations/0/x: is not a member"),
        ({"statusUpdateInterval": "SECONDS_5"}, "/statusUpdateInterval: must be one"),
    ],
)
def test_every_kind_of_mistake_is_found(change: dict[str, Any], problem: str) -> None:
    """With the way to it."""
    found = request_problems("CreateJob", request() | change)

    assert 1 == len(found)
    assert found[0].startswith(problem)


def test_a_missing_member_is_named() -> None:
    """As the wire spells it."""
    body = request()
    del body["role"]

    assert ["/role: is required"] == request_problems("CreateJob", body)


@pytest.mark.parametrize("body", [None, [], "x", 7])
def test_a_body_must_be_an_object(body: Any) -> None:
    """Whatever else JSON allows."""
    assert ["/: must be an object"] == request_problems("CreateJob", body)


def test_an_answer_is_compared_too() -> None:
    """``Job`` has no such member."""
    assert ["/job/jobId: is not a member of Job"] == answer_problems(
        "GetJob", {"job": {"role": "r", "settings": {}, "jobId": "1"}}
    )
