"""
One suite, real boto3: the S3 stand-in and moto have to give the same answers.

What moto 5.2 gets wrong is tested on the stand-in alone, where each test says
what it is: it refuses no signature, no expiry and no unsigned header
(``test_s3_signatures.py``), no form, and drops the tags of form uploads
(``test_s3_forms.py``), answers 500 to a part of an aborted upload and to a
notification for a function it does not run, and accepts parts in any order
(``test_s3_writers.py``).
"""

import hashlib
import io
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from tests import s3_server

MIB = 1 << 20


@pytest.fixture(scope="module", params=["stand-in", "moto"])
def s3(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Any]:
    """A boto3 client of one of the two."""
    if request.param == "stand-in":
        root: Path = tmp_path_factory.mktemp("s3")
        with s3_server.serve(root) as server:
            yield server.client()
        return
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        yield s3_server.client(f"http://{host}:{port}")
    finally:
        moto.stop()


@pytest.fixture
def bucket(s3: Any) -> str:
    """A new bucket."""
    name = f"test-{uuid.uuid4()}"
    s3.create_bucket(
        Bucket=name,
        CreateBucketConfiguration={"LocationConstraint": s3_server.REGION},
    )
    return name


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    """Return status and code of the refusal the call has to end in."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_what_was_put_is_what_one_gets(s3, bucket):
    put = s3.put_object(
        Bucket=bucket,
        Key="a/b.mp4",
        Body=b"video",
        ContentType="video/mp4",
        CacheControl="max-age=60",
        ContentDisposition="inline",
        Metadata={"owner": "u-17"},
    )
    got = s3.get_object(Bucket=bucket, Key="a/b.mp4")

    assert f'"{hashlib.md5(b"video").hexdigest()}"' == put["ETag"]
    assert b"video" == got["Body"].read()
    assert put["ETag"] == got["ETag"]
    assert "video/mp4" == got["ContentType"]
    assert "max-age=60" == got["CacheControl"]
    assert "inline" == got["ContentDisposition"]
    assert {"owner": "u-17"} == got["Metadata"]


def test_an_object_without_a_type_is_bytes(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    head = s3.head_object(Bucket=bucket, Key="k")

    assert "binary/octet-stream" == head["ContentType"]


def test_head_tells_size_and_etag(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"12345")["ETag"]

    head = s3.head_object(Bucket=bucket, Key="k")

    assert 5 == head["ContentLength"]
    assert etag == head["ETag"]


def test_an_empty_object_is_an_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")

    assert b"" == s3.get_object(Bucket=bucket, Key="empty")["Body"].read()


def test_a_later_put_replaces_the_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"one")
    s3.put_object(Bucket=bucket, Key="k", Body=b"two")

    assert b"two" == s3.get_object(Bucket=bucket, Key="k")["Body"].read()


@pytest.mark.parametrize(
    ("asked", "body", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-100", b"89", "bytes 8-9/10"),
    ],
)
def test_a_range_is_part_of_the_object(s3, bucket, asked, body, content_range):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    got = s3.get_object(Bucket=bucket, Key="k", Range=asked)

    assert 206 == got["ResponseMetadata"]["HTTPStatusCode"]
    assert body == got["Body"].read()
    assert content_range == got["ContentRange"]


def test_a_range_behind_the_end_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    outcome = refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=10-")

    assert (416, "InvalidRange") == outcome


def test_an_etag_that_is_known_gets_304(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]

    outcome = refused(s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag)

    assert (304, "304") == outcome


def test_an_etag_that_is_wanted_and_gone_gets_412(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    outcome = refused(s3.get_object, Bucket=bucket, Key="k", IfMatch='"other"')

    assert (412, "PreconditionFailed") == outcome


def test_no_such_key(s3, bucket):
    assert (404, "NoSuchKey") == refused(s3.get_object, Bucket=bucket, Key="none")
    assert (404, "404") == refused(s3.head_object, Bucket=bucket, Key="none")
    assert (404, "NoSuchKey") == refused(
        s3.get_object_tagging, Bucket=bucket, Key="none"
    )


def test_no_such_bucket(s3):
    nowhere = f"test-{uuid.uuid4()}"

    assert (404, "NoSuchBucket") == refused(s3.get_object, Bucket=nowhere, Key="k")
    assert (404, "NoSuchBucket") == refused(
        s3.put_object, Bucket=nowhere, Key="k", Body=b"x"
    )
    assert (404, "NoSuchBucket") == refused(s3.list_objects_v2, Bucket=nowhere)
    assert (404, "404") == refused(s3.head_bucket, Bucket=nowhere)


def test_delete_is_done_once_and_said_twice(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")

    statuses = [
        s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"]
        for _ in range(2)
    ]

    assert [204, 204] == statuses
    assert (404, "NoSuchKey") == refused(s3.get_object, Bucket=bucket, Key="k")


def test_buckets_are_listed_and_made_once(s3, bucket):
    names = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    outcome = refused(
        s3.create_bucket,
        Bucket=bucket,
        CreateBucketConfiguration={"LocationConstraint": s3_server.REGION},
    )

    assert bucket in names
    assert (409, "BucketAlreadyOwnedByYou") == outcome
    assert s3.head_bucket(Bucket=bucket)
    assert (
        s3_server.REGION == s3.get_bucket_location(Bucket=bucket)["LocationConstraint"]
    )


def test_listing_groups_by_the_delimiter(s3, bucket):
    for key in ("a/1", "a/2", "b/1", "top"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")

    top = s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    inner = s3.list_objects_v2(Bucket=bucket, Prefix="a/", Delimiter="/")

    assert ["top"] == [one["Key"] for one in top["Contents"]]
    assert ["a/", "b/"] == [one["Prefix"] for one in top["CommonPrefixes"]]
    assert ["a/1", "a/2"] == [one["Key"] for one in inner["Contents"]]
    assert 3 == top["KeyCount"]


def test_listing_goes_on_from_its_token(s3, bucket):
    keys = [f"k{number}" for number in range(5)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")

    paginator = s3.get_paginator("list_objects_v2")
    pages = list(paginator.paginate(Bucket=bucket, PaginationConfig={"PageSize": 2}))

    assert [2, 2, 1] == [page["KeyCount"] for page in pages]
    assert keys == [one["Key"] for page in pages for one in page["Contents"]]
    assert [True, True, False] == [page["IsTruncated"] for page in pages]


def test_listing_starts_after_a_key(s3, bucket):
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")

    rows = s3.list_objects_v2(Bucket=bucket, StartAfter="a")["Contents"]

    assert ["b", "c"] == [row["Key"] for row in rows]


@pytest.mark.parametrize(
    "key",
    [
        "여름 휴가 (1)+final.mp4",
        "\u110b\u1167\u1105\u1173\u11b7.mp4",
        "a+b %2F c&d=e?f#g;h",
        "a'(b)*!~$,:@",
        "emoji \U0001f600",
    ],
)
def test_any_key_is_kept_as_it_is(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())

    assert key.encode() == s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [key] == [row["Key"] for row in listed]


def test_tags_come_with_the_object_and_change_without_it(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="file_id=1&a=b%20c")
    first = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    s3.put_object_tagging(
        Bucket=bucket,
        Key="k",
        Tagging={"TagSet": [{"Key": "file_id", "Value": "2"}]},
    )
    second = s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    s3.delete_object_tagging(Bucket=bucket, Key="k")

    assert {"file_id": "1", "a": "b c"} == {one["Key"]: one["Value"] for one in first}
    assert [{"Key": "file_id", "Value": "2"}] == second
    assert [] == s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]


def test_if_none_match_keeps_what_is_there(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"one", IfNoneMatch="*")

    outcome = refused(
        s3.put_object, Bucket=bucket, Key="k", Body=b"two", IfNoneMatch="*"
    )

    assert (412, "PreconditionFailed") == outcome
    assert b"one" == s3.get_object(Bucket=bucket, Key="k")["Body"].read()


def test_a_copy_has_its_own_metadata_when_asked(s3, bucket):
    s3.put_object(
        Bucket=bucket,
        Key="from +한",
        Body=b"x",
        ContentType="video/mp4",
        Metadata={"a": "1"},
        Tagging="t=1",
    )
    source = {"Bucket": bucket, "Key": "from +한"}

    same = s3.copy_object(Bucket=bucket, Key="same", CopySource=source)
    s3.copy_object(
        Bucket=bucket,
        Key="other",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/plain",
    )

    assert f'"{hashlib.md5(b"x").hexdigest()}"' == same["CopyObjectResult"]["ETag"]
    head = s3.head_object(Bucket=bucket, Key="same")
    assert ("video/mp4", {"a": "1"}) == (head["ContentType"], head["Metadata"])
    tags = s3.get_object_tagging(Bucket=bucket, Key="same")["TagSet"]
    assert [{"Key": "t", "Value": "1"}] == tags
    head = s3.head_object(Bucket=bucket, Key="other")
    assert ("text/plain", {}) == (head["ContentType"], head["Metadata"])


def test_a_copy_of_nothing_is_refused(s3, bucket):
    source = {"Bucket": bucket, "Key": "none"}

    outcome = refused(s3.copy_object, Bucket=bucket, Key="k", CopySource=source)

    assert (404, "NoSuchKey") == outcome


def start_upload(s3: Any, bucket: str, key: str, sizes: list[int]) -> tuple[str, list]:
    upload_id = s3.create_multipart_upload(
        Bucket=bucket, Key=key, Tagging="file_id=1", ContentType="video/mp4"
    )["UploadId"]
    parts = []
    for number, size in enumerate(sizes, start=1):
        etag = s3.upload_part(
            Bucket=bucket,
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            Body=bytes([number]) * size,
        )["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    return upload_id, parts


def test_parts_become_one_object(s3, bucket):
    upload_id, parts = start_upload(s3, bucket, "big", [5 * MIB, 3])
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket=bucket, Key="big")

    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="big", UploadId=upload_id, MultipartUpload={"Parts": parts}
    )

    digests = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    assert f'"{hashlib.md5(digests).hexdigest()}-2"' == done["ETag"]
    head = s3.head_object(Bucket=bucket, Key="big")
    assert (5 * MIB + 3, "video/mp4") == (head["ContentLength"], head["ContentType"])
    tail = s3.get_object(Bucket=bucket, Key="big", Range="bytes=-4")["Body"].read()
    assert b"\x01\x02\x02\x02" == tail
    tags = s3.get_object_tagging(Bucket=bucket, Key="big")["TagSet"]
    assert [{"Key": "file_id", "Value": "1"}] == tags


def test_parts_can_be_listed(s3, bucket):
    upload_id, parts = start_upload(s3, bucket, "big", [3, 2])

    listed = s3.list_parts(Bucket=bucket, Key="big", UploadId=upload_id)["Parts"]

    assert [part["ETag"] for part in parts] == [one["ETag"] for one in listed]
    assert [3, 2] == [one["Size"] for one in listed]


def test_small_parts_are_refused_but_for_the_last(s3, bucket):
    upload_id, parts = start_upload(s3, bucket, "big", [3, 2])

    outcome = refused(
        s3.complete_multipart_upload,
        Bucket=bucket,
        Key="big",
        UploadId=upload_id,
        MultipartUpload={"Parts": parts},
    )

    assert (400, "EntityTooSmall") == outcome


def test_parts_have_to_be_those_uploaded(s3, bucket):
    upload_id, parts = start_upload(s3, bucket, "big", [5 * MIB, 2])
    wrong = [parts[0], {"PartNumber": 2, "ETag": '"0123"'}]

    outcome = refused(
        s3.complete_multipart_upload,
        Bucket=bucket,
        Key="big",
        UploadId=upload_id,
        MultipartUpload={"Parts": wrong},
    )

    assert (400, "InvalidPart") == outcome


def test_an_aborted_upload_is_gone(s3, bucket):
    upload_id, _ = start_upload(s3, bucket, "big", [3])
    s3.abort_multipart_upload(Bucket=bucket, Key="big", UploadId=upload_id)

    outcome = refused(s3.list_parts, Bucket=bucket, Key="big", UploadId=upload_id)

    assert (404, "NoSuchUpload") == outcome


def test_the_transfer_manager_moves_large_files(s3, bucket):
    data = bytes(range(256)) * (11 * MIB // 256)
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(data), bucket, "big", Config=transfer)

    back = io.BytesIO()
    s3.download_fileobj(bucket, "big", back, Config=transfer)

    assert hashlib.sha256(data).digest() == hashlib.sha256(back.getvalue()).digest()


def test_cors_rules_are_given_back(s3, bucket):
    rules = [
        {
            "AllowedOrigins": ["https://app.example.com"],
            "AllowedMethods": ["PUT", "POST"],
            "AllowedHeaders": ["content-type", "x-amz-tagging"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3000,
        }
    ]
    none = refused(s3.get_bucket_cors, Bucket=bucket)
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})

    assert (404, "NoSuchCORSConfiguration") == none
    assert rules == s3.get_bucket_cors(Bucket=bucket)["CORSRules"]


def test_a_policy_publishes_a_prefix_and_nothing_else(s3, bucket):
    s3.put_object(Bucket=bucket, Key="video/hls/1/master.m3u8", Body=b"#EXTM3U")
    s3.put_object(Bucket=bucket, Key="video/origin/1.mp4", Body=b"x")
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/video/hls/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    base = f"{s3.meta.endpoint_url}/{bucket}"

    with urllib.request.urlopen(f"{base}/video/hls/1/master.m3u8") as public:
        assert b"#EXTM3U" == public.read()
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{base}/video/origin/1.mp4")
    with refusal.value:
        assert 403 == refusal.value.code


def test_a_presigned_url_is_enough_to_put_and_get(s3, bucket):
    put = s3.generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60
    )
    get = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "k"}, ExpiresIn=60
    )

    request = urllib.request.Request(
        put, data=b"x", method="PUT", headers={"Content-Type": "video/mp4"}
    )
    with urllib.request.urlopen(request) as answer:
        assert 200 == answer.status
    with urllib.request.urlopen(get) as answer:
        assert b"x" == answer.read()
