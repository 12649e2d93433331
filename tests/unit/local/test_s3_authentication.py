"""The signatures of AWS's own examples, and what makes one not ours."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from local.s3.authentication import verify
from local.s3.errors import S3Error
from local.s3.sigv4 import EMPTY_SHA256, RequestHead, Signature

# Amazon S3 API Reference, "Authenticating Requests": the documented examples.
KEYS = {"AKIAIOSFODNN7EXAMPLE": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
NOW = datetime(2013, 5, 24, tzinfo=UTC)
HOST = ("host", "examplebucket.s3.amazonaws.com")
DATE = ("x-amz-date", "20130524T000000Z")
CREDENTIAL = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"


def authorization(signed_headers: str, signature: str) -> tuple[str, str]:
    return (
        "authorization",
        (
            f"AWS4-HMAC-SHA256 Credential={CREDENTIAL},SignedHeaders={signed_headers},"
            f"Signature={signature}"
        ),
    )


GET_RANGE = RequestHead(
    "GET",
    "/test.txt",
    "",
    [
        HOST,
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY_SHA256),
        DATE,
        authorization(
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
    ],
)
PUT_DOLLAR = RequestHead(
    "PUT",
    "/test$file.text",
    "",
    [
        HOST,
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        DATE,
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        (
            "x-amz-content-sha256",
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        ),
        authorization(
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
    ],
)
LIST = RequestHead(
    "GET",
    "/",
    "max-keys=2&prefix=J",
    [
        HOST,
        ("x-amz-content-sha256", EMPTY_SHA256),
        DATE,
        authorization(
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
PRESIGNED = RequestHead(
    "GET",
    "/test.txt",
    "X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
    "&X-Amz-Signature="
    "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    [HOST],
)


def check(head: RequestHead, now: datetime = NOW) -> Signature | None:
    return verify(head, access_keys=KEYS, region="us-east-1", now=now)


def refusal(head: RequestHead, now: datetime = NOW) -> str:
    with pytest.raises(S3Error) as caught:
        check(head, now)
    return caught.value.code


@pytest.mark.parametrize("head", [GET_RANGE, PUT_DOLLAR, LIST, PRESIGNED])
def test_the_documented_examples_are_believed(head):
    signature = check(head)

    assert signature is not None
    assert "AKIAIOSFODNN7EXAMPLE" == signature.access_key


def test_a_request_without_a_signature_is_anonymous():
    assert check(replace(GET_RANGE, headers=[HOST])) is None


@pytest.mark.parametrize("head", [GET_RANGE, LIST, PRESIGNED])
@pytest.mark.parametrize("change", ["method", "raw_path"])
def test_another_request_has_another_signature(head, change):
    other = {"method": "HEAD", "raw_path": "/other"}[change]

    assert "SignatureDoesNotMatch" == refusal(replace(head, **{change: other}))


def test_queries_are_signed_in_any_order_but_not_in_part():
    turned = replace(LIST, raw_query="prefix=J&max-keys=2")
    longer = replace(LIST, raw_query="max-keys=2&prefix=J&delimiter=%2F")

    assert check(turned) is not None
    assert "SignatureDoesNotMatch" == refusal(longer)


def test_a_header_twice_is_not_the_one_that_was_signed():
    headers = [*GET_RANGE.headers, ("range", "bytes=0-9")]

    assert "SignatureDoesNotMatch" == refusal(replace(GET_RANGE, headers=headers))


def test_spaces_around_and_in_values_are_not_signed():
    headers = [
        (name, f"  {value} " if name == "range" else value)
        for name, value in GET_RANGE.headers
    ]

    assert check(replace(GET_RANGE, headers=headers)) is not None


def test_a_url_lives_exactly_as_long_as_it_says():
    end = NOW + timedelta(days=1)

    assert check(PRESIGNED, end) is not None
    assert "AccessDenied" == refusal(PRESIGNED, end + timedelta(seconds=1))
    assert check(PRESIGNED, NOW - timedelta(minutes=15)) is not None
    assert "AccessDenied" == refusal(PRESIGNED, NOW - timedelta(minutes=16))


def test_a_parameter_twice_is_refused():
    twice = replace(PRESIGNED, raw_query=f"{PRESIGNED.raw_query}&X-Amz-Expires=1")

    assert "AuthorizationQueryParametersError" == refusal(twice)


def test_a_header_signature_needs_the_hash_of_its_payload():
    headers = [one for one in LIST.headers if one[0] != "x-amz-content-sha256"]

    assert "InvalidRequest" == refusal(replace(LIST, headers=headers))


def test_the_host_has_to_be_signed():
    query = PRESIGNED.raw_query.replace("SignedHeaders=host", "SignedHeaders=range")

    assert "AccessDenied" == refusal(replace(PRESIGNED, raw_query=query))


@pytest.mark.parametrize("token", ["x-amz-security-token"])
def test_a_session_token_belongs_to_no_key_here(token):
    headers = [*GET_RANGE.headers, (token, "session")]

    assert "InvalidToken" == refusal(replace(GET_RANGE, headers=headers))


def test_a_path_may_lose_escapes_on_its_way():
    """``$`` was signed as ``%24``; libraries write it either way."""
    escaped = replace(PUT_DOLLAR, raw_path="/test%24file.text")

    assert check(escaped) is not None
