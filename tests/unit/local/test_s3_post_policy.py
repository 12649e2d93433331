"""A form against its policy: nothing added, nothing left out."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.s3 import sigv4
from local.s3.errors import S3Error
from local.s3.post_policy import Approval, approve

NOW = datetime(2025, 11, 22, tzinfo=UTC)
CREDENTIAL = "AKID/20251122/eu-west-1/s3/aws4_request"
SIGNED = {
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-credential": CREDENTIAL,
    "x-amz-date": "20251122T000000Z",
}


def form(conditions: Any, *, policy: bytes | None = None, **fields: str) -> Approval:
    """Sign a policy of these conditions and submit a form with these fields."""
    own = [{name: value} for name, value in SIGNED.items()]
    document = {"expiration": "2025-11-22T01:00:00.000Z", "conditions": conditions}
    if isinstance(conditions, list):
        document["conditions"] = own + conditions
    encoded = base64.b64encode(policy or json.dumps(document).encode()).decode()
    credential = sigv4.parse_credential(
        CREDENTIAL, SIGNED["x-amz-date"], region="eu-west-1", error="InvalidArgument"
    )
    signature = sigv4.sign(sigv4.signing_key("secret", credential), encoded)
    return approve(
        {**SIGNED, "policy": encoded, "x-amz-signature": signature, **fields},
        "media",
        access_keys={"AKID": "secret"},
        region="eu-west-1",
        now=NOW,
    )


def test_a_form_that_keeps_to_its_policy_is_approved():
    approval = form(
        [
            {"bucket": "media"},
            ["starts-with", "$key", "video/"],
            ["eq", "$tagging", "<Tagging/>"],
            ["content-length-range", 1, 10],
            ["content-length-range", "5", "20"],
        ],
        key="video/1",
        tagging="<Tagging/>",
    )

    assert Approval("AKID", min_bytes=5, max_bytes=10) == approval


def test_fields_to_ignore_need_no_condition():
    assert form([{"key": "k"}], key="k", **{"x-ignore-me": "1"})


@pytest.mark.parametrize(
    ("conditions", "fields"),
    [
        ([{"key": "k"}], {"key": "other"}),
        ([{"key": "k"}], {}),
        ([{"key": "k"}], {"key": "k", "acl": "private"}),
        ([{"key": "k"}], {"key": "k", "success_action_status": "201"}),
        ([["starts-with", "$key", "a/"]], {"key": "b/a/"}),
        ([{"key": "k"}, ["starts-with", "$content-type", ""]], {"key": "k"}),
        ([{"key": "k"}, {"bucket": "other"}], {"key": "k"}),
        ([{"Key": "K"}], {"key": "k"}),
    ],
)
def test_a_form_that_does_not_is_refused(conditions, fields):
    with pytest.raises(S3Error, match="AccessDenied"):
        form(conditions, **fields)


@pytest.mark.parametrize(
    "conditions",
    [
        "all",
        ["key"],
        [{"key": 1}],
        [["like", "$key", "k"]],
        [["eq", "key", "k"]],
        [["content-length-range", -1, 2]],
        [["content-length-range", "a", 2]],
        [["content-length-range", None, 2]],
    ],
)
def test_a_policy_that_is_none_is_refused(conditions):
    with pytest.raises(S3Error, match="InvalidPolicyDocument"):
        form(conditions, key="k")


@pytest.mark.parametrize(
    "policy",
    [
        b"{",
        b"[]",
        b"{}",
        b'{"expiration": 1, "conditions": []}',
        b'{"expiration": "soon", "conditions": []}',
    ],
)
def test_a_document_that_is_no_policy_is_refused(policy):
    with pytest.raises(S3Error, match="InvalidPolicyDocument"):
        form([], policy=policy)


@pytest.mark.parametrize(
    ("ago", "approved"), [(timedelta(seconds=1), False), (timedelta(seconds=-1), True)]
)
def test_a_policy_ends_when_it_says(ago, approved):
    end = (NOW - ago).isoformat()
    conditions = [{name: value} for name, value in SIGNED.items()] + [{"key": "k"}]
    policy = json.dumps({"expiration": end, "conditions": conditions}).encode()

    if approved:
        assert form([], policy=policy, key="k")
    else:
        with pytest.raises(S3Error, match="expired"):
            form([], policy=policy, key="k")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"x-amz-signature": "0"}, "SignatureDoesNotMatch"),
        ({"x-amz-credential": CREDENTIAL.replace("AKID", "X")}, "InvalidAccessKeyId"),
        ({"x-amz-credential": CREDENTIAL.replace("eu-", "us-")}, "InvalidArgument"),
        ({"x-amz-date": "20251121T000000Z"}, "InvalidArgument"),
        ({"x-amz-algorithm": "AWS4-HMAC-MD5"}, "InvalidArgument"),
        ({"x-amz-security-token": "t"}, "InvalidToken"),
    ],
)
def test_a_signature_that_is_not_one_is_refused(fields, code):
    with pytest.raises(S3Error, match=code):
        form([{"key": "k"}], key="k", **fields)
