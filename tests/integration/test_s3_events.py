"""
What the S3 stand-in announces, when, and to whom.

On the stand-in alone: moto sends events of version 2.1 without a sequencer.
"""

import hashlib
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import s3_server
from tests.integration.s3_bucket import KEY, served_bucket, set_up
from tests.s3_server import REGION, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served_bucket(tmp_path / "s3") as running:
        yield running


def test_a_record_has_the_shape_of_the_samples(server):
    server.client().put_object(
        Bucket="media", Key="video/origin/여름 (1)+a.mp4", Body=b"video"
    )

    (event,) = server.events.first(1)

    (record,) = event["Records"]
    assert "2.6" == record["eventVersion"]
    assert REGION == record["awsRegion"]
    assert "127.0.0.1" == record["requestParameters"]["sourceIPAddress"]
    assert "origin-uploads" == record["s3"]["configurationId"]
    assert "arn:aws:s3:::media" == record["s3"]["bucket"]["arn"]
    stored = record["s3"]["object"]
    assert (
        "video/origin/%EC%97%AC%EB%A6%84+%281%29%2Ba.mp4",
        5,
        hashlib.md5(b"video").hexdigest(),
    ) == (stored["key"], stored["size"], stored["eTag"])
    assert "여름 (1)+a.mp4" in urllib.parse.unquote_plus(stored["key"])
    at = datetime.fromisoformat(record["eventTime"])
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=1)


def test_each_way_to_make_an_object_has_its_name_and_sequencers_grow(server):
    client = server.client()
    client.put_object(Bucket="media", Key="elsewhere", Body=b"x")
    client.put_object(Bucket="media", Key="video/origin/a", Body=b"x")
    source = {"Bucket": "media", "Key": "elsewhere"}
    client.copy_object(Bucket="media", Key="video/origin/b", CopySource=source)
    names = {"Bucket": "media", "Key": "video/origin/c"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    etag = client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    client.complete_multipart_upload(
        **names,
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
    )

    assert [
        ("ObjectCreated:Put", "video/origin/a"),
        ("ObjectCreated:Copy", "video/origin/b"),
        ("ObjectCreated:CompleteMultipartUpload", "video/origin/c"),
    ] == server.events.names_and_keys(3)
    records = [event["Records"][0] for event in server.events.first(3)]
    sequencers = [record["s3"]["object"]["sequencer"] for record in records]
    assert sorted(set(sequencers)) == sequencers


def test_an_object_is_there_with_its_tags_when_its_event_comes(tmp_path):
    """moto announces an object before it has tags."""
    seen: list[Any] = []
    looked = threading.Event()

    def look(event: dict[str, Any]) -> None:
        threading.Thread(target=read_back, args=(event,)).start()

    def read_back(event: dict[str, Any]) -> None:
        key = event["Records"][0]["s3"]["object"]["key"]
        seen.append(client.get_object_tagging(Bucket="media", Key=key)["TagSet"])
        looked.set()

    with s3_server.serve(tmp_path, on_event=look) as server:
        client = server.client()
        set_up(server)
        client.put_object(Bucket="media", Key=KEY, Body=b"x", Tagging="file_id=1")
        assert looked.wait(s3_server.WAIT_S)

    assert [[{"Key": "file_id", "Value": "1"}]] == seen


def test_a_receiver_that_fails_does_not_fail_the_upload(tmp_path):
    def fail(_: dict[str, Any]) -> None:
        raise RuntimeError("no router")

    with s3_server.serve(tmp_path, on_event=fail) as server:
        set_up(server)
        client = server.client()
        for _ in range(2):
            put = client.put_object(Bucket="media", Key=KEY, Body=b"x")
            assert 200 == put["ResponseMetadata"]["HTTPStatusCode"]


def test_a_receiver_that_hangs_does_not_hold_the_response(tmp_path):
    answered = threading.Event()
    in_time: list[bool] = []

    def hang(_: dict[str, Any]) -> None:
        in_time.append(answered.wait(s3_server.WAIT_S / 2))

    with s3_server.serve(tmp_path, on_event=hang) as server:
        set_up(server)
        server.client().put_object(Bucket="media", Key=KEY, Body=b"x")
        answered.set()

    assert [True] == in_time


def test_event_bridge_gets_its_own_shape_with_the_key_as_it_is(server):
    client = server.client()
    client.put_bucket_notification_configuration(
        Bucket="media", NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    client.put_object(Bucket="media", Key="a+b 한.mp4", Body=b"x")

    (event,) = server.events.first(1)

    assert ("aws.s3", "Object Created") == (event["source"], event["detail-type"])
    assert "a+b 한.mp4" == event["detail"]["object"]["key"]
    assert "PutObject" == event["detail"]["reason"]
