"""Which changes are told, and in the shape of the samples."""

from datetime import UTC, datetime
from urllib.parse import unquote_plus

import pytest

from local.s3 import notifications
from local.s3.errors import S3Error


def change(key: str = "video/origin/1.mp4", name: str = "Put") -> notifications.Change:
    return notifications.Change(
        event_name=f"ObjectCreated:{name}",
        region="eu-west-1",
        bucket="media",
        key=key,
        size=5,
        etag="abc",
        sequencer="0055",
        at=datetime(2025, 11, 22, 1, 2, 3, 456_000, UTC),
        access_key="AKID",
        source_ip="127.0.0.1",
        request_id="R",
        host_id="H",
    )


def function(inner: str, arn: str = "arn:f") -> str:
    return (
        f"<CloudFunctionConfiguration><Id>i</Id><CloudFunction>{arn}</CloudFunction>"
        f"{inner}</CloudFunctionConfiguration>"
    )


def rule(name: str, value: str) -> str:
    inner = f"<FilterRule><Name>{name}</Name><Value>{value}</Value></FilterRule>"
    return f"<Filter><S3Key>{inner}</S3Key></Filter>"


def read(inner: str) -> notifications.Configuration:
    root = "NotificationConfiguration"
    return notifications.from_document(f"<{root}>{inner}</{root}>".encode())


ALL = "<Event>s3:ObjectCreated:*</Event>"


@pytest.mark.parametrize(
    ("inner", "told"),
    [
        (ALL, 1),
        ("<Event>s3:ObjectCreated:Put</Event>", 1),
        ("<Event>s3:ObjectCreated:Post</Event>", 0),
        (ALL + rule("prefix", "video/origin/"), 1),
        (ALL + rule("Prefix", "video/hls/"), 0),
        (ALL + rule("suffix", ".mp4"), 1),
        (ALL + rule("suffix", ".mov"), 0),
    ],
)
def test_filters_choose(inner, told):
    configuration = read(function(inner))

    assert told == len(list(notifications.events(configuration, change())))


def test_no_configuration_tells_nobody():
    assert [] == list(notifications.events(read(""), change()))


@pytest.mark.parametrize("key", ["a b+c%.mp4", "여름 (1)", "\u1112\u1161", "a/b~c*"])
def test_the_key_in_a_record_is_decoded_once(key):
    (event,) = notifications.events(read(function(ALL)), change(key))

    assert key == unquote_plus(event["Records"][0]["s3"]["object"]["key"])


def test_a_record_holds_what_the_samples_hold():
    (event,) = notifications.events(read(function(ALL)), change())

    assert {
        "Records": [
            {
                "eventVersion": "2.6",
                "eventSource": "aws:s3",
                "awsRegion": "eu-west-1",
                "eventTime": "2025-11-22T01:02:03.456Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": {"principalId": "AWS:AKID"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": "R", "x-amz-id-2": "H"},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "i",
                    "bucket": {
                        "name": "media",
                        "ownerIdentity": {"principalId": notifications.OWNER_ID},
                        "arn": "arn:aws:s3:::media",
                    },
                    "object": {
                        "key": "video/origin/1.mp4",
                        "size": 5,
                        "eTag": "abc",
                        "sequencer": "0055",
                    },
                },
            }
        ]
    } == event


def test_event_bridge_and_a_function_are_both_told():
    configuration = read(function(ALL) + "<EventBridgeConfiguration/>")

    record, event = notifications.events(configuration, change(name="Post"))

    assert "ObjectCreated:Post" == record["Records"][0]["eventName"]
    assert "POST Object" == event["detail"]["reason"]


def test_a_configuration_survives_writing_and_reading():
    before = read(
        function(ALL + rule("prefix", "a&amp;b"))
        + function(ALL + rule("prefix", "c"), arn="arn:g")
        + "<EventBridgeConfiguration/>"
    )

    assert before == notifications.from_document(notifications.to_document(before))


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        (function(""), "MalformedXML"),
        (function("<Event>s3:ObjectRemoved:*</Event>"), "NotImplemented"),
        (function("<Event>Created</Event>"), "InvalidArgument"),
        (function(ALL + rule("infix", "a")), "InvalidArgument"),
        (function(ALL) + function(ALL), "InvalidArgument"),
        ("<QueueConfiguration/>", "NotImplemented"),
        ("<TopicConfiguration/>", "NotImplemented"),
        ("<Other/>", "MalformedXML"),
    ],
)
def test_what_would_not_be_done_is_refused(inner, code):
    with pytest.raises(S3Error, match=code):
        read(inner)
