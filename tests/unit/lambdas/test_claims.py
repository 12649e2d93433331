import json

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from lambdas.claims import Claims
from lambdas.errors import RetryLaterError
from tests.unit.lambdas.standins import BUCKET, FILE_ID

CLAIM = f"video/claims/{FILE_ID}.json"
ERROR = {"code": "job_refused", "message": "no", "retryable": False}


class Clock:
    def __init__(self):
        self.now_s = 1_700_000_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def claims(s3, clock):
    return Claims(s3, BUCKET, "video/claims/", 120, clock)


def take(claims, owner="one"):
    return claims.take(FILE_ID, owner=owner, sequencer="01")


def stored(s3):
    return json.loads(s3.get_object(Bucket=BUCKET, Key=CLAIM)["Body"].read())


def test_the_first_to_come_holds_the_claim(claims, s3):
    claim = take(claims)

    assert not claim.settled
    assert not claim.retaken
    assert "one" == stored(s3)["owner"]
    assert stored(s3)["job_id"] is None


def test_a_claim_with_a_job_tells_everybody_of_it(claims, s3):
    claims.settle(take(claims), job_id="job-1")

    claim = take(claims, "two")

    assert "job-1" == claim.job_id
    assert claim.settled
    assert "job-1" == stored(s3)["job_id"]


def test_a_claim_keeps_why_there_is_no_job(claims):
    claims.settle(take(claims), error=ERROR)

    claim = take(claims, "two")

    assert ERROR == claim.error
    assert claim.settled


def test_a_young_claim_without_outcome_is_left_to_its_holder(claims, clock, s3):
    take(claims)
    clock.now_s += 119

    with pytest.raises(RetryLaterError, match="120 s"):
        take(claims, "two")

    assert "one" == stored(s3)["owner"]


def test_an_old_claim_without_outcome_is_taken_over(claims, clock, s3):
    take(claims)
    clock.now_s += 120

    claim = take(claims, "two")

    assert claim.retaken
    assert "two" == stored(s3)["owner"]
    assert clock.now_s == stored(s3)["claimed_at_s"]


def test_the_retry_of_the_invocation_that_failed_need_not_wait(claims):
    take(claims, "one")

    claim = take(claims, "one")

    assert claim.retaken


def test_a_claim_from_the_future_does_not_hold_for_ever(claims, clock):
    take(claims)
    clock.now_s -= 10_000

    assert take(claims, "two").retaken


def test_who_lost_the_claim_cannot_settle_it(claims, clock, s3):
    slow = take(claims)
    clock.now_s += 121
    take(claims, "two")

    with pytest.raises(RetryLaterError):
        claims.settle(slow, job_id="job-of-the-slow-one")

    assert stored(s3)["job_id"] is None


def test_of_two_that_take_over_one_wins(claims, clock, s3):
    take(claims)
    clock.now_s += 121
    read = Claims._read

    class Late(Claims):
        """Reads, and is overtaken before it writes."""

        def _read(self, file_id):
            held = read(self, file_id)
            take(claims, "two")
            return held

    with pytest.raises(RetryLaterError):
        take(Late(s3, BUCKET, "video/claims/", 120, clock), "three")

    assert "two" == stored(s3)["owner"]


def test_a_claim_deleted_in_between_is_another_try(claims, s3):
    class Late(Claims):
        def _read(self, file_id):
            self.s3.delete_object(Bucket=BUCKET, Key=CLAIM)
            return Claims._read(self, file_id)

    take(claims)

    with pytest.raises(RetryLaterError):
        take(Late(s3, BUCKET, "video/claims/", 120), "two")


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"owner": 1}', b"\xff"])
def test_a_claim_nobody_can_read_is_taken_over(claims, s3, text):
    s3.put_object(Bucket=BUCKET, Key=CLAIM, Body=text)

    assert take(claims, "two").retaken


def refusing(code, status):
    client = boto3.client("s3")
    script = Stubber(client)
    script.add_client_error("put_object", code, http_status_code=status)
    script.activate()
    return Claims(client, BUCKET, "video/claims/", 120)


def test_two_writes_at_once_are_another_try():
    with pytest.raises(RetryLaterError):
        take(refusing("ConditionalRequestConflict", 409))


def test_a_missing_permission_is_what_it_is():
    with pytest.raises(ClientError, match="AccessDenied"):
        take(refusing("AccessDenied", 403))
