"""
Writers at the same time, uploads in parts, and restarts of the S3 stand-in.

On the stand-in alone: moto answers 500 to a part of an aborted upload and takes
parts in any order.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests import s3_server
from tests.integration.s3_bucket import KEY, served_bucket, set_up
from tests.s3_server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served_bucket(tmp_path / "s3") as running:
        yield running


def test_of_many_writers_of_a_new_key_one_wins(server):
    barrier = threading.Barrier(8)
    refusals: list[str] = []

    client = server.client()

    def write(number: int) -> int | None:
        barrier.wait(s3_server.WAIT_S)
        try:
            client.put_object(
                Bucket="media", Key=KEY, Body=b"%d" % number, IfNoneMatch="*"
            )
        except ClientError as refusal:
            refusals.append(refusal.response["Error"]["Code"])
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [one for one in pool.map(write, range(8)) if one is not None]

    assert 1 == len(winners)
    assert ["PreconditionFailed"] * 7 == refusals
    body = server.client().get_object(Bucket="media", Key=KEY)["Body"].read()
    assert b"%d" % winners[0] == body
    assert [("ObjectCreated:Put", KEY)] == server.events.names_and_keys(1)


def test_if_match_replaces_only_what_was_seen(server):
    client = server.client()
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.put_object(Bucket="media", Key="k", Body=b"x", IfMatch='"a"')
    etag = client.put_object(Bucket="media", Key="k", Body=b"one")["ETag"]
    client.put_object(Bucket="media", Key="k", Body=b"two", IfMatch=etag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket="media", Key="k", Body=b"three", IfMatch=etag)

    assert b"two" == client.get_object(Bucket="media", Key="k")["Body"].read()


def test_both_conditions_at_once_are_none(server):
    both = {"IfMatch": '"a"', "IfNoneMatch": "*"}
    with pytest.raises(ClientError, match="NotImplemented"):
        server.client().put_object(Bucket="media", Key="k", Body=b"x", **both)


def test_a_multipart_upload_obeys_conditions_and_can_be_completed_after(server):
    client = server.client()
    names = {"Bucket": "media", "Key": "k"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    etag = client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    client.put_object(**names, Body=b"first")
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    complete = {**names, "UploadId": upload, "MultipartUpload": parts}

    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.complete_multipart_upload(**complete, IfNoneMatch="*")
    client.complete_multipart_upload(**complete)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        client.complete_multipart_upload(**complete)

    assert b"x" == client.get_object(**names)["Body"].read()


def test_parts_are_in_order_and_of_a_living_upload(server):
    client = server.client()
    names = {"Bucket": "media", "Key": "k"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                **names, UploadId=upload, PartNumber=number, Body=b"x"
            )["ETag"],
        }
        for number in (1, 2)
    ]

    with pytest.raises(ClientError, match="InvalidPartOrder"):
        client.complete_multipart_upload(
            **names, UploadId=upload, MultipartUpload={"Parts": parts[::-1]}
        )
    with pytest.raises(ClientError, match="InvalidArgument"):
        client.upload_part(**names, UploadId=upload, PartNumber=10_001, Body=b"x")
    client.abort_multipart_upload(**names, UploadId=upload)
    with pytest.raises(ClientError, match="NoSuchUpload"):
        client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x")

    assert [] == [name for name in server.files() if not name.endswith("bucket.json")]


def test_everything_is_there_after_a_restart(tmp_path):
    keys = ["한 +%2F.mp4", "\u1112\u1161\u11ab", "../up", "/lead", "a\nb"]
    parts = {"Bucket": "media", "Key": "parts"}
    with s3_server.serve(tmp_path) as server:
        set_up(server)
        client = server.client()
        for key in keys:
            client.put_object(
                Bucket="media",
                Key=key,
                Body=key.encode(),
                Tagging="a=1",
                Metadata={"m": "1"},
            )
        client.put_object(Bucket="media", Key="video/origin/1", Body=b"x")
        first = server.events.first(1)[0]
        upload = client.create_multipart_upload(**parts)["UploadId"]
        etag = client.upload_part(**parts, UploadId=upload, PartNumber=1, Body=b"x")[
            "ETag"
        ]
    (tmp_path / "media/incoming/left.tmp").write_bytes(b"by a killed process")
    (tmp_path / "media/objects/left.data").write_bytes(b"by a killed process")

    with s3_server.serve(tmp_path) as server:
        client = server.client()
        for key in keys:
            got = client.get_object(Bucket="media", Key=key)
            assert (key.encode(), {"m": "1"}) == (got["Body"].read(), got["Metadata"])
            tags = client.get_object_tagging(Bucket="media", Key=key)["TagSet"]
            assert [{"Key": "a", "Value": "1"}] == tags
        client.complete_multipart_upload(
            **parts,
            UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]},
        )
        client.put_object(Bucket="media", Key="video/origin/1", Body=b"x")
        second = server.events.first(1)[0]

        assert 2 == len(client.get_bucket_cors(Bucket="media")["CORSRules"])
        assert not [name for name in server.files() if "left" in name]
    one, two = (event["Records"][0]["s3"]["object"] for event in (first, second))
    assert one["sequencer"] < two["sequencer"]
